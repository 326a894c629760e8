"""How likely a purchase is now: a model's word on one person at one trigger.

Facts are taken in as they come, by member; a score is worked out when somebody asks for it, from the facts
of the members that count and none later than the trigger.
"""

import struct
from collections.abc import Collection
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from operators.models.features import Moment, features_hash, vector
from operators.models.history import History, observe
from operators.models.model import Model
from operators.state.store import Rows, Tables
from schemas import ids
from schemas.derived import DwellReached, Reason, Score, Transition, Visit
from schemas.items import Event, Person, Touched
from schemas.people import Receipt, WebEvent
from schemas.person import Consents
from schemas.venue import Venue

HISTORIES = 60
"""Number of the table; the cores that work on one person share one store."""
_FLOAT32 = struct.Struct("<f")


class Scored(msgspec.Struct, frozen=True):
    """A score, the row that says so, and the vector it came from."""

    value: float
    raw: float
    features: tuple[float, ...]
    event: Event
    model: Model

    def reasons(self) -> list[Reason]:
        """The five features that moved it furthest; weights are log-odds before calibration.

        Costs a hundred times what the score did: asked only for what fired.
        """
        return [
            Reason(feature=name, weight=_FLOAT32.unpack(_FLOAT32.pack(weight))[0])
            for name, weight in self.model.strongest(self.features)
        ]


class Scores:
    """Histories of members, and scores from them.

    Args:
        model: the model in force; None when there is none, and every score is unknown.
        venue: zones with their categories, and the time zone; may be replaced as it changes.
        tables: where histories are kept.
    """

    def __init__(self, model: Model | None, venue: Venue, tables: Tables) -> None:
        self.model, self.venue = model, venue
        self._histories = tables.table(HISTORIES, History)

    def observe(self, touched: Touched, person: Person | None = None) -> None:  # noqa: ARG002
        """Take an event into the history of the member it is credited to: whose person that is does not matter."""
        record = touched.event.record
        if not isinstance(record, Transition | DwellReached | Visit | WebEvent | Receipt):
            return
        history = self._histories.get(touched.member) or History()
        category = None if isinstance(record, WebEvent | Receipt) else self._category(record.zone_id)
        observe(history, record, category=category, zone=self._time_zone(), clock=touched.event.clock)
        self._histories.put(touched.member, history)

    def forget(self, member: str) -> None:
        """Drop all that is known of a member."""
        self._histories.put(member, None)

    def give(self, members: Collection[str]) -> Rows:
        """Hand over the histories of identifiers that move to another shard."""
        return self._histories.give(members)

    def take(self, table: int, key: str, stored: bytes) -> bool:
        """Take over the history of somebody who moved here; False for a table of another core."""
        if table == HISTORIES:
            self._histories.take(key, stored)
        return table == HISTORIES

    def features(
        self,
        person: Person,
        *,
        site_id: str,
        zone_id: str | None,
        visit_id: str | None,
        at: int,
        consents: Consents,
        occupancy: int | None,
        member: str | None = None,
    ) -> tuple[float, ...]:
        """The vector of a person as of `at`; see `score`."""
        moment = Moment(
            at=at,
            site_id=site_id or self.venue.site.site_id,
            zone=self._time_zone(),
            zone_id=zone_id,
            visit_id=visit_id,
            category=None if zone_id is None else self._category(zone_id),
            occupancy=occupancy,
        )
        counted = [self._histories.get(identifier) for identifier in counting(person, member, consents)]
        return vector([history for history in counted if history is not None], moment, consents)

    def score(
        self,
        person: Person,
        trigger: Event,
        zone_id: str | None,
        visit_id: str | None,
        at: int,
        consents: Consents,
        occupancy: int | None,
        member: str | None = None,
    ) -> Scored | None:
        """Score a person at a trigger.

        Args:
            person: with all of her members.
            trigger: what happened.
            zone_id: where; None away from the store.
            visit_id: the stay it is about.
            at: the trigger's event time; nothing later is looked at.
            consents: without `profiling` there is no score, without another purpose no group that needs it.
            occupancy: subjects in the zone; None where nobody counts.
            member: the identifier that the trigger is credited to.

        Returns:
            The score, or None without a model or without the purpose.
        """
        if self.model is None or not consents.granted("profiling"):
            return None
        record = trigger.record
        site_id = record.site_id or self.venue.site.site_id
        features = self.features(
            person, site_id=site_id, zone_id=zone_id, visit_id=visit_id, at=at, consents=consents,
            occupancy=occupancy, member=member,
        )  # fmt: skip
        raw = self.model.raw(features)
        value = self.model.manifest.calibration(raw)
        name, version = self.model.name, self.model.version
        trigger_id = getattr(record, "event_id", "")
        row = Score(
            event_id=ids.score(person.anchor, trigger_id, name, version),
            event_time=record.event_time,
            ingest_time=record.ingest_time,
            site_id=site_id,
            source_id="activation",
            person_id=person.anchor,
            visit_id=visit_id,
            model=name,
            model_version=version,
            score=value,
            reasons=[],  # those of a score that led to an action stand in its decision
            features_hash=features_hash(features),
        )
        return Scored(value, raw, features, Event(trigger.number, trigger.clock, "decision.score", row), self.model)

    def _category(self, zone_id: str) -> str | None:
        zone = self.venue.zones.get(zone_id)
        return None if zone is None else zone.category

    def _time_zone(self) -> ZoneInfo:
        return time_zone(self.venue.site.time_zone)


@lru_cache(maxsize=64)
def time_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; UTC where a venue names none."""
    return ZoneInfo(name or "UTC")


def counting(person: Person, member: str | None, consents: Consents) -> list[str]:
    """The members whose facts enter a score.

    All that asserted links join. What only inference joins to the member at hand enters with `linking`.

    Args:
        person: with her members.
        member: the one the trigger is credited to; None for the anchor.
        consents: hers.

    Returns:
        Identifiers, in the order of the person's members.
    """
    if consents.granted("linking"):
        return [one.identifier for one in person.members]
    own = person.anchor if member is None else member
    inferred = {one.identifier: one.inferred for one in person.members}
    if inferred.get(own):
        return [own]
    return [one.identifier for one in person.members if not one.inferred]
