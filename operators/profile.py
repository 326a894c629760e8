"""Profile: who somebody is by now, kept by identifier and composed when asked.

Each event is applied to the contribution of the one identifier it is credited to. A person is the
composition over her members, so nothing moves when persons merge or split.
"""

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b

import msgspec

from operators.people import consent, ledger
from operators.people.ledger import Agreed, Contribution
from operators.people.windows import HOUR, Gauge, Scalar, Window, unit_of
from operators.state.store import Rows, Table, Tables
from schemas import ids
from schemas.derived import DwellReached, Profile, Trait, Transition, Visit
from schemas.items import Event, Linked, Person, Touched
from schemas.people import ContactPoint, Customer, Receipt
from schemas.person import Cause, Consents, Plan, Reach
from schemas.reference import Consent
from schemas.types import AnyRecord, Record

CONTRIBUTIONS, MARKS, PERSONS, ROOTS, PUBLISHED, SINCE = 40, 41, 42, 43, 44, 45
"""Table numbers."""
SOURCE = "activation"
DAY = 24 * HOUR


class ProfileRule(msgspec.Struct, frozen=True):
    """How profiles are kept.

    `exact` events of an aggregate are kept one by one, older ones by the hour. Facts may be asked for as of
    any instant up to `slack_us` behind the source's clock. Repeats are known for as long as the longest
    window, and at least `marks_us`. With `complete`, missing history is no history (a replay from files);
    without it an aggregate is unknown until its window has been heard whole.
    """

    version: str = "1"
    exact: int = 256
    slack_us: int = DAY
    marks_us: int = 8 * DAY
    complete: bool = True
    site_id: str = ""
    """Site of snapshots whose cause has none."""


class Changed(msgspec.Struct, frozen=True):
    """What an event changed. `new` is False for a repeat, which changes nothing; `facts` are (aggregate, key)."""

    new: bool
    customer: bool = False
    consent: bool = False
    contact: bool = False
    presence: bool = False
    receipt: bool = False
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def anything(self) -> bool:
        """Whether the person is other than before."""
        return self.customer or self.consent or self.contact or self.presence or self.receipt or bool(self.facts)


class Open(msgspec.Struct, frozen=True):
    """A stay that goes on."""

    visit_id: str
    member: str
    site_id: str
    zone_id: str
    entered_at: int


class Published(msgspec.Struct, array_like=True, frozen=True):
    """The newest snapshot of a person, as far as it is hers."""

    segments: list[str] = []
    tier: str | None = None
    traits: list[tuple[str, str, int, str, str]] = []
    scores: dict[str, str] = {}
    last_receipt_at: int | None = None


class Told(msgspec.Struct, array_like=True, frozen=True):
    """The version of the newest snapshot, and what it said."""

    version: int
    said: Published


class View:
    """A person as she is composed while nothing is applied: contributions of her members, read once."""

    __slots__ = ("agreed", "customers", "members", "person")

    def __init__(self, person: Person, contributions: Table[Contribution]) -> None:
        self.person = person
        found = [(one.identifier, contributions.get(one.identifier)) for one in person.members]
        self.members = [(member, mine) for member, mine in found if mine is not None]
        self.agreed = tuple([mine.agreed for _, mine in self.members if mine.agreed is not None])
        self.customers = ledger.standing([mine for _, mine in self.members])


class Profiles:
    """The profiles of one shard: an implementation of `schemas.person.People`.

    State: a contribution, marks of events heard and a root by identifier; members by root; the last
    snapshot by anchor. Facts leave with their window, marks after the longest one, both when the
    identifier is next heard of.
    Time: event time; the source's clock only says what is too old to be asked for.
    Guarantee: whatever the order of events and their repeats, the same profile. Of two records of one
    receipt the newest counts, once a person. One event counts once for an aggregate and key.
    Cost: benchmarks/micro.
    """

    def __init__(self, rule: ProfileRule, plan: Plan, tables: Tables) -> None:
        self._rule, self._plan = rule, plan
        self._gauges = {name: Gauge.of(aggregate) for name, aggregate in plan.aggregates.items()}
        self._fed: dict[str, list[str]] = {}
        for name, aggregate in plan.aggregates.items():
            self._fed.setdefault(aggregate.topic, []).append(name)
        longest = max((gauge.within for gauge in self._gauges.values()), default=0)
        self._remembered = max(longest, rule.marks_us) + rule.slack_us
        self._contributions: Table[Contribution] = tables.table(CONTRIBUTIONS, Contribution)
        self._marks: Table[set[int]] = tables.table(MARKS, set[int])
        self._persons: Table[Person] = tables.table(PERSONS, Person)
        self._roots: Table[str] = tables.table(ROOTS, str)
        self._published: Table[Told] = tables.table(PUBLISHED, Told)
        self._since: Table[int] = tables.table(SINCE, int)
        self._clock = 0
        self._views: dict[int, View] = {}
        self._composed: dict[str, tuple[tuple[Agreed, ...], int, int | None, Consents]] = {}

    def link(self, linked: Linked) -> None:
        """Take in persons as they stand after their membership changed."""
        for person in linked.persons:
            for member in person.members:
                root = self._roots.get(member.identifier)
                if root is not None:
                    self._persons.put(root, None)
        for person in linked.persons:
            self._persons.put(person.root, person)
            for member in person.members:
                self._roots.put(member.identifier, person.root)

    def apply(self, touched: Touched) -> Changed:
        """Apply an event to the identifier it is credited to; a repeat changes nothing."""
        self._views.clear()
        event, record, member = touched.event, touched.event.record, touched.member
        if event.clock > self._clock:
            self._move(event.clock)
        mine = self._contributions.get(member) or Contribution()
        if not self._first(mine, member, record.event_time, _name(record)):
            return Changed(new=False)
        facts = self._observe(mine, event)
        changed = Changed(
            new=True,
            customer=isinstance(record, Customer) and mine.describe(record),
            consent=isinstance(record, Consent) and mine.agree(record),
            contact=isinstance(record, ContactPoint) and mine.point(record),
            presence=isinstance(record, Transition | DwellReached | Visit)
            and mine.stay(record, self._clock - self._rule.slack_us),
            receipt=isinstance(record, Receipt) and mine.buy(record),
            facts=facts,
        )
        self._contributions.put(member, mine)
        return changed

    def observe_fired(self, person: Person, campaign: str, at: int, name: str) -> bool:
        """Count a firing of a campaign under the id of its decision; False: already there."""
        return self._happened(person.anchor, f"fired:{campaign}", at, name)

    def observe_outcome(self, person: Person, campaign: str, status: str, at: int, name: str) -> bool:
        """Count an outcome of a campaign's command under the id of the outcome; False: already there."""
        return self._happened(person.anchor, f"outcome:{campaign}:{status}", at, name)

    # Who moves to another shard, or came from one.

    def give(self, members: Collection[str]) -> Rows:
        """Hand over all that is kept of these identifiers, and of the persons they are."""
        self._views.clear()
        roots = dict.fromkeys(root for member in members if (root := self._roots.get(member)) is not None)
        marks = []
        for member in members:
            mine = self._contributions.get(member)
            marks += [] if mine is None else [f"{member}\0{day}" for day in mine.days]
            self._composed.pop(member, None)
        return [
            *self._contributions.give(members),
            *self._marks.give(marks),
            *self._persons.give(roots),
            *self._roots.give(members),
            *self._published.give(members),
        ]

    def take(self, table: int, key: str, stored: bytes) -> bool:
        """Take over a row of somebody who moved here; False for a table of another core."""
        self._views.clear()
        self._composed.pop(key, None)
        for own in (self._contributions, self._marks, self._persons, self._roots, self._published):
            if own.number == table:
                own.take(key, stored)
                return True
        return False

    # What may be asked about a person.

    def person_of(self, member: str) -> Person | None:
        """The person an identifier belongs to."""
        root = self._roots.get(member)
        return None if root is None else self._persons.get(root)

    def tier(self, person: Person) -> str | None:
        """The tier that the newest record with one states, in lower case."""
        stated = [record for record in self._view(person).customers if record.tier is not None]
        return stated[-1].tier if stated else None

    def traits(self, person: Person) -> Mapping[str, str]:
        """Traits by name, each from the newest record that states it."""
        return {name: value for record in self._view(person).customers for name, value in record.traits.items()}

    def fact(self, person: Person, aggregate: str, key: str, at: int) -> int | float | str | None:
        """Value of an aggregate over (at - within, at]."""
        gauge = self._gauges[aggregate]
        if not self._rule.complete and at - gauge.within < (self._since.get(aggregate) or at):
            return None
        return gauge.value(self._windows(person, aggregate, key), at)

    def fact_sources(self, person: Person, aggregate: str, key: str, at: int) -> list[str]:
        """Ids of the newest 32 events in the window that are kept one by one, oldest first."""
        entries = self._gauges[aggregate].entries(self._windows(person, aggregate, key), at)
        return [entry[1] for entry in entries[-32:]]

    def changes_at(self, person: Person, aggregate: str, key: str, at: int) -> int | None:
        """When the aggregate next changes by itself after `at`, or None."""
        within = self._gauges[aggregate].within
        instants = [window.next_change(at, within) for window in self._windows(person, aggregate, key)]
        if not self._rule.complete and (covered := (self._since.get(aggregate) or at) + within) > at:
            instants.append(covered)
        return min([instant for instant in instants if instant is not None], default=None)

    def next_change(self, person: Person, facts: Iterable[tuple[str, str]], at: int) -> int | None:
        """When any of these facts, or a consent, next changes by itself after `at`, or None."""
        instants = [self.changes_at(person, aggregate, key, at) for aggregate, key in facts]
        instants.append(consent.next_expiry(self._view(person).agreed, at))
        return min((instant for instant in instants if instant is not None), default=None)

    def consents(self, person: Person, at: int) -> Consents:
        """What she has agreed to, over all members."""
        records = self._view(person).agreed
        known = self._composed.get(person.anchor)
        if known is not None and known[0] == records and known[1] <= at and (known[2] is None or at < known[2]):
            return known[3]
        composed = consent.compose(records, at)
        if len(self._composed) > 100_000:
            self._composed.clear()
        self._composed[person.anchor] = records, at, consent.next_expiry(records, at), composed
        return composed

    def reach(self, person: Person) -> list[Reach]:
        """The newest verified contact point of each kind, by kind."""
        return ledger.reachable(self._view(person).members)

    def open_visits(self, person: Person) -> list[Open]:
        """Where she is now, in the order in which she came in; a stay unheard of for the slack is none."""
        before = self._clock - self._rule.slack_us
        visits = [
            Open(visit, member, stay.site_id, stay.zone_id, stay.entered_at)
            for member, mine in self._view(person).members
            for visit, stay in mine.stays.items()
            if not stay.closed and stay.heard_at >= before
        ]
        return sorted(visits, key=lambda visit: (visit.entered_at, visit.zone_id, visit.visit_id))

    def snapshot(
        self, person: Person, segments: Iterable[str], scores: Mapping[str, object], cause: Cause
    ) -> Event | None:
        """A `profile.snapshot` when something published differs from the last one told of this person."""
        customers = self._view(person).customers
        traits: dict[str, tuple[str, str, int, str, str]] = {}
        for record in customers:
            for name, value in record.traits.items():
                traits[name] = name, value, record.at, record.source, "personalisation"
        receipts = [mine.last_receipt_at for _, mine in self._view(person).members if mine.last_receipt_at is not None]
        said = Published(
            segments=sorted(segments),
            tier=next((record.tier for record in reversed(customers) if record.tier is not None), None),
            traits=sorted(traits.values()),
            scores={name: str(value) for name, value in sorted(scores.items())},
            last_receipt_at=max(receipts, default=None),
        )
        before = self._published.get(person.anchor)
        if said == (Published() if before is None else before.said):
            return None
        version = 1 if before is None else before.version + 1
        self._published.put(person.anchor, Told(version, said))
        profile = Profile(
            event_id=ids.snapshot(person.anchor, version),
            event_time=cause.event_time,
            ingest_time=cause.ingest_time,
            site_id=cause.site_id or self._rule.site_id,
            source_id=SOURCE,
            person_id=person.anchor,
            version=version,
            segments=said.segments,
            tier=said.tier,
            traits=[
                Trait(name=name, value=value, at=at, source=by, purpose=use) for name, value, at, by, use in said.traits
            ],
            scores=said.scores,
            last_receipt_at=said.last_receipt_at,
            rule_version=self._rule.version,
        )
        return Event(cause.number, cause.clock, "profile.snapshot", profile)

    # How it is kept.

    def _move(self, clock: int) -> None:
        if not self._clock and not self._rule.complete:
            for aggregate in self._gauges:
                if self._since.get(aggregate) is None:
                    self._since.put(aggregate, clock)
        self._clock = clock

    def _first(self, mine: Contribution, member: str, at: int, name: str) -> bool:
        """Whether this event is heard for the first time; also forgets marks nobody needs any more."""
        oldest = (self._clock - self._remembered) // DAY
        while mine.days and mine.days[0] < oldest:
            self._marks.put(f"{member}\0{mine.days.pop(0)}", None)
        day = at // DAY
        if day < oldest:
            return True  # no aggregate takes it, and a last writer is one however often it writes
        place = f"{member}\0{day}"
        mark = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        marks = self._marks.get(place)
        if marks is None:
            marks = set()
            mine.days.append(day)
            mine.days.sort()
        elif mark in marks:
            return False
        marks.add(mark)
        self._marks.put(place, marks)
        return True

    def _observe(self, mine: Contribution, event: Event) -> tuple[tuple[str, str], ...]:
        record = event.record
        added: dict[tuple[str, str], list[Scalar]] = {}
        for seen in self._plan.observe(event.topic, record):
            added.setdefault((seen.aggregate, seen.key), []).append(seen.value)
        if not added:
            return ()
        at, name, unit = record.event_time, _name(record), unit_of(record)
        return tuple(place for place, values in added.items() if self._count(mine, place, values, at, name, unit))

    def _happened(self, member: str, topic: str, at: int, name: str) -> bool:
        fed = self._fed.get(topic)
        if not fed:
            return False
        self._views.clear()
        mine = self._contributions.get(member) or Contribution()
        # The id is a decision's or an outcome's, which may be an event heard of in its own right.
        if not self._first(mine, member, at, f"{topic}\0{name}"):
            return False
        for aggregate in fed:
            self._count(mine, (aggregate, ""), [], at, name, "")
        self._contributions.put(member, mine)
        return True

    def _count(
        self, mine: Contribution, place: tuple[str, str], values: list[Scalar], at: int, name: str, unit: str
    ) -> bool:
        """Add to a window; what no window can reach any more is left out, by whole hours."""
        aggregate, key = place
        gauge = self._gauges[aggregate]
        before = (self._clock - gauge.within - self._rule.slack_us) // HOUR * HOUR
        held = gauge.held(values)
        if at < before or (held is None and gauge.op != "count"):
            return False
        by_key = mine.facts.get(aggregate)
        if by_key is None:
            by_key = mine.facts[aggregate] = {}
        window = by_key.get(key)
        if window is None:
            window = by_key[key] = Window()
        window.prune(before)
        return window.add((at, name, held, unit), gauge.op, self._rule.exact)

    def _view(self, person: Person) -> View:
        """Composed once until the next event is applied; the view holds its person, so her address stays hers."""
        view = self._views.get(id(person))
        if view is None:
            if len(self._views) > 1_000:  # nothing but timers for long
                self._views.clear()
            view = self._views[id(person)] = View(person, self._contributions)
        return view

    def _windows(self, person: Person, aggregate: str, key: str) -> list[Window]:
        found = [mine.facts[aggregate].get(key) for _, mine in self._view(person).members if aggregate in mine.facts]
        return [window for window in found if window is not None]


def _name(record: AnyRecord) -> str:
    return record.event_id if isinstance(record, Record) else f"{record.source_id}\0{record.seq}\0{record.event_time}"
