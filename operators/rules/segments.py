"""Segments: who belongs to a group, by conditions over facts and the person (`scoring.md`, section 8)."""

import msgspec

from operators.rules.campaign_file import SegmentFile
from operators.rules.campaigns import FactRead
from operators.rules.cel import Clause, Environment
from operators.rules.conditions import compiled, facts_of
from operators.rules.facts import FactPlan
from operators.rules.faults import Fault
from operators.rules.shape import fields, is_wrong
from operators.rules.strict_yaml import Document
from schemas import ids

READABLE = ("person.", "score.", "facts.")
"""What a segment may read: it holds wherever the person is, so neither zone nor event."""


class Segment(msgspec.Struct, frozen=True):
    """A segment in force. Without `leave` a member goes when `enter` is not true."""

    id: str
    version: str
    file: str
    enter: Clause
    leave: Clause | None
    facts: dict[str, FactRead]
    reads: tuple[str, ...]
    needs: dict[str, frozenset[str]]

    @property
    def purposes(self) -> frozenset[str]:
        """What membership needs: without it a person is no member."""
        return frozenset[str]().union(*self.needs.values())


def segment_of(document: Document, name: str, plan: FactPlan, faults: list[Fault]) -> Segment | None:
    """Read a segment file; None when anything in it is wrong, with the faults added."""
    before = len(faults)
    values = fields(document, (), SegmentFile, faults)
    if not is_wrong(values["segment"]) and values["segment"] != name:
        faults.append(
            document.fault(("segment",), "E105", f"the segment must be called as its file, {name}", f"write {name}")
        )
    facts, leaves = facts_of(document, values["facts"], plan, faults)
    environment = Environment(leaves)
    clauses: dict[str, Clause | None] = {}
    for key in ("enter", "leave"):
        text = values[key]
        clause = compiled(document, (key,), environment, key, text, faults) if isinstance(text, str) else None
        clauses[key] = clause
        for leaf in clause.reads if clause else ():
            if not leaf.startswith(READABLE):
                line, column = document.place((key,), max(clause.text.find(leaf), 0) if clause else 0)
                what = f"a segment must not read {leaf}: it holds wherever the person is"
                fix = "read person, score or facts, or put the condition into a campaign"
                faults.append(Fault(document.file, line, column, "E201", what, document.source(line), fix, len(leaf)))
    enter, leave = clauses["enter"], clauses["leave"]
    if any(read.key_leaf is not None for read in facts.values()):
        keyed = next(name for name, read in facts.items() if read.key_leaf is not None)
        what = f"a fact of a segment must not hang on a place: facts.{keyed} does"
        faults.append(document.fault(("facts", keyed, "where"), "E203", what, "leave zone and site out of where"))
    if len(faults) > before or enter is None:
        return None
    needs = enter.needs | (leave.needs if leave else {})
    return Segment(
        id=values["segment"],
        version=version_of(document),
        file=document.file,
        enter=enter,
        leave=leave,
        facts=facts,
        reads=tuple(needs),
        needs=needs,
    )


def version_of(document: Document, *attachments: bytes) -> str:
    """Version of a rule file: all it says but `about` and `owner`, and the bytes of what it names."""
    said = {key: value for key, value in document.value.items() if key not in {"about", "owner"}}
    return ids.version(said, *attachments)
