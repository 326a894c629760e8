"""Records as rows: a JSON object or Avro datum becomes a struct, and a struct becomes a line of JSON.

Reading is strict on what is there and forgiving on what is not: a field left out or null takes its default,
an unknown field is counted, an unknown symbol is UNKNOWN, a wrong type is refused. Floats are rounded to
float32 here, at the door, and written as the shortest decimal that names them.
"""

import json
import math
import struct
import types
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import orjson

from schemas.types import AnyRecord, Avro, Symbols

LARGEST_VALUE = 1 << 20
LARGEST_STRING = 8 << 10
LARGEST_ARRAY = 10_000
DEEPEST = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = -30_610_224_000_000_000, 253_402_300_800_000_000
"""What has a year of four digits: 1000 to 9999."""
_SINGLE = struct.Struct("<f")
_RANGES = {"int": 1 << 31, "long": 1 << 63}
Convert = Callable[[Any], Any]


class BadShape(ValueError):
    """A row that does not parse, lacks a field, or has one of the wrong type; holds no value of it."""


class Oversize(ValueError):
    """A string, array or nesting beyond the limits."""


def loads(line: bytes) -> dict[str, Any]:
    """Parse a line of JSON into an object; NaN and Infinity are let through for the gates to name.

    Raises:
        BadShape: it is not JSON, or no object.
        Oversize: it is nested too deep.
    """
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(line)
        except RecursionError as error:
            raise Oversize("a row must be nested at most 8 deep") from error
        except ValueError as error:
            raise BadShape("a row must be a JSON object; got text that is no JSON") from error
    if not isinstance(found, dict):
        raise BadShape(f"a row must be a JSON object; got {type(found).__name__}")
    return found


def instant(value: Any) -> int:
    """Microseconds of an integer or an RFC 3339 text with an offset.

    >>> instant("2026-12-05T16:01:07.6Z")
    1796486467600000
    """
    if type(value) is int:
        if abs(value) >= 1 << 63:
            raise BadShape("an instant must fit 64 bits")
        return value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise BadShape("an instant must be RFC 3339 or integer microseconds") from error
        if moment.tzinfo is None or "T" not in value.upper():
            raise BadShape("an instant must be RFC 3339 with an offset")
        return (moment - _EPOCH) // _MICROSECOND
    raise BadShape(f"an instant must be RFC 3339 or integer microseconds; got {type(value).__name__}")


def single(value: float) -> float:
    """Nearest float32, as a float; infinite where there is none."""
    try:
        found: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return found


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise BadShape(f"a number was expected; got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _float(value: Any) -> float:
    return single(_number(value))


def _whole(name: str) -> Convert:
    limit = _RANGES[name]

    def whole(value: Any) -> int:
        if type(value) is not int:
            raise BadShape(f"a whole number was expected; got {type(value).__name__}")
        if not -limit <= value < limit:
            raise BadShape(f"a whole number must fit the Avro type {name}")
        return value

    return whole


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadShape(f"a text was expected; got {type(value).__name__}")
    if value.isascii() and len(value) <= LARGEST_STRING:
        return value
    try:
        if len(value.encode()) > LARGEST_STRING:
            raise Oversize("a string must hold at most 8 KiB")
    except UnicodeEncodeError as error:
        raise BadShape("a text must be Unicode without lone surrogates") from error
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadShape(f"true or false was expected; got {type(value).__name__}")
    return value


def _blob(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise BadShape(f"base64 was expected; got {type(value).__name__}")
    try:
        return b64decode(value, validate=True)
    except Base64Error as error:
        raise BadShape("bytes must be base64") from error


def _symbol(known: frozenset[str]) -> Convert:
    def symbol(value: Any) -> str:
        if not isinstance(value, str):
            raise BadShape(f"a symbol was expected; got {type(value).__name__}")
        return value if value in known else "UNKNOWN"

    return symbol


def _list(inner: Convert) -> Convert:
    def many(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise BadShape(f"a list was expected; got {type(value).__name__}")
        if len(value) > LARGEST_ARRAY:
            raise Oversize("an array must hold at most 10,000 items")
        return [inner(item) for item in value]

    return many


def _map(inner: Convert) -> Convert:
    def pairs(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise BadShape(f"an object was expected; got {type(value).__name__}")
        if len(value) > LARGEST_ARRAY:
            raise Oversize("a map must hold at most 10,000 entries")
        return {_text(key): inner(item) for key, item in value.items()}

    return pairs


_PRIMITIVES: dict[str, Convert] = {
    "float": _float,
    "double": _number,
    "string": _text,
    "boolean": _flag,
    "bytes": _blob,
}


def unwrapped(hint: Any) -> tuple[Any, bool]:
    """A field's type without `| None`, and whether it had it."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = [part for part in get_args(hint) if part is not type(None)]
        return inner[0], True
    return hint, False


def _converter(hint: Any) -> Convert:
    hint, _ = unwrapped(hint)
    origin = get_origin(hint)
    if origin is Annotated:
        mark = get_args(hint)[1]
        if isinstance(mark, Symbols):
            return _symbol(frozenset(mark.symbols))
        if mark.logical:
            return instant
        return _PRIMITIVES.get(mark.name) or _whole(mark.name)
    if origin is list:
        return _list(_converter(get_args(hint)[0]))
    if origin is dict:
        return _map(_converter(get_args(hint)[1]))
    read = reader(hint)
    return lambda value: read(value)[0]


@cache
def hints(record: type[msgspec.Struct]) -> dict[str, Any]:
    """Types of a struct's fields with their Avro marks, in schema order."""
    found = get_type_hints(record, include_extras=True)
    return {name: found[name] for name in record.__struct_fields__}


@cache
def reader(record: type[msgspec.Struct]) -> Callable[[Any], tuple[Any, int]]:
    """Compile the conversion of an object into `record`; it answers the struct and its unknown fields.

    Raises (from the conversion):
        BadShape: a field is missing or of the wrong type; the message names the field only.
        Oversize: beyond the limits.
    """
    plan = [
        (field.name, _converter(hints(record)[field.name]), field.required) for field in msgspec.structs.fields(record)
    ]
    names = frozenset(name for name, _, _ in plan)

    def read(row: Any) -> tuple[Any, int]:
        if not isinstance(row, Mapping):
            raise BadShape(f"an object was expected; got {type(row).__name__}")
        values, get, name = {}, row.get, ""
        try:
            for name, convert, required in plan:
                value = get(name)
                if value is not None or required:
                    values[name] = convert(value)
        except BadShape as error:
            raise BadShape(f"field {name}: {error if row.get(name) is not None else 'it must be there'}") from None
        extra = len(row) - len(values)
        unknown = 0 if extra <= 0 else sum(1 for name in row if name not in names)
        return record(**values), unknown

    return read


def written(micros: int) -> str | int:
    """An instant as RFC 3339 with six digits and Z; what no calendar has stays the number it is.

    >>> written(1796486467600000), written(1 << 62)
    ('2026-12-05T16:01:07.600000Z', 4611686018427387904)
    """
    if not _FIRST <= micros < _LAST:
        return micros
    return (_EPOCH + micros * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _writer(hint: Any) -> Convert | None:
    hint, optional = unwrapped(hint)
    origin = get_origin(hint)
    write: Convert | None = None
    if origin is Annotated:
        mark = get_args(hint)[1]
        if isinstance(mark, Avro):
            if mark.logical:
                write = written
            elif mark.name == "float":
                write = np.float32
            elif mark.name == "bytes":
                write = lambda value: b64encode(value).decode()  # noqa: E731
    elif origin is list:
        inner = _writer(get_args(hint)[0])
        if inner is not None:
            write = lambda value: [inner(item) for item in value]  # noqa: E731
    elif origin is dict:
        return None
    elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        write = _fields(hint)
    if write is None or not optional:
        return write
    certain = write
    return lambda value: None if value is None else certain(value)


@cache
def _fields(record: type[msgspec.Struct]) -> Convert:
    plan = [(name, _writer(hint)) for name, hint in hints(record).items()]

    def row(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) if write is None else write(getattr(value, name)) for name, write in plan}

    return row


def to_row(record: AnyRecord) -> dict[str, Any]:
    """A record as an object in schema order, every field present."""
    found: dict[str, Any] = _fields(type(record))(record)
    return found


def to_line(record: AnyRecord) -> bytes:
    """A record as one line of JSON with its line end."""
    return orjson.dumps(to_row(record), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def from_line(record: type[AnyRecord], line: bytes) -> Any:
    """Read back what `to_line` wrote."""
    return reader(record)(loads(line))[0]
