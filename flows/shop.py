"""The shop that is simulated: where its zones, its door and its tills are, read from the venue file.

Only what a walker needs is read here. Whether the file is right is the venue loader's word, not this one's.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson

Point = tuple[float, float]
BROWSED = ("OFFER", "DEPARTMENT", "SHELF", "FITTING_ROOM")


@dataclass(frozen=True)
class Area:
    """One zone: its outer ring, and what it is called."""

    zone_id: str
    kind: str
    name: str
    category: str | None
    ring: tuple[Point, ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in metres."""
        xs, ys = [x for x, _ in self.ring], [y for _, y in self.ring]
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def centre(self) -> Point:
        """Middle of the box."""
        left, bottom, right, top = self.box
        return (left + right) / 2, (bottom + top) / 2

    def holds(self, x: float, y: float) -> bool:
        """Whether the point lies inside (even-odd).

        >>> Area("a", "OFFER", "A", None, ((0, 0), (4, 0), (4, 4), (0, 4))).holds(1.0, 1.0)
        True
        """
        inside = False
        before = self.ring[-1]
        for here in self.ring:
            if (here[1] > y) != (before[1] > y) and x < (before[0] - here[0]) * (y - here[1]) / (
                before[1] - here[1]
            ) + here[0]:
                inside = not inside
            before = here
        return inside

    def spot(self, rng: Random, inset: float = 1.0) -> Point:
        """A place to stand, `inset` metres from the box's edge where the zone is large enough."""
        left, bottom, right, top = self.box
        dx, dy = min(inset, (right - left) / 3), min(inset, (top - bottom) / 3)
        for _ in range(20):
            x, y = (
                left + dx + rng.random() * (right - left - 2 * dx),
                bottom + dy + rng.random() * (top - bottom - 2 * dy),
            )
            if self.holds(x, y):
                return x, y
        return self.centre


@dataclass(frozen=True)
class Shop:
    """A venue as a walker sees it."""

    site_id: str
    time_zone: str
    currency: str
    zones: dict[str, Area]
    tills: dict[str, Point]
    door: Point
    outside: Point
    counter: str | None

    @property
    def browsed(self) -> list[Area]:
        """Zones in which people look at things, by id."""
        return [area for _, area in sorted(self.zones.items()) if area.kind in BROWSED]

    def of_kind(self, kind: str) -> Area | None:
        """The first zone of a kind, by id."""
        return next((area for _, area in sorted(self.zones.items()) if area.kind == kind), None)

    @staticmethod
    def read(path: Path) -> "Shop":
        """Read `venue.geojson` in local metres."""
        document: dict[str, Any] = orjson.loads(path.read_bytes())
        zones: dict[str, Area] = {}
        tills: dict[str, Point] = {}
        counter = None
        for feature in document["features"]:
            what, shape = feature["properties"], feature.get("geometry")
            if what["type"] == "zone":
                zones[feature["id"]] = _area(feature["id"], what, shape)
            elif what["type"] == "device" and what.get("kind") == "TILL" and shape:
                tills[feature["id"]] = (float(shape["coordinates"][0]), float(shape["coordinates"][1]))
            elif what["type"] == "device" and what.get("kind") == "COUNTER":
                counter = feature["id"]
        door, outside = _door(zones)
        site = document["site"]
        return Shop(
            site["site_id"], site["time_zone"], site.get("currency", "EUR"), zones, tills, door, outside, counter
        )


def _area(zone_id: str, what: dict[str, Any], shape: dict[str, Any]) -> Area:
    rings = shape["coordinates"] if shape["type"] == "Polygon" else shape["coordinates"][0]
    ring = tuple((float(x), float(y)) for x, y, *_ in rings[0])
    return Area(zone_id, what["kind"], what.get("name", zone_id), what.get("category"), ring)


def _door(zones: dict[str, Area]) -> tuple[Point, Point]:
    """The middle of that side of the entrance which lies nearest to the shop's edge, and a place outside it."""
    store = next((area for area in zones.values() if area.kind == "STORE"), None)
    entrance = next((area for area in zones.values() if area.kind == "ENTRANCE"), store)
    if store is None or entrance is None:
        raise ValueError("a simulated venue must have a zone of kind STORE")
    (left, bottom, right, top), (x, y) = store.box, entrance.centre
    gaps = {
        (0, -1): entrance.box[1] - bottom,
        (0, 1): top - entrance.box[3],
        (-1, 0): entrance.box[0] - left,
        (1, 0): right - entrance.box[2],
    }
    dx, dy = min(gaps, key=lambda side: gaps[side])
    edge = (left if dx < 0 else right if dx > 0 else x, bottom if dy < 0 else top if dy > 0 else y)
    return (edge[0] - 0.5 * dx, edge[1] - 0.5 * dy), (edge[0] + 4.5 * dx, edge[1] + 4.5 * dy)
