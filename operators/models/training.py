"""Rows to learn from: one a dwell, as the production cores saw it, with what came of it.

A tap in a replay, right behind stitch: it takes in the same items through the same `Scores` as a live flow,
so a vector in training is bit for bit the vector that would have been scored. Labels are read off at the
end, when it is known who was who.
"""

from collections.abc import Callable
from operator import attrgetter

import msgspec

from operators.score import Scores
from operators.state.store import Tables
from schemas.derived import Command, DwellReached
from schemas.items import Event, Item, Linked, Occupied, Person, Tick, Touched
from schemas.people import Receipt, WebEvent
from schemas.person import GRANTED, Consents
from schemas.venue import Venue

TOPICS = ("presence.dwell", "presence.transition", "presence.visit", "web.event", "pos.receipt")
ALL_GRANTED = Consents(dict.fromkeys(("profiling", "in_store_location", "linking"), GRANTED), {})
"""For history that was recorded under these consents already, and for simulated shops."""


class Row(msgspec.Struct, frozen=True):
    """A trigger: who stood where, the vector as of then, and what came of it."""

    at: int
    site_id: str
    zone_id: str
    visit_id: str
    member: str
    state: str
    features: tuple[float, ...]
    person: str = ""
    bought: bool = False
    treated: bool = False


class Purchase(msgspec.Struct, frozen=True):
    """Categories that a member bought."""

    at: int
    member: str
    categories: frozenset[str]


class TrainingTap:
    """Collects rows from the stream it stands in; passes on every item untouched.

    Args:
        tables: where histories are kept while the replay runs.
        venue: zones with their categories.
        horizon_us: how long after the trigger a purchase still counts.
        consents: the consents of a person at an instant; a person without `profiling` gives no row.
    """

    def __init__(
        self,
        tables: Tables,
        venue: Venue,
        horizon_us: int,
        consents: Callable[[Person, int], Consents] = lambda _person, _at: ALL_GRANTED,
    ) -> None:
        self._scores = Scores(None, venue, tables)
        self._horizon_us, self._consents = horizon_us, consents
        self._rows: list[Row] = []
        self._purchases: list[Purchase] = []
        self._treated: set[str] = set()
        self._occupied: dict[tuple[str, str], int] = {}
        self._persons: dict[str, str] = {}
        self._heard_until = 0

    def step(self, items: list[Item]) -> list[Item]:
        """Look at the items of a micro-batch."""
        for item in items:
            match item:
                case Touched():
                    self._touched(item)
                case Occupied():
                    self._occupied[item.site_id, item.zone_id] = item.count
                case Linked():
                    for person in item.persons:
                        self._known(person)
                case Event(record=Command() as command) if command.visit_id:
                    self._treated.add(command.visit_id)
                case Tick(end=False):
                    self._heard_until = max(self._heard_until, item.clock)
        return items

    def rows(self) -> list[Row]:
        """Rows whose horizon has passed, by time, with label, person and treatment filled in."""
        bought: dict[str, list[Purchase]] = {}
        for purchase in sorted(self._purchases, key=attrgetter("at", "member")):
            bought.setdefault(self._person(purchase.member), []).append(purchase)
        done = []
        for row in sorted(self._rows, key=attrgetter("at", "visit_id")):
            if row.at + self._horizon_us > self._heard_until:
                continue
            person, category = self._person(row.member), self._scores.venue.zones[row.zone_id].category
            done.append(
                msgspec.structs.replace(
                    row,
                    person=person,
                    bought=any(
                        row.at < purchase.at <= row.at + self._horizon_us and category in purchase.categories
                        for purchase in bought.get(person, ())
                    ),
                    treated=row.visit_id in self._treated,
                )
            )
        return done

    def _touched(self, touched: Touched) -> None:
        event, record = touched.event, touched.event.record
        self._heard_until = max(self._heard_until, event.clock)
        self._known(touched.person)
        self._scores.observe(touched, touched.person)
        if isinstance(record, DwellReached):
            self._trigger(touched, record)
        elif isinstance(record, Receipt | WebEvent):
            categories = _bought(record)
            if categories:
                self._purchases.append(Purchase(record.event_time, touched.member, categories))

    def _trigger(self, touched: Touched, dwell: DwellReached) -> None:
        zone = self._scores.venue.zones.get(dwell.zone_id)
        consents = self._consents(touched.person, dwell.event_time)
        if zone is None or zone.category is None or not consents.granted("profiling"):
            return
        features = self._scores.features(
            touched.person,
            site_id=dwell.site_id,
            zone_id=dwell.zone_id,
            visit_id=dwell.visit_id,
            at=dwell.event_time,
            consents=consents,
            occupancy=self._occupied.get((dwell.site_id, dwell.zone_id)),
            member=touched.member,
        )
        self._rows.append(
            Row(
                dwell.event_time,
                dwell.site_id,
                dwell.zone_id,
                dwell.visit_id,
                touched.member,
                touched.person.state,
                features,
            )
        )

    def _known(self, person: Person) -> None:
        for member in person.members:
            self._persons[member.identifier] = person.root

    def _person(self, member: str) -> str:
        return self._persons.get(member, member)


def _bought(record: Receipt | WebEvent) -> frozenset[str]:
    """Categories of a sale: lines of goods that went out, or the articles of an order."""
    if isinstance(record, WebEvent):
        if record.name != "order_completed":
            return frozenset()
        own = {record.category} if record.category else set()
        return frozenset(own | {item.category for item in record.items if item.category})
    return frozenset(line.category for line in record.lines if line.category and line.quantity_milli > 0)
