"""What waits for the watermark, and what is remembered of each subject meanwhile.

Two heaps in event-time order: readings by (event time, source, seq), and reference records that presence
acts on. Both are state: a restart goes on with what was waiting.
"""

from heapq import heapify, heappop, heappush

import msgspec

from operators.door.clocks import Held
from operators.state.store import Tables
from schemas.items import Event
from schemas.sensing import Position
from schemas.topics import TOPICS

REMEMBERED = 64
FASTEST_MPS = 5.0
LEEWAY_M = 0.5
BELIEVED_AFTER = 1_000_000
NEVER = -(1 << 62)
Key = tuple[str | int | float, ...]


class Trail(msgspec.Struct, array_like=True):
    """A subject's last readings and its last accepted fix; times in µs."""

    recent: dict[Key, None]
    heard: int = 0
    waiting: int = 0
    shown: int = NEVER
    at: int = NEVER
    x_m: float = 0.0
    y_m: float = 0.0

    def repeats(self, reading: Position) -> bool:
        """Whether a reading was heard before: the same (source, seq), else the same time and place.

        A new one is remembered, among what waits and the subject's last 64.
        """
        recent = self.recent
        place = (reading.event_time, reading.x_m, reading.y_m, reading.floor)
        if place in recent:
            return True
        if reading.seq is not None:
            counted = (reading.source_id, reading.seq)
            if counted in recent:
                return True
            recent[counted] = None
        recent[place] = None
        most = 2 * (REMEMBERED + self.waiting)
        while len(recent) > most:
            del recent[next(iter(recent))]
        return False

    def too_fast(self, event_time: int, x_m: float, y_m: float) -> bool:
        """Whether nobody walks there from the last accepted fix; after a second the new place is believed."""
        passed = event_time - self.at
        if passed > BELIEVED_AFTER:
            return False
        reach = FASTEST_MPS * passed / 1_000_000 + LEEWAY_M
        across, along = x_m - self.x_m, y_m - self.y_m
        return across * across + along * along > reach * reach


Due = tuple[int, int, str, int, int, int, int, bytes]
"""A reference record that waits: event time, rank of its topic, topic, row number, clock, partition, offset, body."""


class Waiting:
    """The two heaps of one shard.

    Args:
        tables: where they are kept.
        first: number of the first of the two tables.
    """

    def __init__(self, tables: Tables, first: int) -> None:
        self._kept = tables.table(first, list[tuple[int, str, int, int, int, str, int, int, Position]])
        self._kept_dues = tables.table(first + 1, list[Due])
        self.readings: list[Held] = self._kept.get("") or []
        self.dues: list[Due] = self._kept_dues.get("") or []
        heapify(self.readings)
        heapify(self.dues)

    def keep(self) -> None:
        """Put both heaps into their tables; cheap, since they are written when the epoch closes."""
        self._kept.put("", self.readings)
        self._kept_dues.put("", self.dues)

    def wait(self, event: Event) -> None:
        """Let a reference record wait for the watermark."""
        record = event.record
        rank = TOPICS[event.topic].rank
        body = msgspec.msgpack.encode(record)
        heappush(
            self.dues,
            (record.event_time, rank, event.topic, event.number, event.clock, event.partition, event.offset, body),
        )

    def ripe(self, watermark: int) -> Event | Held | None:
        """Take out what is next at or before the watermark; a reference record before a reading of its instant."""
        dues, readings = self.dues, self.readings
        if dues and dues[0][0] <= watermark and (not readings or dues[0][0] <= readings[0][0]):
            _, _, topic, number, clock, partition, offset, body = heappop(dues)
            record = msgspec.msgpack.decode(body, type=TOPICS[topic].record)
            return Event(number, clock, topic, record, partition, offset)
        if readings and readings[0][0] <= watermark:
            return heappop(readings)
        return None
