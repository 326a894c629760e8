"""Where a position is: on a floor or off it, near which zones, how deep inside them.

A floor is cut into squares of one metre. A signed distance changes by no more than one moves, so the
distance at the centre of a square settles for all of it which zones can be near, whether it is off the
floor, whether a sensitive zone holds it; only where it does not settle is a point measured. A square is
looked at when the first point falls into it.
"""

from collections.abc import Iterable
from math import inf, sqrt

import msgspec

from operators.venues.dwelling import DEFAULTS
from operators.venues.rings import Shape, hull, points, shape
from schemas.reference import Zone
from schemas.venue import Venue

OFF_FLOOR_M = 5.0
_HALF_DIAGONAL_M = sqrt(0.5) + 1e-6
_MOST_CELLS = 1 << 20
_DEFAULT_REACH_M = max(known.exit_margin_m for known in DEFAULTS.values()) + 1.0


class _Cell(msgspec.Struct, gc=False):
    """What is settled for one square; None where a point must be measured."""

    near: tuple[tuple[str, Shape], ...]
    off: bool | None
    sensitive: bool | None


class _Floor:
    """Zones and outline of one level."""

    def __init__(self, reach_m: float) -> None:
        self.reach_m = reach_m
        self.zones: dict[str, Shape] = {}
        self.sensitive: dict[str, Shape] = {}
        self.outline: list[Shape] = []
        self.cells: dict[tuple[float, float], _Cell] = {}

    def cell(self, x: float, y: float) -> _Cell:
        key = (x // 1.0, y // 1.0)
        found = self.cells.get(key)
        if found is None:
            if len(self.cells) >= _MOST_CELLS:
                self.cells.clear()
            found = self.cells[key] = self._looked_at(key[0] + 0.5, key[1] + 0.5)
        return found

    def beyond(self, x: float, y: float) -> float:
        """Distance to the outline, negative inside."""
        return min((part.distance(x, y) for part in self.outline), default=inf)

    def _looked_at(self, x: float, y: float) -> _Cell:
        reach = self.reach_m + _HALF_DIAGONAL_M
        return _Cell(
            near=tuple(pair for pair in self.zones.items() if pair[1].distance(x, y) <= reach),
            off=_settled(self.beyond(x, y) - OFF_FLOOR_M, positive=True),
            sensitive=_settled(
                min((area.distance(x, y) for area in self.sensitive.values()), default=inf), positive=False
            ),
        )


def _settled(distance: float, *, positive: bool) -> bool | None:
    if abs(distance) <= _HALF_DIAGONAL_M:
        return None
    return (distance > 0) is positive


class Places:
    """The geometry of a venue, with zones that may be replaced while people are in them.

    Args:
        venue: the venue as loaded.
        reach_m: how far outside a zone still counts as near; left out, the largest exit margin and
            accuracy cap that a zone of this venue can have.
    """

    def __init__(self, venue: Venue, *, reach_m: float | None = None) -> None:
        self._venue = venue
        self._own_reach = reach_m
        self._zones: dict[str, Zone] = {}
        self._shapes: dict[str, Shape] = {}
        self._floors: dict[float, _Floor] = {}
        self._outlines: dict[float, list[Shape]] = {}
        for level in venue.floors:
            self._outlines.setdefault(level.floor, []).append(Shape(level.rings))
        self._zones.update(venue.zones)
        self._shapes.update((zone_id, shape(zone.rings)) for zone_id, zone in venue.zones.items())
        self._build({*self._outlines, *(zone.floor for zone in venue.zones.values())})

    @property
    def venue(self) -> Venue:
        """The venue as it was loaded."""
        return self._venue

    def twin(self) -> "Places":
        """The venue as it was loaded, once more: each step follows the edits of zones in its own time."""
        return Places(self._venue, reach_m=self._own_reach)

    def put(self, zone: Zone) -> None:
        """Add a zone or replace the one of that id; a deleted one is taken away."""
        if zone.deleted:
            self.remove(zone.zone_id)
            return
        before = self._zones.get(zone.zone_id)
        self._zones[zone.zone_id] = zone
        self._shapes[zone.zone_id] = shape(zone.rings)
        self._build({zone.floor, *([before.floor] if before else [])})

    def remove(self, zone_id: str) -> None:
        """Take a zone away; one that is not there is no fault."""
        zone = self._zones.pop(zone_id, None)
        if zone is not None:
            del self._shapes[zone_id]
            self._build({zone.floor})

    def knows_floor(self, floor: float) -> bool:
        """Whether the venue has such a level."""
        return floor in self._floors

    def off_floor(self, floor: float, x: float, y: float) -> bool:
        """Whether a point lies more than 5 m outside the outline of its floor."""
        level = self._floors[floor]
        off = level.cell(x, y).off
        return level.beyond(x, y) > OFF_FLOOR_M if off is None else off

    def sensitive(self, floor: float, x: float, y: float) -> bool:
        """Whether a point lies in a zone of which nothing may be kept; its edge belongs to it."""
        level = self._floors[floor]
        if not level.sensitive:
            return False
        found = level.cell(x, y).sensitive
        return any(area.distance(x, y) <= 0 for area in level.sensitive.values()) if found is None else found

    def near(self, floor: float, x: float, y: float) -> list[tuple[str, float]]:
        """Zones of a floor that a point is in or within reach of, with its distance, ordered by zone id."""
        level = self._floors.get(floor)
        if level is None:
            return []
        reach = level.reach_m
        return [(zone_id, d) for zone_id, area in level.cell(x, y).near if (d := area.distance(x, y)) <= reach]

    def distance(self, zone_id: str, x: float, y: float) -> float:
        """Metres to a zone's edge, negative inside, whatever the floor; infinite for a zone that is not there."""
        area = self._shapes.get(zone_id)
        return inf if area is None else area.distance(x, y)

    def side(self, zone_id: str) -> float:
        """Diameter of the largest circle inside a zone."""
        return self._shapes[zone_id].side()

    def _reach(self) -> float:
        if self._own_reach is not None:
            return self._own_reach
        own = ((zone.exit_margin_m or 0.0) + (zone.acc_cap_m or 0.0) for zone in self._zones.values())
        return max(_DEFAULT_REACH_M, max(own, default=0.0))

    def _build(self, changed: Iterable[float]) -> None:
        """Make the changed floors anew; all of them when the reach has grown."""
        reach = self._reach()
        stale = set(changed)
        stale.update(floor for floor, level in self._floors.items() if level.reach_m != reach)
        for floor in sorted(stale):
            here = sorted(zone_id for zone_id, zone in self._zones.items() if zone.floor == floor)
            if not here and floor not in self._outlines:
                self._floors.pop(floor, None)
                continue
            level = _Floor(reach)
            level.zones = {zone_id: self._shapes[zone_id] for zone_id in here}
            level.sensitive = {zone_id: self._shapes[zone_id] for zone_id in here if self._zones[zone_id].sensitive}
            level.outline = self._outlines.get(floor) or self._outline(here)
            self._floors[floor] = level

    def _outline(self, here: list[str]) -> list[Shape]:
        """A floor without a drawn outline ends where its store zone ends, else at the hull of its zones."""
        stores = [self._shapes[zone_id] for zone_id in here if self._zones[zone_id].kind == "STORE"]
        return stores or [
            Shape([hull(point for zone_id in here for ring in self._zones[zone_id].rings for point in points(ring))])
        ]
