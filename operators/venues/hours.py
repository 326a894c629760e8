"""When the shop closes: opening hours in OpenStreetMap's form, as instants.

Understood are days and times (`Mo-Sa 09:00-21:00`, `Mo,We 09:00-14:00,17:00-21:00`, `Fr 18:00-02:00`,
`Su off`, `24/7`), several rules in a list or by semicolons; a later rule replaces an earlier one for the days
it names.
"""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_RULE = re.compile(r"^(?:(?P<days>[A-Z][a-z](?:[-,][A-Z][a-z])*)\s+)?(?P<times>off|closed|24/7|[0-9:, -]+)$")
_SPAN = re.compile(r"^(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})$")
_DAY = 24 * 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WEEK = 7


class Hours:
    """Opening hours of one site.

    Args:
        opening: rules as written in the venue; none at all means that the shop never closes.
        time_zone: IANA name.
        grace_us: how long after closing the last stays are ended, µs.

    Raises:
        ValueError: a rule or the time zone cannot be read.

    >>> Hours(["Mo-Sa 09:00-21:00"], "Europe/Madrid", 0).closing_after(1796486400000000)
    1796500800000000
    """

    def __init__(self, opening: list[str], time_zone: str, grace_us: int) -> None:
        self._grace = grace_us
        try:
            self._zone = ZoneInfo(time_zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"time_zone must be an IANA name; got {time_zone!r}") from error
        self._week = _week(opening)
        self._known: tuple[int, int | None] | None = None

    def closing_after(self, at: int) -> int | None:
        """The first instant after `at` (µs) at which stays are ended, or None."""
        if self._known is not None:
            asked, closing = self._known
            if asked <= at and (closing is None or at < closing):
                return closing
        today = (_EPOCH + at * _MICROSECOND).astimezone(self._zone).date()
        days = [self._spans(today + timedelta(days=ahead)) for ahead in range(-2, _WEEK + 3)]
        spans = [span for day in days for span in day]
        closings = sorted(end + self._grace for day in days[:-1] for _, end in day)  # the last: is it open again?
        found = next(
            (c for c in closings if c > at and not any(start <= c < end for start, end in spans)),
            None,
        )
        self._known = (at, found)
        return found

    def _spans(self, day: date) -> list[tuple[int, int]]:
        return [(self._instant(day, a), self._instant(day, b)) for a, b in self._week[day.weekday()]]

    def _instant(self, day: date, minute: int) -> int:
        day += timedelta(days=minute // _DAY)
        minute %= _DAY
        local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=self._zone)
        return (local - _EPOCH) // _MICROSECOND


def _week(opening: list[str]) -> list[list[tuple[int, int]]]:
    """Minutes of opening and closing by weekday; a closing past midnight is above 24 h."""
    week: list[list[tuple[int, int]]] = [[] for _ in _DAYS]
    for rule in (part.strip() for line in opening for part in line.split(";")):
        if not rule:
            continue
        match = _RULE.match(rule)
        if match is None:
            raise ValueError(f"opening must be like 'Mo-Sa 09:00-21:00'; got {rule!r}")
        spans = _times(match["times"], rule)
        for day in _days(match["days"], rule):
            week[day] = spans
    return week


def _days(written: str | None, rule: str) -> list[int]:
    if written is None:
        return list(range(_WEEK))
    days: list[int] = []
    for part in written.split(","):
        first, _, last = part.partition("-")
        try:
            a, b = _DAYS.index(first), _DAYS.index(last or first)
        except ValueError as error:
            raise ValueError(f"opening must name days as {' '.join(_DAYS)}; got {rule!r}") from error
        days += [day % _WEEK for day in range(a, b + 1 if b >= a else b + 1 + _WEEK)]
    return days


def _times(written: str, rule: str) -> list[tuple[int, int]]:
    if written in ("off", "closed", "24/7"):
        return [] if written != "24/7" else [(0, _DAY)]
    spans = []
    for part in written.split(","):
        match = _SPAN.match(part.strip())
        if match is None:
            raise ValueError(f"opening must hold times like 09:00-21:00; got {rule!r}")
        a, b = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if a >= _DAY or b > 2 * _DAY:
            raise ValueError(f"opening must hold times of a day; got {rule!r}")
        spans.append((a, b if b > a else b + _DAY))
    return spans
