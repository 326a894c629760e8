"""Looks at the geometry of a venue that need a geometry library: what cannot be, and what is doubtful."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import shapely
from shapely.validation import explain_validity

from operators.venues.dwelling import SMALLEST_SIDE_M, default_of
from operators.venues.rings import points, shape
from schemas.reference import Device, Zone
from schemas.venue import Floor

Point = tuple[float, float]
_OVERLAP = 0.05


def fault_of(rings: Sequence[Sequence[Point]], parts: Sequence[int] | None = None) -> str | None:
    """What is wrong with an area, or None.

    Args:
        rings: all rings, part by part, the outer one of a part first.
        parts: how many rings each part has; None where the rings stand for themselves, by even-odd.
    """
    for ring in rings:
        if len(set(ring)) < 3:
            return f"a ring must have at least 3 points; got {len(set(ring))}"
        line = shapely.Polygon(ring)
        if line.area == 0:
            return "a ring must enclose an area; got zero area"
        if not line.is_valid:
            return f"a ring must not cross or touch itself; got {explain_validity(line)}"
    if parts is None:
        return None
    polygons, at = [], 0
    for size in parts:
        outer, holes = rings[at], rings[at + 1 : at + size]
        at += size
        for hole in holes:
            if not shapely.Polygon(outer).covers(shapely.Polygon(hole)):
                return f"a hole must lie inside its ring; got one from {hole[0]} outside it"
        polygons.append((outer, holes))
    whole = shapely.MultiPolygon(polygons)
    return None if whole.is_valid else f"rings must not cross each other; got {explain_validity(whole)}"


def area_of(zone: Zone) -> shapely.Geometry:
    """The area of a zone by even-odd over its rings."""
    area: shapely.Geometry = shapely.Polygon()
    for ring in zone.rings:
        area = area.symmetric_difference(shapely.Polygon(points(ring)))
    return area


class Terrain:
    """Looks at the floors, zones and devices of one venue, and adds what it finds to two lists.

    Args:
        where: how a message names each zone and device.
        faults: what cannot be.
        warnings: what is doubtful.
        strict_zones: whether a zone too small is a fault.
    """

    def __init__(self, where: Mapping[str, str], faults: list[str], warnings: list[str], *, strict_zones: bool) -> None:
        self._where, self._faults, self._warnings, self._strict = where, faults, warnings, strict_zones
        self._areas: dict[str, shapely.Geometry] = {}

    def zones(self, zones: Mapping[str, Zone]) -> None:
        """Zones alone, then against each other."""
        for zone in zones.values():
            at = self._where[zone.zone_id]
            if zone.kind == "UNKNOWN":
                self._warnings.append(f"{at}: a zone should say its kind; got none")
            if not zone.rings:
                self._faults.append(f"{at}: must have at least one ring; got none")
            elif wrong := fault_of([points(ring) for ring in zone.rings]):
                self._faults.append(f"{at}: {wrong}")
            else:
                self._areas[zone.zone_id] = area_of(zone)
                self._size(zone, at)
        if not any(zone.kind == "STORE" for zone in zones.values()):
            self._warnings.append("venue: no zone is of kind STORE, so no visit to the shop as a whole is told")
        for one, other in combinations((zones[zone_id] for zone_id in self._areas), 2):
            if one.floor == other.floor:
                self._pair(one, other)

    def devices(self, devices: Mapping[str, Device], zones: Mapping[str, Zone]) -> None:
        """Devices against the zones they are said to stand in."""
        for device in devices.values():
            zone = zones.get(device.zone_id or "")
            area = self._areas.get(device.zone_id or "")
            if zone is None or area is None or device.x_m is None or device.y_m is None:
                continue
            elsewhere = device.floor is not None and device.floor != zone.floor
            if elsewhere or not area.covers(shapely.Point(device.x_m, device.y_m)):
                found = (
                    f"floor {device.floor}"
                    if elsewhere
                    else f"({device.x_m:g}, {device.y_m:g}), {area.distance(shapely.Point(device.x_m, device.y_m)):.2f} m outside"
                )
                self._warnings.append(
                    f"{self._where[device.device_id]}: should stand in its zone {zone.zone_id!r}; got {found}"
                )

    def floors(self, floors: Sequence[Floor]) -> None:
        """Levels: drawn outlines of one level must not stand twice."""
        for one, other in combinations(range(len(floors)), 2):
            if floors[one].floor == floors[other].floor:
                at = self._where.get(f"floor {other}", f"floor {other}")
                self._warnings.append(
                    f"{at}: level {floors[other].floor:g} should be drawn once; its outlines are taken together"
                )

    def centroids(self, zones: Mapping[str, Zone]) -> dict[str, tuple[float, float]]:
        """Centres of gravity, for the nearest screen."""
        return {
            name: (self._areas[name].centroid.x, self._areas[name].centroid.y) for name in zones if name in self._areas
        }

    def _size(self, zone: Zone, at: str) -> None:
        tech = zone.tech or "UWB"
        side, least = shape(zone.rings).side(), SMALLEST_SIDE_M.get(tech, 0.0)
        if side < least - 0.001:
            found = f"{at}: a zone served by {tech} should hold a circle of {least:g} m; got {side:.2f} m"
            (self._faults if self._strict else self._warnings).append(found)
        for name in ("enter_margin_m", "exit_margin_m"):
            margin = getattr(zone, name)
            if margin is not None and margin > side / 6:
                self._warnings.append(
                    f"{at}: {name} should be at most a sixth of the zone's side; got {margin:g}, {side / 6:.2f} is used"
                )
        if zone.acc_cap_m is not None and zone.acc_cap_m > 1:
            self._warnings.append(f"{at}: acc_cap_m should be at most 1; got {zone.acc_cap_m:g}")
        if zone.gap_us is not None and zone.fresh_us is None and zone.gap_us < default_of(tech).fresh_us:
            self._warnings.append(f"{at}: gap is shorter than the fresh of {tech}; fresh becomes as short")

    def _pair(self, one: Zone, other: Zone) -> None:
        first, second = self._areas[one.zone_id], self._areas[other.zone_id]
        at = f"{self._where[one.zone_id]} and {self._where[other.zone_id]}"
        if one.exclusive_group is not None and one.exclusive_group == other.exclusive_group:
            smaller = min(first.area, second.area)
            if (shared := first.intersection(second).area) > _OVERLAP * smaller:
                self._warnings.append(
                    f"{at}: zones of one exclusive group should overlap by at most 5 % of the smaller; got {100 * shared / smaller:.0f} %"
                )
        elif first.touches(second) and first.intersection(second).length > 0:
            self._warnings.append(
                f"{at}: zones that touch should be in one exclusive_group; as they are, both may hold a person"
            )
