"""`footfall train intent`: a recorded directory through the production cores, to a model with its manifest.

No engine runs here: the same cores are called one after the other over the same merged rows, up to the
profile, whose consents say what may be learned from. What would have been scored is what is learned from.
`python -m flows.train` makes the example's model anew.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from flows.deployment import EXAMPLE, Deployment
from flows.history import write_history
from flows.replay import FLOWS, merged
from operators.connectors.merge import Progress, batches
from operators.models.learn import TooLittle, train_intent
from operators.models.lightgbm import ModelUnavailable
from operators.models.quality import Leak
from operators.models.training import Row, TrainingTap
from operators.profile import ProfileRule, Profiles
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas.items import Item, Linked, Touched
from schemas.person import Aggregate, Observation
from schemas.types import AnyRecord

__all__ = ["Leak", "ModelUnavailable", "TooLittle", "recorded_rows", "ship", "train"]

HORIZON_US = 24 * 3600 * 1_000_000
TREES = 40
_BATCH = 512


class NoFacts:
    """The plan of profiles that nobody asks for facts: they are kept for their consents."""

    aggregates: Mapping[str, Aggregate] = MappingProxyType({})

    def observe(self, topic: str, record: AnyRecord) -> list[Observation]:  # noqa: ARG002
        """Nothing is counted."""
        return []


class Learning:
    """Keeps profiles, for their consents, and lets the tap see each event once.

    Args:
        profiles: who somebody is.
        tap: collects the rows.
    """

    def __init__(self, profiles: Profiles, tap: TrainingTap) -> None:
        self._profiles, self._tap = profiles, tap

    def step(self, items: list[Item]) -> list[Item]:
        """Apply each event to its profile first, as in service; repeats are not learned from."""
        for item in items:
            if isinstance(item, Linked):
                self._profiles.link(item)
            elif isinstance(item, Touched) and not self._profiles.apply(item).new:
                continue
            self._tap.step([item])
        return items


def recorded_rows(source: Path, progress: Progress, horizon_us: int = HORIZON_US) -> list[Row]:
    """Rows to learn from: a replay of a directory in the order in which it was heard.

    Args:
        source: a replay directory, with positions or with stays.
        progress: told rows done and rows in all.
        horizon_us: of the label.

    Returns:
        One row a dwell whose horizon has passed.
    """
    config = source / "footfall.toml"
    deployment = Deployment.load(source, config if config.exists() else None)
    known_venue = (source / "venue.geojson").exists()
    merge, _, schemas = merged(source, "ingest", FLOWS["store"].reads, known_venue=known_venue)
    deployment = deployment.heard_from(schemas)
    tables = _tables()
    profiles = Profiles(ProfileRule(site_id=deployment.site_id), NoFacts(), tables)
    tap = TrainingTap(tables, deployment.venue, horizon_us, profiles.consents)
    made: tuple[Callable[[Tables], Any], ...] = (
        deployment.decode,
        deployment.admit,
        deployment.dwell,
        deployment.occupancy,
        deployment.stitch,
    )
    chain = [core(_tables()) for core in made]
    chain.append(Learning(profiles, tap))
    for done, heard in batches(merge, _BATCH):
        items = heard
        for core in chain:
            items = core.step(items)
        progress(min(done, len(merge)), len(merge))
    return tap.rows()


def train(
    source: Path,
    out: Path,
    *,
    seed: int,
    progress: Progress = lambda _done, _total: None,
    horizon_us: int = HORIZON_US,
    trees: int = TREES,
) -> dict[str, Any]:
    """Train the intent model on a replay directory.

    Args:
        source: the directory.
        out: folder of models; the artefact goes to `out/intent/<version>`.
        seed: of every draw.
        progress: told rows done and rows in all.
        horizon_us: how long after a trigger a purchase counts.
        trees: how many.

    Returns:
        Path, version, rows and the metrics of the manifest.

    Raises:
        Leak: a guard stopped the run.
        TooLittle: the recording is too short to learn from and to judge by.
        ModelUnavailable: LightGBM cannot be used here.
    """
    rows = recorded_rows(source, progress, horizon_us)
    trained = train_intent(rows, out, seed=seed, horizon_us=horizon_us, trees=trees)
    return {"path": str(trained.folder), "version": trained.version, "rows": len(rows), "metrics": trained.metrics}


def _tables() -> Tables:
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    return Tables(store)


def ship(models: Path, *, seed: int = 7, days: int = 60) -> dict[str, Any]:
    """Make the example's model anew: `days` of simulated shop life, and what is learned from them.

    Args:
        models: folder of models; versions that lie there go.
        seed: of the shop and of the training.
        days: of shop life.

    Returns:
        What `train` returns.
    """
    with TemporaryDirectory() as folder:
        source = Path(folder) / "history"
        write_history(source, seed, days)
        report = train(source, Path(folder) / "models", seed=seed)
        made = Path(report["path"])
        shutil.rmtree(models / made.parent.name, ignore_errors=True)
        kept = models / made.parent.name / made.name
        shutil.copytree(made, kept)
    return {**report, "path": str(kept)}


if __name__ == "__main__":
    sys.stdout.write(f"{ship(EXAMPLE / 'models')['path']}\n")
