"""Reads a document into structs: the struct is the rule. Every fault is found, each where it stands.

A field's annotation says what may stand there; `Reads` names how a written value becomes one. The words
of the file are the struct's encoded field names, so `if` and `from` can be fields.
"""

import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import msgspec

from operators.rules.faults import Fault, meant, nearest, one_of
from operators.rules.strict_yaml import Document, Path
from schemas import durations


class Unreadable(ValueError):
    """A written value that is not what its field takes: what is wrong, and a fix."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class Reads(msgspec.Struct, frozen=True):
    """How a value is read: a function that raises Unreadable, and the code of its fault."""

    how: Callable[[Any], Any]
    code: str = "E102"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping of a rule file."""

    exactly_one: ClassVar[tuple[str, ...]] = ()
    """Words of which one and only one must stand there."""


class Wrong:
    """What stands for a value that could not be read."""


WRONG = Wrong()


def is_wrong(value: object) -> bool:
    """Whether a value could not be read."""
    return isinstance(value, Wrong)


def _duration(written: Any) -> int:
    try:
        return durations.parse(written)
    except durations.DurationFault as fault:
        near = (
            f"write {written}s, if seconds are meant"
            if isinstance(written, int | float)
            else "write it like 45s, 15m or 2h"
        )
        raise Unreadable(str(fault), near) from None


Duration = Annotated[int, Reads(_duration, "E103")]


def fields(document: Document, path: Path, kind: type[Part], faults: list[Fault]) -> dict[str, Any]:
    """Read a mapping field by field; a field that is wrong or missing though it must be there is WRONG.

    Returns:
        Values by the struct's attribute name, defaults filled in.
    """
    written = _at(document, path)
    if not isinstance(written, dict):
        faults.append(
            document.fault(
                path,
                "E102",
                f"{_name(path)} must be a mapping; got {_said(written)}",
                f"write its parts: {_words(kind)}",
            )
        )
        return dict.fromkeys(kind.__struct_fields__, WRONG)
    legal = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    faults += (
        document.fault((*path, word), "E101", f"unknown key {word} in {_name(path)}", meant(word, legal), key=True)
        for word in written
        if word not in legal
    )
    # A word misspelt is not also a word missing.
    meant_for = {near for word in written if word not in legal for near in nearest(word, legal)}
    found = [word for word in kind.exactly_one if word in written]
    if kind.exactly_one and len(found) != 1:
        if not found and meant_for & set(kind.exactly_one):
            return dict.fromkeys(kind.__struct_fields__, WRONG)
        what = (
            f"{_name(path)} must have exactly one of {one_of(kind.exactly_one)}; it has {' and '.join(found) or 'none'}"
        )
        faults.append(document.fault(path, "E104", what, "keep one" if found else f"add {kind.exactly_one[0]}"))
        return dict.fromkeys(kind.__struct_fields__, WRONG)
    hints = _hints(kind)
    values: dict[str, Any] = {}
    for info in _infos(kind):
        # Nothing written for a part that may be left out is that part left out.
        left_out = written.get(info.encode_name) is None and not info.required and info.encode_name not in found
        if info.encode_name in written and not left_out:
            values[info.name] = read(document, (*path, info.encode_name), hints[info.name], faults)
        elif info.required and info.encode_name in meant_for:
            values[info.name] = WRONG
        elif info.required:
            faults.append(
                document.fault(
                    path, "E104", f"{info.encode_name} is missing in {_name(path)}", f"add {info.encode_name}"
                )
            )
            values[info.name] = WRONG
        else:
            values[info.name] = info.default if info.default is not msgspec.NODEFAULT else info.default_factory()
    return values


@cache
def _infos(kind: type[Part]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


@cache
def _hints(kind: type[Part]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def read(document: Document, path: Path, hint: Any, faults: list[Fault]) -> Any:
    """Read one value; WRONG where it, or anything in it, is."""
    written = _at(document, path)
    origin = get_origin(hint)
    if origin is Annotated:
        reads = next(mark for mark in get_args(hint)[1:] if isinstance(mark, Reads))
        try:
            return reads.how(written)
        except Unreadable as error:
            faults.append(document.fault(path, reads.code, error.what, error.fix))
            return WRONG
    if origin in {types.UnionType, typing.Union}:
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return read(document, path, inner, faults)
    if origin is Literal:
        return _word(document, path, get_args(hint), faults)
    if origin in {list, tuple}:
        return _list(document, path, get_args(hint)[0], faults)
    if origin is dict:
        return _dict(document, path, get_args(hint)[1], faults)
    if isinstance(hint, type) and issubclass(hint, Part):
        values = fields(document, path, hint, faults)
        return WRONG if any(map(is_wrong, values.values())) else hint(**values)
    return _plain(document, path, hint, faults)


def _word(document: Document, path: Path, legal: tuple[Any, ...], faults: list[Fault]) -> Any:
    written = _at(document, path)
    if written in legal and isinstance(written, type(legal[0])):
        return written
    words = [str(word) for word in legal]
    what = f"{_name(path)} must be {one_of(words)}; got {_said(written)}"
    faults.append(document.fault(path, "E102", what, meant(str(written), words)))
    return WRONG


def _list(document: Document, path: Path, inner: Any, faults: list[Fault]) -> Any:
    written = _at(document, path)
    if not isinstance(written, list):
        faults.append(
            document.fault(
                path, "E102", f"{_name(path)} must be a list; got {_said(written)}", "write it in brackets, like [a, b]"
            )
        )
        return WRONG
    values = [read(document, (*path, at), inner, faults) for at in range(len(written))]
    return WRONG if any(map(is_wrong, values)) else tuple(values)


def _dict(document: Document, path: Path, inner: Any, faults: list[Fault]) -> Any:
    written = _at(document, path)
    if not isinstance(written, dict):
        faults.append(
            document.fault(
                path, "E102", f"{_name(path)} must be a mapping of names; got {_said(written)}", "give each a name"
            )
        )
        return WRONG
    values = {word: read(document, (*path, word), inner, faults) for word in written}
    return WRONG if any(map(is_wrong, values.values())) else values


_PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a string"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}


def _plain(document: Document, path: Path, hint: Any, faults: list[Fault]) -> Any:
    written = _at(document, path)
    if hint is Any:
        return written
    taken, spoken = _PLAIN[hint]
    # True is an int to Python, not to the person who wrote it.
    if isinstance(written, taken) and isinstance(written, bool) == (hint is bool):
        return written
    fix = f'write "{written}"' if hint is str and isinstance(written, int | float | bool) else f"write {spoken}"
    faults.append(document.fault(path, "E102", f"{_name(path)} must be {spoken}; got {_said(written)}", fix))
    return WRONG


def _at(document: Document, path: Path) -> Any:
    value = document.value
    for step in path:
        value = value[step]
    return value


def _name(path: Path) -> str:
    return ".".join(str(step) for step in path) or "the file"


def _words(kind: type[Part]) -> str:
    return ", ".join(kind.__struct_encode_fields__)


def _said(written: Any) -> str:
    if written is None:
        return "nothing"
    if isinstance(written, bool):
        return "true" if written else "false"
    if isinstance(written, dict):
        return "a mapping"
    if isinstance(written, list):
        return "a list"
    return str(written)[:64]
