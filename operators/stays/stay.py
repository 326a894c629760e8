"""One subject and one zone: OUT, candidate, in, in grace, out again.

A stay object exists while its subject is not OUT of the zone. Confirmation is never part of a visit: it runs
from the first in-fix of the confirmed run to the last fix that supported it. What a visit reports about its
fixes (how many, how much of the time, which gaps) must end at that last fix although later ones have been
seen by then, so figures are marked wherever a visit may come to be cut.
"""

from enum import IntEnum

import msgspec

from schemas.venue import Dwelling


class State(IntEnum):
    """Where a stay stands; OUT is the absence of a stay."""

    CAND = 1
    IN = 2
    GRACE = 3


class Moved(IntEnum):
    """What one fix did to a stay, as far as somebody must be told."""

    ON = 0
    FORGOTTEN = 1
    RIPE = 2
    LEFT = 3


class Figures(msgspec.Struct, array_like=True):
    """The accepted fixes from the start of a stay to `at`: their count, and their gaps above `fresh`."""

    at: int
    fixes: int
    lost_us: int
    gap_count: int
    max_gap_us: int


class Stay(msgspec.Struct, array_like=True):
    """A subject that is a candidate of a zone, in it, or in grace.

    `run` is where the run that is being confirmed began: of in-fixes while CAND, of out-fixes in GRACE.
    `base` is how many fixes the subject had before the stay. In IN the last supporting fix is always the
    subject's last one; `last_in` keeps it in GRACE only, with `kept`, the figures as of it.
    """

    state: State
    run: int
    n: int
    last_deep: int
    tech: str
    revision: int
    base: int
    first_heard: bool
    pending: tuple[int, ...]
    """Thresholds that may still fire, ascending."""
    held: bool = False
    """The first pending threshold came due while the stay could not speak: in grace, or not fresh."""
    entered_at: int = 0
    visit_id: str = ""
    reason: str = ""
    closes_at: int | None = None
    fired: list[int] = []
    lost_us: int = 0
    gap_count: int = 0
    max_gap_us: int = 0
    last_in: int = 0
    kept: Figures | None = None
    off_floor: Figures | None = None
    """Figures as of the last fix on the old floor, while another floor is heard."""
    cut: Figures | None = None
    """Of a challenger: the incumbent's figures at the start of this run."""


def figures(stay: Stay, at: int, count: int) -> Figures:
    """Figures as of the subject's fix number `count`, which was at `at`."""
    return Figures(at, count - stay.base, stay.lost_us, stay.gap_count, stay.max_gap_us)


def extended(mark: Figures | None, t: int) -> None:
    """A further fix at the very instant of a mark belongs to it."""
    if mark is not None and mark.at == t:
        mark.fixes += 1


def spanned(stay: Stay, gap: int, how: Dwelling) -> None:
    """Account for the gap between two accepted fixes during a stay."""
    stay.max_gap_us = max(stay.max_gap_us, gap)
    if gap > how.fresh_us:
        stay.lost_us += gap
        stay.gap_count += 1


def heard(stay: Stay, t: int, last: int, inside: bool, outside: bool, how: Dwelling, count: int) -> Moved:
    """Move a stay on by an accepted fix of its subject.

    Args:
        stay: the stay, changed in place.
        t: time of the fix, µs; what fell due before it has been dealt with.
        last: time of the subject's fix before.
        inside: the fix is in the zone by the enter margin.
        outside: it is out by the exit margin and the accuracy that is believed; neither is an edge fix.
        how: the zone's parameters.
        count: the subject's fixes, this one included.

    Returns:
        FORGOTTEN or RIPE for a candidate, LEFT for a stay whose grace is over, else ON.
    """
    if stay.state != State.CAND and not inside and t - stay.last_deep > how.edge_max_us:
        outside = True  # loitering beside the zone is not presence
    moved = Moved.ON
    if stay.state == State.CAND:
        if outside:
            return Moved.FORGOTTEN
        if inside:
            stay.n += 1
            stay.last_deep = t
            if ripe(stay, t, how):
                moved = Moved.RIPE
        spanned(stay, t - last, how)
        extended(stay.cut, t)
        return moved
    extended(stay.off_floor, t)
    if not outside:
        stay.state = State.IN
        stay.kept = None
        if inside:
            stay.last_deep = t
    else:
        if stay.state == State.IN:
            stay.state, stay.run, stay.n, stay.last_in = State.GRACE, t, 1, last
            stay.kept = figures(stay, last, count - 1)
        else:
            stay.n += 1
        extended(stay.kept, t)
        if t - stay.run >= how.exit_confirm_us and stay.n >= how.exit_fixes:
            moved = Moved.LEFT
    spanned(stay, t - last, how)
    return moved


def ripe(stay: Stay, t: int, how: Dwelling) -> bool:
    """Whether a candidate's run, of which the fix at `t` is the last, confirms it."""
    return t - stay.run >= how.enter_confirm_us and stay.n >= how.enter_fixes
