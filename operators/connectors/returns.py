"""Returns: parcels from one shard to another, sent back to where the flow forks.

A flow has no cycles, so what a shard has for another goes in again by a source. Nothing is kept here: a shard keeps
what it sent in its own state until the epoch in which it was handed on is durable, and sends it again after a crash.
"""

from collections import deque
from datetime import datetime
from threading import Event as Flag

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from operators.connectors.source import LONG_AGO
from schemas.items import Batch, Parcel
from schemas.parcels import Packed, packed
from schemas.shards import SHARDS

Keyed = tuple[str, Packed]


class _Way(StatefulSourcePartition[Keyed, int]):
    """The way of one shard. Being asked again after a snapshot means that its epoch is durable everywhere."""

    def __init__(self, stop: Flag) -> None:
        self._stop = stop
        self.sent: deque[Parcel] = deque()
        self._handed: list[Parcel] = []
        self._closing: list[Parcel] = []
        self.arrived: list[tuple[int, int]] = []

    def next_batch(self) -> list[Keyed]:
        if self._stop.is_set():
            raise StopIteration
        if self._closing:
            self.arrived += [(parcel.seq, parcel.to) for parcel in self._closing]
            self._closing = []
        found = list(self.sent)
        self.sent.clear()
        self._handed += found
        return [(SHARDS[one.to], packed(Batch([one], shard=SHARDS[one.to]))) for one in found]

    def next_awake(self) -> datetime:
        return LONG_AGO

    def snapshot(self) -> int:
        self._closing += self._handed
        self._handed = []
        return 0


class Returns(FixedPartitionedSource[Keyed, int]):
    """The ways back from the shards of one process; they, their shards and the source are one thread.

    Args:
        shards: numbers of the shards of this process.
        stop: ends it; what has not been handed on is sent again at the next start.
    """

    def __init__(self, shards: tuple[int, ...], *, stop: Flag) -> None:
        self._ways = {f"way-{shard:02d}": _Way(stop) for shard in shards}
        self._by_shard = dict(zip(shards, self._ways.values(), strict=True))

    def send(self, parcel: Parcel) -> None:
        """Put a parcel on its way."""
        self._by_shard[parcel.origin].sent.append(parcel)

    def arrived(self, origin: int) -> list[tuple[int, int]]:
        """Parcels of a shard that have come to stay since the last call: move, and where they went."""
        way = self._by_shard[origin]
        found, way.arrived = way.arrived, []
        return found

    def list_parts(self) -> list[str]:
        return list(self._ways)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Way:  # noqa: ARG002
        return self._ways[for_part]
