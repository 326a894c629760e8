"""Stop anywhere, resume, rest: the whole."""

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from bytewax.testing import TestingSource

from flows.deployment import Deployment
from flows.ports import Ports, stores
from flows.replay import FLOWS, merged
from flows.simulate import write_directory
from flows.store import store
from operators.connectors.files import SHARD, LineSink
from operators.connectors.merge import batches
from operators.state.memory import Memory
from schemas.items import Batch

EPOCH = timedelta(0)
"""An epoch a micro-batch: every one of them may be the last that was committed."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop") / "in"
    write_directory(folder, seed=3, minutes=2)
    return folder


def _run(source: Path, out: Path, aborts: list[int], recovery: Path | None, *, mutant: bool = False) -> Counter[Any]:
    """Run the store flow with a crash after each of `aborts` micro-batches; answers the fates of all rows."""
    out.mkdir(exist_ok=True)
    merge, _, schemas = merged(source, "ingest", FLOWS["store"].reads, known_venue=True)
    deployment = Deployment.load(source, source / "footfall.toml").heard_from(schemas)
    items: list[Any] = [(SHARD, Batch(rows)) for _, rows in batches(merge, 700)]
    for place in sorted(aborts, reverse=True):
        items.insert(min(place, len(items)), TestingSource.ABORT())
    memories: dict[str, Memory] = {}
    sink = LineSink(out, FLOWS["store"].writes)
    config = None if recovery is None else RecoveryConfig(str(recovery))
    for _ in range(len(aborts) + 1):
        # the engine's test source counts a spent ABORT as an item when it resumes, so it must be gone by then
        left = [one for one in items if not getattr(one, "_triggered", False)]
        if mutant:
            memories.clear()
        ports = Ports(
            topics=TestingSource(left), records=sink, opened=stores(deployment.settings, out, memories), stamp=lambda: 0
        )
        cli_main(store(deployment, ports), epoch_interval=EPOCH, recovery_config=config)
    return sink.fates


def _bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.jsonl"))}


@pytest.mark.parametrize("seed", range(4))
def test_crashes_anywhere_change_no_byte(shop: Path, tmp_path: Path, seed: int) -> None:
    """Three crashes at random micro-batches, against a run without any."""
    draw = random.Random(seed)
    (tmp_path / "recovery").mkdir()
    init_db_dir(tmp_path / "recovery", 1)
    whole = _run(shop, tmp_path / "whole", [], None)
    crashed = _run(shop, tmp_path / "crashed", [draw.randrange(1, 34) for _ in range(3)], tmp_path / "recovery")
    assert _bytes(tmp_path / "crashed") == _bytes(tmp_path / "whole")
    assert crashed == whole
    assert len((tmp_path / "whole" / "presence.visit.jsonl").read_bytes()) > 0


def test_forgetting_the_state_is_noticed(shop: Path, tmp_path: Path) -> None:
    """A store that comes back empty is refused, never started from scratch in silence."""
    (tmp_path / "recovery").mkdir()
    init_db_dir(tmp_path / "recovery", 1)
    with pytest.raises(Exception, match="error calling"):
        _run(shop, tmp_path / "crashed", [20], tmp_path / "recovery", mutant=True)
