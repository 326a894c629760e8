"""What one identifier contributes to a person: last-writer-wins fields, and windows of what happened.

A contribution is a function of the *set* of events credited to its identifier, whatever their order. A
person is the composition of her members' contributions, so a merge adds one, a split takes one away, and
nothing is replayed.
"""

from collections.abc import Iterable

import msgspec

from operators.people.windows import Window
from schemas import people, reference
from schemas.derived import DwellReached, Transition, Visit
from schemas.person import Reach


class Customer(msgspec.Struct, array_like=True, frozen=True):
    """The shop's own record, the newest of its identifier; it replaces the one before as a whole."""

    at: int
    id: str
    tier: str | None
    traits: dict[str, str]
    source: str
    deleted: bool


class Contact(msgspec.Struct, array_like=True, frozen=True):
    """That there is a contact point of a kind; its value is the delivery's alone."""

    at: int
    id: str
    verified: bool
    deleted: bool


class Agreed(msgspec.Struct, array_like=True, frozen=True):
    """The newest consent record of an identifier; `purposes` are (code, granted, channels in lower case)."""

    at: int
    id: str
    epoch: str
    purposes: list[tuple[str, bool, list[str]]]
    jurisdiction: str
    language: str
    valid_until: int | None
    withdrawn: bool


class Stay(msgspec.Struct, array_like=True):
    """A stay by its visit id; `closed` is for good, in whatever order its records come."""

    site_id: str
    zone_id: str
    entered_at: int
    heard_at: int
    closed: bool = False


class Contribution(msgspec.Struct, array_like=True):
    """All that one identifier brings. `facts` are windows by aggregate and key; `days` are those with marks."""

    customer: Customer | None = None
    agreed: Agreed | None = None
    contacts: dict[str, Contact] = {}
    stays: dict[str, Stay] = {}
    facts: dict[str, dict[str, Window]] = {}
    last_receipt_at: int | None = None
    days: list[int] = []

    def describe(self, record: people.Customer) -> bool:
        """Take the shop's own record in, unless a newer one is there."""
        if not _newer(record.event_time, record.event_id, self.customer):
            return False
        self.customer = Customer(
            record.event_time,
            record.event_id,
            record.tier.lower() if record.tier else None,
            dict(record.traits),
            record.source_id,
            record.deleted,
        )
        return True

    def agree(self, record: reference.Consent) -> bool:
        """Take a consent record in, unless a newer one is there: it replaces the one before."""
        if not _newer(record.event_time, record.event_id, self.agreed):
            return False
        self.agreed = Agreed(
            record.event_time,
            record.event_id,
            record.epoch,
            [(one.code, one.granted, [channel.lower() for channel in one.channels]) for one in record.purposes],
            record.jurisdiction,
            record.language,
            record.valid_until,
            record.withdrawn,
        )
        return True

    def point(self, record: people.ContactPoint) -> bool:
        """Take in that there is a contact point, unless a newer word on its kind is there."""
        if not _newer(record.event_time, record.event_id, self.contacts.get(record.kind)):
            return False
        self.contacts[record.kind] = Contact(record.event_time, record.event_id, record.verified, record.deleted)
        return True

    def buy(self, record: people.Receipt) -> bool:
        """Remember the newest receipt; one that was voided is none."""
        if record.kind == "VOID" or record.event_time <= (self.last_receipt_at or 0):
            return False
        self.last_receipt_at = record.event_time
        return True

    def stay(self, record: Transition | DwellReached | Visit, before: int) -> bool:
        """Open or close a stay; what was last heard of before `before` (µs) has lost its end and is forgotten."""
        for over in [visit for visit, one in self.stays.items() if one.heard_at < before]:
            del self.stays[over]
        if record.event_time < before:
            return False
        entered = record.at if isinstance(record, Transition) else record.entered_at
        closes = isinstance(record, Visit) or (isinstance(record, Transition) and record.kind == "EXIT")
        known = self.stays.get(record.visit_id)
        if known is None:
            self.stays[record.visit_id] = Stay(record.site_id, record.zone_id, entered, record.event_time, closes)
            return True
        known.heard_at = max(known.heard_at, record.event_time)
        if closes and not known.closed:
            known.closed = True
            return True
        return False


def standing(members: Iterable[Contribution]) -> list[Customer]:
    """The shop's records of a person that stand, oldest first."""
    records = [mine.customer for mine in members if mine.customer is not None]
    return sorted((one for one in records if not one.deleted), key=lambda one: (one.at, one.id))


def reachable(members: Iterable[tuple[str, Contribution]]) -> list[Reach]:
    """The newest verified contact point of each kind over members by identifier, by kind."""
    best: dict[str, tuple[int, str, str]] = {}
    for member, mine in members:
        for kind, contact in mine.contacts.items():
            if contact.verified and not contact.deleted:
                best[kind] = max(best.get(kind, (-1, "", "")), (contact.at, contact.id, member))
    return [Reach(kind, member, True, at) for kind, (at, _, member) in sorted(best.items())]


def _newer(at: int, name: str, than: Customer | Contact | Agreed | None) -> bool:
    """Whether the record of that time and id is the last writer."""
    return than is None or (at, name) > (than.at, than.id)
