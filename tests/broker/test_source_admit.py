"""A backlog through the real door: what the source hands on, and when, makes no reading late."""

import random
import time

import pytest

from operators.admit import Admit, AdmitRule
from operators.connectors import pump
from operators.connectors.pump import Pump
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.venues.place import Places
from schemas.items import Event, Fix, Heard, Tally
from schemas.reference import Ring, Site, Zone
from schemas.sensing import Position
from schemas.venue import Venue
from tests.broker.reading import Reader, Topics

POSITION = "sensing.position"
HOUR = 3_600_000_000
SOURCES, SECONDS = 4, 400


@pytest.fixture
def topics(broker, prefix):
    return Topics(broker, prefix)


def door():
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    ring = Ring(xy_m=[0, 0, 100, 0, 100, 100, 0, 100, 0, 0])
    venue = Venue(
        site=Site(event_time=0, site_id="s1", lat_deg=0.0, lon_deg=0.0, time_zone="UTC"),
        floors=[],
        zones={"store": Zone(event_time=0, zone_id="store", floor=0.0, rings=[ring], kind="STORE")},
        devices={},
    )
    return Admit(AdmitRule(sealed=bytes), Places(venue), Tables(store))


def readings(began):
    """Four gateways, one a partition, twice a second each, up to 0.2 s on their way; one is off for two minutes."""
    rng = random.Random(7)
    found = []
    for half in range(2 * SECONDS):
        for source in range(SOURCES):
            if source == 3 and 100 <= half // 2 < 220:
                continue
            at = began + half * 500_000 + source * 10_000
            found.append(
                Position(
                    event_time=at, ingest_time=at + rng.randrange(200_000), site_id="s1", source_id=f"g{source}",
                    seq=half, subject_id=f"tag:1:{source}", tech="UWB", x_m=20.0 + source, y_m=20.0, floor=0.0,
                )
            )  # fmt: skip
    return sorted(found, key=lambda one: one.ingest_time)


def through(topics):
    """Fates and fixes of an hour-old backlog, read while the gateways go on."""
    topics.make(sensing__position=SOURCES)
    records = readings(int(time.time() * 1e6) - HOUR)
    for number, record in enumerate(records):
        partition = int(record.source_id[1])
        topics.producer.produce(
            topics.prefix + POSITION, str(number).encode(), partition=partition, timestamp=record.ingest_time // 1000
        )
        topics.producer.poll(0)
    assert topics.producer.flush(30) == 0
    reader, core = Reader(topics, topics=(POSITION,), lanes=2, max_batch=200), door()
    fates, fixes, done = {}, [], 0
    end = time.monotonic() + 60.0
    while len(fixes) + fates.get("late", 0) < len(records) and time.monotonic() < end:
        reader.sweep()
        heard, done = reader.items[done:], len(reader.items)
        items = [
            Event(one.number, one.clock, one.topic, records[int(one.value)], one.partition, one.offset)
            if isinstance(one, Heard)
            else one
            for one in heard
        ]
        for item in core.step(items):
            if isinstance(item, Tally):
                fates[item.fate] = fates.get(item.fate, 0) + item.count
            elif isinstance(item, Fix):
                fixes.append((item.subject_id, item.event_time))
    reader.close()
    return len(records), fates, fixes


def test_nothing_of_a_backlog_is_late(topics):
    rows, fates, fixes = through(topics)
    assert fates == {"applied": rows}
    settled = [at for _, at in fixes[200:]]  # probations of sources end one by one
    assert settled == sorted(settled)
    for subject in {subject for subject, _ in fixes}:
        mine = [at for found, at in fixes if found == subject]
        assert mine == sorted(mine)


def test_mutant_the_clock_runs_ahead_of_what_waits(topics, monkeypatch):
    monkeypatch.setattr(Pump, "_behind", lambda self, part, now_ms: False)
    rows, fates, _ = through(topics)
    assert fates.get("late", 0) > rows // 10


def test_mutant_each_partition_as_it_happens_to_be_fetched(topics, monkeypatch):
    def as_fetched(parts, blockers, most, owes, *, apart):
        return [(part, part.queue.popleft()[1]) for part in parts for _ in range(len(part.queue))]

    monkeypatch.setattr(pump, "release", as_fetched)
    rows, fates, _ = through(topics)
    assert fates.get("late", 0) > rows // 10
