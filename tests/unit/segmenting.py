"""A desk at which profiles and segments meet as the flow drives them; conditions are said in Python."""

from types import SimpleNamespace

from operators.profile import ProfileRule, Profiles
from operators.segments import Segments
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas import ids
from schemas.items import Event, Linked, Member, Person, Touched
from schemas.people import Customer, Receipt, WebEvent
from schemas.person import Aggregate, Cause, Observation
from schemas.reference import Consent, Purpose

T0 = 1_796_482_800_000_000
HOUR = 3_600_000_000
CARD, MAIL, COOKIE = "loyalty:1:card", "email:1:mail", "cookie:1:cookie"
AGGREGATES = {
    one.id: one
    for one in (
        Aggregate("views", "web.event", "count", None, 3 * HOUR),
        Aggregate("spend", "pos.receipt", "sum", "total", 5 * HOUR),
    )
}
TOPICS = {WebEvent: "web.event", Receipt: "pos.receipt", Customer: "crm.customer", Consent: "consent.record"}


class Plan:
    aggregates = AGGREGATES

    def observe(self, topic, record):
        return [
            Observation(one.id, "", getattr(record, "total_minor", None))
            for one in AGGREGATES.values()
            if one.topic == topic
        ]


class Clause:
    """A condition in Python; what it reads and misses makes it unknown."""

    def __init__(self, test, *reads, purposes=("personalisation",)):
        self.test, self.reads, self.purposes = test, reads, frozenset(purposes)

    def evaluate(self, values):
        seen = [values.get(leaf) for leaf in self.reads]
        if any(value is None for value in seen):
            return SimpleNamespace(value="UNKNOWN")
        return SimpleNamespace(value="TRUE" if self.test(*seen) else "FALSE")


def segment(name, enter, leave=None, *facts, version="1"):
    reads = {fact: SimpleNamespace(aggregate=fact, key_leaf=None) for fact in facts}
    return SimpleNamespace(id=name, version=version, enter=enter, leave=leave, facts=reads)


PREMIUM = segment("premium", Clause(lambda tier: tier == "gold", "person.tier"))


SPENDER = segment(
    "spender",
    Clause(lambda spend: spend >= 10.0, "facts.spend"),
    Clause(lambda spend: spend < 5.0, "facts.spend"),
    "spend",
)


BROWSER = segment("browser", Clause(lambda views: views >= 2, "facts.views", purposes=()), None, "views")


STUCK = segment(
    "stuck",
    Clause(lambda views: views >= 1, "facts.views"),
    Clause(lambda tier: tier != "gold", "person.tier"),
    "views",
)


ALL = (PREMIUM, SPENDER, BROWSER, STUCK)


def person(*members):
    return Person(
        members[0], members[0], tuple(Member(one, inferred=one == COOKIE and len(members) > 1) for one in members)
    )


class Desk:
    """Profiles and segments as the flow drives them: the timers, the person's own timers, the event, the judgement."""

    def __init__(self, segments=ALL, memory=None, token=None, plan=None):
        self.store = MemoryStore(memory)
        self.store.claim(token)
        self.store.open("0")
        self.tables = Tables(self.store)
        self.people = Profiles(ProfileRule(), plan or Plan(), self.tables)
        self.segments = Segments(segments, self.people, self.tables, "mad")
        self.told = []

    def tick(self, clock):
        self._rung(self.segments.ring(clock, 0, clock))

    def link(self, why, clock, *persons):
        self.people.link(Linked(0, clock, clock, why, persons))
        for one in persons:
            self._take(self.segments.evaluate(one, Cause(0, clock, clock, clock), why))

    def hear(self, member, record, clock=None):
        clock = record.event_time if clock is None else clock
        her = self.people.person_of(member)
        event = Event(0, clock, TOPICS[type(record)], record)
        self._rung(self.segments.settle(her, record.event_time, 0, clock))
        self.people.apply(Touched(event, member, her))
        self._take(self.segments.evaluate(her, Cause.of(event), "EVENT"))

    def _rung(self, rung):
        for one in rung:
            self._take(one.changes)

    def _take(self, changes):
        for change in changes:
            record = change.record
            assert record.event_id == ids.segment(record.person_id, record.segment_id, record.kind, record.event_time)
            self.told.append((record.person_id, record.segment_id, record.kind, record.cause, record.event_time))

    def taken(self):
        told, self.told = self.told, []
        return told


def granted(name, at, *codes, member=CARD, **more):
    purposes = [Purpose(code=code, granted=True) for code in codes or ("personalisation",)]
    return Consent(event_id=name, event_time=at, ingest_time=at, identifier=member, purposes=purposes, **more)


def crm(name, at, tier):
    return Customer(event_id=name, event_time=at, ingest_time=at, identifiers=[CARD], tier=tier)


def viewed(name, at):
    return WebEvent(event_id=name, event_time=at, ingest_time=at, name="product_viewed")


def bought(name, at, total):
    return Receipt(event_id=name, event_time=at, ingest_time=at, receipt_id=name, currency="EUR", total_minor=total)
