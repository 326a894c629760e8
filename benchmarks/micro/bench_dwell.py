"""Dwell alone: accepted fixes per second of one core, subjects that stop and go among 30 zones.

Run with `python -m benchmarks.micro.bench_dwell`. Zones are 24 islands of 4 m, an entrance, a till, three
departments and the store; 200 subjects at 5 Hz stand for tens of seconds and walk in between.
"""

import json
import random
from time import perf_counter

from operators.dwell import Dwell, DwellRule
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.venues.dwelling import dwelling
from operators.venues.place import Places
from schemas.items import Fix, Item, Watermark
from schemas.reference import Ring, Site, Zone
from schemas.venue import Floor, Venue

SECOND = 1_000_000
SUBJECTS, SECONDS, HERTZ = 200, 120, 5
WIDE, DEEP = 60.0, 40.0


def zones() -> dict[str, Zone]:
    """The shop."""

    def box(zone_id: str, kind: str, x: float, y: float, w: float, h: float) -> Zone:
        ring = Ring(xy_m=[x, y, x + w, y, x + w, y + h, x, y + h])
        return Zone(event_time=0, zone_id=zone_id, kind=kind, floor=0.0, rings=[ring])

    islands = [box(f"island-{i:02}", "OFFER", 4 + 9 * (i % 6), 4 + 9 * (i // 6), 4, 4) for i in range(24)]
    parts = [box(f"part-{i}", "DEPARTMENT", 20.0 * i, 0, 20, DEEP) for i in range(3)]
    rest = [
        box("store", "STORE", 0, 0, WIDE, DEEP),
        box("door", "ENTRANCE", 0, 0, 3, 3),
        box("till", "CHECKOUT", 55, 37, 4, 3),
    ]
    return {zone.zone_id: zone for zone in [*islands, *parts, *rest]}


def walks(seed: int) -> list[Item]:
    """Fixes in event-time order with a watermark every 100 ms."""
    rng = random.Random(seed)
    at = [(rng.uniform(0, WIDE), rng.uniform(0, DEEP)) for _ in range(SUBJECTS)]
    goal, rest = list(at), [0.0] * SUBJECTS
    items: list[Item] = []
    for step in range(SECONDS * HERTZ):
        for i in range(SUBJECTS):
            t = step * SECOND // HERTZ + i * SECOND // HERTZ // SUBJECTS
            (x, y), (gx, gy) = at[i], goal[i]
            far = ((gx - x) ** 2 + (gy - y) ** 2) ** 0.5
            if rest[i] > 0:
                rest[i] -= 1 / HERTZ
            elif far < 0.3:
                island = rng.randrange(24)
                goal[i] = (rng.uniform(4, 8) + 9 * (island % 6), rng.uniform(4, 8) + 9 * (island // 6))
                rest[i] = rng.expovariate(1 / 20)
            else:
                x, y = x + (gx - x) / far / HERTZ, y + (gy - y) / far / HERTZ
            at[i] = (x, y)
            x_m, y_m = x + rng.gauss(0, 0.15), y + rng.gauss(0, 0.15)
            items.append(Fix(0, t, t, t, f"tag:1:{i:020}", "UWB", x_m, y_m, 0.0, 0.3))
            if i % (SUBJECTS // 2) == 0:
                items.append(Watermark(0, t, t))
    return items


def main() -> None:
    """Print one line of JSON."""
    shop = zones()
    site = Site(event_time=0, site_id="bench", lat_deg=0, lon_deg=0, time_zone="UTC")
    outline = [[(0.0, 0.0), (WIDE, 0.0), (WIDE, DEEP), (0.0, DEEP)]]
    venue = Venue(site=site, floors=[Floor(floor=0.0, rings=outline)], zones=shop, devices={})
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    wanted = (10 * SECOND, 45 * SECOND)
    core = Dwell(DwellRule(venue, dwelling, lambda _: wanted), Places(venue), Tables(store))
    items = walks(1)
    fixes = SUBJECTS * SECONDS * HERTZ
    told, start = 0, perf_counter()
    for i in range(0, len(items), 500):
        told += len(core.step(items[i : i + 500]))
    seconds = perf_counter() - start
    print(
        json.dumps(
            {"bench": "dwell", "zones": len(shop), "fixes": fixes, "told": told, "fixes_per_s": round(fixes / seconds)}
        )
    )


if __name__ == "__main__":
    main()
