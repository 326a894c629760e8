"""What lies ready for each lane of a process, and the numbers under which it goes out.

Plain lanes are one stream: their rows are numbered through, and one of them a sweep carries the clock. Keyed lanes
are a stream each: every lane has the clock, its own key, and numbers that no other lane of any process has.
"""

from collections import Counter

from confluent_kafka import Message

from operators.connectors.backlog import Part
from schemas.items import Heard, Item, Opened, Tick

Row = tuple[Part, Message]


class Hands:
    """Takes what a sweep releases, and gives it to the lanes as they come.

    State: `counter` counts the rows handed on; a lane's snapshot holds it. A keyed lane numbers its rows
    `counter * lanes + lane`: unique over all lanes, rising within a process, and still so when a lane has moved to
    another process, which goes on after the greatest counter of its lanes.

    Args:
        lanes: lanes of the flow, in all processes.
        keyed: whether each lane is a stream of its own.
    """

    def __init__(self, lanes: int, *, keyed: bool) -> None:
        self.keyed = keyed
        self.counter = 0
        self._stride = lanes if keyed else 1
        self._rows: dict[int, list[Row]] = {}
        self._ticks: dict[int, list[int]] = {}
        self._opening: set[int] = set()
        self._shared: list[int] = []
        self._in_hand = 0

    def add(self, lane: int) -> None:
        """A lane is here."""
        self._rows[lane] = []
        self._ticks[lane] = [] if self.keyed else self._shared

    def drop(self, lane: int) -> bool:
        """A lane has ended; whether it was the last one."""
        del self._rows[lane], self._ticks[lane]
        return not self._rows

    def empty(self) -> bool:
        """Whether no row waits for its lane."""
        return not self._in_hand

    def opened(self) -> None:
        """The reference topics have been handed on: each keyed lane says so before anything else."""
        if self.keyed:
            self._opening = set(self._rows)

    def tick(self, step: int) -> None:
        """The clock has come to `step` (µs)."""
        if self.keyed:
            for ticks in self._ticks.values():
                ticks.append(step)
        else:
            self._shared[:] = [step]

    def give(self, rows: list[Row]) -> None:
        """Rows may be handed on, each by the lane of its partition."""
        for part, message in rows:
            self._rows[part.lane].append((part, message))
        self._in_hand += len(rows)

    def take(self, lane: int, clock: int, count: "Counter[str]") -> list[Item]:
        """What a lane hands on at `clock` (µs); its rows are behind it then, and counted by topic."""
        ours = lane if self.keyed else 0
        last = (self.counter - 1) * self._stride + ours
        items: list[Item] = []
        if lane in self._opening:
            self._opening.remove(lane)
            items.append(Opened(last, clock, lane))
        if ticks := self._ticks[lane]:
            items += [Tick(last, step, lane=ours) for step in ticks]
            ticks.clear()
        if rows := self._rows[lane]:
            self._rows[lane] = []
            self._in_hand -= len(rows)
            self._hand_on(rows, ours, clock, count, items)
        return items

    def _hand_on(self, rows: list[Row], ours: int, clock: int, count: "Counter[str]", items: list[Item]) -> None:
        stride = self._stride
        number = self.counter * stride + ours
        for part, message in rows:
            offset: int = message.offset()  # type: ignore[assignment]
            value = message.value() or b""  # a tombstone has none; decoding says what it makes of it
            items.append(Heard(number, part.topic, part.partition, offset, clock, value, "wire", message.key()))
            part.next = offset + 1
            count[part.topic] += 1
            number += stride
        self.counter += len(rows)
        for part in {id(part): part for part, _ in rows}.values():
            part.settle()
