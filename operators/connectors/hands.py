"""What lies ready for the lanes of a process: who may hand it on, and under which numbers.

Plain lanes are one stream. Whichever comes first in a sweep hands on all of it, in the order of the appends: lane by
lane it would be another order with every number of lanes, and a core that hears a source for the first time would
draw other conclusions. Keyed lanes are a stream each, with a clock, a key and numbers of its own.

A lane's snapshot holds the rows of its partitions that were handed on by the end of an epoch, by whomever. So no
other may hand them on between the end of that epoch for this lane and its end for all.
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
        here: how many of them are those of this process.
        keyed: whether each lane is a stream of its own.
    """

    def __init__(self, lanes: int, here: int, *, keyed: bool) -> None:
        self.keyed = keyed
        self.counter = 0
        self._here = here
        self._stride = lanes if keyed else 1
        self._rows: dict[int, list[Row]] = {}
        self._ticks: dict[int, list[int]] = {}
        self._all: list[Row] = []
        self._shared: list[int] = []
        self._opening: set[int] = set()
        self._closed: set[int] = set()
        self._in_hand = 0

    # -- lanes and their epochs

    def add(self, lane: int) -> None:
        """A lane is here."""
        self._rows[lane] = [] if self.keyed else self._all
        self._ticks[lane] = [] if self.keyed else self._shared

    def drop(self, lane: int) -> bool:
        """A lane has ended; whether it was the last one."""
        del self._rows[lane], self._ticks[lane]
        return not self._rows

    def closed(self, lane: int) -> None:
        """A lane's snapshot was taken: what is handed on from now on belongs to its next epoch."""
        self._closed.add(lane)

    def called(self, lane: int) -> None:
        """A lane is called. If it had closed its epoch, all have: only then the engine calls it again."""
        if lane in self._closed:
            self._closed.clear()

    def together(self) -> bool:
        """Whether what is released now falls into an epoch that will be its own lane's too."""
        return self.keyed or (not self._closed and len(self._rows) == self._here)

    # -- what is released, and handed on

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
        """Rows may be handed on, in this order; keyed, each by the lane of its partition."""
        for row in rows:
            self._rows[row[0].lane].append(row)
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
            self._in_hand -= len(rows)
            self._hand_on(rows, ours, clock, count, items)
            rows.clear()
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
