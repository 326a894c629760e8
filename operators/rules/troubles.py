"""What the CEL library says when it refuses an expression, said to the person who wrote it.

The library answers in text; kind, place and types are read out of it, and the words of the condition out
of its syntax tree.
"""

import re
from collections.abc import Mapping

import msgspec

from operators.rules.faults import nearest, one_of
from operators.rules.leaves import Leaf
from operators.rules.syntax import Node, Tree

SPOKEN = {"int": "an int", "double": "a double", "string": "a string", "bool": "a bool", "list": "a list"}
_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_OVERLOAD = re.compile(r"no matching overload for '([^']*)' applied to '\((.*)\)'")
_LITERAL = re.compile(r"""-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?u?|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\w+""")


class Trouble(msgspec.Struct, frozen=True):
    """One thing wrong in an expression; `offset` and `width` count its characters."""

    offset: int
    width: int
    code: str
    what: str
    fix: str = ""
    note: str = ""
    replace: tuple[int, int, str] | None = None
    """Offset, end and new text, where a machine may repair it."""


class BadCondition(Exception):
    """An expression that may not be used, with everything that is wrong in it."""

    def __init__(self, troubles: list[Trouble]) -> None:
        super().__init__("; ".join(trouble.what for trouble in troubles))
        self.troubles = troubles


def unreadable(text: str, message: str) -> Trouble:
    """What is wrong with an expression that does not even parse."""
    found = _ERROR.search(message)
    if not found:
        return Trouble(0, 1, "E202", "not a condition: a character that has no meaning here")
    what = found[3].removeprefix("Syntax error: ").split(" [INVALID_ARGUMENT]")[0]
    what = what.replace("'<EOF>'", "the end").split(" expecting ")[0]
    return Trouble(
        _offset(text, found),
        1,
        "E202",
        f"not a condition: {what}",
        "finish the expression" if "the end" in what else "",
    )


def _offset(text: str, found: re.Match[str]) -> int:
    line, column = int(found[1]), int(found[2])
    before = text.split("\n")[: line - 1]
    return min(sum(len(part) + 1 for part in before) + column - 1, max(len(text) - 1, 0))


def troubles(text: str, message: str, tree: Tree, leaves: Mapping[str, Leaf]) -> list[Trouble]:
    """What is wrong with an expression that parses: everything the library names."""
    found = [_trouble(text, match, tree, leaves) for match in _ERROR.finditer(message)]
    return found or [Trouble(0, len(text), "E202", "not a condition")]


def _trouble(text: str, match: re.Match[str], tree: Tree, leaves: Mapping[str, Leaf]) -> Trouble:
    offset = _offset(text, match)
    said = match[3].split(" [INVALID_ARGUMENT]")[0]
    if undeclared := _UNDECLARED.search(said):
        return _unknown(text, undeclared[1], offset, leaves)
    if overload := _OVERLOAD.search(said):
        return _mixed(text, overload[1], overload[2], offset, tree)
    if "operand of a select operation" in said:
        return Trouble(offset, 1, "E202", "a value has no fields of its own", "compare the leaf itself")
    return Trouble(offset, 1, "E202", said)


def _unknown(text: str, path: str, offset: int, leaves: Mapping[str, Leaf]) -> Trouble:
    start = offset - path.rfind(".") if "." in path else offset
    if not text.startswith(path, max(start, 0)):
        start = max(text.find(path), 0)
    group = path.split(".", 1)[0]
    near = nearest(path, leaves, count=3)
    if not near:
        near = sorted(name for name in leaves if name.startswith(f"{group}."))[:8]
    if not near and group in {"e", "facts"}:
        fix = "e is there for event triggers and in where" if group == "e" else "declare it under facts"
    else:
        fix = (
            f"write {one_of(near)}"
            if near
            else f"write a field of {one_of(sorted({name.split('.', 1)[0] for name in leaves}))}"
        )
    return Trouble(max(start, 0), len(path), "E201", f"unknown field {path}", fix)


_SIGNS = {"@in": "in", "_[_]": "[]", "_?_:_": "?:"}


def _mixed(text: str, operator: str, types: str, offset: int, tree: Tree) -> Trouble:
    sign = _SIGNS.get(operator, operator.strip("_"))
    spoken = [SPOKEN.get(kind.split("(")[0], kind) for kind in types.split(", ")]
    node = next(
        (one for one in tree.root.walk() if one.kind == "call" and one.value == operator and one.offset == offset), None
    )
    if node is None or len(node.children) != 2:
        return Trouble(offset, len(sign), "E202", f"{sign} does not take {' and '.join(spoken)}")
    left, right = node.children
    (start, _), (_, end) = _span(left, text), _span(right, text)
    for literal, other, kind in (
        (right, left, types.split(", ", maxsplit=1)[0]),
        (left, right, types.rsplit(", ", maxsplit=1)[-1]),
    ):
        if (
            literal.kind == "const"
            and isinstance(literal.value, int)
            and kind == "double"
            and not isinstance(literal.value, bool)
        ):
            said = text[slice(*_span(literal, text))]
            other_text = text[slice(*_span(other, text))]
            return Trouble(
                start,
                end - start,
                "E202",
                f"{other_text} is a double, {said} is an int",
                f"write {said}.0   (footfall campaign lint --fix does it)",
                "CEL does not mix the two",
                (*_span(literal, text), f"{said}.0"),
            )
    texts = [text[slice(*_span(child, text))] for child in (left, right)]
    what = f"{texts[0]} is {spoken[0]}, {texts[1]} is {spoken[-1]}" if len(spoken) == 2 else f"{sign} does not fit"
    return Trouble(start, end - start, "E202", what, f"give {sign} two of one type", f"{sign} does not take them")


def _span(node: Node, text: str) -> tuple[int, int]:
    """Where a node's text starts and ends, as near as its parts tell."""
    if node.path is not None:
        path = node.path
        start = node.offset - path.rfind(".") if node.kind == "select" else node.offset
        return start, start + len(path)
    if node.kind == "const":
        found = _LITERAL.match(text, node.offset)
        return node.offset, found.end() if found else node.offset + 1
    spans = [_span(child, text) for child in node.children if node.kind != "loop"] or [(node.offset, node.offset + 1)]
    start = min(node.offset, *(span[0] for span in spans))
    if node.kind == "call" and str(node.value).isidentifier() and text[node.offset : node.offset + 1] == "(":
        start = min(start, max(node.offset - len(str(node.value)), 0))
    end = max(node.offset + 1, *(span[1] for span in spans))
    if text[end : end + 1] in {")", "]"}:
        end += 1
    return start, end
