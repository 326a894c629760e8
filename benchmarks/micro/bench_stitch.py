"""What an event of two identifiers costs in stitch: `python -m benchmarks.micro.bench_stitch [EVENTS]`.

Prints events a second of processor time, first while most events bring a new day or tie, then when all is
known, and the seconds that the close of the epoch takes.
"""

import gc
import random
import sys
from time import process_time

from operators.identities.evidence import DAY_US, StitchRule
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.stitch import Stitch
from schemas.items import Event, Item
from schemas.people import WebEvent

T0 = 1_796_486_400_000_000
BATCH, AN_EVENT = 200, 40
"""Events a batch; events by person."""


def visits(events: int, seed: int = 1) -> list[Item]:
    """People on three cookies each, with a login, an e-mail or a device beside, over five days."""
    rng = random.Random(seed)
    people = max(events // AN_EVENT, 1)
    found: list[Item] = []
    for n in range(events):
        who, at = rng.randrange(people), T0 + n * 5 * DAY_US // events
        beside = rng.choice(("login", "email", "device"))
        named = [f"cookie:1:{who}-{rng.randrange(3)}", f"{beside}:1:{who}"]
        record = WebEvent(event_id=str(n), event_time=at, ingest_time=at, name="product_viewed", identifiers=named)
        found.append(Event(n, at, "web.event", record))
    return found


def seconds(core: Stitch, items: list[Item]) -> float:
    """Processor time of a run in batches."""
    start = process_time()
    for n in range(0, len(items), BATCH):
        core.step(items[n : n + BATCH])
    return process_time() - start


def main(events: int) -> None:
    """Print the figures."""
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    tables = Tables(store)
    core, items = Stitch(StitchRule(site_id="s1"), tables), visits(events)
    gc.collect()
    gc.freeze()  # the input is the bench's, not the step's
    print(f"new    {events / seconds(core, items):10,.0f} events/s")
    print(f"known  {events / seconds(core, items):10,.0f} events/s")
    start = process_time()
    tables.commit()
    print(f"close  {process_time() - start:10.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
