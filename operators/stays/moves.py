"""What one accepted fix does to all stays of its subject: zones, floors, and zones that exclude each other.

Each zone has its own machine (`operators.stays.stay`). Here stands what lies between zones: which of them a fix is
near, that a new floor must hold before it counts, and that of an exclusive group at most one zone is IN.
"""

from dataclasses import dataclass
from math import hypot, inf

from operators.stays.ground import Ground, Places
from operators.stays.stay import Figures, Moved, State, Stay, extended, figures, heard, ripe, spanned
from operators.stays.subject import NEVER, Subject
from schemas.items import Fix
from schemas.venue import Dwelling

FLOOR_HOLD = 5_000_000
"""How long a new floor must hold, µs: open atria flicker."""
STILL_MOVED_M = 3.0
"""How far a tag that was left on a shelf must move before it opens a stay again."""
_IN, _CAND = State.IN, State.CAND
Near = list[tuple[str, float]]


@dataclass
class Outcome:
    """Stays that a fix ended, with reason and figures, and zones that it opened, with a reason or none."""

    closing: dict[str, tuple[Stay, str, Figures]]
    opening: dict[str, str]


class Moves:
    """Moves subjects on by fixes.

    Args:
        ground: the zones in force.
        places: their geometry.
    """

    def __init__(self, ground: Ground, places: Places) -> None:
        self._ground, self._places = ground, places

    def unmoved(self, s: Subject, fix: Fix, near: Near) -> bool:
        """Whether a fix changes nothing but what every fix changes; then that is done. The fast path."""
        if s.new_floor is not None or fix.floor != s.floor or s.still is not None:
            return False
        t, stays, deep, seen = fix.event_time, s.stays, [], 0
        gap, ways = t - s.at, self._ground.ways(fix.tech)
        for zone_id, d in near:
            how = ways.get(zone_id)
            if how is None:
                continue
            stay = stays.get(zone_id)
            if stay is None:
                if d <= -how.enter_margin_m:
                    return False
                continue
            if stay.state is not _IN or stay.held or gap > how.fresh_us or stay.tech != fix.tech:
                return False
            if d <= -how.enter_margin_m:
                deep.append(stay)
            elif d > how.exit_margin_m or t - stay.last_deep > how.edge_max_us:
                return False
            seen += 1
        if seen != len(stays):
            return False
        for stay in stays.values():
            if gap > stay.max_gap_us:  # noqa: PLR1730 - seldom so, and this is the hot path
                stay.max_gap_us = gap
        for stay in deep:
            stay.last_deep = t
        _heard(s, fix)
        return True

    def moved(self, s: Subject, fix: Fix, near: Near) -> Outcome:
        """Move every stay of the subject on by a fix."""
        t, last, outcome = fix.event_time, s.at, Outcome({}, {})
        on_floor = _on_floor(s, fix, outcome)
        _heard(s, fix)
        if s.still is not None and on_floor and _away(s.still, fix) >= STILL_MOVED_M:
            s.still = None
        d_of = {zone_id: d for zone_id, d in near if zone_id in self._ground.zones} if on_floor else {}
        incumbents = self._incumbents(s)
        rivals: dict[str, list[str]] = {group: [] for group in incumbents}
        for zone_id in sorted({*s.stays, *d_of}):
            stay = s.stays.get(zone_id)
            how = self._way(s, zone_id, fix.tech)
            inside = outside = False
            if on_floor:
                d = d_of.get(zone_id)
                if d is None:
                    d = d_of[zone_id] = self._places.distance(zone_id, fix.x_m, fix.y_m)
                inside, outside = d <= -how.enter_margin_m, d > how.exit_margin_m + _believed(fix, how)
            group = self._ground.zones[zone_id].exclusive_group
            if group is not None and incumbents.get(group, zone_id) != zone_id:
                rivals[group].append(zone_id)
            elif stay is None:
                if inside and s.still is None and ripe(self._begin(s, zone_id, fix, last, how), t, how):
                    outcome.opening[zone_id] = ""
            else:
                moved = heard(stay, t, last, inside, outside, how, s.count)
                if moved is Moved.RIPE:
                    outcome.opening[zone_id] = ""
                elif moved is not Moved.ON:
                    del s.stays[zone_id]
                    if moved is Moved.LEFT and stay.kept is not None:
                        outcome.closing[zone_id] = (stay, "LEFT", stay.kept)
        for group, incumbent in incumbents.items():
            self._challenge(s, fix, last, incumbent, rivals[group], d_of, outcome)
        self._single_out(s, incumbents, d_of, outcome.opening)
        return outcome

    def _begin(self, s: Subject, zone_id: str, fix: Fix, last: int, how: Dwelling) -> Stay:
        t = fix.event_time
        stay = s.stays[zone_id] = Stay(
            State.CAND,
            run=t,
            n=1,
            last_deep=t,
            tech=fix.tech,
            revision=self._ground.zones[zone_id].revision,
            base=s.count - s.same,
            first_heard=t - last > how.gap_us,
            pending=self._ground.thresholds(zone_id, t),
        )
        return stay

    def _way(self, s: Subject, zone_id: str, tech: str) -> Dwelling:
        stay = s.stays.get(zone_id)
        return self._ground.ways(tech if stay is None else stay.tech)[zone_id]

    def _incumbents(self, s: Subject) -> dict[str, str]:
        found: dict[str, str] = {}
        for zone_id in sorted(s.stays):
            zone = self._ground.zones.get(zone_id)
            if zone is not None and zone.exclusive_group is not None and s.stays[zone_id].state is not _CAND:
                found.setdefault(zone.exclusive_group, zone_id)
        return found

    def _challenge(
        self,
        s: Subject,
        fix: Fix,
        last: int,
        incumbent: str,
        rivals: list[str],
        d_of: dict[str, float],
        outcome: Outcome,
    ) -> None:
        """Let the deepest rival run for the incumbent's place; every fix of its run must be deeper in it."""
        t, held = fix.event_time, d_of.get(incumbent, inf)
        best: tuple[float, tuple[int, float, str]] | None = None
        for zone_id in rivals:
            how = self._way(s, zone_id, fix.tech)
            d = d_of.get(zone_id, inf)
            if d <= -how.enter_margin_m and d < held and d <= held - how.takeover_margin_m and s.still is None:
                order = (d, self._ground.rank(zone_id))
                if best is None or order < best:
                    best = order
        chosen = "" if best is None else best[1][2]
        for zone_id in rivals:
            stay = s.stays.get(zone_id)
            if stay is not None and stay.state is _CAND and zone_id != chosen:
                del s.stays[zone_id]
        if best is None:
            return
        how, stay = self._way(s, chosen, fix.tech), s.stays.get(chosen)
        sitting = outcome.closing[incumbent][0] if incumbent in outcome.closing else s.stays[incumbent]
        if stay is None:
            stay = self._begin(s, chosen, fix, last, how)
            stay.cut = figures(sitting, t, s.count)
        else:
            stay.n += 1
            stay.last_deep = t
            spanned(stay, t - last, how)
            extended(stay.cut, t)
        if ripe(stay, t, how) and stay.cut is not None:
            s.stays.pop(incumbent, None)
            outcome.closing[incumbent] = (sitting, "TAKEOVER", stay.cut)
            outcome.opening[chosen] = "TAKEOVER"

    def _single_out(
        self, s: Subject, incumbents: dict[str, str], d_of: dict[str, float], opening: dict[str, str]
    ) -> None:
        """Of several zones of a group that were confirmed by one fix the deepest opens; its rivals start anew."""
        by_group: dict[str, list[str]] = {}
        for zone_id in opening:
            group = self._ground.zones[zone_id].exclusive_group
            if group is not None:
                by_group.setdefault(group, []).append(zone_id)
        for group, ripened in by_group.items():
            winner = ripened[0]
            if group not in incumbents:
                winner = min(ripened, key=lambda zone_id: (d_of.get(zone_id, inf), self._ground.rank(zone_id)))
            for zone_id in list(s.stays):
                if zone_id != winner and self._ground.zones[zone_id].exclusive_group == group:
                    if s.stays[zone_id].state is _CAND:
                        del s.stays[zone_id]
                    opening.pop(zone_id, None)


def _on_floor(s: Subject, fix: Fix, outcome: Outcome) -> bool:
    """Whether the fix is on the floor the subject is held to be on; another floor must hold first."""
    if s.at == NEVER:
        s.floor = fix.floor
    if fix.floor == s.floor:
        if s.new_floor is not None:
            s.new_floor = None
            for stay in s.stays.values():
                stay.off_floor = None
        return True
    if s.new_floor is None:
        for stay in s.stays.values():
            stay.off_floor = figures(stay, s.at, s.count)
    if s.new_floor != fix.floor:
        s.new_floor, s.new_since = fix.floor, fix.event_time
    if fix.event_time - s.new_since < FLOOR_HOLD:
        return False
    for zone_id, stay in s.stays.items():
        if stay.state is not _CAND and stay.off_floor is not None:
            outcome.closing[zone_id] = (stay, "FLOOR_CHANGE", stay.off_floor)
    s.stays, s.floor, s.new_floor = {}, fix.floor, None
    return True


def _heard(s: Subject, fix: Fix) -> None:
    s.same = s.same + 1 if fix.event_time == s.at else 1
    s.count += 1
    s.at, s.ingest, s.tech, s.x, s.y = fix.event_time, fix.ingest_time, fix.tech, fix.x_m, fix.y_m


def _believed(fix: Fix, how: Dwelling) -> float:
    """How much of the claimed accuracy delays an exit."""
    return min(fix.accuracy_m, how.acc_cap_m) if how.acc_cap_m > 0 and fix.accuracy_m > 0 else 0.0


def _away(still: tuple[float, float, float], fix: Fix) -> float:
    x, y, floor = still
    return hypot(fix.x_m - x, fix.y_m - y) if fix.floor == floor else inf
