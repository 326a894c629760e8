"""Records as Avro: the body, the Confluent frame around it, and whole files.

The writer's schema alone decodes; what the reader wants is a projection of that (`schemas.rows`). fastavro
leaves two holes that are closed here: bytes behind the record, and union or enum indexes below zero, which
it takes as counting from the end.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import fastavro
import msgspec

from schemas import avsc
from schemas.rows import reader
from schemas.topics import TOPIC_OF, TOPICS
from schemas.types import AnyRecord

FRAME = struct.Struct(">bI")
LARGEST_ID = (1 << 31) - 1
"""Schema ids are signed on every registry, and in our records; a frame has room for more."""
_FLAT = "__flat"
_SIMPLE = frozenset({"null", "boolean", "int", "long", "float", "double", "string", "bytes", "enum"})


class BadFraming(ValueError):
    """Shorter than the 5 bytes of the frame, or the first one is not 0."""


class Undecodable(ValueError):
    """The bytes are no record of the writer's schema."""


def encode_body(topic: str, record: AnyRecord) -> bytes:
    """The Avro body of a record, in the topic's own schema."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, avsc.parsed(topic), msgspec.to_builtins(record, builtin_types=(bytes,)))
    return out.getvalue()


def framed(schema_id: int, body: bytes) -> bytes:
    """Put the Confluent frame before a body."""
    return FRAME.pack(0, schema_id) + body


def unframed(value: bytes) -> tuple[int, bytes]:
    """Schema id and body of a framed value."""
    if len(value) < FRAME.size:
        raise BadFraming("a value must hold the 5 bytes of its frame")
    magic, schema_id = FRAME.unpack_from(value)
    if magic != 0:
        raise BadFraming("the first byte of a value must be 0")
    return schema_id, value[FRAME.size :]


def head_of(value: bytes) -> tuple[str, int]:
    """`event_id` and `event_time` of a framed record that is not lean, without its schema.

    Both stand at the front of every version of every such record: the envelope is flat, and first.

    Raises:
        BadFraming, Undecodable: it is no such record.
    """
    _, body = unframed(value)
    walk = _Walk(body)
    try:
        length = walk._long()
        start = walk._at
        walk._skip(length)
        return body[start : walk._at].decode(), walk._long()
    except (IndexError, UnicodeDecodeError) as error:
        raise Undecodable("a record must begin with its id and its time") from error


def decode_datum(schema: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Decode a body by its writer's schema (parsed, without logical types), to the last byte.

    Raises:
        Undecodable: truncated, trailing bytes, an index out of range, text that is not UTF-8.
    """
    source = io.BytesIO(body)
    try:
        datum = _datum(source, schema)
        if _flat(schema):
            # to write a flat record again and compare is the cheaper look: what fastavro let pass comes out otherwise
            again = io.BytesIO()
            fastavro.schemaless_writer(again, schema, datum)
            whole = again.getvalue() == body
        else:
            walked = _Walk(body).record(schema, schema.get("__named_schemas", {}))
            whole = source.tell() == walked == len(body)
    except Undecodable:
        raise
    except Exception as error:  # whatever fastavro stumbles over, the bytes are at fault
        raise Undecodable("a body must be a record of its writer's schema") from error
    if not whole:
        raise Undecodable("a body must end where its record ends, and say what its schema can say")
    return datum


def _flat(schema: dict[str, Any]) -> bool:
    """Whether a record holds no arrays, maps or records; worked out once a schema, and kept in it."""
    found = schema.get(_FLAT)
    if found is None:
        kinds = (kind for field in schema.get("fields", []) for kind in _kinds(field["type"]))
        found = schema[_FLAT] = schema.get("type") == "record" and all(kind in _SIMPLE for kind in kinds)
    return bool(found)


def _kinds(kind: Any) -> Iterator[str]:
    if isinstance(kind, list):
        for part in kind:
            yield from _kinds(part)
    else:
        yield kind["type"] if isinstance(kind, dict) else kind


def _datum(source: io.BytesIO, schema: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", fastavro.schemaless_reader(source, schema))


class _Walk:
    """Walk over a body by its schema and look at what fastavro does not: indexes, lengths, and the end."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    def record(self, schema: Any, named: Mapping[str, Any]) -> int:
        self._named = dict(named)
        self._value(schema)
        return self._at

    def _long(self) -> int:
        shift = value = 0
        while True:
            byte = self._body[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise Undecodable("a whole number must fit 64 bits")

    def _skip(self, count: int) -> None:
        if count < 0 or self._at + count > len(self._body):
            raise Undecodable("a length must lie inside the body")
        self._at += count

    def _blocks(self) -> Iterator[None]:
        while count := self._long():
            if count < 0:
                count = -count
                self._long()
            if count > len(self._body):
                raise Undecodable("a block must lie inside the body")
            for _ in range(count):
                yield

    def _value(self, schema: Any) -> None:
        if isinstance(schema, list):
            index = self._long()
            if not 0 <= index < len(schema):
                raise Undecodable("a union index must name a branch")
            self._value(schema[index])
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            self._value(kind)
        elif kind == "record":
            self._named[schema["name"]] = schema
            for field in schema["fields"]:
                self._value(field["type"])
        elif kind == "enum":
            self._named[schema["name"]] = schema
            if not 0 <= self._long() < len(schema["symbols"]):
                raise Undecodable("an enum index must name a symbol")
        elif kind == "array":
            for _ in self._blocks():
                self._value(schema["items"])
        elif kind == "map":
            for _ in self._blocks():
                self._skip(self._long())
                self._value(schema["values"])
        elif kind in {"int", "long"}:
            self._long()
        elif kind in {"string", "bytes"}:
            self._skip(self._long())
        elif kind == "boolean":
            if self._body[self._at] > 1:
                raise Undecodable("a boolean must be 0 or 1")
            self._skip(1)
        elif kind in _FIXED:
            self._skip(_FIXED[kind])
        elif kind == "fixed":
            self._skip(schema["size"])
        else:
            self._value(self._named[kind])


_FIXED = {"null": 0, "float": 4, "double": 8}


def decode_body(topic: str, body: bytes) -> AnyRecord:
    """A body in the topic's own schema as its struct."""
    record: AnyRecord = reader(TOPICS[topic].record)(decode_datum(avsc.parsed(topic), body))[0]
    return record


def encode(schema_id: int, record: AnyRecord) -> bytes:
    """A record as it stands on its topic: frame and body."""
    return framed(schema_id, encode_body(TOPIC_OF[type(record)], record))


def read_file(path: Path) -> tuple[dict[str, Any], Iterator[tuple[bytes, dict[str, Any]]]]:
    """The writer's schema of an Avro file (parsed, without logical types), and the body and datum of each row."""
    with path.open("rb") as file:
        written = fastavro.block_reader(file).writer_schema
    schema = cast("dict[str, Any]", fastavro.parse_schema(avsc.plain(written)))

    def bodies() -> Iterator[tuple[bytes, dict[str, Any]]]:
        with path.open("rb") as file:
            for block in fastavro.block_reader(file):
                data = block.bytes_.getvalue()  # type: ignore[attr-defined]
                rows = io.BytesIO(data)
                for _ in range(block.num_records):
                    start = rows.tell()
                    datum = _datum(rows, schema)
                    yield data[start : rows.tell()], datum

    return schema, bodies()


def write_file(path: Path, topic: str, records: Iterator[AnyRecord] | list[AnyRecord]) -> None:
    """Write an Avro file whose bytes are a function of its rows: the sync marker is made from the topic."""
    marker = blake2b(topic.encode()).digest()[:16]
    data = (msgspec.to_builtins(record, builtin_types=(bytes,)) for record in records)
    with path.open("wb") as file:
        fastavro.writer(file, avsc.schema_of(topic), data, sync_marker=marker)
