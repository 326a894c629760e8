"""What a position costs at the door: `python -m benchmarks.micro.bench_admit [ROWS]` prints fixes a second."""

import random
import sys
from time import process_time

from operators.admit import Admit, AdmitRule
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.venues.place import Places
from schemas.items import Event, Fix, Item, Tick
from schemas.reference import Ring, Site, Zone
from schemas.sensing import Position
from schemas.venue import Venue

T0 = 1_796_486_400_000_000
SUBJECTS, RATE, BATCH = 200, 5, 500


def _square(name: str, west: float, south: float, side: float, kind: str) -> Zone:
    east, north = west + side, south + side
    ring = Ring(xy_m=[west, south, east, south, east, north, west, north, west, south])
    return Zone(event_time=0, zone_id=name, floor=0.0, rings=[ring], kind=kind)


def positions(rows: int, seed: int = 1) -> list[Item]:
    """Walkers of two gateways, up to 0.4 s of delay, 2 % repeated, in order of arrival with ticks between."""
    rng = random.Random(seed)
    heard = []
    for i in range(rows):
        at = T0 + i * 1_000_000 // (SUBJECTS * RATE)
        who = i % SUBJECTS
        x, y = 20 + who % 20 + 0.1 * rng.random(), 20 + who // 20 + 0.1 * rng.random()
        record = Position(
            event_time=at,
            ingest_time=at + rng.randrange(400_000),
            site_id="s1",
            source_id=f"uwb-{who % 2}",
            seq=i,
            subject_id=f"tag:1:{who}",
            tech="UWB",
            x_m=x,
            y_m=y,
            floor=0.0,
            accuracy_m=0.3,
        )
        heard.append((record.ingest_time, i, record))
        if rng.random() < 0.02:
            heard.append((record.ingest_time + 200_000, i, record))
    items: list[Item] = []
    now = 0
    for number, (clock, _, record) in enumerate(sorted(heard, key=lambda row: row[:2])):
        if clock // 100_000 > now // 100_000:
            items.append(Tick(number - 1, clock - clock % 100_000))
        now = clock
        items.append(Event(number, clock, "sensing.position", record, 0, number))
    return items


def main() -> None:
    """Run once and print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    zones = [_square("store", 0, 0, 100, "STORE"), *(_square(f"z{i}", 8 * i, 20, 6, "OFFER") for i in range(12))]
    site = Site(event_time=0, site_id="s1", lat_deg=0.0, lon_deg=0.0, time_zone="UTC")
    venue = Venue(site=site, floors=[], zones={zone.zone_id: zone for zone in zones}, devices={})
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    tables = Tables(store)
    core = Admit(AdmitRule(sealed=bytes), Places(venue), tables)
    items = positions(rows)
    fixes = 0
    began = process_time()
    for start in range(0, len(items), BATCH):
        fixes += sum(isinstance(item, Fix) for item in core.step(items[start : start + BATCH]))
    took = process_time() - began
    closing = process_time()
    tables.commit()
    print(
        f"{fixes} fixes in {took:.2f} s: {fixes / took:,.0f} a second of one core; epoch close {1e3 * (process_time() - closing):.1f} ms"
    )


if __name__ == "__main__":
    main()
