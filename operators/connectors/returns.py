"""Returns: parcels from one shard to another, sent back to where the flow forks.

A flow has no cycles, so what a shard has for another goes in again by a source. Nothing is kept here: a shard keeps
what it sent in its own state until the epoch in which it was handed on is durable, and sends it again after a crash.
"""

from collections import defaultdict, deque
from datetime import datetime
from threading import Event as Flag

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from operators.connectors.source import LONG_AGO
from schemas.items import Batch, Parcel
from schemas.parcels import Packed, packed
from schemas.shards import SHARDS

Keyed = tuple[str, Packed]


class _Way(StatefulSourcePartition[Keyed, int]):
    def __init__(self, returns: "Returns") -> None:
        self._returns = returns

    def next_batch(self) -> list[Keyed]:
        return self._returns.take()

    def next_awake(self) -> datetime:
        return LONG_AGO

    def snapshot(self) -> int:
        return self._returns.closes()


class Returns(FixedPartitionedSource[Keyed, int]):
    """The way back within one process; its shards and its source are one thread.

    Args:
        process: number of this process; each has a way of its own.
        stop: ends it; what has not been handed on is sent again at the next start.
    """

    def __init__(self, process: int, *, stop: Flag) -> None:
        self._name, self._stop = f"way-{process:02d}", stop
        self._sent: deque[Parcel] = deque()
        self._handed: list[Parcel] = []
        self._closing: list[Parcel] = []
        self._arrived: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.moved = 0

    def send(self, parcel: Parcel) -> None:
        """Put a parcel on its way."""
        self._sent.append(parcel)
        self.moved += 1

    def arrived(self, origin: int) -> list[tuple[int, int]]:
        """Parcels of a shard that have come to stay since the last call: move, and where they went."""
        return self._arrived.pop(origin, [])

    def take(self) -> list[Keyed]:
        """Hand on what was sent. Being asked again after a snapshot means that its epoch is durable everywhere."""
        if self._stop.is_set():
            raise StopIteration
        for parcel in self._closing:
            self._arrived[parcel.origin].append((parcel.seq, parcel.to))
        self._closing = []
        found = list(self._sent)
        self._sent.clear()
        self._handed += found
        return [(SHARDS[one.to], packed(Batch([one], shard=SHARDS[one.to]))) for one in found]

    def closes(self) -> int:
        """An epoch closes with what was handed on in it."""
        self._closing += self._handed
        self._handed = []
        return 0

    def list_parts(self) -> list[str]:
        return [self._name]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Way:  # noqa: ARG002
        return _Way(self)
