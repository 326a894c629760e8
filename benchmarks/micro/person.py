"""What an event costs the profile and the segments: `python -m benchmarks.micro.person [EVENTS]`."""

import sys
from random import Random
from time import perf_counter
from types import SimpleNamespace

from operators.profile import ProfileRule, Profiles
from operators.segments import Segments
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas.items import Event, Linked, Member, Person, Touched
from schemas.people import Customer, Receipt, WebEvent
from schemas.person import Aggregate, Cause, Observation
from schemas.reference import Consent, Purpose

SECOND, DAY = 1_000_000, 86_400_000_000
T0 = 1_796_482_800_000_000


class Plan:
    """Four aggregates, as a handful of campaigns declares them."""

    aggregates = {
        one.id: one
        for one in (
            Aggregate("views", "web.event", "count", None, 7 * DAY),
            Aggregate("kinds", "web.event", "distinct", "category", DAY),
            Aggregate("spend", "pos.receipt", "sum", "total", 90 * DAY),
            Aggregate("bought", "pos.receipt", "count", None, DAY),
        )
    }

    def observe(self, topic, record):
        if topic == "web.event":
            return [
                Observation("views", ""),
                Observation("views", record.category),
                Observation("kinds", "", record.category),
            ]
        if topic == "pos.receipt":
            return [Observation("spend", "", record.total_minor), Observation("bought", "")]
        return []


class Spends:
    """A condition without a compiler: what is measured is what stands around it."""

    reads = ("facts.spend", "person.tier")
    purposes = frozenset({"personalisation"})

    def evaluate(self, values):
        return SimpleNamespace(value="TRUE" if (values["facts.spend"] or 0) >= 600 else "FALSE")


def main(count):
    chance = Random(7)
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    tables = Tables(store)
    people = Profiles(ProfileRule(), Plan(), tables)
    fact = SimpleNamespace(aggregate="spend", key_leaf=None)
    segment = SimpleNamespace(id="premium", version="1", enter=Spends(), leave=None, facts={"spend": fact})
    segments = Segments([segment], people, tables)
    persons = [
        Person(
            f"loyalty:1:{number}",
            f"loyalty:1:{number}",
            tuple(Member(f"{kind}:1:{number}") for kind in ("loyalty", "device", "cookie")),
        )
        for number in range(5_000)
    ]
    people.link(Linked(0, T0, T0, "GREW", tuple(persons)))
    touched = []
    for number in range(count):
        her = chance.choice(persons)
        at = T0 + number * SECOND
        envelope = {"event_id": f"event-{number}", "event_time": at, "ingest_time": at}
        draw = chance.random()
        if draw < 0.8:
            topic, record = "web.event", WebEvent(**envelope, name="product_viewed", category=chance.choice("abcdef"))
        elif draw < 0.9:
            topic = "pos.receipt"
            record = Receipt(**envelope, receipt_id=f"r{number}", currency="EUR", total_minor=chance.randrange(10_000))
        elif draw < 0.95:
            topic, record = "crm.customer", Customer(**envelope, identifiers=[her.root], tier="gold")
        else:
            purposes = [Purpose(code=code, granted=True) for code in ("personalisation", "linking", "profiling")]
            topic, record = "consent.record", Consent(**envelope, identifier=her.root, purposes=purposes)
        touched.append(Touched(Event(number, at, topic, record), chance.choice(her.members).identifier, her))
    spent = {"apply": 0.0, "evaluate": 0.0, "snapshot": 0.0, "commit": 0.0}

    def timed(name, call, *arguments):
        start = perf_counter()
        result = call(*arguments)
        spent[name] += perf_counter() - start
        return result

    for number, item in enumerate(touched):
        timed("apply", people.apply, item)
        cause = Cause.of(item.event)
        timed("evaluate", segments.evaluate, item.person, cause, "EVENT")
        timed("snapshot", lambda her, by: people.snapshot(her, segments.of(her), {}, by), item.person, cause)
        if number % 10_000 == 9_999:
            timed("commit", tables.commit)
    for name, seconds in spent.items():
        print(f"{name:10} {seconds / count * 1e6:7.2f} us an event")
    total = sum(spent.values())
    print(f"{'all':10} {total / count * 1e6:7.2f} us an event, {count / total:,.0f} events/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
