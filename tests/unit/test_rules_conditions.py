"""Conditions: three values, what they saw, what was missing, and what they may be used for only with."""

import itertools

import pytest

from operators.rules.cel import Environment, Values
from operators.rules.leaves import Leaf, event_leaves, event_topics
from operators.rules.syntax import read
from operators.rules.troubles import BadCondition
from schemas.people import Receipt, ReceiptLine

FACTS = {"facts.views": Leaf("facts.views", "int", False, frozenset({"personalisation"}), personal=True)}
ENVIRONMENT = Environment(FACTS)


def ask(text: str, **leaves: object) -> tuple[str, tuple[str, ...]]:
    named = {name.replace("__", "."): value for name, value in leaves.items()}
    verdict = ENVIRONMENT.compile("c", text).evaluate(named)
    return verdict.value, verdict.missing


@pytest.mark.parametrize("values", list(itertools.product([True, False, None], repeat=2)))
def test_and_and_or_are_those_of_three_values(values: tuple[bool | None, bool | None]) -> None:
    """Kleene's tables: an unknown side decides only where the other one does not."""
    tier, category = ("gold" if one else "none" if one is False else None for one in values)
    leaves = {"person__tier": tier, "zone__category": category}
    left, right = 'person.tier == "gold"', 'zone.category == "gold"'
    both = False if False in values else None if None in values else True
    either = True if True in values else None if None in values else False
    words = {True: "TRUE", False: "FALSE", None: "UNKNOWN"}
    assert ask(f"{left} && {right}", **leaves)[0] == words[both]
    assert ask(f"{left} || {right}", **leaves)[0] == words[either]


def test_unknown_names_what_was_not_there() -> None:
    assert ask("person.ltv > 3.0 && facts.views > 1", facts__views=2) == ("UNKNOWN", ("person.ltv",))
    assert ask("person.ltv > 3.0", person__ltv=None) == ("UNKNOWN", ("person.ltv",))


def test_a_known_twin_is_false_for_null_and_unknown_for_withheld() -> None:
    clause = ENVIRONMENT.compile("c", "person.ltv_known")
    assert clause.evaluate({"person.ltv": 1.0}).value == "TRUE"
    assert clause.evaluate({"person.ltv": None}).value == "FALSE"
    assert clause.evaluate(Values({}, frozenset({"person.ltv"}))).value == "UNKNOWN"
    assert clause.purposes == {"profiling"}


def test_what_a_clause_saw_holds_no_personal_value() -> None:
    text = '"premium" in person.segments && facts.views > 1 && zone.category == "shoes" && score.intent > 0.5'
    clause = ENVIRONMENT.compile("c", text)
    verdict = clause.evaluate({"person.segments": ["premium"], "facts.views": 7, "zone.category": "shoes" * 20})
    assert verdict.seen[:2] == ["person.segments = set", "facts.views = set"]
    assert verdict.seen[2].startswith("zone.category = shoes")
    assert len(verdict.seen[2]) == 64
    assert verdict.seen[3] == "score.intent = not set"
    assert clause.reads == ("person.segments", "facts.views", "zone.category", "score.intent")
    assert clause.purposes == {"personalisation", "in_store_location", "profiling"}


@pytest.mark.parametrize(
    ("text", "value", "word"),
    [
        ("context.temperature > 25.0", "30", "TRUE"),
        ("context.temperature > 25.0", "warm", "UNKNOWN"),
        ("context.temperature > 25.0 || true", None, "TRUE"),
        ('context.temperature == "warm"', "warm", "TRUE"),
    ],
)
def test_a_fact_of_the_surroundings_is_a_number_where_it_is_compared_with_one(
    text: str, value: str | None, word: str
) -> None:
    clause = Environment({}).compile("c", text)
    assert clause.evaluate({"context.temperature": value}).value == word


def test_one_name_of_the_surroundings_has_one_type_in_a_file() -> None:
    environment = Environment({})
    environment.compile("a", "context.temperature > 25.0")
    with pytest.raises(BadCondition):
        environment.compile("b", 'context.temperature == "warm"')


def test_numbers_of_the_other_kind_are_taken_as_what_was_checked() -> None:
    assert ask("person.ltv * 2.0 > 3.0", person__ltv=2)[0] == "TRUE"
    assert ask("facts.views + 1 > 3", facts__views=3.0)[0] == "TRUE"


@pytest.mark.parametrize(
    "text",
    [
        'matches(person.tier, "a")',
        'person.tier.matches("a")',
        'duration("1s") > duration("2s")',
        "has(person.tier)",
        "type(person.tier) == string",
        '{"a": 1}.a == 1',
        "google.protobuf.Int32Value{value: 3} == 3",
        "now() > 3",
    ],
)
def test_functions_that_are_not_for_conditions_are_e203(text: str) -> None:
    with pytest.raises(BadCondition) as bad:
        ENVIRONMENT.compile("c", text)
    assert {trouble.code for trouble in bad.value.troubles} == {"E203"}


def test_every_unknown_field_of_a_condition_is_named() -> None:
    with pytest.raises(BadCondition) as bad:
        ENVIRONMENT.compile("c", 'person.teir == "a" && zone.categry == "b"')
    assert [(trouble.offset, trouble.width) for trouble in bad.value.troubles] == [(0, 11), (22, 12)]


def test_leaves_of_an_event_are_those_of_its_record() -> None:
    leaves = {name: source.leaf.type for name, source in event_leaves("pos.receipt").items()}
    assert leaves["e.total"] == "double"
    assert leaves["e.kind"] == "string"
    assert leaves["e.categories"] == "list"
    assert not {"e.event_time", "e.total_minor", "e.lines"} & leaves.keys()
    assert "sensing.position" not in event_topics()
    line = ReceiptLine(sku="a", quantity_milli=1000, line_total_minor=100, category="shoes")
    receipt = Receipt(event_time=1, receipt_id="r", currency="EUR", total_minor=1999, lines=[line, line])
    assert event_leaves("pos.receipt")["e.total"].read(receipt) == 19.99
    assert event_leaves("pos.receipt")["e.total"].exact(receipt) == 1999
    assert event_leaves("pos.receipt")["e.categories"].read(receipt) == ["shoes"]


def test_the_reader_of_the_serialised_form_finds_every_kind_of_node() -> None:
    text = '!(facts.views in [1, -2]) && person.segments.exists(s, s == "é") && person.segments[0] == "x" ? true : 1.5 > 2.0'
    tree = ENVIRONMENT.compile("c", text).tree
    kinds = {node.kind for node in tree.root.walk()}
    assert kinds == {"call", "list", "loop", "name", "const"}
    constants = [node.value for node in tree.root.walk() if node.kind == "const"]
    for constant in (1, -2, "é", 0, "x", True, 1.5, 2.0):
        assert constant in constants
    assert tree.types[tree.root.id] == "bool"
    assert read(ENVIRONMENT._engine.compile("a.b", disable_check=True).serialize()).root.path == "a.b"
