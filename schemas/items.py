"""What travels between the steps of a flow: a micro-batch of items in merged order.

Every step maps the items it knows, passes on all others in their order, and puts what it derives right
where its cause stood. So the order of a flow's output is the order of its input: (row number, emission).
"""

import msgspec

from schemas.shards import ALONE
from schemas.texts import Delivered
from schemas.types import AnyRecord


class Heard(msgspec.Struct, frozen=True, gc=False):
    """One message as it came in.

    `number` is its place in the merge, `clock` the source's clock when it was heard (µs; in a replay the
    row's ingest time). `form` says how `value` is written: a line of JSON, an Avro body, or an Avro body
    behind the 5 bytes of the Confluent frame.
    """

    number: int
    topic: str
    partition: int
    offset: int
    clock: int
    value: bytes
    form: str = "json"
    key: bytes | None = None


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The clock of the source stands at `clock` (µs): every row up to there has been heard.

    `number` is that of the last row before it. `end` marks the end of a replay: how each step ends is its
    own rule (`contract`: presence closes, activation rings up to the last ingest time). `lane` says whose rows
    it speaks of, where a source has several clocks.
    """

    number: int
    clock: int
    end: bool = False
    lane: int = 0


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A lane has handed on every reference row that stood on its topics when this process started."""

    number: int
    clock: int
    lane: int


class Event(msgspec.Struct, frozen=True):
    """A decoded or derived record; identifiers are tokens from here on.

    A derived record has the number and the clock of its cause, and `offset` -1. `raw` is the message as it
    came, for a dead letter that is written at once; it is never kept in state, since it may hold plain ids.
    """

    number: int
    clock: int
    topic: str
    record: AnyRecord
    partition: int = 0
    offset: int = -1
    index: int | None = None
    raw: bytes = b""


class DataKey(msgspec.Struct, frozen=True):
    """The key that an identifier's contact points are sealed under, itself sealed under the deployment's."""

    number: int
    clock: int
    identifier: str
    wrapped: bytes


class Fix(msgspec.Struct, frozen=True, gc=False):
    """An accepted position, released in event-time order with its source's clock corrected."""

    number: int
    clock: int
    event_time: int
    ingest_time: int
    subject_id: str
    tech: str
    x_m: float
    y_m: float
    floor: float
    accuracy_m: float


class Due(msgspec.Struct, frozen=True):
    """A reference record whose event time the watermark has reached: presence acts on it now."""

    number: int
    clock: int
    event: Event


class Watermark(msgspec.Struct, frozen=True, gc=False):
    """No accepted fix or due record older than `at` (µs of event time) will follow."""

    number: int
    clock: int
    at: int
    end: bool = False


class Occupied(msgspec.Struct, frozen=True, gc=False):
    """How many subjects are in a zone from now on, and of one whether it is."""

    number: int
    clock: int
    site_id: str
    zone_id: str
    count: int
    subject_id: str
    inside: bool


class Member(msgspec.Struct, frozen=True):
    """One identifier of a person; `inferred` when no asserted link but co-occurrence joined it."""

    identifier: str
    inferred: bool = False


class Person(msgspec.Struct, frozen=True):
    """Who an identifier belongs to: the root of its tree, the anchor that ids hang on, all members."""

    root: str
    anchor: str
    members: tuple[Member, ...]
    state: str = "ASSERTED"
    confidence: float = 1.0


class Linked(msgspec.Struct, frozen=True):
    """Persons as they stand after their membership changed.

    `kind` is GREW (a first sight, or an identifier joined that had no profile), MERGE, SPLIT or REANCHOR. `persons` holds every
    person that changed, with all of its members: a member of none of them has moved nowhere.
    """

    number: int
    clock: int
    event_time: int
    kind: str
    persons: tuple[Person, ...]


class Moving(msgspec.Struct, frozen=True):
    """Persons changed who were at home on several shards, or will be: who goes where, in the same order on each.

    Shard `at` works on the change. Before that, identifiers in `gives` come to it from the shards they were at
    home on; after it those in `takes` go on to theirs. `seq` counts moves, and every shard sees its own in order.
    """

    seq: int
    linked: Linked
    at: int
    gives: dict[int, tuple[str, ...]]
    takes: dict[int, tuple[str, ...]]

    @property
    def number(self) -> int:
        """Number of the cause."""
        return self.linked.number


class Parcel(msgspec.Struct, frozen=True):
    """What a shard kept of the identifiers that leave it in a move: rows of its tables (table, key, value)."""

    seq: int
    origin: int
    to: int
    rows: list[tuple[int, str, bytes]]


class Touched(msgspec.Struct, frozen=True):
    """An event that is about a person: `member` is the identifier it is credited to."""

    event: Event
    member: str
    person: Person


class Tally(msgspec.Struct, frozen=True, gc=False):
    """Rows of a topic that met one fate: read, applied, duplicate, late, dead, or unknown_field."""

    topic: str
    fate: str
    count: int


Item = (
    Heard
    | Tick
    | Opened
    | Event
    | DataKey
    | Fix
    | Due
    | Watermark
    | Occupied
    | Linked
    | Moving
    | Parcel
    | Touched
    | Tally
    | Delivered
)


class Batch(msgspec.Struct):
    """A micro-batch: items in merged order, and the wall-clock stamps (µs) of the stages it has passed.

    `shard` is the virtual shard it is for.
    """

    items: list[Item]
    stamps: dict[str, int] = {}
    shard: str = ALONE
