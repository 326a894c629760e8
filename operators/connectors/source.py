"""Kafka as the source of a flow: lanes of partitions, one consumer for all lanes of a process.

Lane i of L holds partition p of every topic with p % L == i. L is fixed for the life of the state. The lanes of a
process are one stream under one key, or, for steps that run on several processes, a stream each under its shard.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event as Flag

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from operators.connectors.cluster import Place, Say
from operators.connectors.files import SHARD, Keyed
from operators.connectors.gaps import Gaps
from operators.connectors.pump import Pump
from operators.connectors.reading import Counters, SourceRule, State
from schemas.items import Batch, Item
from schemas.shards import SHARDS

Prepare = Callable[[list[Item]], bool]

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Awake at once, always: the waiting is done in the consumer."""


def losses(named: list[str]) -> frozenset[Place]:
    """`TOPIC:PARTITION`s whose lost rows are written off.

    Raises:
        ValueError: one is not of this form.
    """
    found = set()
    for name in named:
        topic, colon, number = name.rpartition(":")
        if not colon or not topic or not number.isdecimal():
            raise ValueError(f"must be TOPIC:PARTITION, such as sensing.position:3; got {name!r}")
        found.add((topic, int(number)))
    return frozenset(found)


def lane_name(lane: int) -> str:
    """The name of a lane, under which its snapshot is kept."""
    return f"lane-{lane:02d}"


class _Lane(StatefulSourcePartition[Keyed, State]):
    """One group of partitions; what is said of it is in its pump."""

    def __init__(
        self, pump: Pump, gaps: Gaps, number: int, shard: str, stop: Flag, prepare: Prepare, resume: State | None
    ) -> None:
        self._pump, self._gaps, self._number, self._stop = pump, gaps, number, stop
        self._shard, self._prepare = shard, prepare
        self._snapped: State | None = None
        pump.resume(number, resume)

    def next_batch(self) -> list[Keyed]:
        if self._stop.is_set() or self._pump.over:
            raise StopIteration
        if self._snapped is not None:  # called again after a snapshot: it is durable everywhere
            self._pump.durable(self._snapped)
            self._snapped = None
        items, clock = self._pump.take(self._number)
        if items and not self._prepare(items):
            self._pump.give_back(items)
            items = []  # a loss that was met is told all the same: the snapshot that follows is behind it
        items = self._gaps.before(items, clock)
        return [(self._shard, Batch(items, {"heard": clock}, self._shard))] if items else []

    def next_awake(self) -> datetime:
        return LONG_AGO

    def snapshot(self) -> State:
        self._snapped = self._pump.snapshot(self._number)
        return self._snapped

    def close(self) -> None:
        self._pump.close(self._number)


class KafkaSource(FixedPartitionedSource[Keyed, State]):
    """Reads topics of a Kafka broker in micro-batches.

    State: each lane's next offsets, with the id each topic had. Time: `Heard.clock` is the wall clock at which
    a row was handed on; a `Tick` on each 100 ms of it, none ahead of rows that wait.
    Keyed lanes are a stream each, under shards 0 to `lanes` - 1: every lane has every tick, whether it holds
    partitions or not, and in every execution says `Opened` once, after its reference rows and before all others.
    Guarantee: each row of a partition once, in order, from where the snapshot stands; a backlog in the order of
    its appends; what a person wrote off is told as an alert among the rows. Errors: `BrokerAway` where a start has
    waited in vain, `Refused` where reading on would be wrong.

    Args:
        rule: what is read, and how.
        stop: when set, the lanes end with their last snapshot, and nothing is read twice.
        say: is told what a person should know.
        prepare: is given what a lane is about to hand on, and may take its time; False where a drain was asked for
            before it could be handed on.
    """

    def __init__(self, rule: SourceRule, *, stop: Flag, say: Say, prepare: Prepare = lambda _items: True) -> None:
        if rule.keyed and rule.lanes > len(SHARDS):
            raise ValueError(f"keyed lanes must be at most {len(SHARDS)}, one a shard; got {rule.lanes}")
        self._rule, self._stop, self._say, self._prepare = rule, stop, say, prepare
        self._pump: Pump | None = None
        self.counters = Counters()
        self._gaps = Gaps(rule.site_id, rule.flow, self.counters)

    def list_parts(self) -> list[str]:
        return [lane_name(lane) for lane in self._rule.lanes_here]

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> _Lane:  # noqa: ARG002
        if self._pump is None:
            self._pump = Pump(self._rule, self.counters, self._say)
        number = int(for_part.removeprefix("lane-"))
        shard = SHARDS[number] if self._rule.keyed else SHARD
        return _Lane(self._pump, self._gaps, number, shard, self._stop, self._prepare, resume_state)
