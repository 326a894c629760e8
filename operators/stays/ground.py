"""The zones in force at an event time: their parameters and thresholds, and what changes them when.

A venue file gives the first revision of each zone; `venue.zone` and `control.threshold` records change them
at their event time, or later where they say so (`valid_from`, `valid_to`, `effective_at`). Changes are kept,
so that a restart over the venue file still knows the later revisions.
"""

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import Protocol

import msgspec

from operators.state.store import Tables
from schemas.reference import Ring, Threshold, Zone
from schemas.venue import Dwelling

NO_TURN = 1 << 80
"""Later than the end of time: nothing is known to change."""


class Places(Protocol):
    """Where zones are. Distances are signed, in metres, negative inside."""

    def near(self, floor: float, x: float, y: float) -> list[tuple[str, float]]:
        """Zones of a floor within reach of their margins, each with its distance."""
        ...

    def distance(self, zone_id: str, x: float, y: float) -> float:
        """Distance to one zone, however far, whatever the floor."""
        ...

    def put(self, zone: Zone) -> None:
        """Add a zone or replace the one of that id."""
        ...

    def remove(self, zone_id: str) -> None:
        """Take a zone away, if it is there."""
        ...


class Edit(msgspec.Struct, array_like=True):
    """A revision of a zone, and from when on it counts."""

    since: int
    zone: Zone


class Asked(msgspec.Struct, array_like=True):
    """The thresholds that campaigns elsewhere want of a zone from `since` on."""

    since: int
    dwell_us: list[int]


class Turn(msgspec.Struct, frozen=True):
    """A zone changed at `at`: `zone` is what is in force from now on; `moved` says it is another revision."""

    at: int
    zone_id: str
    zone: Zone | None
    moved: bool


class Ground:
    """Zones in force.

    Args:
        zones: of the venue file.
        places: geometry; it holds the zones of the venue file, and is kept in step with what changes. Zones that
            it knows and that are not in force do not count.
        dwelling: parameters of a zone for a technology.
        wanted: thresholds that the campaigns of this process want of a zone.
        tables: where changes are kept.
        first: number of the first of two tables.
        at: event time up to which presence has run before; 0 at the first start.
    """

    def __init__(
        self,
        zones: Mapping[str, Zone],
        places: Places,
        dwelling: Callable[[Zone, str], Dwelling],
        wanted: Callable[[Zone], Iterable[int]],
        tables: Tables,
        first: int,
        at: int,
    ) -> None:
        self._places, self._dwelling, self._wanted = places, dwelling, wanted
        self._edits = tables.table(first, list[Edit])
        self._asked = tables.table(first + 1, list[Asked])
        self._file = {zone_id: Edit(zone.valid_from, zone) for zone_id, zone in zones.items()}
        self._coming: list[tuple[int, str]] = []
        self.next_turn = NO_TURN
        """When something next changes, µs."""
        self._ways: dict[str, dict[str, Dwelling]] = {}
        self._thresholds: dict[str, tuple[int, ...]] = {}
        self._placed = dict(zones)
        self.zones: dict[str, Zone] = {}
        self.sensitive: frozenset[str] = frozenset()
        edited = dict(self._edits.items())
        for zone_id in sorted({*zones, *edited}):
            for edit in self._revisions(zone_id):
                self._expect(edit, at)
            zone = _alive(self._newest(zone_id, at), at)
            if zone is not None:
                self._enforce(zone_id, zone)
        for zone_id, asked in self._asked.items():
            for change in asked:
                if change.since > at:
                    self._note(change.since, zone_id)

    def turn(self) -> Turn:
        """Make the next change; valid while `next_turn` is not NO_TURN."""
        at, zone_id = heappop(self._coming)
        self.next_turn = self._coming[0][0] if self._coming else NO_TURN
        self._thresholds.clear()
        newest, before = self._newest(zone_id, at), self.zones.get(zone_id)
        zone = _alive(newest, at)
        if zone != before:
            self._enforce(zone_id, zone)
            kept = self._edits.get(zone_id)
            if kept is not None:
                self._edits.put(zone_id, [edit for edit in kept if edit.since > at or edit == newest])
        return Turn(at, zone_id, zone, zone != before)

    def edited(self, zone: Zone) -> None:
        """Hear of a revision; a turn follows at its event time or `valid_from`. An older revision is nothing new."""
        edit = Edit(max(zone.event_time, zone.valid_from), zone)
        known = self._revisions(zone.zone_id)
        if any(other.zone.revision > zone.revision and other.since <= edit.since for other in known):
            return
        kept = self._edits.get(zone.zone_id) or []
        self._edits.put(zone.zone_id, [*kept, edit])
        self._expect(edit, None)

    def asked(self, threshold: Threshold) -> None:
        """Hear what campaigns want of a zone; a turn follows when it takes effect."""
        since = max(threshold.event_time, threshold.effective_at)
        kept = [change for change in self._asked.get(threshold.zone_id) or [] if change.since != since]
        self._asked.put(
            threshold.zone_id, sorted([*kept, Asked(since, threshold.dwell_us)], key=lambda change: change.since)
        )
        self._note(since, threshold.zone_id)

    def thresholds(self, zone_id: str, at: int) -> tuple[int, ...]:
        """What a stay in a zone is asked to report: by the zone, by campaigns here and elsewhere.

        `at` is the time of the last turn or later: what holds then holds until the next one.
        """
        known = self._thresholds.get(zone_id)
        if known is not None:
            return known
        zone = self.zones[zone_id]
        asked: list[int] = []
        for change in self._asked.get(zone_id) or []:
            if change.since <= at:
                asked = change.dwell_us
        found = tuple(sorted({after for after in (*zone.dwell_us, *self._wanted(zone), *asked) if after > 0}))
        self._thresholds[zone_id] = found
        return found

    def ways(self, tech: str) -> dict[str, Dwelling]:
        """Parameters of every zone in force, for a technology."""
        ways = self._ways.get(tech)
        if ways is None:
            ways = self._ways[tech] = {zone_id: self._dwelling(zone, tech) for zone_id, zone in self.zones.items()}
        return ways

    def longest_gap(self, tech: str) -> int:
        """The longest silence that any zone forgives."""
        return max((how.gap_us for how in self.ways(tech).values()), default=0)

    def rank(self, zone_id: str) -> tuple[int, float, str]:
        """Who comes first among zones equally near: by priority, then the smaller area, then the id."""
        zone = self.zones[zone_id]
        return -zone.priority, area(zone.rings), zone_id

    def _revisions(self, zone_id: str) -> list[Edit]:
        file = self._file.get(zone_id)
        return [*([file] if file else []), *(self._edits.get(zone_id) or [])]

    def _newest(self, zone_id: str, at: int) -> Edit | None:
        begun = [edit for edit in self._revisions(zone_id) if edit.since <= at]
        return max(enumerate(begun), key=lambda pair: (pair[1].zone.revision, pair[0]))[1] if begun else None

    def _expect(self, edit: Edit, after: int | None) -> None:
        for at in (edit.since, edit.zone.valid_to):
            if at is not None and at >= edit.since and (after is None or at > after):
                self._note(at, edit.zone.zone_id)

    def _note(self, at: int, zone_id: str) -> None:
        heappush(self._coming, (at, zone_id))
        self.next_turn = self._coming[0][0]

    def _enforce(self, zone_id: str, zone: Zone | None) -> None:
        if zone is None:
            self.zones.pop(zone_id, None)
        else:
            self.zones[zone_id] = zone
        if self._placed.get(zone_id) != zone:  # a venue file's zones stand already: each put may cost a raster
            if zone is None:
                self._places.remove(zone_id)
                del self._placed[zone_id]
            else:
                self._places.put(zone)
                self._placed[zone_id] = zone
        self.sensitive = frozenset(zone_id for zone_id, zone in self.zones.items() if zone.sensitive)
        self._ways.clear()


def _alive(edit: Edit | None, at: int) -> Zone | None:
    if edit is None or edit.zone.deleted or (edit.zone.valid_to is not None and edit.zone.valid_to <= at):
        return None
    return edit.zone


def area(rings: list[Ring]) -> float:
    """Area of rings by the even-odd rule: a ring inside an odd number of others is a hole.

    >>> area([Ring(xy_m=[0, 0, 4, 0, 4, 4, 0, 4]), Ring(xy_m=[1, 1, 2, 1, 2, 2, 1, 2])])
    15.0
    """
    shapes = [list(zip(ring.xy_m[::2], ring.xy_m[1::2], strict=True)) for ring in rings]
    total = 0.0
    for i, shape in enumerate(shapes):
        double = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(shape, [*shape[1:], shape[0]], strict=True))
        holes = sum(_within(shape[0], other) for j, other in enumerate(shapes) if j != i)
        total += abs(double) / 2 * (-1 if holes % 2 else 1)
    return total


def _within(point: tuple[float, float], ring: list[tuple[float, float]]) -> bool:
    x, y = point
    inside = False
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside
