"""Conditions: CEL, type-checked when a set is loaded, three-valued when it is asked.

The only module that touches the CEL library. It knows no clock: what a condition sees is the mapping of
leaves it is given. A null or missing leaf makes a condition UNKNOWN unless the rest decides it alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from cel_expr_python import cel

from operators.rules import leaves as known
from operators.rules.faults import meant
from operators.rules.leaves import Leaf
from operators.rules.syntax import Node, Tree, read
from operators.rules.troubles import SPOKEN, BadCondition, Trouble, troubles, unreadable

LONGEST = 512
TRUE, FALSE, UNKNOWN = "TRUE", "FALSE", "UNKNOWN"
_SHOWN = 64

_ALLOWED = frozenset(
    {
        *("_&&_", "_||_", "!_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "_?_:_"),
        *("_+_", "_-_", "_*_", "_/_", "_%_", "-_", "_[_]", "@not_strictly_false"),
        *("size", "startsWith", "endsWith", "contains", "int", "double", "string"),
    }
)
_WORDS = ("size", "startsWith", "endsWith", "contains", "int", "double", "string", "exists", "all", "exists_one")
_BECAUSE = {
    "matches": "a pattern can take for ever; use ==, in, startsWith, endsWith or contains",
    "timestamp": "conditions know no clock; time stands in when, facts, valid and guard",
    "duration": "conditions know no clock; time stands in when, facts, valid and guard",
    "has": "use the leaf's _known twin, such as person.ltv_known",
}
_TYPES = {
    "string": cel.Type.STRING,
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "bool": cel.Type.BOOL,
    "dyn": cel.Type.DYN,
}
_BY_USE = ("context.", "person.traits.")


class Verdict(msgspec.Struct, frozen=True):
    """How a clause came out: TRUE, FALSE or UNKNOWN, what it saw, and the leaves that were not there."""

    value: str
    seen: list[str]
    missing: tuple[str, ...] = ()


class Values:
    """What conditions see: leaves by name, one shared activation for every clause asked over it.

    A value of None is as good as none. `withheld` names leaves that exist and may not be used: a leaf's
    `_known` twin is unknown too then, and not false.
    """

    __slots__ = ("activation", "leaves", "withheld")

    def __init__(self, leaves: Mapping[str, Any], withheld: frozenset[str] = frozenset()) -> None:
        self.leaves = {name: _plain(value) for name, value in leaves.items() if value is not None}
        self.withheld = withheld
        self.activation = _PLAIN.Activation(self.leaves)

    def get(self, name: str) -> Any:
        """A leaf's value, None where there is none."""
        return self.leaves.get(name)


_PLAIN = cel.NewEnv(variables={})


def _plain(value: Any) -> Any:
    """A value the library takes: a list for any other collection, sets in order so that nothing hangs on theirs."""
    if isinstance(value, tuple):
        return list(value)
    return sorted(value) if isinstance(value, set | frozenset) else value


class Clause:
    """One named condition, compiled.

    Attributes:
        name: as in the file.
        text: the expression.
        reads: leaves it reads, in order, `_known` twins by their own name.
        purposes: what those may be used for only with, all together.
        needs: the same by leaf.
        tree: its syntax.
    """

    def __init__(self, name: str, text: str, tree: Tree, leaves: tuple[Leaf, ...], expression: Any) -> None:
        self.name = name
        self.text = text
        self.tree = tree
        self.leaves = leaves
        self.reads = tuple(leaf.name for leaf in leaves)
        self.needs = {leaf.name: leaf.purposes for leaf in leaves}
        self.purposes = frozenset[str]().union(*self.needs.values())
        self._expression = expression
        self._known = tuple((name, name.removesuffix("_known")) for name in self.reads if name.endswith("_known"))
        # Facts of the venue's surroundings arrive as text; what is compared with numbers is read as one.
        self._numbers = tuple(
            leaf.name for leaf in leaves if leaf.name.startswith("context.") and leaf.type == "double"
        )
        self._doubles = tuple(leaf.name for leaf in leaves if leaf.type == "double")
        self._ints = tuple(leaf.name for leaf in leaves if leaf.type == "int")
        self._as_given = not (self._known or self._numbers or self._doubles or self._ints)
        self._shown = tuple(
            (leaf.name, leaf.personal, f"{leaf.name} = set"[:_SHOWN], f"{leaf.name} = not set"[:_SHOWN])
            for leaf in leaves
        )

    def __repr__(self) -> str:
        return f"Clause({self.name!r}, {self.text!r})"

    def evaluate(self, values: Values | Mapping[str, Any]) -> Verdict:
        """Ask the condition. Give the same `Values` to every clause of one decision: building it costs most."""
        seen = self._fitted(values if isinstance(values, Values) else Values(values))
        result = self._expression.eval(seen.activation).value()
        there = seen.leaves
        shown = []
        for name, personal, is_set, is_not in self._shown:
            value = there.get(name)
            # The twin of a personal leaf tells no more than the leaf would: that it is there, or is not.
            if value is None or (personal and value is False and name.endswith("_known")):
                shown.append(is_not)
            else:
                shown.append(is_set if personal else _show(name, value))
        if result is True:
            return Verdict(TRUE, shown)
        if result is False:
            return Verdict(FALSE, shown)
        return Verdict(UNKNOWN, shown, tuple(name for name in self.reads if name not in there))

    def holds(self, values: Values | Mapping[str, Any]) -> bool | None:
        """The bare result, None for unknown: for those who keep no record of it."""
        seen = self._fitted(values if isinstance(values, Values) else Values(values))
        result = self._expression.eval(seen.activation).value()
        return result if result is True or result is False else None

    def _fitted(self, values: Values) -> Values:
        """The same values where all have the types the clause was checked with, else a copy in which they have."""
        if self._as_given:
            return values
        if self._known or self._numbers:
            return self._prepared(values)
        there = values.leaves
        for name in self._doubles:
            if type(there.get(name)) is int:
                return self._prepared(values)
        for name in self._ints:
            if type(there.get(name)) is float:
                return self._prepared(values)
        return values

    def _prepared(self, values: Values) -> Values:
        leaves = dict(values.leaves)
        for name in self._numbers:
            if isinstance(text := leaves.get(name), str):
                leaves[name] = _number(text)
        for name in self._doubles:
            if type(number := leaves.get(name)) is int:
                leaves[name] = float(number)
        for name in self._ints:
            if type(number := leaves.get(name)) is float:
                leaves[name] = int(number) if number.is_integer() else None
        for twin, name in self._known:
            leaves[twin] = None if name in values.withheld else leaves.get(name) is not None
        return Values(leaves, values.withheld)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _show(name: str, value: Any) -> str:
    if isinstance(value, bool):
        said = "true" if value else "false"
    elif isinstance(value, list | tuple):
        said = f"[{', '.join(map(str, value))}]"
    else:
        said = str(value)
    return f"{name} = {said}"[:_SHOWN]


class Environment:
    """What a file's conditions may read: the leaves of every condition, its own facts, its event.

    >>> environment = Environment({})
    >>> clause = environment.compile("gold", 'person.tier == "gold"')
    >>> clause.evaluate({"person.tier": "gold"})
    Verdict(value='TRUE', seen=['person.tier = set'], missing=())
    >>> clause.evaluate({"person.tier": None}).missing
    ('person.tier',)
    """

    def __init__(self, leaves: Mapping[str, Leaf], *, static: Mapping[str, Leaf] = known.STATIC) -> None:
        self.leaves: dict[str, Leaf] = dict(static) | dict(leaves)
        for leaf in [*self.leaves.values()]:
            if leaf.nullable:
                twin = f"{leaf.name}_known"
                self.leaves[twin] = Leaf(twin, "bool", False, leaf.purposes, leaf.personal)
        self._numeric: dict[str, str] = {}
        # A `where` sees its event, the zone and the site: nothing more by being named.
        self._open = static is known.STATIC
        self._engine = cel.NewEnv(variables={leaf.name: _cel_type(leaf) for leaf in self.leaves.values()})

    def compile(self, name: str, text: str, *, longest: int = LONGEST) -> Clause:
        """Check an expression and make it ready.

        Args:
            name: of the clause.
            text: the expression.
            longest: how many characters it may hold.

        Raises:
            BadCondition: it reads what is not there, mixes types, calls what is not allowed, or is not bool.
        """
        if len(text) > longest:
            what = f"a condition must hold at most {longest} characters; it holds {len(text)}"
            raise BadCondition([Trouble(0, 1, "E107", what, "say it in several clauses")])
        try:
            tree = read(self._engine.compile(text, disable_check=True).serialize())
            banned = list(_banned(tree.root, text))
        except RecursionError:
            raise BadCondition([Trouble(0, 1, "E202", "the condition nests too deep")]) from None
        except Exception as error:
            raise BadCondition([unreadable(text, str(error))]) from None
        if banned:
            raise BadCondition(banned)
        by_use = {leaf.name: leaf for leaf in self._by_use(tree.root)}
        leaves = self.leaves | by_use
        engine = self._engine
        if by_use:
            engine = cel.NewEnv(variables={leaf.name: _cel_type(leaf) for leaf in leaves.values()})
        try:
            expression = engine.compile(text)
        except Exception as error:
            raise BadCondition(troubles(text, str(error), tree, leaves)) from None
        kind = expression.return_type().name().lower()
        if kind != "bool":
            raise BadCondition(
                [
                    Trouble(
                        0,
                        len(text),
                        "E202",
                        f"a condition must be true or false; it is {SPOKEN.get(kind, kind)}",
                        "compare it with something",
                    )
                ]
            )
        checked = read(expression.serialize())
        reads = dict.fromkeys(str(node.value) for node in checked.root.walk() if node.kind == "name")
        return Clause(name, text, checked, tuple(leaves[read_] for read_ in reads if read_ in leaves), expression)

    def _by_use(self, root: Node) -> Iterator[Leaf]:
        if not self._open:
            return
        numeric = set(_compared_with_numbers(root, self.leaves))
        for path in _paths(root):
            if path.startswith("context."):
                # One name has one type in a file, whichever clause shows it first to be a number.
                kind = self._numeric.get(path) or ("double" if path in numeric else "string")
                self._numeric[path] = kind
                yield Leaf(path, kind, True)
            elif path.startswith("person.traits."):
                yield Leaf(path, "string", True, known.PERSONALISATION, personal=True)


def _cel_type(leaf: Leaf) -> Any:
    return cel.Type.List(_TYPES[leaf.of]) if leaf.type == "list" else _TYPES[leaf.type]


def _paths(root: Node) -> Iterator[str]:
    path = root.path
    if path is not None:
        if path.startswith(_BY_USE):
            yield path
        return
    for child in root.children:
        yield from _paths(child)


_COMPARING = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_+_", "_-_", "_*_", "_/_"})


def _compared_with_numbers(root: Node, leaves: Mapping[str, Leaf]) -> Iterator[str]:
    for node in root.walk():
        if node.kind != "call" or node.value not in _COMPARING:
            continue
        paths = [child.path for child in node.children]
        number = any(
            (child.kind == "const" and isinstance(child.value, int | float) and not isinstance(child.value, bool))
            or (path is not None and path in leaves and leaves[path].type in {"int", "double"})
            for child, path in zip(node.children, paths, strict=True)
        )
        if number or node.value in {"_-_", "_*_", "_/_"}:
            yield from (path for path in paths if path is not None and path.startswith("context."))


def _banned(root: Node, text: str) -> Iterator[Trouble]:
    for node in root.walk():
        if node.kind == "call" and node.value not in _ALLOWED:
            word = str(node.value).strip("_")
            start = max(text.rfind(word, 0, node.offset + len(word)), 0)
            why = _BECAUSE.get(word, "")
            fix = why or meant(word, _WORDS)
            what = f"{word} must not be used in a condition" if why else f"unknown function {word}"
            yield Trouble(start, len(word), "E203", what, fix)
        elif node.kind == "has":
            yield Trouble(
                max(text.rfind("has", 0, node.offset + 1), 0),
                3,
                "E203",
                "has must not be used in a condition",
                _BECAUSE["has"],
            )
        elif node.kind == "struct":
            yield Trouble(
                node.offset,
                1,
                "E203",
                "a map or message must not be made in a condition",
                "compare the leaves themselves",
            )
