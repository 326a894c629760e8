"""Laws of the rules, each against a slow and obvious reading; and that a known bug put back is caught."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.rules import check_rules, consent_checks
from operators.rules.cel import Environment
from operators.rules.leaves import NONE, Leaf

PURPOSES = ("personalisation", "profiling", "in_store_location", "linking")
# The contract's table, section 5, written down once more by hand.
NEEDED = {
    'person.tier == "gold"': "personalisation",
    '"a" in person.segments': "personalisation",
    'person.traits.size == "m"': "personalisation",
    "facts.views > 3": "personalisation",
    "score.intent > 0.5": "profiling",
    "person.ltv > 1.0": "profiling",
    "visit.dwell_s > 3.0": "in_store_location",
    'zone.category == "shoes"': "in_store_location",
    "context.temperature > 3.0": None,
    'site.id == "mad-01"': None,
    "facts.told > 0": None,
}


def refused_for(clauses: tuple[str, ...], granted: tuple[str, ...]) -> set[str]:
    lines = "".join(f"  c{at}: '{clause}'\n" for at, clause in enumerate(clauses))
    text = (
        "campaign: one\nowner: x\nwhen: {entered: {site: any}}\n"
        "facts: {views: {count: web.event, within: 7d}, told: {fired: one, within: 7d}}\n"
        f"if:\n{lines}guard: {{consent: [{', '.join(granted)}]}}\n"
        "do: [{channel: push, template: hello, ttl: 60s}]\n"
    )
    files = {
        "campaigns/one.yaml": text.encode(),
        "templates/hello.yaml": b"template: hello\nfallback_locale: en\nparts: {push: {en: 'Hello'}}\n",
    }
    _, faults = check_rules(files, None)
    assert {fault.code for fault in faults if fault.refuses} <= {"E301"}
    return {fault.fix.split()[1] for fault in faults if fault.code == "E301"}


def every_purpose_in_use_is_granted_or_refused() -> None:
    pairs = [*itertools.combinations(NEEDED, 2), *((one,) for one in NEEDED)]
    grants = [(), ("personalisation",), ("profiling", "linking"), PURPOSES]
    for clauses, granted in itertools.product(pairs, grants):
        needed = {purpose for clause in clauses if (purpose := NEEDED[clause])}
        assert refused_for(clauses, granted) == needed - set(granted), (clauses, granted)


def test_a_campaign_may_use_exactly_what_it_asks_consent_for() -> None:
    every_purpose_in_use_is_granted_or_refused()


@pytest.mark.parametrize(
    "bug",
    [
        lambda _campaign, _leaf, _purposes: NONE,
        lambda _campaign, leaf, purposes: NONE if leaf.startswith("score.") else purposes,
        lambda _campaign, leaf, purposes: NONE if leaf.startswith("zone.") else purposes,
    ],
    ids=["asks for nothing", "forgets scores", "takes a place for anybody's"],
)
def test_a_check_that_forgets_a_purpose_is_caught(
    bug: Callable[..., frozenset[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent_checks, "purposes_needed", bug)
    with pytest.raises(AssertionError):
        every_purpose_in_use_is_granted_or_refused()


ATOMS = {'person.tier == "gold"': "person.tier", "score.intent > 0.5": "score.intent", "facts.views > 3": "facts.views"}
HIGH = {"person.tier": "gold", "score.intent": 0.9, "facts.views": 4}
LOW = {"person.tier": "none", "score.intent": 0.1, "facts.views": 1}
ENVIRONMENT = Environment({"facts.views": Leaf("facts.views", "int", nullable=True)})
Tree = str | tuple[str, "Tree", "Tree"] | tuple[str, "Tree"]

trees = st.recursive(
    st.sampled_from(sorted(ATOMS)),
    lambda inner: st.tuples(st.just("!"), inner) | st.tuples(st.sampled_from(["&&", "||"]), inner, inner),
    max_leaves=6,
)


def text_of(tree: Tree) -> str:
    if isinstance(tree, str):
        return f"({tree})"
    if len(tree) == 2:
        return f"!{text_of(tree[1])}"
    return f"({text_of(tree[1])} {tree[0]} {text_of(tree[2])})"


def kleene(tree: Tree, atoms: dict[str, bool | None]) -> bool | None:
    if isinstance(tree, str):
        return atoms[tree]
    sides = [kleene(side, atoms) for side in tree[1:]]
    if tree[0] == "!":
        return None if sides[0] is None else not sides[0]
    strong = tree[0] == "||"
    return strong if strong in sides else None if None in sides else not strong


@settings(derandomize=True, max_examples=80, deadline=None)
@given(trees, st.tuples(*(st.sampled_from([True, False, None]) for _ in ATOMS)))
def test_a_condition_means_what_three_valued_logic_says(tree: Tree, truths: tuple[bool | None, ...]) -> None:
    atoms = dict(zip(ATOMS, truths, strict=True))
    leaves = {ATOMS[atom]: (HIGH if truth else LOW)[ATOMS[atom]] for atom, truth in atoms.items() if truth is not None}
    clause = ENVIRONMENT.compile("c", text_of(tree))
    verdict = clause.evaluate(leaves)
    expected = kleene(tree, atoms)
    assert verdict.value == {True: "TRUE", False: "FALSE", None: "UNKNOWN"}[expected]
    assert clause.holds(leaves) is expected
    if expected is None:
        assert set(verdict.missing) == set(clause.reads) - leaves.keys() != set()
