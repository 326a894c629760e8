"""The leaves that conditions may read: name, type, what they may be used for, whether they are personal.

Derived from the records of `schemas`: string, enum and text are `string`; int and long are `int`; a
`*_minor` amount is its main unit as `double` without the suffix; float and double are `double`; booleans
`bool`; lists of those are lists. Instants and durations are not exposed, nor are maps and blobs. Records
inside a list show as `categories`, `skus` and `gtins` where they have such a field. Three families are
declared by use: `facts.*` by the file, `context.<name>` and `person.traits.<name>` by being named.
"""

import types
import typing
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from schemas.topics import TOPICS
from schemas.types import AnyRecord, Avro, Lean, Symbols


class Leaf(msgspec.Struct, frozen=True):
    """One typed variable of the environment.

    `type` is string, int, double, bool or list (of strings, unless `of` says otherwise). A nullable leaf has
    a twin `<name>_known`. A personal leaf is recorded as set or not set, never with its value.
    """

    name: str
    type: str
    nullable: bool = False
    purposes: frozenset[str] = frozenset()
    personal: bool = False
    of: str = "string"


PERSONALISATION = frozenset({"personalisation"})
PROFILING = frozenset({"profiling"})
IN_STORE = frozenset({"in_store_location"})
NONE: frozenset[str] = frozenset()

_STATIC = (
    Leaf("person.tier", "string", True, PERSONALISATION, True),
    Leaf("person.segments", "list", False, PERSONALISATION, True),
    Leaf("person.ltv", "double", True, PROFILING, True),
    Leaf("score.intent", "double", True, PROFILING),
    Leaf("zone.id", "string", False, IN_STORE),
    Leaf("zone.name", "string", False, IN_STORE),
    Leaf("zone.kind", "string", False, IN_STORE),
    Leaf("zone.category", "string", True, IN_STORE),
    Leaf("zone.floor", "double", False, IN_STORE),
    Leaf("site.id", "string"),
    Leaf("site.currency", "string"),
    Leaf("site.jurisdiction", "string"),
    Leaf("site.time_zone", "string"),
    Leaf("visit.dwell_s", "double", True, IN_STORE),
    Leaf("visit.enter_reason", "string", True, IN_STORE),
    Leaf("visit.tech", "string", True, IN_STORE),
    Leaf("visit.quality", "double", True, IN_STORE),
    Leaf("identity.state", "string"),
    Leaf("identity.confidence", "double"),
)
STATIC: dict[str, Leaf] = {leaf.name: leaf for leaf in _STATIC}
"""Leaves of every condition, whatever the trigger."""

PLACES: dict[str, Leaf] = {name: leaf for name, leaf in STATIC.items() if name.startswith(("zone.", "site."))}
"""Those of them that a `where` may read beside its event."""

_NOT_CONDITIONS = frozenset({"identifiers", "subject_id", "session_id", "event_id", "source_id", "seq", "site_id"})
_ENVELOPE = frozenset({"event_id", "event_time", "ingest_time", "source_id", "seq"})
_IDENTIFYING = frozenset({"visit_id", "receipt_id", "person_id", "serial", "lot"})
_SHOPPER_DOMAINS = ("sensing", "web", "pos", "crm", "presence", "social", "ar", "wallet", "photo")


@cache
def event_topics() -> tuple[str, ...]:
    """Topics that are about a person and may start or feed a campaign."""
    return tuple(
        name
        for name, topic in TOPICS.items()
        if topic.key in {"S", "I"}
        and name.split(".", 1)[0] in _SHOPPER_DOMAINS
        and not issubclass(topic.record, Lean)
        and name not in {"sensing.position-batch", "crm.contact-point"}
    )


def purposes_of_topic(topic: str) -> frozenset[str]:
    """What facts of a topic may be used for only with; what Footfall itself did needs none."""
    domain = topic.split(".", 1)[0]
    if domain in {"presence", "sensing"}:
        return IN_STORE
    return PERSONALISATION if domain in _SHOPPER_DOMAINS else NONE


class Source(msgspec.Struct, frozen=True):
    """How a leaf of an event comes out of its record."""

    leaf: Leaf
    field: str
    part: str | None = None
    """The field of the records inside a list."""
    minor: bool = False

    def read(self, record: AnyRecord) -> Any:
        """The value as conditions see it; None where there is none."""
        value = getattr(record, self.field)
        if self.part is not None:
            found = (getattr(item, self.part) for item in value)
            return list(dict.fromkeys(one for one in found if one is not None))
        return value / 100 if self.minor and value is not None else value

    def exact(self, record: AnyRecord) -> Any:
        """The value as it is summed: an amount in whole minor units."""
        return getattr(record, self.field) if self.minor else self.read(record)


@cache
def event_leaves(topic: str) -> dict[str, Source]:
    """Leaves of an event's record, by name (`e.total`)."""
    record = TOPICS[topic].record
    found: dict[str, Source] = {}
    for field, hint in get_type_hints(record, include_extras=True).items():
        if field in _ENVELOPE:
            continue
        for source in _sources(field, hint):
            found[source.leaf.name] = source
    return found


_PARTS = {"category": "categories", "sku": "skus", "gtin": "gtins"}


def _sources(field: str, hint: Any) -> list[Source]:
    nullable, hint = _optional(hint)
    personal = field in _NOT_CONDITIONS or field in _IDENTIFYING
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return [
                Source(Leaf(f"e.{plural}", "list", of="string"), field, part)
                for part, plural in _PARTS.items()
                if part in inner.__struct_fields__
            ]
        kind = _scalar(field, inner)
        return [Source(Leaf(f"e.{field}", "list", personal=personal, of=kind), field)] if kind else []
    kind = _scalar(field, hint)
    if kind is None:
        return []
    if field.endswith("_minor"):
        name = field.removesuffix("_minor")
        return [Source(Leaf(f"e.{name}", "double", nullable), field, minor=True)]
    return [Source(Leaf(f"e.{field}", kind, nullable, personal=personal), field)]


def _optional(hint: Any) -> tuple[bool, Any]:
    if get_origin(hint) in {types.UnionType, typing.Union}:
        inner = [part for part in get_args(hint) if part is not type(None)]
        return True, inner[0]
    return False, hint


def _scalar(field: str, hint: Any) -> str | None:
    if get_origin(hint) is not Annotated:
        return None
    for mark in get_args(hint)[1:]:
        if isinstance(mark, Symbols):
            return "string"
        if isinstance(mark, Avro):
            if mark.logical is not None or field.endswith("_us"):
                return None
            return {
                "string": "string",
                "int": "int",
                "long": "int",
                "float": "double",
                "double": "double",
                "boolean": "bool",
            }.get(mark.name)
    return None
