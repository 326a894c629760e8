"""What a page says of the broker: whether it answers, how far reading is behind, and what became of outputs."""

import math
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from operators.connectors.clock import monotonic
from operators.connectors.reading import Counters

Counts = Callable[[], Mapping[tuple[str, str], int]]
"""What became of outputs so far, by outcome and topic."""
SILENT_S = 5.0
"""A reader that measured nothing for so long is held up: the flow waits in another step, or in an output."""
_COMMANDS = "action.command"


class Reach:
    """Whether the broker answers, by what its reader was told and by how long outputs have been waiting for it.

    The reader hears of nothing while the flow waits in an output, so that wait counts as well.

    Args:
        counters: what the reader tells.
        beat: is handed on to.
    """

    def __init__(self, counters: Counters, beat: Callable[[], None]) -> None:
        self._counters, self._beat = counters, beat
        self._waited_at = -math.inf

    def waits(self) -> None:
        """An output waits for the broker; called about once a second as long as it does."""
        self._waited_at = monotonic()
        self._beat()

    @property
    def fresh(self) -> bool:
        """Whether what the reader tells is of now."""
        measured_at = self._counters.measured_at
        return not self._counters.away and not (measured_at and monotonic() - measured_at > SILENT_S)

    @property
    def up(self) -> bool:
        """Whether the broker answers, as far as is known."""
        waiting = monotonic() - self._waited_at < SILENT_S
        return self.fresh or not (self._counters.away or waiting)


class Carried(Collector):
    """The series of it, looked up when somebody asks; safe to read from another thread.

    Args:
        counters: what the reader tells.
        reach: whether that is of now.
        counts: what became of outputs.
    """

    def __init__(self, counters: Counters, reach: Reach, counts: Counts) -> None:
        self._counters, self._reach, self._counts = counters, reach, counts

    def collect(self) -> Iterable[Metric]:
        """One look at everything. A lag that is not known is NaN: it must not be read as none."""
        fresh = self._reach.fresh
        events: dict[str, float] = {}
        seconds: dict[str, float] = {}
        for (topic, _), behind in dict(self._counters.lag).items():
            events[topic] = events.get(topic, 0) + behind
        for (topic, _), age in dict(self._counters.age).items():
            seconds[topic] = max(seconds.get(topic, 0.0), age)
        yield GaugeMetricFamily("footfall_broker_up", "The broker answers", value=float(self._reach.up))
        for name, about, found in (
            ("events", "Messages behind the end", events),
            ("seconds", "Since the oldest row that is held back was appended", seconds),
        ):
            lag = GaugeMetricFamily(f"footfall_input_lag_{name}", about, labels=["topic"])
            for topic, value in found.items():
                lag.add_metric([topic], value if fresh else math.nan)
            yield lag
        yield CounterMetricFamily(
            "footfall_offset_commit_failures",
            "Offsets that outside tools were not told",
            value=self._counters.commit_failures,
        )
        outputs = CounterMetricFamily("footfall_outputs", "Outputs by what became of them", labels=["outcome", "topic"])
        counts = self._counts()
        for (outcome, topic), count in sorted(counts.items()):
            outputs.add_metric([outcome, topic], count)
        yield outputs
        for outcome, about in (("deduplicated", "found on their topic"), ("orphaned", "there and not said again")):
            yield CounterMetricFamily(
                f"footfall_actions_{outcome}", f"Actions {about}", value=counts.get((outcome, _COMMANDS), 0)
            )
