"""What the cores that work on one person hand each other: consents, ways to reach her, fact reads."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from schemas.items import Event, Person
from schemas.types import AnyRecord

GRANTED, DENIED, WITHDRAWN, EXPIRED, UNSET = "GRANTED", "DENIED", "WITHDRAWN", "EXPIRED", "UNSET"


class Cause(msgspec.Struct, frozen=True):
    """What a derived record takes its place and times from: an event, or a timer at its due instant."""

    number: int
    clock: int
    event_time: int
    ingest_time: int
    site_id: str = ""

    @classmethod
    def of(cls, event: Event) -> "Cause":
        """The cause that an event is."""
        record = event.record
        return cls(event.number, event.clock, record.event_time, record.ingest_time, record.site_id)


class Consents(msgspec.Struct, frozen=True):
    """A person's consents at one instant, over all members.

    A purpose denied by any member is denied; members without a record do not count; unset on all is UNSET.
    `contact` is the state by channel in lower case, for channels that a record names; `contact_any` the
    state where no channel is named. `epoch` is that of the newest record.
    """

    purposes: dict[str, str]
    contact: dict[str, str]
    contact_any: str = UNSET
    language: str = ""
    jurisdiction: str = ""
    epoch: str | None = None

    def of(self, purpose: str) -> str:
        """State of a purpose."""
        return self.purposes.get(purpose, UNSET)

    def granted(self, purpose: str) -> bool:
        """Whether it may be relied on."""
        return self.of(purpose) == GRANTED

    def may_contact(self, channel: str) -> str:
        """State of `contact` for a channel (case does not matter)."""
        return self.contact.get(channel.lower(), self.contact_any)


def usable(person: Person, consents: Consents) -> Person:
    """The person as facts may be read of her: members joined by inference only where `linking` is granted."""
    if consents.granted("linking") or not any(member.inferred for member in person.members):
        return person
    return msgspec.structs.replace(person, members=tuple(one for one in person.members if not one.inferred))


class Reach(msgspec.Struct, frozen=True):
    """A contact point a person has: its kind, the identifier that owns it, when it was written."""

    kind: str
    identifier: str
    verified: bool
    at: int


class Aggregate(msgspec.Struct, frozen=True):
    """A number kept per person over a window of events, shared by every campaign and segment that reads it.

    `topic` is a topic, or `fired:<campaign>`, or `outcome:<campaign>:<status>`. `op` is count, sum, max,
    last or distinct; `of` the field it reads (a `*_minor` amount by its name without the suffix, in main
    units). `within_us` is the window: events with at - within < event_time <= at count.
    """

    id: str
    topic: str
    op: str
    of: str | None
    within_us: int


class Observation(msgspec.Struct, frozen=True):
    """What one event adds to one aggregate under one key (`""` where the aggregate is not keyed)."""

    aggregate: str
    key: str
    value: int | float | str | bool | None = None
    """What `of` read: integer minor units for an amount, so that sums are exact in any order."""


class Plan(Protocol):
    """What the rules in force want to be kept: made by `operators.rules`, followed by the profile."""

    @property
    def aggregates(self) -> Mapping[str, Aggregate]:
        """All that is kept, by id."""
        ...

    def observe(self, topic: str, record: AnyRecord) -> list[Observation]:
        """What this event adds, to every aggregate it belongs to."""
        ...


class People(Protocol):
    """What segments and decisions may ask about a person, as of the event being worked on."""

    def person_of(self, member: str) -> Person | None:
        """The person an identifier belongs to."""
        ...

    def tier(self, person: Person) -> str | None:
        """Her tier, in lower case."""
        ...

    def traits(self, person: Person) -> Mapping[str, str]:
        """Her traits by name."""
        ...

    def fact(self, person: Person, aggregate: str, key: str, at: int) -> int | float | str | None:
        """Value of an aggregate at `at` µs; sums of amounts in main units, missing history is 0 or None."""
        ...

    def fact_sources(self, person: Person, aggregate: str, key: str, at: int) -> list[str]:
        """Ids of the events that stand in the window, oldest first, at most 32."""
        ...

    def changes_at(self, person: Person, aggregate: str, key: str, at: int) -> int | None:
        """When the aggregate next changes by itself (its oldest event leaves), or None."""
        ...

    def consents(self, person: Person, at: int) -> Consents:
        """What she has agreed to, over all members."""
        ...

    def reach(self, person: Person) -> list[Reach]:
        """Her newest verified contact point of each kind."""
        ...

    def next_change(self, person: Person, facts: Iterable[tuple[str, str]], at: int) -> int | None:
        """When any of these facts (aggregate, key), or a consent, next changes by itself after `at`, or None."""
        ...
