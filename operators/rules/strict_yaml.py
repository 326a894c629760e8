"""YAML as it is meant: version 1.2, core schema, nothing that says one thing and does another.

A tag, an anchor, an alias, a second document, an equal key and a key that is no string are refused; every
value keeps its line and column. `21:00`, `no` and `on` are strings here, and dates stay what was written.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from operators.rules.faults import Fault, RulesRefused

LARGEST = 64 * 1024
DEEPEST = 24
Path = tuple[str | int, ...]

_NULL = re.compile(r"(?:null|Null|NULL|~|)")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))")
_INT64 = 1 << 63


class Mark(msgspec.Struct, frozen=True):
    """Where a value stands: lines and columns from 1, `style` is the quote or block sign (`''` for plain)."""

    line: int
    column: int
    end_line: int
    end_column: int
    style: str
    key_line: int
    key_column: int


class Document:
    """A YAML file as plain values, and where each of them stands.

    Attributes:
        file: the name used in messages.
        value: dicts, lists, strings, ints, floats, bools and None, as written.
        lines: the source, for messages.
    """

    def __init__(self, file: str, text: str, value: Any, marks: dict[Path, Mark]) -> None:
        self.file = file
        self.value = value
        self.lines = text.splitlines()
        self._marks = marks

    def at(self, path: Path) -> tuple[int, int]:
        """Line and column of a value; of the nearest one that holds it when it is not there."""
        mark = self.mark(path)
        return mark.line, mark.column

    def mark(self, path: Path) -> Mark:
        """Mark of a value, or of the nearest one that holds it."""
        while path not in self._marks and path:
            path = path[:-1]
        return self._marks[path]

    def source(self, line: int) -> str:
        """A line of the file as written."""
        return self.lines[line - 1] if 0 < line <= len(self.lines) else ""

    def fault(self, path: Path, code: str, what: str, fix: str = "", *, key: bool = False, note: str = "") -> Fault:
        """A fault at a value, or at its key."""
        mark = self.mark(path)
        line, column = (mark.key_line, mark.key_column) if key else (mark.line, mark.column)
        if key:
            width = len(str(path[-1])) if path else 1
        else:
            width = mark.end_column - mark.column if mark.end_line == mark.line else 1
        return Fault(self.file, line, column, code, what, self.source(line), fix, max(1, width), note)

    def place(self, path: Path, offset: int) -> tuple[int, int]:
        """Line and column of a character of a string value: where the scalar stands, plus what its quotes add.

        Exact for plain and quoted scalars on one line; elsewhere the start of the value.
        """
        mark = self.mark(path)
        if mark.line != mark.end_line or mark.style in {"|", ">"}:
            return self._in_block(mark, path, offset)
        column = mark.column
        source = self.source(mark.line)
        if mark.style == "":
            return mark.line, column + offset
        column += 1
        for _ in range(offset):
            here = source[column - 1 : column + 1]
            if mark.style == '"' and here.startswith("\\"):
                column += {"x": 4, "u": 6, "U": 10}.get(here[1:], 2)
            else:
                column += 2 if mark.style == "'" and here == "''" else 1
        return mark.line, column

    def _in_block(self, mark: Mark, path: Path, offset: int) -> tuple[int, int]:
        value: Any = self.value
        for step in path:
            value = value[step]
        row, rest = 0, offset
        if mark.style == "|" and isinstance(value, str):
            for part in value.split("\n"):
                if rest <= len(part):
                    source = self.source(mark.line + 1 + row)
                    return mark.line + 1 + row, source.find(part) + 1 + rest if part in source else 1
                row, rest = row + 1, rest - len(part) - 1
        return mark.line, mark.column


def load(file: str, content: bytes) -> Document:
    """Read one file.

    Args:
        file: its name in messages.
        content: its bytes, UTF-8.

    Returns:
        The document.

    Raises:
        RulesRefused: with one E100 fault, the first thing that is not strict YAML.
    """
    if len(content) > LARGEST:
        raise RulesRefused(
            [Fault(file, 1, 1, "E100", f"the file must hold at most 64 KiB; it holds {len(content)} bytes")]
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RulesRefused([Fault(file, line, 1, "E100", "the file must be UTF-8", fix="save it as UTF-8")]) from error
    try:
        return _Builder(file, text).document()
    except _Refused as refused:
        raise RulesRefused([refused.fault]) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        lines = text.splitlines()
        source = lines[line - 1] if line <= len(lines) else ""
        what = " ".join(str(error.problem or error.context or "not YAML").split())
        raise RulesRefused([Fault(file, line, column, "E100", f"not YAML: {what}", source)]) from error
    except Exception as error:  # the scanner raises bare Python errors on some escapes and control characters
        raise RulesRefused(
            [Fault(file, 1, 1, "E100", "not YAML: a character or an escape that has no meaning")]
        ) from error


class _Refused(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class _Builder:
    """Turns parser events into values; the parser's own constructors never run."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._lines = text.splitlines()
        self._marks: dict[Path, Mark] = {}
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))

    def document(self) -> Document:
        """The whole file."""
        next(self._events)  # start of the stream
        start = next(self._events)
        if type(start).__name__ != "DocumentStartEvent":
            raise _Refused(Fault(self._file, 1, 1, "E100", "the file must hold a mapping; it is empty"))
        if start.version not in {None, (1, 2)} or start.tags:
            raise _Refused(self._fault(start, "a %YAML or %TAG line must not stand here"))
        value = self._value(next(self._events), (), None)
        next(self._events)  # end of the document
        after = next(self._events)
        if type(after).__name__ != "StreamEndEvent":
            raise _Refused(self._fault(after, "a file must hold one document", fix="make it a file of its own"))
        if not isinstance(value, dict):
            raise _Refused(Fault(self._file, 1, 1, "E100", "the file must hold a mapping", self._line(1)))
        return Document(self._file, self._text, value, self._marks)

    def _line(self, line: int) -> str:
        return self._lines[line - 1] if 0 < line <= len(self._lines) else ""

    def _fault(self, event: Any, what: str, fix: str = "") -> Fault:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        return Fault(self._file, line, column, "E100", what, self._line(line), fix)

    def _value(self, event: Any, path: Path, key: Any) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent":
            raise _Refused(self._fault(event, "an alias must not stand here", fix="write the value out"))
        if event.anchor is not None:
            raise _Refused(self._fault(event, "an anchor must not stand here", fix="write the value out"))
        if event.ctag is not None:
            raise _Refused(self._fault(event, "a tag must not stand here", fix="drop it"))
        if len(path) > DEEPEST:
            raise _Refused(self._fault(event, f"values must not nest deeper than {DEEPEST}"))
        value: Any
        last = event
        if kind == "ScalarEvent":
            value = self._scalar(event)
        elif kind == "SequenceStartEvent":
            value = []
            while type(last := next(self._events)).__name__ != "SequenceEndEvent":
                value.append(self._value(last, (*path, len(value)), None))
        else:
            value = {}
            while type(last := next(self._events)).__name__ != "MappingEndEvent":
                self._pair(last, value, path)
        start, end, named = event.start_mark, last.end_mark, (key or event).start_mark
        style = (event.style or "") if kind == "ScalarEvent" else ""
        self._marks[path] = Mark(
            start.line + 1, start.column + 1, end.line + 1, end.column + 1, style, named.line + 1, named.column + 1
        )
        return value

    def _pair(self, key: Any, into: dict[str, Any], path: Path) -> None:
        if type(key).__name__ != "ScalarEvent":
            raise _Refused(self._fault(key, "a key must be a word"))
        name = self._value(key, (*path, ""), None)
        del self._marks[(*path, "")]
        if not isinstance(name, str):
            raise _Refused(self._fault(key, f"a key must be a string; got {key.value}", fix=f'write "{key.value}"'))
        if name in into:
            raise _Refused(self._fault(key, f"the key {name} stands here twice", fix="keep one of them"))
        into[name] = self._value(next(self._events), (*path, name), key)

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise _Refused(self._fault(event, "half a character must not stand alone"))
        if event.style is not None and event.style != "":
            return text
        if _NULL.fullmatch(text):
            return None
        if text in _BOOL:
            return _BOOL[text]
        number = self._number(text)
        if isinstance(number, int) and not -_INT64 <= number < _INT64:
            raise _Refused(self._fault(event, "a whole number must fit in 64 bits"))
        if isinstance(number, float) and not math.isfinite(number):
            raise _Refused(self._fault(event, "a number must be finite"))
        return text if number is None else number

    def _number(self, text: str) -> int | float | None:
        # Python refuses to read very long decimal strings at all; none of them fits in 64 bits.
        if _INT.fullmatch(text):
            return int(text) if len(text) < 100 else _INT64
        if _OCTAL.fullmatch(text):
            return int(text, 0)
        if _HEX.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text) or _SPECIAL.fullmatch(text):
            return math.inf if _SPECIAL.fullmatch(text) else float(text)
        return None
