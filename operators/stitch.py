"""Which identifiers are one person: the step that turns events about identifiers into events about people.

Each event adds what it says to the forest of pointers; what that changes is published where the event stood,
and the event goes on as one about a person. Deterministic evidence only: whom an identifier belongs to is a
function of what is stored, so it can be explained, undone and replayed.
"""

from collections.abc import Callable

from operators.identities.assignments import Cause, Register
from operators.identities.evidence import CHANNELS, Agreement, StitchRule, Tie, bucket, namespace
from operators.identities.forest import Forest
from operators.state.store import Table, Tables
from schemas.derived import DwellReached, Transition, Visit
from schemas.items import Event, Item, Member, Person, Tick, Touched
from schemas.people import ContactPoint, Customer, Receipt, WebEvent
from schemas.reference import Consent, Link, Site
from schemas.sensing import Scan
from schemas.types import AnyRecord

_REMEMBERED = 100_000


class Stitch:
    """The core of the step.

    Args:
        rule: how identifiers become persons, and where this runs.
        tables: the step's memory.

    State: by identifier its evidence, pointer and last published person; instants at which ties begin or
    end; the legal basis by site. A denial of `linking` ends the evidence collected before it.
    Time: event time; the source's clock only says which ties are open.
    Guarantee: the same evidence in any order, any part of it repeated, gives the same persons; what a denial
    forbids is not kept, so denials count from when they are heard.
    Cost: benchmarks/micro/bench_stitch.py.
    """

    def __init__(self, rule: StitchRule, tables: Tables) -> None:
        self._rule = rule
        self._forest = Forest(rule, tables)
        self._register = Register(rule, self._forest)
        self._bases: Table[str] = tables.table(3, str)
        self._persons: dict[str, Person] = {}
        self._about: dict[str, Callable[[AnyRecord], str | None]] = {
            "crm.customer": self._customer,
            "crm.contact-point": self._named,
            "consent.record": self._consent,
            "web.event": self._acted,
            "pos.receipt": self._acted,
            "sensing.scan": self._acted,
            "identity.link": self._link,
            "presence.transition": self._present,
            "presence.dwell": self._present,
            "presence.visit": self._present,
        }

    def step(self, items: list[Item]) -> list[Item]:
        """Events about people become `Touched`, behind what they changed; everything else passes."""
        out: list[Item] = []
        for item in items:
            if isinstance(item, Event):
                self._until(item.number, item.clock, out)
                self._event(item, out)
            else:
                if isinstance(item, Tick) and not item.end:
                    self._until(item.number, item.clock, out)
                out.append(item)
        return out

    def person_of(self, identifier: str) -> Person:
        """Who an identifier belongs to; one that is not known is alone."""
        person = self._persons.get(identifier)
        if person is not None:
            return person
        node = self._forest.node(identifier)
        if node is None or (node.pointer is None and not node.below):
            return Person(identifier, identifier, (Member(identifier),))
        if len(self._persons) > _REMEMBERED:
            self._persons.clear()
        for one in self._forest.persons(self._forest.root(identifier)):
            self._remember(one)
        return self._persons[identifier]

    def _event(self, event: Event, out: list[Item]) -> None:
        record = event.record
        about = self._about.get(event.topic)
        if about is None:
            if isinstance(record, Site):
                self._bases.put(record.site_id, record.legal_basis)
            out.append(event)
            return
        member = about(record)
        if member is None:
            out.append(event)
            return
        self._publish(Cause(event.number, event.clock, record.event_time, record.ingest_time, record.site_id), out)
        out.append(Touched(event, member, self.person_of(member)))
        node = self._forest.node(member)
        if node is not None and not node.facts:
            node.facts = True
            self._forest.keep(member, node)

    def _customer(self, record: AnyRecord) -> str | None:
        assert isinstance(record, Customer)
        found = self._met(record.identifiers, record.event_time)
        if len(found) > 1 and not record.deleted:
            self._together(found, record, "crm")
        return found[0] if found else None

    def _named(self, record: AnyRecord) -> str | None:
        assert isinstance(record, ContactPoint)
        found = self._met([record.identifier], record.event_time)
        return found[0] if found else None

    def _acted(self, record: AnyRecord) -> str | None:
        channel, seen = "sensing", None
        if isinstance(record, Scan):
            named = [*record.identifiers, record.subject_id]
        else:
            assert isinstance(record, WebEvent | Receipt)
            channel = "web" if isinstance(record, WebEvent) else "pos"
            named, seen = record.identifiers, record.event_time
        found = self._met(named, seen)
        if len(found) > 1:
            self._together(found, record, channel)
        return found[0] if found else None

    def _present(self, record: AnyRecord) -> str | None:
        assert isinstance(record, Transition | DwellReached | Visit)
        return record.subject_id if namespace(record.subject_id) in self._rule.priority else None

    def _link(self, record: AnyRecord) -> str | None:
        assert isinstance(record, Link)
        found = self._met([record.from_id, record.to_id], record.event_time)
        if len(found) == 2:
            strong, weak = found
            same = namespace(strong) == namespace(weak)
            if (not same or record.method == "IMPORT") and (record.revoked or self._may_join(found, record, own=True)):
                asserts = namespace(record.to_id) in self._rule.persons
                if not asserts and not record.revoked and not same:
                    self._forest.see([strong, weak], bucket(record.event_time, CHANNELS["identity"]))
                self._forest.tie(
                    weak,
                    Tie(
                        record.event_time,
                        record.event_id,
                        strong,
                        record.method,
                        record.valid_from,
                        record.valid_to,
                        record.revoked,
                        asserts,
                    ),
                )
        return record.from_id if record.from_id in found else (found[0] if found else None)

    def _consent(self, record: AnyRecord) -> str | None:
        assert isinstance(record, Consent)
        found = self._met([record.identifier], record.event_time)
        if not found:
            return None
        agreement = Agreement(record.event_time, record.event_id, _linking(record), record.valid_until)
        node = self._forest.meet(record.identifier, None)
        if node.linking.hear(agreement):
            self._forest.keep(record.identifier, node)
            if agreement.state == "DENIED":
                members = [member.identifier for member in self.person_of(record.identifier).members]
                self._forest.void(members, record.event_time + 1)
        return record.identifier

    def _met(self, identifiers: list[str], seen: int | None) -> list[str]:
        """Known from now on, strongest first; those that live one visit are nobody's."""
        rule = self._rule
        found = [one for one in dict.fromkeys(identifiers) if namespace(one) in rule.priority]
        if len(found) > 1:
            found.sort(key=self._forest.rank)
            del found[rule.max_identifiers :]
        for one in found:
            self._forest.meet(one, seen)
        return found

    def _together(self, found: list[str], record: AnyRecord, channel: str) -> None:
        mark = bucket(record.event_time, CHANNELS[channel])
        if not self._forest.knows(found, mark) and self._may_join(found, record, own=channel == "crm"):
            self._forest.see(found, mark)

    def _may_join(self, found: list[str], record: AnyRecord, *, own: bool) -> bool:
        """Whether the persons behind these agree; the shop's `own` records need no more than no denial."""
        basis = self._bases.get(record.site_id or self._rule.site_id) or self._rule.legal_basis
        granted = own or basis in {"PSEUDONYMOUS", "UNKNOWN"}
        for one in found:
            for member in self.person_of(one).members:
                node = self._forest.node(member.identifier)
                assert node is not None
                linking = node.linking
                if not linking.said and not linking.void:
                    continue
                if record.event_time < linking.cut:
                    return False
                granted = granted or linking.granted(record.event_time)
        return granted

    def _until(self, number: int, clock: int, out: list[Item]) -> None:
        """Ties that begin or end up to the clock, each at its own instant."""
        while (at := self._forest.next_due(clock)) is not None:
            self._publish(Cause(number, clock, at, at, ""), out)

    def _publish(self, cause: Cause, out: list[Item]) -> None:
        for person in self._register.publish(cause, out):
            self._remember(person)

    def _remember(self, person: Person) -> None:
        for member in person.members:
            self._persons[member.identifier] = person


def _linking(record: Consent) -> str:
    """What a record says of `linking`: GRANTED, DENIED or UNSET."""
    if record.withdrawn:
        return "DENIED"
    said = [purpose.granted for purpose in record.purposes if purpose.code == "linking"]
    if not said:
        return "UNSET"
    return "GRANTED" if all(said) else "DENIED"
