"""What a decision is about, and what campaigns may read of it: one occasion, one person, one instant."""

from collections.abc import Callable, Iterable

import msgspec

from operators.decisions.caps import local
from operators.decisions.guards import known
from operators.decisions.surroundings import STOCK
from operators.rules.campaigns import Campaign, FactRead
from operators.rules.cel import Values
from schemas.items import Person
from schemas.person import Consents, People, Reach
from schemas.reference import ContextFact
from schemas.venue import Venue

Value = int | float | str | bool | list[int | float | str]
Known = Value | None
FactsOf = Callable[[tuple[str, ...], str], ContextFact | None]
"""The newest context fact of a name, in the first of the scopes that has one."""


class Occasion(msgspec.Struct, array_like=True):
    """A trigger, with the campaigns it touched and all that may be read of it when it is decided again.

    `member` is the identifier it is credited to; times are those that its records will have; `about` holds
    the leaves of its event (`e.*`) and of its stay (`visit.*`); `inputs` are the events behind it.
    """

    kind: str
    id: str
    member: str
    site_id: str
    event_time: int
    ingest_time: int
    zone_id: str | None = None
    visit_id: str | None = None
    reached_at: int | None = None
    campaigns: list[str] = []
    about: dict[str, Value] = {}
    inputs: list[str] = []

    @property
    def stay(self) -> str:
        """What an action hangs on: the visit, or the trigger where there is no stay."""
        return self.visit_id or self.id

    @property
    def scopes(self) -> tuple[str, ...]:
        """What facts of the surroundings it may read: of its zone before those of its site."""
        return (self.site_id,) if self.zone_id is None else (self.zone_id, self.site_id)


class Reading:
    """What a person's leaves say at an instant; each is worked out once, however many campaigns read it.

    A leaf without its purposes is not handed out at all.

    Args:
        person: whose leaves.
        occasion: what happened.
        at: the instant, µs.
        people: profiles.
        consents: hers at that instant.
        segments: those she is in.
        venue: zones and the site.
        facts: looks up the context fact of a scope and a name.
        consents_stale: the newest word on consents is too old for a personal channel.
    """

    def __init__(
        self,
        person: Person,
        occasion: Occasion,
        at: int,
        people: People,
        consents: Consents,
        segments: list[str],
        venue: Venue,
        facts: FactsOf,
        *,
        consents_stale: bool = False,
    ) -> None:
        self.person, self.occasion, self.at, self.consents = person, occasion, at, consents
        self._people, self._segments, self._venue, self._facts = people, segments, venue, facts
        self._known = known(person)
        self._visible = _visible(person, occasion.member, consents)
        self._seen: dict[str, Known] = {}
        self._place = place(venue, occasion.site_id, occasion.zone_id)
        self.consents_stale = consents_stale
        self.score: float | None = None

    def values(self, campaign: Campaign) -> tuple[Values, dict[str, tuple[str, ...]]]:
        """Leaves a campaign reads: those that have a value, and the purposes missing from the others."""
        found: dict[str, Known] = {}
        refused: dict[str, tuple[str, ...]] = {}
        for name in campaign.reads:
            leaf = name.removesuffix("_known")
            missing = self.missing(leaf, campaign.needs.get(name, ()))
            if missing:
                refused[name] = refused[leaf] = missing
            elif leaf not in found:
                found[leaf] = self.value(leaf, campaign)
        return Values(found, frozenset(refused)), refused

    def missing(self, leaf: str, purposes: Iterable[str]) -> tuple[str, ...]:
        """Purposes that stand between a leaf and its use. The place of a thing that is nobody's needs none."""
        if not self._known and leaf.split(".", 1)[0] in {"zone", "visit"}:
            return ()
        return tuple(sorted(purpose for purpose in purposes if not self.consents.granted(purpose)))

    def value(self, leaf: str, campaign: Campaign) -> Known:
        """Value of a leaf, whatever it may be used for; None where there is none."""
        family, _, name = leaf.partition(".")
        if family == "facts":
            read = campaign.facts.get(name)
            return None if read is None else self.fact(read)
        if leaf not in self._seen:
            self._seen[leaf] = self._work_out(family, name, leaf)
        return self._seen[leaf]

    def fact(self, read: FactRead, *, holding_back: bool = False) -> int | float | str | None:
        """Value of an aggregate, under the key that the occasion gives it.

        What only holds a campaign back may look at every member, whatever was granted.
        """
        key = self.key(read)
        person = self.person if holding_back else self._visible
        return None if key is None else self._people.fact(person, read.aggregate, key, self.at)

    def sources(self, read: FactRead) -> list[str]:
        """Ids of the events that stand behind a fact."""
        key = self.key(read)
        return [] if key is None else self._people.fact_sources(self._visible, read.aggregate, key, self.at)

    def key(self, read: FactRead) -> str | None:
        """Key of an aggregate here; None where the leaf that gives it has no value."""
        if read.key_leaf is None:
            return ""
        family, _, name = read.key_leaf.partition(".")
        value = self._work_out(family, name, read.key_leaf)
        return None if value is None else str(value)

    def _work_out(self, family: str, name: str, leaf: str) -> Known:
        if family == "person":
            return self._of_person(name)
        if family == "score":
            return self.score if name == "intent" else None
        if family in {"zone", "site"}:
            return self._place.get(leaf)
        if family == "identity":
            who: dict[str, Known] = {"state": self.person.state, "confidence": self.person.confidence}
            return who.get(name)
        if family == "context":
            fact = self._facts(self.occasion.scopes, name)
            return None if fact is None or self.at >= fact.valid_until else fact.value
        return self.occasion.about.get(leaf)

    def _of_person(self, name: str) -> Known:
        if name == "tier":
            return self._people.tier(self._visible)
        if name == "segments":
            return list(self._segments)
        if name.startswith("traits."):
            return self._people.traits(self._visible).get(name.removeprefix("traits."))
        return None

    def stock(self, of: object) -> ContextFact | None:
        """The fact on the stock of a thing: `stock.<of>`, of the zone before that of the site."""
        return self._facts(self.occasion.scopes, f"{STOCK}{of}")

    def reach(self, kind: str) -> Reach | None:
        """The newest verified contact point of a kind."""
        points = [point for point in self._people.reach(self._visible) if point.kind == kind and point.verified]
        return max(points, key=lambda point: (point.at, point.identifier), default=None)

    def time_zone(self) -> str:
        """The person's own time zone, where she has told it; else the venue's."""
        venue = self._venue.site.time_zone or "UTC"
        told = self._people.traits(self._visible).get("time_zone")
        if told is None or not self.consents.granted("personalisation"):
            return venue
        try:
            local(self.at, told)
        except (ValueError, OSError):
            return venue
        return told


def place(venue: Venue, site_id: str, zone_id: str | None) -> dict[str, Known]:
    """Leaves of a site and a zone."""
    site = venue.site
    leaves: dict[str, Known] = {
        "site.id": site_id or site.site_id,
        "site.currency": site.currency,
        "site.jurisdiction": site.jurisdiction,
        "site.time_zone": site.time_zone,
    }
    zone = None if zone_id is None else venue.zones.get(zone_id)
    if zone is not None:
        leaves |= {
            "zone.id": zone.zone_id,
            "zone.name": zone.name,
            "zone.kind": zone.kind,
            "zone.category": zone.category,
            "zone.floor": zone.floor,
        }
    return leaves


def _visible(person: Person, member: str, consents: Consents) -> Person:
    """The members whose facts may be used: what only inference joins to the one at hand needs `linking`."""
    if consents.granted("linking") or not any(one.inferred for one in person.members):
        return person
    own = next((one for one in person.members if one.identifier == member), None)
    members = (own,) if own is not None and own.inferred else tuple(one for one in person.members if not one.inferred)
    return msgspec.structs.replace(person, members=members)
