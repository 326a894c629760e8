"""Avro schemas of the records, made from the structs; the committed .avsc files must equal them.

`python -m schemas.avsc` writes the files.
"""

import types
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, cast, get_args, get_origin

import msgspec
import orjson
from fastavro.schema import parse_schema

from schemas.rows import hints, unwrapped
from schemas.topics import TOPICS
from schemas.types import AnyRecord, Symbols

FOLDER = Path(__file__).parent / "avsc"


def _type(hint: Any, namespace: str, named: set[str]) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return ["null", _type(unwrapped(hint)[0], namespace, named)]
    origin = get_origin(hint)
    if origin is Annotated:
        mark = get_args(hint)[1]
        if isinstance(mark, Symbols):
            if mark.name in named:
                return f"{namespace}.{mark.name}"
            named.add(mark.name)
            return {"type": "enum", "name": mark.name, "symbols": list(mark.symbols), "default": "UNKNOWN"}
        return {"type": mark.name, "logicalType": mark.logical} if mark.logical else mark.name
    if origin is list:
        return {"type": "array", "items": _type(get_args(hint)[0], namespace, named)}
    if origin is dict:
        return {"type": "map", "values": _type(get_args(hint)[1], namespace, named)}
    if hint.__name__ in named:
        return f"{namespace}.{hint.__name__}"
    named.add(hint.__name__)
    return {"type": "record", "name": hint.__name__, "fields": _fields(hint, namespace, named)}


def _fields(record: type[msgspec.Struct], namespace: str, named: set[str]) -> list[dict[str, Any]]:
    found = []
    for field in msgspec.structs.fields(record):
        entry: dict[str, Any] = {"name": field.name, "type": _type(hints(record)[field.name], namespace, named)}
        if field.default is not msgspec.NODEFAULT:
            entry["default"] = "" if field.default == b"" else field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            entry["default"] = field.default_factory()
        found.append(entry)
    return found


@cache
def schema_of(topic: str) -> dict[str, Any]:
    """The Avro schema of a topic's record."""
    record: type[AnyRecord] = TOPICS[topic].record
    namespace = f"footfall.{topic.split('.', 1)[0]}.v1"
    doc = (record.__doc__ or "").strip().splitlines()[0]
    head = {"type": "record", "namespace": namespace, "name": record.__name__, "doc": doc}
    return {**head, "fields": _fields(record, namespace, {record.__name__})}


def plain(schema: Any) -> Any:
    """A schema without logical types: instants stay integers."""
    if isinstance(schema, dict):
        if "logicalType" in schema:
            return schema["type"]
        return {key: plain(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    return schema


@cache
def parsed(topic: str) -> dict[str, Any]:
    """The topic's schema without logical types, parsed by fastavro."""
    return cast("dict[str, Any]", parse_schema(plain(schema_of(topic))))


def text(topic: str) -> bytes:
    """The file as it is committed."""
    return orjson.dumps(schema_of(topic), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    for name in TOPICS:
        (FOLDER / f"{name}.avsc").write_bytes(text(name))
