"""What is counted about a person: windows of single events, older ones by the hour, and values over them.

Everything here is a function of the set of events, so order and repeats do not matter: sums are of whole
numbers, the newest is by (event time, event id).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, get_args

import msgspec

from schemas.people import Receipt
from schemas.person import Aggregate
from schemas.topics import TOPICS
from schemas.types import AnyRecord

HOUR = 3_600_000_000
MICRO = 1_000_000

Scalar = int | float | str | bool | None
Entry = tuple[int, str, Scalar | list[Scalar], str]
"""Event time, event id, value (all of its values where distinct ones are counted), and the unit that counts
once (empty: the event itself)."""


class Hour(msgspec.Struct, array_like=True):
    """Events of one hour folded together: numbers are whole, so they are exact in any order."""

    newest: tuple[int, str]
    count: int = 0
    total: int = 0
    last: Scalar = None
    top: int | float | str | None = None
    values: list[Scalar] = []

    def fold(self, entry: Entry, op: str) -> None:
        """Take one more event in, for the one operation of its aggregate."""
        at, name, value, _ = entry
        self.count += 1
        if op == "sum":
            assert isinstance(value, int)
            self.total += value
        elif op == "max" and (self.count == 1 or value > self.top):  # type: ignore[operator]  # one field, one type
            self.top = value  # type: ignore[assignment]
        elif op == "distinct":
            assert isinstance(value, list)
            self.values += [one for one in value if one not in self.values]
        if self.count == 1 or (at, name) > self.newest:
            self.newest = (at, name)
            if op == "last" and not isinstance(value, list):
                self.last = value


class Window(msgspec.Struct, array_like=True):
    """What happened, for one aggregate under one key: the newest events one by one, older ones by the hour.

    An hour counts as a whole, as long as its newest event stands in the window: what is asked of it can
    be off by the events of one hour, and only past the exact ones.
    """

    entries: list[Entry] = []
    hours: dict[int, Hour] = {}

    def add(self, entry: Entry, op: str, exact: int) -> bool:
        """Take an event in; of those without a unit the oldest beyond `exact` are folded. False: it is there."""
        entries = self.entries
        if not entries or entries[-1][:2] < entry[:2]:
            entries.append(entry)
        else:
            place = bisect_left(entries, entry[:2])
            if entries[place][:2] == entry[:2]:
                return False
            entries.insert(place, entry)
        if len(entries) > exact and not entry[3]:
            old = entries.pop(0)
            hour = self.hours.get(old[0] // HOUR)
            if hour is None:
                hour = self.hours[old[0] // HOUR] = Hour(old[:2])
            hour.fold(old, op)
        return True

    def prune(self, before: int) -> None:
        """Drop what is older than `before`, the start of an hour."""
        if self.entries and self.entries[0][0] < before:
            del self.entries[: bisect_left(self.entries, (before,))]
        if self.hours:
            for gone in [hour for hour in self.hours if hour < before // HOUR]:
                del self.hours[gone]

    def between(self, after: int, upto: int) -> list[Entry]:
        """Single events with after < time <= upto, oldest first."""
        return self.entries[bisect_left(self.entries, (after + 1,)) : bisect_left(self.entries, (upto + 1,))]

    def number(self, after: int, upto: int) -> int:
        """How many single events `between` has."""
        return bisect_left(self.entries, (upto + 1,)) - bisect_left(self.entries, (after + 1,))

    def folded(self, after: int, upto: int) -> Iterator[Hour]:
        """Hours whose newest event stands in the window."""
        return (hour for hour in self.hours.values() if after < hour.newest[0] <= upto)

    def next_change(self, at: int, within: int) -> int | None:
        """When this next changes with nothing new heard: an event leaves, or one ahead of `at` comes in."""
        entries, after = self.entries, at - within
        oldest = bisect_left(entries, (after + 1,))
        ahead = bisect_left(entries, (at + 1,))
        instants = [entries[oldest][0] + within] if oldest < ahead else []
        if ahead < len(entries):
            instants.append(entries[ahead][0])
        for hour in self.hours.values():
            newest = hour.newest[0]
            if newest > after:
                instants.append(newest if newest > at else newest + within)
        return min(instants, default=None)


class Gauge(msgspec.Struct, frozen=True):
    """An aggregate as it is kept and read: what is summed is kept in whole numbers of 1/scale.

    `once` says that several records of one unit count as one: a receipt, by its own number.
    """

    op: str
    within: int
    scale: int
    amount: bool
    once: bool

    @classmethod
    def of(cls, aggregate: Aggregate) -> "Gauge":
        """Read off the topic's record how exact sums are kept: cents, whole numbers, else millionths."""
        topic = TOPICS.get(aggregate.topic)
        fields = {} if topic is None else {field.name: field.type for field in msgspec.structs.fields(topic.record)}
        amount = f"{aggregate.of}_minor" in fields
        whole = aggregate.of is None or _is_whole(fields.get(aggregate.of, Any))
        scale = 100 if amount else 1 if whole else MICRO
        return cls(aggregate.op, aggregate.within_us, scale, amount, topic is not None and topic.record is Receipt)

    def held(self, values: list[Scalar]) -> Scalar | list[Scalar]:
        """How what an event adds is kept: one value, all of them where distinct ones are counted, or None."""
        there: list[Scalar] = [value for value in values if value is not None]
        if self.op == "count" or not there:
            return None
        if self.op == "distinct":
            return there
        value = there[0]
        if self.op == "sum":
            if not isinstance(value, int | float):
                return None
            return int(value) if self.amount or self.scale == 1 else round(value * self.scale)
        return value

    def value(self, windows: list[Window], at: int) -> int | float | str | None:
        """Over (at - within, at], of the windows of all members; without history 0, or None for max and last."""
        after = at - self.within
        hours = [hour for window in windows for hour in window.folded(after, at)]
        if self.op == "count" and not self.once:
            return sum(window.number(after, at) for window in windows) + sum(hour.count for hour in hours)
        entries = self.entries(windows, at)
        match self.op:
            case "count":
                return len(entries) + sum(hour.count for hour in hours)
            case "sum":
                return self._shown(
                    sum(entry[2] for entry in entries if isinstance(entry[2], int)) + sum(hour.total for hour in hours)
                )
            case "distinct":
                seen = chain((entry[2] for entry in entries), (hour.values for hour in hours))
                return len({value for values in seen if isinstance(values, list) for value in values})
            case "max":
                tops: Iterable[Any] = chain((entry[2] for entry in entries), (hour.top for hour in hours))
                return self._shown(max(tops, default=None))
            case _:
                lasts = chain((entry[:3] for entry in entries), ((*hour.newest, hour.last) for hour in hours))
                newest = max(lasts, key=lambda one: one[:2], default=None)
                return None if newest is None else self._shown(newest[2])

    def entries(self, windows: list[Window], at: int) -> list[Entry]:
        """Single events of all members in the window, oldest first; of one unit the newest record."""
        after = at - self.within
        if len(windows) == 1:
            found = windows[0].between(after, at)
        else:
            found = sorted(chain.from_iterable(one.between(after, at) for one in windows), key=lambda one: one[:2])
        return once(found) if self.once else found

    def _shown(self, value: Scalar | list[Scalar]) -> int | float | str | None:
        if isinstance(value, int | float) and (self.amount or (self.op == "sum" and self.scale > 1)):
            return value / self.scale
        assert not isinstance(value, list)
        return value


def _is_whole(hint: Any) -> bool:
    return hint is int or any(_is_whole(part) for part in get_args(hint) if isinstance(part, type) or get_args(part))


def unit_of(record: AnyRecord) -> str:
    """What counts once however often it is told, beside the event itself: a receipt, by its own number."""
    return (record.receipt_id or record.event_id) if isinstance(record, Receipt) else ""


def once(entries: list[Entry]) -> list[Entry]:
    """Of several records of one unit the newest; `entries` in order of time, and so is what comes back."""
    newest = {unit or name: place for place, (_, name, _, unit) in enumerate(entries)}
    if len(newest) == len(entries):
        return entries
    return [entries[place] for place in sorted(newest.values())]
