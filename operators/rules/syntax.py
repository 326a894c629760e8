"""A small reader of the serialised form of a CEL expression: the library gives no syntax tree.

The bytes are a protobuf `Any` around a ParsedExpr or CheckedExpr (cel/expr/syntax.proto, checked.proto).
Only what is asked for is read: nodes, where each stands in the text, and the types of a checked one.
"""

import struct
from collections.abc import Iterator

import msgspec

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Node(msgspec.Struct, frozen=True):
    """One node of the tree.

    `kind` is const, name, select, has, call, list, struct or loop (a macro such as
    `exists`). `value` is the
    constant, the name, the selected field or the function. `offset` is where its own sign stands in the
    text (a call: its operator or its bracket; a select: its last dot), in characters.
    """

    id: int
    kind: str
    value: object
    children: tuple["Node", ...] = ()
    offset: int = 0

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, in the order of the text."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def path(self) -> str | None:
        """Dotted name of a name or of selections from one; else None."""
        if self.kind == "name":
            return str(self.value)
        if self.kind == "select" and (above := self.children[0].path) is not None:
            return f"{above}.{self.value}"
        return None


Parts = tuple[str, object, tuple[Node, ...]]
"""Kind, value and children of a node."""


class Tree(msgspec.Struct, frozen=True):
    """A whole expression: its root, and the type of each node where it was checked (`double`, `list` ...)."""

    root: Node
    types: dict[int, str]


_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}


def read(serialised: bytes) -> Tree:
    """Read the tree out of `Expression.serialize()`."""
    body, checked = b"", False
    for number, value in _fields(serialised):
        if number == 1:
            checked = bytes(value).endswith(b"CheckedExpr") if isinstance(value, bytes) else False
        elif number == 2 and isinstance(value, bytes):
            body = value
    expr_at, info_at = (4, 5) if checked else (2, 3)
    # ParsedExpr: expr = 2, source_info = 3. CheckedExpr: type_map = 3, expr = 4, source_info = 5.
    fields = list(_fields(body))
    positions: dict[int, int] = {}
    types: dict[int, str] = {}
    for number, value in fields:
        if number == info_at and isinstance(value, bytes):
            positions.update(_positions(value))
        elif checked and number == 3 and isinstance(value, bytes):
            entry = dict(_fields(value))
            types[_int(entry.get(1, 0))] = _type(_raw(entry.get(2, b"")))
    root = next(value for number, value in fields if number == expr_at and isinstance(value, bytes))
    return Tree(_node(root, positions), types)


def _positions(info: bytes) -> Iterator[tuple[int, int]]:
    for number, value in _fields(info):
        if number == 4 and isinstance(value, bytes):
            entry = dict(_fields(value))
            yield _int(entry.get(1, 0)), _int(entry.get(2, 0))


def _type(body: bytes) -> str:
    for number, value in _fields(body):
        if number == 3:
            return _PRIMITIVES.get(_int(value), "other")
        if number == 6:
            return "list"
        if number == 1:
            return "dyn"
        if number == 2:
            return "null"
        if number == 7:
            return "map"
    return "other"


def _node(body: bytes, positions: dict[int, int]) -> Node:
    id_ = 0
    parts: Parts = "const", None, ()
    for number, field in _fields(body):
        if number == 2:
            id_ = _int(field)
        elif number in _READERS:
            parts = _READERS[number](_raw(field), positions)
    return Node(id_, *parts, positions.get(id_, 0))


def _const(body: bytes, _positions: dict[int, int]) -> Parts:
    for number, field in _fields(body):
        if number == 2:
            return "const", bool(field), ()
        if number in {3, 4}:
            return "const", _signed(_int(field)) if number == 3 else _int(field), ()
        if number == 5:
            return "const", struct.unpack("<d", _raw(field))[0], ()
        if number == 6:
            return "const", _raw(field).decode(), ()
        if number == 7:
            return "const", _raw(field), ()
    return "const", None, ()


def _name(body: bytes, _positions: dict[int, int]) -> Parts:
    return "name", _raw(dict(_fields(body)).get(1, b"")).decode(), ()


def _select(body: bytes, positions: dict[int, int]) -> Parts:
    entry = dict(_fields(body))
    if entry.get(3):
        return "has", _raw(entry.get(2, b"")).decode(), (_node(_raw(entry.get(1, b"")), positions),)
    return "select", _raw(entry.get(2, b"")).decode(), (_node(_raw(entry.get(1, b"")), positions),)


def _call(body: bytes, positions: dict[int, int]) -> Parts:
    name, children = "", []
    for number, field in _fields(body):
        if number == 2:
            name = _raw(field).decode()
        elif number in {1, 3}:
            # The target of a member call stands before its arguments.
            children.append(_node(_raw(field), positions))
    return "call", name, tuple(children)


def _list(body: bytes, positions: dict[int, int]) -> Parts:
    return "list", None, tuple(_node(_raw(field), positions) for number, field in _fields(body) if number == 1)


def _struct(body: bytes, positions: dict[int, int]) -> Parts:
    children = []
    for number, field in _fields(body):
        if number == 2:
            children += [_node(_raw(part), positions) for at, part in _fields(_raw(field)) if at in {3, 4}]
    return "struct", None, tuple(children)


def _loop(body: bytes, positions: dict[int, int]) -> Parts:
    entry = dict(_fields(body))
    children = tuple(_node(_raw(entry[number]), positions) for number in (2, 4, 5, 6, 7) if number in entry)
    return "loop", _raw(entry.get(1, b"")).decode(), children


_READERS = {3: _const, 4: _name, 5: _select, 6: _call, 7: _list, 8: _struct, 9: _loop}


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(body, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(body, at)
        else:
            size = 8 if wire == _FIXED64 else 4
        yield tag >> 3, body[at : at + size]
        at += size


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _int(field: int | bytes) -> int:
    return field if isinstance(field, int) else 0


def _raw(field: int | bytes) -> bytes:
    return field if isinstance(field, bytes) else b""


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
