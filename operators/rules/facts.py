"""Declared facts become aggregates: one for each distinct (topic, op, of, where, key, within), shared by all.

`where` is split at its top-level `&&`: what reads the event alone is asked when an event comes; at most one
comparison with the zone or the site, `==` or `in`, becomes the key under which the aggregate is kept.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import msgspec

from operators.rules.campaigns import FactRead
from operators.rules.cel import Clause, Environment, Values
from operators.rules.faults import meant
from operators.rules.leaves import PLACES, Leaf, Source, event_leaves, purposes_of_topic
from operators.rules.syntax import Node
from operators.rules.troubles import BadCondition, Trouble
from schemas import ids
from schemas.derived import Decision
from schemas.person import Aggregate, Observation
from schemas.types import AnyRecord

LONGEST_US = 90 * 86_400_000_000
_STRINGS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


class FactDeclared(msgspec.Struct, frozen=True):
    """A fact as a file asks for it; `topic` may be `fired:<campaign>` or `outcome:<campaign>:<status>`."""

    op: str
    topic: str
    of: str | None
    where: str | None
    within_us: int


class _Kept(msgspec.Struct, frozen=True):
    """How one aggregate is fed."""

    aggregate: Aggregate
    where: Clause | None
    key: Source | None
    of: Source | None


class BadFact(Exception):
    """A fact that cannot be kept; `part` is the word of the declaration that is wrong."""

    def __init__(self, part: str, code: str, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.part, self.code, self.what, self.fix = part, code, what, fix


class FactPlan:
    """What the rules in force want to be kept (`schemas.person.Plan`).

    >>> plan = FactPlan()
    >>> read, leaf = plan.declare("bought", FactDeclared("count", "pos.receipt", None, "zone.category in e.categories", 7_200_000_000))
    >>> read.key_leaf, leaf.type, plan.aggregates[read.aggregate].op
    ('zone.category', 'int', 'count')
    """

    def __init__(self) -> None:
        self.aggregates: dict[str, Aggregate] = {}
        self._kept: dict[str, list[_Kept]] = {}

    def declare(self, name: str, fact: FactDeclared) -> tuple[FactRead, Leaf]:
        """Have a fact kept: how to read it, and the leaf it is to conditions.

        Raises:
            BadFact: a part of it is wrong.
            BadCondition: `where` is wrong, or cannot be keyed.
        """
        if not 0 < fact.within_us <= LONGEST_US:
            raise BadFact(
                "within",
                "E107",
                "a fact must look back more than nothing and at most 90d",
                "keep longer history as a trait",
            )
        own = ":" in fact.topic
        sources = {} if own else event_leaves(fact.topic)
        of = _of(fact, sources)
        where, key_leaf, key = (None, None, None) if fact.where is None else _split(fact.topic, fact.where)
        written = "" if where is None else where.text
        keyed = f"{key_leaf}={key.leaf.name}" if key is not None else ""
        id_ = ids.version([fact.topic, fact.op, fact.of or "", written, keyed, fact.within_us])
        if id_ not in self.aggregates:
            aggregate = Aggregate(id_, fact.topic, fact.op, fact.of, fact.within_us)
            self.aggregates[id_] = aggregate
            self._kept.setdefault(fact.topic, []).append(_Kept(aggregate, where, key, of))
        purposes = purposes_of_topic(fact.topic)
        kind = "int" if of is None or fact.op == "distinct" else of.leaf.type
        leaf = Leaf(f"facts.{name}", kind, fact.op in {"max", "last"}, purposes, personal=True)
        return FactRead(name, id_, key_leaf, purposes, fact.topic, fact.where, fact.within_us), leaf

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that feed an aggregate, sorted."""
        return tuple(sorted(self._kept))

    def observe(self, topic: str, record: AnyRecord) -> list[Observation]:
        """What an event adds to every aggregate it belongs to, in the order they were declared.

        A `decision.record` feeds `fired:<campaign>` for each campaign that fired in it. For an outcome the
        caller, who knows the campaign, gives `outcome:<campaign>:<STATUS>` as the topic.
        """
        if topic == "decision.record" and isinstance(record, Decision):
            fired = (f"fired:{one.campaign_id}" for one in record.candidates if one.verdict == "FIRED")
            return [Observation(kept.aggregate.id, "", None) for name in fired for kept in self._kept.get(name, ())]
        kept_here = self._kept.get(topic)
        if not kept_here:
            return []
        values: Values | None = None
        found: list[Observation] = []
        for kept in kept_here:
            if kept.where is not None:
                values = values or Values(event_values(topic, record))
                if not kept.where.holds(values):
                    continue
            amounts = [None] if kept.of is None else _amounts(kept, record)
            found += [
                Observation(kept.aggregate.id, key, amount) for key in _keys(kept.key, record) for amount in amounts
            ]
        return found


def event_values(topic: str, record: AnyRecord) -> dict[str, Any]:
    """Leaves of an event (`e.*`) as conditions see them."""
    return {name: source.read(record) for name, source in event_leaves(topic).items()}


def _keys(key: Source | None, record: AnyRecord) -> Iterable[str]:
    if key is None:
        return ("",)
    value = key.read(record)
    if value is None:
        return ()
    return list(dict.fromkeys(value)) if isinstance(value, list) else (str(value),)


def _amounts(kept: _Kept, record: AnyRecord) -> list[Any]:
    value = kept.of.exact(record) if kept.of is not None else None
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _of(fact: FactDeclared, sources: Mapping[str, Source]) -> Source | None:
    if fact.op == "count":
        if fact.of is not None:
            raise BadFact("of", "E102", "a count has no of", "drop it, or write distinct in place of count")
        return None
    legal = {
        name.removeprefix("e."): source
        for name, source in sources.items()
        if (fact.op == "distinct" or source.leaf.type != "list")
        and (fact.op not in {"sum", "max"} or source.leaf.type in {"int", "double"})
    }
    if fact.of is None:
        raise BadFact(
            fact.op, "E104", f"{fact.op} must say of which field", f"add of: {next(iter(sorted(legal)), 'a field')}"
        )
    if fact.of not in legal:
        raise BadFact(
            "of",
            "E102",
            f"{fact.op} of {fact.topic} must be of a field it can take; got {fact.of}",
            meant(fact.of, legal),
        )
    return legal[fact.of]


@cache
def where_environment(topic: str) -> Environment:
    """What the `where` of an event may read: the event, the zone and the site."""
    return Environment({name: source.leaf for name, source in event_leaves(topic).items()}, static=PLACES)


@cache
def _event_environment(topic: str) -> Environment:
    return Environment({name: source.leaf for name, source in event_leaves(topic).items()}, static={})


@lru_cache(4096)
def _split(topic: str, text: str) -> tuple[Clause | None, str | None, Source | None]:
    """The part that reads the event alone, and the leaf and the field that key the rest."""
    sources = event_leaves(topic)
    whole = where_environment(topic).compile("where", text)
    alone: list[str] = []
    key: tuple[str, Source] | None = None
    for node, (offset, part) in zip(_conjuncts(whole.tree.root), _parts(text, whole.tree.root), strict=True):
        places = [
            str(one.value)
            for one in node.walk()
            if one.kind == "name" and str(one.value) in whole.needs and not str(one.value).startswith("e.")
        ]
        if not places:
            alone.append(part)
            continue
        found = _key(node, sources)
        if found is None or key is not None:
            why = (
                "a fact is kept under one place at most"
                if found is not None
                else "zone and site can be compared by == or in with one field of the event only"
            )
            raise BadCondition(
                [
                    Trouble(
                        offset,
                        len(part),
                        "E203",
                        why,
                        "write it like e.category == zone.category",
                        "this would be the key of the aggregate",
                    )
                ]
            )
        key = found
    joined = " && ".join(_squeezed(part if len(alone) == 1 else f"({part})") for part in alone)
    # The brackets put in may make it longer than what somebody was allowed to write.
    clause = _event_environment(topic).compile("where", joined, longest=4 * len(text) + 4) if alone else None
    return (clause, *key) if key is not None else (clause, None, None)


def _key(node: Node, sources: Mapping[str, Source]) -> tuple[str, Source] | None:
    if node.kind != "call" or node.value not in {"_==_", "@in"} or any(child.kind != "name" for child in node.children):
        return None
    left, right = (str(child.value) for child in node.children)
    if node.value == "_==_" and right in PLACES:
        left, right = right, left
    if left not in PLACES or right not in sources or PLACES[left].type != "string":
        return None
    return left, sources[right]


def _conjuncts(node: Node) -> Iterator[Node]:
    if node.kind == "call" and node.value == "_&&_":
        for child in node.children:
            yield from _conjuncts(child)
    else:
        yield node


def _signs(node: Node) -> Iterator[int]:
    if node.kind == "call" and node.value == "_&&_":
        yield node.offset
        for child in node.children:
            yield from _signs(child)


def _parts(text: str, root: Node) -> list[tuple[int, str]]:
    """Text of each top-level conjunct with its offset; brackets around several of them are taken off."""
    cuts = sorted(_signs(root))
    found = []
    for start, end in zip([0, *(cut + 2 for cut in cuts)], [*cuts, len(text)], strict=True):
        low, high = start, end
        while True:
            part = text[low:high]
            low, high = low + len(part) - len(part.lstrip()), high - (len(part) - len(part.rstrip()))
            bare = _STRINGS.sub(lambda found: "_" * len(found[0]), text[low:high])
            spare = bare.count("(") - bare.count(")")
            if spare > 0 and bare.startswith("("):
                low += 1
            elif spare < 0 and bare.endswith(")"):
                high -= 1
            else:
                break
        found.append((low, text[low:high]))
    return found


def _squeezed(text: str) -> str:
    """One spelling for blanks outside of strings, so that equal conditions share an aggregate."""
    out, at = [], 0
    for found in _STRINGS.finditer(text):
        out += [re.sub(r"\s+", " ", text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*out, re.sub(r"\s+", " ", text[at:])])
