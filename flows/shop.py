"""The shop that is simulated: where its zones, its door and its tills are, read from the venue file.

The simulation walks in whatever shop the file draws, so an edited venue is a demo of one's own.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from operators.venues.venue import VenueFault, load_venue
from schemas.reference import Ring
from schemas.venue import Venue

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
        """Read `venue.geojson`; raises VenueFault as the flows do."""
        return Shop.of(load_venue(path))

    @staticmethod
    def of(venue: Venue) -> "Shop":
        """What a walker needs of a venue."""
        zones = {
            zone_id: Area(zone_id, zone.kind, zone.name or zone_id, zone.category, _corners(zone.rings[0]))
            for zone_id, zone in venue.zones.items()
        }
        devices = sorted(venue.devices.items())
        tills = {
            device_id: (device.x_m, device.y_m)
            for device_id, device in devices
            if device.kind == "TILL" and device.x_m is not None and device.y_m is not None
        }
        counter = next((device_id for device_id, device in devices if device.kind == "COUNTER"), None)
        door, outside = _door(zones)
        site = venue.site
        return Shop(site.site_id, site.time_zone, site.currency or "EUR", zones, tills, door, outside, counter)


def _corners(ring: Ring) -> tuple[Point, ...]:
    return tuple(zip(ring.xy_m[::2], ring.xy_m[1::2], strict=True))


def _door(zones: dict[str, Area]) -> tuple[Point, Point]:
    """The middle of that side of the entrance which lies nearest to the shop's edge, and a place outside it."""
    store = next((area for area in zones.values() if area.kind == "STORE"), None)
    entrance = next((area for area in zones.values() if area.kind == "ENTRANCE"), store)
    if store is None or entrance is None:
        raise VenueFault("venue.geojson", ["a simulated venue must have a zone of kind STORE; got none"])
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
