"""What is looked up when metrics are asked for: the state, its disk, the registry, what runs. Nothing is kept between."""

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from operators.admit import Admit
from operators.connectors.clock import wall
from operators.decide import Decide


def nothing() -> Mapping[str, tuple[int, int]]:
    """No shard is open."""
    return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Scraped(Collector):
    """A few series, each from one cheap look; safe to read from another thread.

    Args:
        volumes: what a process fills, by a name from a closed set; a path that is gone has no series.
        state: by shard, RocksDB's own estimate of its keys, undo and tokens among them, and bytes in its tables,
            those in memory too.
        answered: whether the registry's last answer came; it is asked only for what is not known.
        unknown: how many schema ids the registry did not know.
        model: version and sha256 of the model in force, None without one.
        rules: digest over campaigns, segments and templates.
        doors: cores that judge sources.
        deciders: cores that act on consents.
    """

    volumes: Mapping[str, Path]
    state: Callable[[], Mapping[str, tuple[int, int]]] = nothing
    answered: Callable[[], bool] = lambda: True
    unknown: Callable[[], int] = lambda: 0
    model: tuple[str, str] | None = None
    rules: str = ""
    doors: Sequence[Admit] = ()
    deciders: Sequence[Decide] = ()

    def collect(self) -> Iterable[Metric]:
        """One look at everything."""
        free = GaugeMetricFamily("footfall_disk_free_bytes", "Free on the volume", labels=["volume"])
        for name, path in self.volumes.items():
            try:
                free.add_metric([name], shutil.disk_usage(path).free)
            except OSError:
                continue
        yield free
        keys = GaugeMetricFamily("footfall_state_keys", "Keys in the state, estimated", labels=["shard"])
        size = GaugeMetricFamily("footfall_state_bytes", "Bytes of the state", labels=["shard"])
        for shard, (count, held) in self.state().items():
            keys.add_metric([shard], count)
            size.add_metric([shard], held)
        yield from (keys, size)
        yield GaugeMetricFamily("footfall_registry_up", "The registry's last answer came", value=float(self.answered()))
        yield CounterMetricFamily("footfall_schema_unknown", "Schema ids nobody registered", value=self.unknown())
        if self.model is not None:
            version, sha = self.model
            yield InfoMetricFamily("footfall_model", "The model in force", value={"version": version, "sha": sha})
        yield InfoMetricFamily("footfall_campaigns", "The rules in force", value={"sha": self.rules})
        yield from self._sources()

    def _sources(self) -> Iterable[Metric]:
        doors = list(self.doors)
        yield GaugeMetricFamily(
            "footfall_idle_sources", "Sources that have fallen silent", value=sum(door.idle_sources for door in doors)
        )
        yield GaugeMetricFamily(
            "footfall_clock_offset_seconds",
            "Farthest that the readings of a source are from our clock",
            value=max((door.clock_offset for door in doors), default=0) / 1e6,
        )
        known = [at for decider in list(self.deciders) if (at := decider.consents_known_to) is not None]
        yield GaugeMetricFamily(
            "footfall_consent_age_seconds",
            "Since when nothing is known of consents, of sources that say how far they are",
            value=(wall() - min(known)) / 1e6 if known else math.nan,
        )
