"""What is wrong with a rule file: where, in which words, and how to put it right."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

_WIDEST = 160


class Edit(msgspec.Struct, frozen=True):
    """A replacement on one line that heals a fault: columns count from 1, `end` is the first one kept."""

    line: int
    start: int
    end: int
    text: str


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong in one file; `W` codes warn, all others refuse the set.

    Columns count characters from 1. `width` is how many characters the carets stand under; `note` follows
    them. `edit` is present where a machine may repair the line.

    >>> print(Fault("campaigns/a.yaml", 2, 7, "E103", "wrong", "when: 45", "write 45s", 2, "no unit"))
    campaigns/a.yaml:2:7: E103 wrong
        2 | when: 45
          |       ^^ no unit
       fix: write 45s
    """

    file: str
    line: int
    column: int
    code: str
    what: str
    source: str = ""
    fix: str = ""
    width: int = 1
    note: str = ""
    edit: Edit | None = None

    @property
    def refuses(self) -> bool:
        """Whether the set may not be loaded."""
        return not self.code.startswith("W")

    def __str__(self) -> str:
        said = [f"{self.file}:{self.line}:{self.column}: {self.code} {self.what}"]
        if self.source.strip():
            # A tab would stand as one character in the source and as several on the terminal.
            shown, column = self.source.replace("\t", " "), self.column
            if len(shown) > _WIDEST:
                first = max(0, column - _WIDEST // 2)
                shown, column = shown[first : first + _WIDEST], column - first
            width = max(1, min(self.width, len(shown) - column + 1))
            said.append(f"{self.line:5d} | {shown}")
            said.append(f"{'':5s} | {' ' * (column - 1)}{'^' * width} {self.note}".rstrip())
        if self.fix:
            said.append(f"   fix: {self.fix}")
        return "\n".join(said)

    def as_json(self) -> dict[str, Any]:
        """The fault for a machine."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "what": self.what,
            "source": self.source,
            "note": self.note,
            "fix": self.fix,
        }


class RulesRefused(Exception):
    """A set of rules that may not be loaded, with everything that is wrong in it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = list(faults)


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Faults as a reader walks through the files; each once."""
    return sorted(
        dict.fromkeys(faults), key=lambda fault: (fault.file, fault.line, fault.column, fault.code, fault.what)
    )


def repaired(content: bytes, faults: Iterable[Fault]) -> bytes:
    """A file with every edit its faults carry; give the faults of that file only.

    >>> edit = Edit(1, 4, 7, "500.0")
    >>> repaired(b"a: 500 # x", [Fault("f", 1, 4, "E202", "", edit=edit)])
    b'a: 500.0 # x'
    """
    lines = content.decode().splitlines(keepends=True)
    edits = {fault.edit for fault in faults if fault.edit is not None}
    for edit in sorted(edits, key=lambda edit: (edit.line, edit.start), reverse=True):
        line = lines[edit.line - 1]
        lines[edit.line - 1] = line[: edit.start - 1] + edit.text + line[edit.end - 1 :]
    return "".join(lines).encode()


def nearest(word: str, legal: Iterable[str], *, count: int = 1) -> list[str]:
    """Legal words that `word` may have been meant for, nearest first; none where nothing is near.

    >>> nearest("dwel", ["dwell", "entered"])
    ['dwell']
    """
    from rapidfuzz import process  # here: what is written right needs it nowhere
    from rapidfuzz.distance import OSA

    # Sorted, so that ties do not hang on the order in which somebody built a set. Case is no distance.
    words = sorted(set(legal))
    limit = max(1, len(word) // 2)
    found = process.extract(word, words, scorer=OSA.distance, processor=str.lower, limit=count, score_cutoff=limit)
    return [match for match, _, _ in found]


def one_of(words: Iterable[str]) -> str:
    """Words as a person lists them.

    >>> one_of(["a", "b", "c"])
    'a, b or c'
    """
    listed = list(words)
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} or {listed[-1]}"


def meant(word: str, legal: Iterable[str]) -> str:
    """A fix for a word that is not legal: the nearest one, else all of them."""
    words = sorted(set(legal))
    near = nearest(word, words)
    return f"write {near[0]}" if near else f"write {one_of(words)}"
