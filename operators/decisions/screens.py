"""Screens: which one stands beside a person, and who else would read it."""

from zoneinfo import ZoneInfo

import msgspec

from operators.state.store import Table, Tables
from schemas.items import Person
from schemas.reference import Device, Site, Zone
from schemas.venue import Venue

OCCUPANCY, ZONES, DEVICES, SITES = 77, 80, 81, 83
"""Numbers of the tables; the cores that work on one person share one store."""


class Screens:
    """The venue's screens, and who is in each zone as far as somebody counts; what changed is remembered."""

    def __init__(self, venue: Venue, tables: Tables) -> None:
        self.venue = venue
        self._occupancy: Table[bool] = tables.table(OCCUPANCY, bool)
        self._zones: Table[Zone] = tables.table(ZONES, Zone)
        self._devices: Table[Device] = tables.table(DEVICES, Device)
        self._sites: Table[Site] = tables.table(SITES, Site)
        self._nearest: dict[str, str | None] = {}
        self._present: dict[str, set[str]] = {}
        for key in dict(self._occupancy.items()):
            zone_id, _, subject = key.partition("\0")
            self._present.setdefault(zone_id, set()).update([subject] if subject else [])
        for site in dict(self._sites.items()).values():
            self.site(site)
        for zone in dict(self._zones.items()).values():
            self.zone(zone)
        for device in dict(self._devices.items()).values():
            self.device(device)

    @property
    def zone_info(self) -> ZoneInfo:
        """The venue's time zone."""
        return ZoneInfo(self.venue.site.time_zone or "UTC")

    def present(self, zone_id: str, subject: str, *, inside: bool) -> None:
        """Whether a subject is in a zone from now on; that the zone is counted at all is remembered, too."""
        if zone_id not in self._present:
            self._occupancy.put(zone_id, True)
            self._present[zone_id] = set()
        self._occupancy.put(f"{zone_id}\0{subject}", inside or None)
        (self._present[zone_id].add if inside else self._present[zone_id].discard)(subject)

    def count(self, zone_id: str | None) -> int | None:
        """How many are in a zone; None where nobody counts."""
        found = self._present.get(zone_id or "")
        return None if found is None else len(found)

    def site(self, site: Site) -> None:
        """The site as it is from now on; another one's is none of ours."""
        if site.site_id == self.venue.site.site_id:
            self._sites.put(site.site_id, site)
            self.venue = msgspec.structs.replace(self.venue, site=site)

    def zone(self, zone: Zone) -> None:
        """A zone as it is from now on."""
        self._zones.put(zone.zone_id, zone)
        zones = {name: each for name, each in self.venue.zones.items() if name != zone.zone_id}
        centroids = dict(self.venue.centroids)
        if not zone.deleted:
            zones[zone.zone_id] = zone
            centroids[zone.zone_id] = _centroid(zone)
        self.venue = msgspec.structs.replace(self.venue, zones=zones, centroids=centroids)
        self._nearest.clear()

    def device(self, device: Device) -> None:
        """A device as it is from now on."""
        self._devices.put(device.device_id, device)
        devices = {name: each for name, each in self.venue.devices.items() if name != device.device_id}
        if not device.deleted:
            devices[device.device_id] = device
        self.venue = msgspec.structs.replace(self.venue, devices=devices)
        self._nearest.clear()

    def nearest(self, zone_id: str | None) -> str | None:
        """The screen that has a zone in view and stands nearest to its centre; ties by id."""
        if zone_id is None:
            return None
        if zone_id not in self._nearest:
            x, y = self.venue.centroids.get(zone_id) or (0.0, 0.0)
            found = [
                (
                    float("inf") if each.x_m is None or each.y_m is None else (each.x_m - x) ** 2 + (each.y_m - y) ** 2,
                    name,
                )
                for name, each in self.venue.devices.items()
                if each.kind == "SCREEN" and zone_id in each.view_zones
            ]
            self._nearest[zone_id] = min(found)[1] if found else None
        return self._nearest[zone_id]

    def others(self, device_id: str, person: Person) -> int | None:
        """Subjects in view of a screen that are not the person's; None where not everybody is sensed."""
        device = self.venue.devices.get(device_id)
        if device is None or not device.view_zones:
            return None
        seen: set[str] = set()
        for zone_id in device.view_zones:
            present = self._present.get(zone_id)
            if present is None:
                return None
            seen |= present
        return len(seen.difference(member.identifier for member in person.members))

    def alone(self, device_id: str, person: Person) -> bool:
        """Whether nobody else would read a screen: it is no shared one, and everybody in view is known to be her."""
        device = self.venue.devices.get(device_id)
        return device is not None and not device.shared and self.others(device_id, person) == 0


def _centroid(zone: Zone) -> tuple[float, float]:
    """Centre of the area of a zone's first ring."""
    flat = zone.rings[0].xy_m if zone.rings else [0.0, 0.0]
    points = list(zip(flat[::2], flat[1::2], strict=True))
    area = x = y = 0.0
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
        cross = ax * by - bx * ay
        area, x, y = area + cross, x + (ax + bx) * cross, y + (ay + by) * cross
    return points[0] if area == 0 else (x / (3 * area), y / (3 * area))
