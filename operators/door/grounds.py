"""What the gates at the door know of the venue: sites, devices, floors, and where nobody may be tracked.

The venue file gives the first word; records of `venue.*` change it when they arrive, and are kept, so that a
restart knows them.
"""

from math import isfinite

from operators.door.ranges import Fault, fault_of
from operators.state.store import Tables
from operators.venues.dwelling import DEFAULTS
from operators.venues.place import Places
from schemas.reference import Device, Site, Zone
from schemas.sensing import PeopleCount, Position, Scan
from schemas.types import AnyRecord

SECOND = 1_000_000
_SITE = ("UNKNOWN_PLACE", "site_id must be a site of the venue")


class Grounds:
    """Sites, devices and floors as known at the door.

    Args:
        places: the venue's geometry; a copy is kept and follows `venue.zone` as it arrives.
        sites: sites known beside that of the venue.
        tables: where changes are kept.
        first: number of the first of three tables.
    """

    def __init__(self, places: Places, sites: frozenset[str], tables: Tables, first: int) -> None:
        self._places = places.twin()
        self._zones = tables.table(first, Zone)
        self._sites = tables.table(first + 1, Site)
        self._devices = tables.table(first + 2, Device)
        venue = places.venue
        self._own = venue.site.site_id
        self._counted = {venue.site.site_id: venue.site.legal_basis == "COUNTS_ONLY"} | dict.fromkeys(
            sorted(sites), False
        )
        self._gear = set(venue.devices)
        self._longest_gap = max(
            [known.gap_us for known in DEFAULTS.values()] + [zone.gap_us or 0 for zone in venue.zones.values()]
        )
        for kept in (self._zones, self._sites, self._devices):
            for record in dict(kept.items()).values():
                self._learn(record)

    @property
    def longest_gap(self) -> int:
        """The longest silence that any zone forgives, µs."""
        return self._longest_gap

    def note(self, record: AnyRecord) -> None:
        """Follow a record of `venue.*`; any other says nothing here."""
        if isinstance(record, Zone):
            self._zones.put(record.zone_id, record)
        elif isinstance(record, Site):
            self._sites.put(record.site_id, record)
        elif isinstance(record, Device):
            self._devices.put(record.device_id, record)
        else:
            return
        self._learn(record)

    def _learn(self, record: AnyRecord) -> None:
        if isinstance(record, Zone):
            self._places.put(record)
            self._longest_gap = max(self._longest_gap, record.gap_us or 0)
        elif isinstance(record, Site):
            self._counted[record.site_id] = record.legal_basis == "COUNTS_ONLY"
        elif isinstance(record, Device):
            (self._gear.discard if record.deleted else self._gear.add)(record.device_id)

    def site_of(self, record: AnyRecord) -> str:
        """The site of a record where it has none or one of the venue's; any other text may be anything, so our own."""
        said: str = record.site_id
        return said if not said or said in self._counted else self._own

    def fault_of_position(self, reading: Position) -> Fault | None:
        """Finite and in range, then place."""
        x, y, floor = reading.x_m, reading.y_m, reading.floor
        accuracy = reading.accuracy_m
        if (
            not isfinite(x + y + floor)
            or (accuracy is not None and not 0 < accuracy <= 1000)
            or reading.speed_mps is not None
            or reading.z_m is not None
        ) and (fault := fault_of(reading)) is not None:
            return fault
        if reading.site_id not in self._counted:
            return _SITE
        if not self._places.knows_floor(floor):
            return "UNKNOWN_PLACE", "floor must be a floor of the venue"
        if self._places.off_floor(floor, x, y):
            return "OFF_FLOOR", "a position must be at most 5 m outside its floor"
        return None

    def fault_of_sensed(self, record: AnyRecord) -> Fault | None:
        """Place of what sensors say beside positions."""
        if record.site_id not in self._counted:
            return _SITE
        if isinstance(record, Scan) and record.device_id not in self._gear:
            return "UNKNOWN_PLACE", "device_id must be a device of the venue"
        if isinstance(record, PeopleCount) and record.counter_id not in self._gear:
            return "UNKNOWN_PLACE", "counter_id must be a device of the venue"
        return None

    def sensitive(self, reading: Position) -> bool:
        """Whether a reading lies where nothing may be kept."""
        return self._places.sensitive(reading.floor, reading.x_m, reading.y_m)

    def untracked(self, reading: Position) -> bool:
        """Whether nobody is tracked here, or this is nobody: a radio address or counter track of one visit."""
        return reading.subject_id.startswith("track:") or self._counted.get(reading.site_id, False)
