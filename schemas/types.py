"""Field types of records: a Python type and the Avro type it is on the wire.

The unit stands in the field's name; the type says only what is stored.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec


@dataclass(frozen=True, slots=True)
class Avro:
    """The Avro primitive, with its logical type where there is one."""

    name: str
    logical: str | None = None


@dataclass(frozen=True, slots=True)
class Symbols:
    """An enum by its symbols; UNKNOWN always stands first and is the reader's default."""

    name: str
    symbols: tuple[str, ...]


def symbols(name: str, text: str) -> Symbols:
    """Name an enum: `symbols("Tech", "UWB CAMERA")` has UNKNOWN, UWB and CAMERA."""
    return Symbols(name, ("UNKNOWN", *text.split()))


Long = Annotated[int, Avro("long")]
Int = Annotated[int, Avro("int")]
Float = Annotated[float, Avro("float")]
Double = Annotated[float, Avro("double")]
Instant = Annotated[int, Avro("long", "timestamp-micros")]
"""Microseconds since 1970, UTC."""
Text = Annotated[str, Avro("string")]
Flag = Annotated[bool, Avro("boolean")]
Blob = Annotated[bytes, Avro("bytes")]


class Nested(msgspec.Struct, frozen=True, kw_only=True):
    """A record inside a record: no envelope."""


class Lean(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of a lean record: it is named by (source_id, seq), else (subject_id, event_time)."""

    event_time: Instant
    ingest_time: Instant = 0
    site_id: Text = ""
    source_id: Text = ""
    seq: Long | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of every other record, flat, at the front."""

    event_id: Text = ""
    event_time: Instant
    ingest_time: Instant = 0
    site_id: Text = ""
    source_id: Text = ""


AnyRecord = Record | Lean
