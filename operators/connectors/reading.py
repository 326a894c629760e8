"""What a Kafka source is told, and what may be told of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from operators.connectors.cluster import Place, Where

FORMAT = "lanes-1"
"""First field of a lane's snapshot; another value is another layout."""
State = tuple[str, int, int, tuple[tuple[str, int, int, str], ...]]
"""(format, lanes of the flow, rows handed on, ((topic, partition, next offset, topic id), ...))."""


def group_of(flow: str) -> str:
    """The consumer group of a flow, for outside lag tools only."""
    return f"footfall.{flow}"


@dataclass(frozen=True, kw_only=True)
class SourceRule:
    """What a source reads, and how.

    Args:
        flow: name of the flow, which names its consumer group.
        client: properties of any client of the broker: address and security.
        topics: what is read, without prefix.
        reference: those of them that are read to their end before anything else is handed on.
        prefix: what stands before every topic on the broker.
        lanes: how many groups partitions fall into; fixed for the life of the flow's state.
        own: lanes of this process; None all of them.
        keyed: whether each lane is a stream of its own, for a cluster whose processes tell each other what they
            read: then each reads the reference topics of its lanes only. Else a process reads them whole.
        site_id: the site that what is told of the source carries.
        start: where a first start begins, but for reference topics.
        processes: how many processes share the lanes and nothing else: a key must stay with its process.
        dealt: partitions that the keys of a topic are dealt over. A first start wants exactly so many; afterwards
            a topic may have grown, if its keys stay with their processes.
        together: topics that must have equally many partitions.
        accept_loss: partitions whose lost rows were written off by a person.
        max_block_s: longest wait for a message.
        max_batch: most messages taken at once.
        wait_s: how long a start waits for the broker.
        bound_s: how long a broker that refuses us, or knows a topic no more, is borne.
        refresh_s: how often new partitions are looked for.
    """

    flow: str
    client: Mapping[str, Any]
    topics: tuple[str, ...]
    reference: frozenset[str] = frozenset()
    prefix: str = ""
    lanes: int = 16
    own: tuple[int, ...] | None = None
    keyed: bool = False
    site_id: str = ""
    start: Where = "earliest"
    processes: int = 1
    dealt: Mapping[str, int] = field(default_factory=dict)
    together: frozenset[str] = frozenset()
    accept_loss: frozenset[Place] = frozenset()
    max_block_s: float = 0.005
    max_batch: int = 1_000
    wait_s: float = 60.0
    bound_s: float = 30.0
    refresh_s: float = 60.0

    @property
    def lanes_here(self) -> tuple[int, ...]:
        """Lanes of this process, in order."""
        return tuple(range(self.lanes)) if self.own is None else tuple(sorted(self.own))


class Loss(NamedTuple):
    """Rows of a partition that were written off: offset `wanted` was the next, reading went on at `to`.

    `topic_id` is that of the topic as it is now; `made_again` says that `wanted` was an offset in another one.
    """

    topic: str
    partition: int
    wanted: int
    to: int
    lane: int
    topic_id: str
    made_again: bool


@dataclass
class Counters:
    """What may be told of a source; written by the flow, read by whoever exports it.

    `age` is how long ago the next row was appended, in seconds, 0 where none is held; it and `lag` are those of
    `measured_at`, which is monotonic, in seconds. `epochs` is how many are known to be durable. `lost` only grows.
    """

    messages: Counter[str] = field(default_factory=Counter)
    lag: dict[Place, int] = field(default_factory=dict)
    age: dict[Place, float] = field(default_factory=dict)
    measured_at: float = 0.0
    reference_read: bool = False
    caught_up: bool = False
    away: bool = False
    epochs: int = 0
    commit_failures: int = 0
    new_partitions: int = 0
    lost: list[Loss] = field(default_factory=list)
