"""A door in front of which readings and facts stand: how they are made, how a source says them, and what comes out."""

import random
from collections import Counter

from operators.admit import Admit, AdmitRule
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.venues.place import Places
from schemas.items import Due, Event, Fix, Tally, Tick, Watermark
from schemas.people import Receipt, WebEvent
from schemas.reference import Consent, Device, Link, Ring, Site, Zone
from schemas.sensing import PeopleCount, Position, Scan, SourceStatus
from schemas.venue import Venue

T0 = 1_796_486_400_000_000
S = 1_000_000
MS = 1_000


def box(west, south, east, north):
    return Ring(xy_m=[west, south, east, south, east, north, west, north, west, south])


def zone(zone_id, ring, **fields):
    return Zone(event_time=0, zone_id=zone_id, floor=0.0, rings=[ring], **fields)


def venue(*zones, **site):
    store = zone("store", box(0, 0, 100, 100), kind="STORE")
    return Venue(
        site=Site(event_time=0, site_id="s1", lat_deg=0.0, lon_deg=0.0, time_zone="UTC", **site),
        floors=[],
        zones={each.zone_id: each for each in (store, *zones)},
        devices={"gate": Device(event_time=0, device_id="gate"), "poster": Device(event_time=0, device_id="poster")},
    )


def admit(place=None, memory=None, **rule):
    store = MemoryStore(memory)
    store.claim(None)
    store.open("0")
    tables = Tables(store)
    return Admit(
        AdmitRule(sealed=lambda payload: b"sealed" + payload, **rule), Places(place or venue()), tables
    ), tables


def reading(at_s, *, delay=0.0, source="g", subject="tag:1:a", x=10.0, y=10.0, **fields):
    """A position at T0 + at_s, heard `delay` seconds later."""
    event_time = T0 + round(at_s * S)
    return Position(
        event_time=event_time,
        ingest_time=fields.pop("ingest", event_time + round(delay * S)),
        site_id=fields.pop("site", "s1"),
        source_id=source,
        subject_id=subject,
        tech=fields.pop("tech", "UWB"),
        x_m=x,
        y_m=y,
        floor=fields.pop("floor", 0.0),
        **fields,
    )


def stream(seconds, *, rate=5, start=0.0, **fields):
    """Readings of one standing subject."""
    return [reading(start + i / rate, **fields) for i in range(round(seconds * rate))]


def items_of(records, *, end=True, partition=lambda _: 0, clock=lambda record: record.ingest_time):
    """What a source makes of rows: merged by the clock, a tick before a row whenever 100 ms have passed."""
    out, now, number = [], 0, 0
    for number, record in enumerate(sorted(records, key=clock)):
        at = clock(record)
        if at // 100_000 > now // 100_000:
            out.append(Tick(number - 1, at - at % 100_000))
        now = at
        topic = next(name for name, known in TOPIC.items() if isinstance(record, known))
        out.append(Event(number, now, topic, record, partition(record), number))
    if end:
        out.append(Tick(number, now, end=True))
    return out


TOPIC = {
    "sensing.position": Position,
    "sensing.count": PeopleCount,
    "sensing.scan": Scan,
    "sensing.status": SourceStatus,
    "web.event": WebEvent,
    "pos.receipt": Receipt,
    "consent.record": Consent,
    "identity.link": Link,
    "venue.zone": Zone,
    "venue.site": Site,
}


class Seen:
    """What came out, by kind."""

    def __init__(self, out):
        self.out = out
        self.fixes = [item for item in out if isinstance(item, Fix)]
        self.marks = [item for item in out if isinstance(item, Watermark)]
        self.dues = [item for item in out if isinstance(item, Due)]
        events = [item for item in out if isinstance(item, Event)]
        self.dead = [item.record for item in events if item.topic == "ops.dead-letter"]
        self.late = [item.record for item in events if item.topic == "ops.late"]
        self.alerts = [item.record for item in events if item.topic == "ops.alert"]
        self.passed = [item for item in events if not item.topic.startswith("ops.")]
        self.tally = Counter()
        for item in out:
            if isinstance(item, Tally):
                self.tally[item.fate] += item.count

    @property
    def reasons(self):
        return Counter(letter.reason for letter in self.dead)


def run(records, place=None, **options):
    rule = options.pop("rule", {})
    return Seen(admit(place, **rule)[0].step(items_of(records, **options)))


def facts(fixes):
    """What presence sees of fixes: not when they were released."""
    return [(f.event_time, f.subject_id, f.x_m, f.y_m, f.floor, f.accuracy_m, f.tech) for f in fixes]


def clocked(lag, seconds=30, *, jitter=0.0, rate=5, start=0.0, seed=1, **fields):
    """A source whose readings arrive `lag` seconds after what its clock says."""
    rng = random.Random(seed)
    return [
        reading(start + i / rate, delay=lag + rng.random() * jitter, **fields) for i in range(round(seconds * rate))
    ]


def fact(kind, at_s, event_id="e", **fields):
    at = T0 + round(at_s * S)
    return kind(
        event_time=at, ingest_time=fields.pop("ingest", at), event_id=event_id, site_id="s1", source_id="t", **fields
    )
