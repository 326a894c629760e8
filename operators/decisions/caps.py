"""Caps: how often a person may be told, over a rolling window or a calendar span of the venue.

A firing at t is legal iff fewer than N charges lie in every window of the cap that t would fall into. Most
often that is the one that ends at t; where triggers came out of order it is also those that end later.
Charges lie under the member that was the person's anchor, and a person's are the union over her members:
a merge adds ledgers, a split returns to each side its own.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from operators.state.store import Table

DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def local(at: int, time_zone: str) -> datetime:
    """The wall clock of a time zone at an instant (µs)."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(time_zone))


def in_window(charges: Sequence[int], at: int, window_us: int) -> int:
    """Most charges in any window (e - window, e] that holds `at`; `charges` ascend.

    >>> in_window([10, 20, 30], 35, 10), in_window([10, 20, 30], 25, 10)
    (1, 1)
    >>> in_window([20, 29], 20, 10)
    2
    """
    ends = [at, *charges[bisect_right(charges, at) : bisect_left(charges, at + window_us)]]
    return max(bisect_right(charges, end) - bisect_right(charges, end - window_us) for end in ends)


def in_calendar(charges: Sequence[int], at: int, unit: str, time_zone: str) -> int:
    """Charges on the same local day, or in the same ISO week, as `at`; `charges` ascend."""
    reach = 2 * DAY_US if unit == "day" else 9 * DAY_US
    here = _span(at, unit, time_zone)
    near = charges[bisect_left(charges, at - reach) : bisect_right(charges, at + reach)]
    return sum(_span(charge, unit, time_zone) == here for charge in near)


class Ledger:
    """Charge times by member and scope, in a table.

    Args:
        table: by member, lists of instants by scope.
        kept_us: how far behind the newest charge one may still count.
    """

    def __init__(self, table: Table[dict[str, list[int]]], kept_us: int) -> None:
        self._table, self._kept = table, kept_us

    def of(self, members: Iterable[str], scope: str) -> list[int]:
        """Charges of a person in a scope, ascending."""
        found: list[int] = []
        for member in members:
            mine = self._table.get(member)
            if mine is not None:
                found += mine.get(scope, ())
        found.sort()
        return found

    def charge(self, member: str, scope: str, at: int) -> None:
        """Note a firing."""
        mine = self._table.get(member) or {}
        charges = mine.setdefault(scope, [])
        insort(charges, at)
        del charges[: bisect_left(charges, charges[-1] - self._kept)]
        self._table.put(member, mine)

    def give_back(self, member: str, scope: str, at: int) -> None:
        """Take back a reservation that was not needed."""
        mine = self._table.get(member) or {}
        charges = mine.get(scope, [])
        if at in charges:
            charges.remove(at)
            if not charges:
                del mine[scope]
            self._table.put(member, mine or None)


def _span(at: int, unit: str, time_zone: str) -> tuple[int, int, int]:
    here = local(at, time_zone)
    if unit == "day":
        return here.year, here.month, here.day
    year, week, _ = here.isocalendar()
    return year, week, 0
