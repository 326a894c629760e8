"""What presence remembers of one subject: its last fix, its floor, its stays, and when it must next be looked at."""

from collections.abc import Callable

import msgspec

from operators.stays.stay import State, Stay
from schemas.venue import Dwelling

NEVER = -(1 << 62)
STILL_FOR = 24 * 3600 * 1_000_000
"""How long a tag that was left on a shelf is remembered in silence, µs."""


class Subject(msgspec.Struct, array_like=True):
    """A tracked subject; `same` of its `count` fixes were at `at`, the time of the last one.

    `key` is a lower bound of the next timer, in half microseconds (see `next_key`). `until` is when leave to
    track the subject must be looked at again. `still` is where the tag was when it was found to lie on a shelf.
    """

    at: int
    same: int
    count: int
    ingest: int
    tech: str
    x: float
    y: float
    floor: float
    stays: dict[str, Stay]
    new_floor: float | None = None
    new_since: int = 0
    still: tuple[float, float, float] | None = None
    until: int | None = None
    key: int = 0


def next_key(subject: Subject, ways: Callable[[str], dict[str, Dwelling]], longest_gap: Callable[[str], int]) -> int:
    """When a subject must next be looked at if nothing more is heard of it: a lower bound, in half µs.

    A timer due at D has the key 2 D; what ends only when a silence is longer than allowed, hence after D, has
    2 D + 1. So a fix at exactly D comes after the former and before the latter.
    """
    if not subject.stays:
        silence = longest_gap(subject.tech)
        key = 2 * (subject.at + (max(silence, STILL_FOR) if subject.still else silence)) + 1
    else:
        key = min(_stay_key(subject, stay, ways(stay.tech).get(zone_id)) for zone_id, stay in subject.stays.items())
    return key if subject.until is None else min(key, 2 * subject.until)


def _stay_key(subject: Subject, stay: Stay, how: Dwelling | None) -> int:
    if how is None:
        return 2 * subject.at
    if stay.state is State.CAND:
        return 2 * (stay.last_deep + how.gap_us) + 1
    key = min(2 * (subject.at + how.gap_us) + 1, 2 * (stay.entered_at + how.max_dwell_us))
    if stay.pending and not stay.held:
        key = min(key, 2 * (stay.entered_at + stay.pending[0]))
    return key if stay.closes_at is None else min(key, 2 * stay.closes_at)
