"""Facts and conditions of one file, campaign or segment: declared, compiled, every fault where it stands."""

from typing import Any

from operators.rules.campaign_file import FactPart, is_name
from operators.rules.campaigns import FactRead
from operators.rules.cel import Clause, Environment
from operators.rules.facts import BadFact, FactDeclared, FactPlan
from operators.rules.faults import Edit, Fault
from operators.rules.leaves import Leaf
from operators.rules.shape import is_wrong
from operators.rules.strict_yaml import Document, Path
from operators.rules.troubles import BadCondition, Trouble

MOST_CLAUSES = 12
MOST_FACTS = 32


def trouble_fault(document: Document, path: Path, trouble: Trouble) -> Fault:
    """A trouble in an expression as a fault of the file that holds it."""
    line, column = document.place(path, trouble.offset)
    edit = None
    if trouble.replace is not None:
        start, end, text = trouble.replace
        (first, low), (last, high) = document.place(path, start), document.place(path, end)
        edit = Edit(first, low, high, text) if first == last else None
    source = document.source(line)
    return Fault(
        document.file, line, column, trouble.code, trouble.what, source, trouble.fix, trouble.width, trouble.note, edit
    )


def compiled(
    document: Document, path: Path, environment: Environment, name: str, text: str, faults: list[Fault]
) -> Clause | None:
    """A condition, or None with its faults added."""
    try:
        return environment.compile(name, text)
    except BadCondition as bad:
        faults += [trouble_fault(document, path, trouble) for trouble in bad.troubles]
        return None


def declared(
    document: Document, path: Path, name: str, fact: FactDeclared, plan: FactPlan, faults: list[Fault]
) -> tuple[FactRead, Leaf] | None:
    """Have a fact kept, or None with its faults added."""
    try:
        return plan.declare(name, fact)
    except BadFact as bad:
        faults.append(document.fault((*path, bad.part), bad.code, bad.what, bad.fix))
    except BadCondition as bad:
        faults += [trouble_fault(document, (*path, "where"), trouble) for trouble in bad.troubles]
    return None


def of_part(part: Any) -> FactDeclared:
    """What a fact or `unless` entry asks for: its one verb, topic and window."""
    words = [word for word in part.exactly_one if getattr(part, word) is not None]
    (op,) = words
    topic = getattr(part, op)
    if op == "fired":
        return FactDeclared("count", f"fired:{topic}", None, None, part.within)
    if op == "outcome":
        status = (part.status or "sent").upper()
        return FactDeclared("count", f"outcome:{topic}:{status}", None, None, part.within)
    return FactDeclared("count" if op == "event" else op, topic, getattr(part, "of", None), part.where, part.within)


def facts_of(
    document: Document, parts: Any, plan: FactPlan, faults: list[Fault]
) -> tuple[dict[str, FactRead], dict[str, Leaf]]:
    """All facts of a file, by name: how they are read, and the leaves they are."""
    reads: dict[str, FactRead] = {}
    leaves: dict[str, Leaf] = {}
    # A fact that is declared and wrong is no unknown field as well, whatever its type would have been.
    named = document.value.get("facts")
    leaves.update(
        (f"facts.{name}", Leaf(f"facts.{name}", "dyn")) for name in (named if isinstance(named, dict) else ())
    )
    if is_wrong(parts):
        return reads, leaves
    if len(parts) > MOST_FACTS:
        faults.append(
            document.fault(("facts",), "E107", f"a file may declare at most {MOST_FACTS} facts", "drop some", key=True)
        )
    for name, part in parts.items():
        path: Path = ("facts", name)
        if not is_name(name):
            faults.append(
                document.fault(
                    path,
                    "E102",
                    f"a fact's name must be a word like views_7d; got {name}",
                    "use a-z, 0-9 and _",
                    key=True,
                )
            )
        elif _fits(document, path, part, faults) and (
            kept := declared(document, path, name, of_part(part), plan, faults)
        ):
            reads[name], leaves[f"facts.{name}"] = kept
    return reads, leaves


def _fits(document: Document, path: Path, part: FactPart, faults: list[Fault]) -> bool:
    own = part.fired is not None or part.outcome is not None
    spare = [word for word in ("of", "where") if own and getattr(part, word) is not None]
    if part.status is not None and part.outcome is None:
        spare.append("status")
    named = ".".join(map(str, path))
    faults += (
        document.fault((*path, word), "E102", f"{word} has no meaning in {named}", "drop it", key=True)
        for word in spare
    )
    return not spare


def conditions_of(
    document: Document, key: str, texts: Any, environment: Environment, faults: list[Fault]
) -> tuple[Clause, ...]:
    """All clauses under a key of a file, in its order."""
    if is_wrong(texts):
        return ()
    if len(texts) > MOST_CLAUSES:
        faults.append(
            document.fault(
                (key,),
                "E107",
                f"{key} may have at most {MOST_CLAUSES} clauses; it has {len(texts)}",
                "drop some",
                key=True,
            )
        )
    clauses = []
    for name, text in texts.items():
        if not is_name(name):
            faults.append(
                document.fault(
                    (key, name),
                    "E102",
                    f"a clause's name must be a word like premium; got {name}",
                    "use a-z, 0-9 and _",
                    key=True,
                )
            )
        elif clause := compiled(document, (key, name), environment, name, text, faults):
            clauses.append(clause)
    return tuple(clauses)


def needs_of(clauses: tuple[Clause, ...]) -> dict[str, frozenset[str]]:
    """Purposes by leaf, in order of first use."""
    needs: dict[str, frozenset[str]] = {}
    for clause in clauses:
        needs |= clause.needs
    return needs
