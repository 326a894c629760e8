"""Looks for values under which the clauses of a campaign hold: finds contradictions and clauses that say nothing.

Values are tried around every literal, and the real engine answers. What it finds is true of the values it
tried: a warning, never a refusal.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from operators.rules.campaigns import Campaign
from operators.rules.cel import TRUE, Clause, Values
from operators.rules.faults import Fault
from operators.rules.leaves import Leaf
from operators.rules.strict_yaml import Document

MOST = 20_000
_OTHER = "something else"
_INT64 = 1 << 63
Tried = tuple[Any, ...]


class Search:
    """Tries values; what a clause answered is kept, because campaigns of one shop ask the same things."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, Tried], set[Tried]] = {}

    def check(self, document: Document, campaign: Campaign) -> Iterator[Fault]:
        """W501 where no values satisfy `if`, W502 where a clause is always true or follows from the others."""
        clauses = campaign.clauses
        if not clauses:
            return
        domains = _domains(clauses)
        size = math.prod(map(len, domains.values()))
        if size > MOST:
            what = f"if was not checked for contradictions: {size} combinations are more than {MOST}"
            yield document.fault(("if",), "W501", what, "use fewer literals, or check it by hand", key=True)
            return
        tables = [self._table(clause, domains) for clause in clauses]
        for clause, (_, held) in zip(clauses, tables, strict=True):
            if not held:
                yield document.fault(
                    ("if", clause.name), "W501", f"no values satisfy clause {clause.name}", "drop it, or mend it"
                )
        at = {name: index for index, name in enumerate(domains)}
        truths = [
            tuple(tuple(_key(row[at[name]]) for name in names) in held for names, held in tables)
            for row in itertools.product(*domains.values())
        ]
        if all(held for _, held in tables) and not any(map(all, truths)):
            yield document.fault(("if",), "W501", _contradiction(clauses, truths), "mend one of them", key=True)
            return
        for index, clause in enumerate(clauses):
            if all(truth[index] for truth in truths):
                yield document.fault(("if", clause.name), "W502", f"clause {clause.name} is always true", "drop it")
            elif len(clauses) > 1 and all(truth[index] for truth in truths if _others(truth, index)):
                what = f"clause {clause.name} says nothing: it follows from the others"
                yield document.fault(("if", clause.name), "W502", what, "drop it")

    def implied(self, given: Sequence[Clause], asked: Sequence[Clause]) -> bool:
        """Whether every value tried that satisfies all of `given` satisfies all of `asked`; False when too many to try."""
        said = {clause.text for clause in given}
        asked = [clause for clause in asked if clause.text not in said]
        if not asked:
            return True
        domains = _domains([*given, *asked])
        if math.prod(map(len, domains.values())) > MOST:
            return False
        at = {name: index for index, name in enumerate(domains)}
        tables = [self._table(clause, domains) for clause in (*given, *asked)]
        for row in itertools.product(*domains.values()):
            truth = [tuple(_key(row[at[name]]) for name in names) in held for names, held in tables]
            if all(truth[: len(given)]) and not all(truth[len(given) :]):
                return False
        return True

    def _table(self, clause: Clause, domains: Mapping[str, Sequence[Any]]) -> tuple[tuple[str, ...], set[Tried]]:
        """Leaves of a clause, and the combinations of their values under which it is true."""
        names = tuple(dict.fromkeys(_base(leaf) for leaf in clause.reads))
        tried = tuple((name, tuple(map(_key, domains[name]))) for name in names)
        if (found := self._answers.get((clause.text, tried))) is not None:
            return names, found
        held = set()
        for row in itertools.product(*(domains[name] for name in names)):
            if clause.evaluate(Values(dict(zip(names, row, strict=True)))).value == TRUE:
                held.add(tuple(map(_key, row)))
        self._answers[clause.text, tried] = held
        return names, held


def _others(truth: Sequence[bool], index: int) -> bool:
    return all(held for at, held in enumerate(truth) if at != index)


def _contradiction(clauses: Sequence[Clause], truths: Sequence[Sequence[bool]]) -> str:
    for (left, one), (right, other) in itertools.combinations(enumerate(clauses), 2):
        if not any(truth[left] and truth[right] for truth in truths):
            return f"no values satisfy if: clauses {one.name} and {other.name} exclude each other"
    return "no values satisfy all clauses of if"


def _base(leaf: str) -> str:
    return leaf.removesuffix("_known")


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _domains(clauses: Sequence[Clause]) -> dict[str, list[Any]]:
    """Values to try for each leaf: around the literals of the clauses that read it."""
    leaves: dict[str, Leaf] = {}
    literals: dict[str, list[Any]] = {}
    optional: set[str] = set()
    for clause in clauses:
        constants = [node.value for node in clause.tree.root.walk() if node.kind == "const"]
        for leaf in clause.leaves:
            name = _base(leaf.name)
            if name != leaf.name:
                optional.add(name)
                leaves.setdefault(name, Leaf(name, "string"))
            else:
                leaves[name] = leaf
            literals.setdefault(name, []).extend(constants)
    return {
        name: [*_tried(leaf, literals[name]), *([None] if name in optional else [])] for name, leaf in leaves.items()
    }


def _tried(leaf: Leaf, literals: Iterable[Any]) -> list[Any]:
    numbers = [one for one in literals if isinstance(one, int | float) and not isinstance(one, bool)]
    words = list(dict.fromkeys(one for one in literals if isinstance(one, str)))
    if leaf.type == "bool":
        return [False, True]
    if leaf.type == "string":
        return list(dict.fromkeys([*words, _OTHER, ""]))
    if leaf.type == "list":
        filled = [f"{_OTHER} {count}" for count in range(min(int(max(numbers, default=0)) + 1, 32))]
        return [list(one) for one in dict.fromkeys([(), *((word,) for word in words), tuple(words), tuple(filled)])]
    if leaf.type == "int":
        around = {0, *(int(one) + step for one in numbers for step in (-1, 0, 1))}
        return sorted(one for one in around if abs(one) < _INT64)
    return sorted({0.0, *(float(one) + step for one in numbers for step in (-_step(one), 0.0, _step(one)))})


def _step(number: float) -> float:
    return max(abs(number) / 1_000, 1e-6)
