"""Durations as people write them: `45s`, `250ms`, `2h`, `1h30m`; inside they are whole microseconds."""

import re

_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PART = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?(us|ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = 100 * 366 * _US["d"]


class DurationFault(ValueError):
    """A text that is no duration; the message says what was expected and what was found."""


def parse(text: object) -> int:
    """Read a duration: a number with its unit, or several from the largest unit to the smallest.

    A bare number is refused: whoever reads `45` must guess, and one of two guesses is wrong.

    Args:
        text: what stood in the file, of whatever type it had there.

    Returns:
        Whole microseconds, never negative.

    Raises:
        DurationFault: there is no unit, the unit is unknown, or the text is no number with a unit.

    >>> parse("45s"), parse("250ms"), parse("1h30m"), parse("0.5s")
    (45000000, 250000, 5400000000, 500000)
    """
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise DurationFault(f"a duration must be a number with its unit (us, ms, s, m, h, d), like '45s'; got {text!r}")
    total, smallest = 0, _LONGEST
    for whole, fraction, unit in _PART.findall(text):
        size = _US[unit]
        if size >= smallest:
            raise DurationFault(f"a duration must name each unit once, the largest first, like '1h30m'; got {text!r}")
        smallest = size
        part, rest = divmod(int(fraction or 0) * size, 10 ** len(fraction))
        if rest:
            raise DurationFault(f"a duration must be whole microseconds; got {text!r}")
        total += int(whole) * size + part
    if total > _LONGEST:
        raise DurationFault(f"a duration must be at most 100 years; got {text!r}")
    return total


def text(duration_us: int) -> str:
    """Write a duration in the largest unit that leaves no fraction; `parse` reads it back.

    >>> text(45_000_000), text(90_000_000), text(0)
    ('45s', '90s', '0s')
    """
    if duration_us == 0:
        return "0s"
    unit = next(unit for unit in ("d", "h", "m", "s", "ms", "us") if duration_us % _US[unit] == 0)
    return f"{duration_us // _US[unit]}{unit}"
