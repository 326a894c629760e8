"""A venue file becomes floors, zones and devices; whole, or not at all with every fault named.

A venue that comes as records of `venue.site`, `venue.zone` and `venue.device` passes the same looks at its
geometry. shapely is used here, at load time, and nowhere after.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from operators.venues import terrain
from operators.venues.dwelling import default_of, dwelling
from operators.venues.properties import SITE, TYPES, Wrong, fields_of, nearest, number
from schemas import durations
from schemas.reference import Device, Ring, Site, Zone
from schemas.rows import single
from schemas.venue import Floor, Venue

__all__ = ["VenueFault", "dwelling", "gather", "load_venue"]

EARTH_M = 6_371_008.8
_FARTHEST_M = 20_000.0
_FARTHEST_DEG = 0.02
_SMALLEST_M = 0.05
Point = tuple[float, float]


class VenueFault(ValueError):
    """A venue that cannot be loaded; `faults` holds every line, each with where, what was expected, what was found."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self.faults = [f"{name}: {fault}" for fault in faults]
        super().__init__("\n".join(self.faults))


def load_venue(path: Path, *, strict_zones: bool = False) -> Venue:
    """Read `venue.geojson`.

    Args:
        path: the file.
        strict_zones: whether a zone too small for its technology is a fault rather than a warning.

    Returns:
        The venue in the site frame; what is doubtful and not wrong stands in its `warnings`.

    Raises:
        VenueFault: with all faults of the file.
    """
    faults: list[str] = []
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise VenueFault(path.name, [f"must be a file that can be read; {error.strerror}"]) from error
    except orjson.JSONDecodeError as error:
        raise VenueFault(
            path.name, [f"line {error.lineno}, column {error.colno}: must be JSON; {error.msg}"]
        ) from error
    if (
        not isinstance(document, dict)
        or document.get("type") != "FeatureCollection"
        or not isinstance(document.get("features"), list)
    ):
        raise VenueFault(path.name, ["must be a FeatureCollection with a list of features"])
    crs = document.get("crs")
    if crs not in {"local", "wgs84"}:
        faults.append(f"crs must be 'local' or 'wgs84'; got {crs!r}")
    site = _site(document.get("site"), local=crs != "wgs84", faults=faults)
    reading = _Reading(site, local=crs != "wgs84", faults=faults)
    for index, feature in enumerate(document["features"]):
        reading.feature(index, feature)
    venue = _gathered(
        site,
        reading.declared,
        reading.floors,
        reading.zones,
        reading.devices,
        reading.where,
        faults,
        strict_zones=strict_zones,
    )
    if faults:
        raise VenueFault(path.name, faults)
    return venue


def gather(site: Site, zones: Iterable[Zone], devices: Iterable[Device], *, strict_zones: bool = False) -> Venue:
    """Make a venue of records as they stand on their topics: the newest of each id, deleted ones left out.

    Raises:
        VenueFault: with all faults of the geometry.
    """
    faults: list[str] = []
    kept_zones = {zone.zone_id: zone for zone in zones if not zone.deleted}
    kept_devices = {device.device_id: device for device in devices if not device.deleted}
    where = {name: f"zone {name!r}" for name in kept_zones} | {name: f"device {name!r}" for name in kept_devices}
    venue = _gathered(site, kept_zones, [], kept_zones, kept_devices, where, faults, strict_zones=strict_zones)
    if faults:
        raise VenueFault("venue records", faults)
    return venue


def _gathered(
    site: Site,
    declared: Collection[str],
    floors: list[Floor],
    zones: dict[str, Zone],
    devices: dict[str, Device],
    where: Mapping[str, str],
    faults: list[str],
    *,
    strict_zones: bool,
) -> Venue:
    warnings: list[str] = []
    ground = terrain.Terrain(where, faults, warnings, strict_zones=strict_zones)
    ground.floors(floors)
    ground.zones(zones)
    ground.devices(devices, zones)
    levels = {floor.floor for floor in floors}
    for name, floor in ((zone.zone_id, zone.floor) for zone in zones.values()):
        if levels and floor not in levels:
            faults.append(f"{where[name]}: floor must be one of {sorted(levels)}; got {floor}")
    levels |= {zone.floor for zone in zones.values()}
    for device in devices.values():
        at = where[device.device_id]
        if device.floor is not None and levels and device.floor not in levels:
            faults.append(f"{at}: floor must be one of {sorted(levels)}; got {device.floor}")
        named = [*([device.zone_id] if device.zone_id else []), *device.view_zones]
        faults += [
            f"{at}: must name a zone of the venue; got {name!r}{nearest(name, zones)}"
            for name in named
            if name not in declared
        ]
    return Venue(
        site=site, floors=floors, zones=zones, devices=devices, centroids=ground.centroids(zones), warnings=warnings
    )


def _site(given: Any, *, local: bool, faults: list[str]) -> Site:
    if not isinstance(given, dict):
        faults.append(f"site must be an object with the fields of venue.site; got {given!r}")
        given = {"site_id": "?", "time_zone": "UTC", "lat_deg": 0.0, "lon_deg": 0.0}
    fields = fields_of(given, SITE, "site", faults)
    needed = ("site_id", "time_zone", *(() if local else ("lat_deg", "lon_deg")))
    faults += [f"site: {name} must be there; got nothing" for name in needed if given.get(name) is None]
    defaults = {"site_id": "?", "time_zone": "UTC", "lat_deg": 0.0, "lon_deg": 0.0, "legal_basis": "PSEUDONYMOUS"}
    return Site(event_time=0, source_id="venue", **{**defaults, **fields})


class _Reading:
    """Features as they are read, in file order."""

    def __init__(self, site: Site, *, local: bool, faults: list[str]) -> None:
        self._site, self._local, self._faults = site, local, faults
        self.floors: list[Floor] = []
        self.zones: dict[str, Zone] = {}
        self.devices: dict[str, Device] = {}
        self.where: dict[str, str] = {}
        self.declared: set[str] = set()
        self._seen: dict[str, int] = {}
        bearing = math.radians(site.bearing_deg)
        self._cos, self._sin = math.cos(bearing), math.sin(bearing)

    def feature(self, index: int, feature: Any) -> None:
        """Read one feature; its faults are added, and nothing of a faulty one is kept."""
        name = feature.get("id") if isinstance(feature, dict) else None
        at = f"feature {name!r} (index {index})"
        before = len(self._faults)
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            self._faults.append(f"{at}: must be a Feature; got {type(feature).__name__}")
            return
        if not isinstance(name, str) or not name:
            self._faults.append(f"{at}: id must be a text; got {name!r}")
            return
        if name in self._seen:
            self._faults.append(f"{at}: id must be used once; got it at index {self._seen[name]} too")
        self._seen.setdefault(name, index)
        self.declared.add(name)
        properties = feature.get("properties")
        given: dict[str, Any] = properties if isinstance(properties, dict) else {}
        kind = given.get("type")
        if not isinstance(kind, str) or kind not in TYPES:
            hint = nearest(kind, TYPES) if isinstance(kind, str) else ""
            self._faults.append(f"{at}: properties.type must be one of floor zone device; got {kind!r}{hint}")
            return
        fields = fields_of({key: value for key, value in given.items() if key != "type"}, TYPES[kind], at, self._faults)
        try:
            if kind == "device":
                place = self._point(feature.get("geometry"))
            else:
                rings = self._area(feature.get("geometry"))
        except Wrong as wrong:
            self._faults.append(f"{at}: {wrong}")
            return
        if kind == "zone":
            self._check(fields, at)
        if len(self._faults) > before:
            return
        self.where[name] = at
        envelope: dict[str, Any] = {"event_time": 0, "site_id": self._site.site_id, "source_id": "venue"}
        if kind == "floor":
            self.where[f"floor {len(self.floors)}"] = at
            self.floors.append(Floor(floor=fields.get("floor", 0.0), rings=rings))
        elif kind == "zone":
            lines = [Ring(xy_m=[value for point in ring for value in point]) for ring in rings]
            self.zones[name] = Zone(**envelope, zone_id=name, rings=lines, **{"floor": 0.0, **fields})
        else:
            x, y = place or (None, None)
            self.devices[name] = Device(**envelope, device_id=name, x_m=x, y_m=y, **fields)

    def _check(self, fields: Mapping[str, Any], at: str) -> None:
        gap = fields.get("gap_us", default_of(fields.get("tech", "UWB")).gap_us)
        if fields.get("fresh_us", 0) > gap:
            self._faults.append(
                f"{at}: fresh must not exceed gap ({durations.text(gap)}); got {durations.text(fields['fresh_us'])}"
            )
        if fields.get("valid_to") is not None and fields["valid_to"] <= fields.get("valid_from", 0):
            self._faults.append(f"{at}: valid_to must be after valid_from; got {fields['valid_to']}")

    def _point(self, geometry: Any) -> Point | None:
        if geometry is None:
            return None
        if not isinstance(geometry, dict) or geometry.get("type") != "Point":
            raise Wrong(f"geometry must be a Point or null; got {_kind_of(geometry)!r}")
        x, y = self._placed(geometry.get("coordinates"))
        origin = self._site.lon_deg, self._site.lat_deg
        if self._local and max(map(abs, origin)) > 1 and max(abs(x - origin[0]), abs(y - origin[1])) < _FARTHEST_DEG:
            raise Wrong(
                f"coordinates must be metres in a local file; got [{x}, {y}], which looks like degrees (then crs is 'wgs84')"
            )
        return x, y

    def _area(self, geometry: Any) -> list[list[Point]]:
        kind = _kind_of(geometry)
        if kind not in {"Polygon", "MultiPolygon"}:
            raise Wrong(f"geometry must be a Polygon or a MultiPolygon; got {kind!r}")
        parts = geometry.get("coordinates")
        if kind == "Polygon":
            parts = [parts]
        if not isinstance(parts, list) or not all(isinstance(part, list) and part for part in parts) or not parts:
            raise Wrong("coordinates must be rings of positions; got something else")
        rings = [self._ring(ring) for part in parts for ring in part]
        sizes = [len(part) for part in parts]
        if wrong := terrain.fault_of(rings, sizes):
            raise Wrong(wrong)
        if self._local:
            (west, south), (east, north) = (
                (bound(x for ring in rings for x, _ in ring), bound(y for ring in rings for _, y in ring))
                for bound in (min, max)
            )
            if east - west < _SMALLEST_M and north - south < _SMALLEST_M:
                raise Wrong(
                    "coordinates must be metres in a local file; got an area of"
                    f" {(east - west) * 1000:.1f} by {(north - south) * 1000:.1f} mm, which looks like degrees (then crs is 'wgs84')"
                )
        return rings

    def _ring(self, given: Any) -> list[Point]:
        if not isinstance(given, list):
            raise Wrong("a ring must be a list of positions; got something else")
        found = [self._placed(position) for position in given]
        if given and given[0] != given[-1]:
            raise Wrong(f"a ring must be closed, its last position like its first; got {given[0]} and {given[-1]}")
        if len(set(found)) < 3:
            raise Wrong(f"a ring must have at least 3 points; got {len(set(found))}")
        return found

    def _placed(self, position: Any) -> Point:
        """A position in the site frame, rounded as every float is at the door."""
        if not isinstance(position, list) or not 2 <= len(position) <= 3:
            raise Wrong(f"a position must be two numbers; got {position!r}")
        try:
            for value in position:
                number(value)
        except Wrong as wrong:
            raise Wrong(f"a position must be two numbers; got {position!r}") from wrong
        if self._local:
            return single(float(position[0])), single(float(position[1]))
        lon, lat = position[0], position[1]
        if not (-180 <= lon <= 180 and -90 <= lat <= 90):
            raise Wrong(
                f"coordinates must be longitude and latitude in a wgs84 file; got {position}, which looks like metres (then crs is 'local')"
            )
        east = math.radians(lon - self._site.lon_deg) * math.cos(math.radians(self._site.lat_deg)) * EARTH_M
        north = math.radians(lat - self._site.lat_deg) * EARTH_M
        if max(abs(east), abs(north)) > _FARTHEST_M:
            raise Wrong(
                f"coordinates must be near the site's origin; got {position}, {max(abs(east), abs(north)) / 1000:.0f} km from it"
                " (metres in a wgs84 file, or latitude before longitude?)"
            )
        return single(east * self._cos - north * self._sin), single(east * self._sin + north * self._cos)


def _kind_of(geometry: Any) -> Any:
    return geometry.get("type") if isinstance(geometry, dict) else None
