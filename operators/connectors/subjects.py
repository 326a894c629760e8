"""Subjects: our schemas against those registered, registering them, and the ids that writers put before a record.

Every subject is FULL_TRANSITIVE: shops upgrade at different times, so old code reads new records and new code
reads old ones. A subject's level is set before its first version, for a registry that is not told refuses nothing.
Of a subject that has versions the level is somebody's choice: it is changed only when asked for, and our own check
is FULL_TRANSITIVE whatever it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import fastavro
import orjson

from operators.connectors.registry import LEVEL, Registry, RegistryRefused, Version
from schemas import avsc
from schemas.check import incompatible
from schemas.topics import TOPICS


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be done for one subject: `id` and `version` are None until its schema is registered.

    `level` is the one it was found with, None where it is the registry's own; `becomes` the one it is to have.
    """

    subject: str
    topic: str
    level: str | None
    versions: tuple[Version, ...]
    becomes: str | None = LEVEL
    version: int | None = None
    id: int | None = None

    @property
    def known(self) -> bool:
        """Whether our schema is registered."""
        return self.id is not None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        action = "known" if self.known else "register"
        return {
            "subject": self.subject, "action": action, "version": self.version, "id": self.id, "level": self.level,
            "becomes": self.becomes,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Breaks:
    """One rule that our schema breaks against one registered version."""

    subject: str
    version: int
    field: str
    rule: str

    def __str__(self) -> str:
        at = f", field {self.field}" if self.field else ""
        return f"{self.subject}, version {self.version}{at}: {self.rule} ({LEVEL})"

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"subject": self.subject, "version": self.version, "field": self.field, "rule": self.rule}


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be registered, and what stands against it."""

    entries: tuple[Entry, ...]
    breaks: tuple[Breaks, ...]


class Incompatible(Exception):
    """A schema breaks a rule against a version that is registered; nothing was registered, every level is as it was."""

    def __init__(self, breaks: Iterable[Breaks]) -> None:
        self.breaks = tuple(breaks)
        super().__init__("\n".join(map(str, self.breaks)))


class NotRegistered(Exception):
    """A flow's own schema is not registered; the message names the subjects and the command."""


def subject_of(topic: str, prefix: str = "") -> str:
    """Name of a topic's subject."""
    return f"{prefix}{topic}-value"


def ours(topics: Iterable[str] = tuple(TOPICS)) -> dict[str, dict[str, Any]]:
    """Our schemas by topic."""
    return {topic: avsc.schema_of(topic) for topic in topics}


def plan(
    registry: Registry, schemas: Mapping[str, dict[str, Any]], prefix: str = "", *, set_level: bool = False
) -> Plan:
    """Compare schemas with every registered version; changes nothing.

    Args:
        registry: which to ask.
        schemas: ours by topic.
        prefix: stands before every subject.
        set_level: whether subjects that have versions are to get our level, too.

    Raises:
        RegistryAway, RegistryRefused: with what was said.
    """
    entries, breaks = [], []
    for topic, schema in schemas.items():
        subject, own = subject_of(topic, prefix), normal(schema)
        versions = tuple(registry.versions(subject))
        level = registry.level(subject)
        entry = Entry(subject, topic, level, versions, level if versions and not set_level else LEVEL)
        for one in versions:
            theirs = None if one.schema is None else _readable(one.schema)
            if theirs == own:
                entry = replace(entry, version=one.number, id=one.id)
            breaks.extend(_broken(subject, one.number, theirs, own))
        entries.append(entry)
    if not breaks:
        breaks = _refused(registry, entries, schemas)
    return Plan(tuple(entries), tuple(breaks))


def apply(registry: Registry, planned: Plan, schemas: Mapping[str, dict[str, Any]]) -> list[Entry]:
    """Set levels, let the registry check again by them, register what is new, and read it back; answers every subject.

    Raises:
        Incompatible: nothing was registered, and every level is as it was.
        RegistryAway, RegistryRefused: running it again goes on where this stopped.
    """
    if planned.breaks:
        raise Incompatible(planned.breaks)
    changing = [entry for entry in planned.entries if entry.becomes != entry.level]
    for entry in changing:
        registry.set_level(entry.subject, entry.becomes)
    if breaks := _refused(registry, changing, schemas):  # at the former level it may have refused less
        for entry in changing:
            registry.set_level(entry.subject, entry.level)
        raise Incompatible(breaks)
    ids = {
        entry.subject: entry.id
        if entry.id is not None
        else registry.register(entry.subject, _text(schemas[entry.topic]))
        for entry in planned.entries
    }
    done = []
    for entry in planned.entries:
        schema_id = ids[entry.subject]
        back, own = registry.schema(schema_id), normal(schemas[entry.topic])
        if back is None or fingerprint(normal(back)) != fingerprint(own):
            raise RegistryRefused(f"{entry.subject}: id {schema_id} reads back as another schema than was registered")
        version = next((one.number for one in registry.versions(entry.subject) if one.id == schema_id), None)
        done.append(replace(entry, version=version, id=schema_id))
    return done


def ids(registry: Registry, topics: Iterable[str], prefix: str = "") -> dict[str, int]:
    """Schema id of each topic, for writing; ours must be registered.

    Raises:
        NotRegistered: names every subject that lacks ours.
        RegistryAway, RegistryRefused: with what was said.
    """
    found, missing = {}, []
    for topic in topics:
        own = normal(avsc.schema_of(topic))
        versions = registry.versions(subject_of(topic, prefix))
        same = [one.id for one in versions if one.schema is not None and _readable(one.schema) == own]
        if same:
            found[topic] = same[-1]
        else:
            missing.append(subject_of(topic, prefix))
    if missing:
        raise NotRegistered(f"not registered: {', '.join(missing)}")
    return found


def normal(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with full names and without prose: two texts of one schema become equal."""
    found: dict[str, Any] = _bare(fastavro.parse_schema(schema))
    return found


def fingerprint(schema: dict[str, Any]) -> str:
    """Digest of a schema in its normal form."""
    return sha256(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _readable(schema: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return normal(schema)
    except Exception:  # a registry may hold anything; fastavro raises of many kinds
        return None


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _bare(value) for key, value in schema.items() if key != "doc" and not key.startswith("__")}
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    return schema


def _text(schema: dict[str, Any]) -> str:
    return orjson.dumps(schema).decode()


def _broken(subject: str, number: int, theirs: dict[str, Any] | None, own: dict[str, Any]) -> list[Breaks]:
    if theirs is None:
        return [Breaks(subject, number, "", "what is registered must be an Avro record")]
    found = []
    for text in incompatible(theirs, own):
        at, _, rule = text.partition(": ")
        found.append(Breaks(subject, number, at.removeprefix("."), rule))
    return found


def _refused(registry: Registry, entries: Iterable[Entry], schemas: Mapping[str, dict[str, Any]]) -> list[Breaks]:
    """What the registry itself finds incompatible: it may know a rule more than we do."""
    return [
        Breaks(entry.subject, one.number, "", "the registry finds the schema incompatible")
        for entry in entries
        if not entry.known
        for one in entry.versions
        if not registry.agrees(entry.subject, one.number, _text(schemas[entry.topic]))
    ]
