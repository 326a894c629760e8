"""Facts: what an event adds to which aggregate under which key, against a reading of each event by hand."""

import random

import pytest

from operators.rules.facts import BadFact, FactDeclared, FactPlan
from operators.rules.troubles import BadCondition
from schemas.derived import Candidate, Decision, Trigger
from schemas.people import Receipt, ReceiptLine, WebEvent, WebItem
from schemas.person import Observation

HOUR = 3_600_000_000
CATEGORIES = ("shoes", "hats", None)


def receipt(total: int = 1999, kind: str = "SALE", categories: tuple[str | None, ...] = ("shoes",)) -> Receipt:
    lines = [ReceiptLine(sku="a", quantity_milli=1000, line_total_minor=1, category=one) for one in categories]
    return Receipt(event_time=1, receipt_id="r", currency="EUR", total_minor=total, kind=kind, lines=lines)


def web(name: str, category: str | None) -> WebEvent:
    return WebEvent(event_time=1, name=name, category=category, items=[WebItem(sku="a", category="hats")])


def keep(op: str, topic: str, of: str | None = None, where: str | None = None) -> tuple[FactPlan, str]:
    plan = FactPlan()
    read, _ = plan.declare("fact", FactDeclared(op, topic, of, where, HOUR))
    return plan, read.aggregate


def test_what_observe_says_is_what_a_reader_would_count_by_hand() -> None:
    """Every event of a random stream, each aggregate's share worked out by plain Python."""
    plan = FactPlan()
    declared = {
        "all": (FactDeclared("count", "web.event", None, None, HOUR), lambda e: [("", None)]),
        "views": (
            FactDeclared("count", "web.event", None, 'e.name == "product_viewed" && e.category == zone.category', HOUR),
            lambda e: [(e.category, None)] if e.name == "product_viewed" and e.category else [],
        ),
        "either": (
            FactDeclared("count", "web.event", None, '(e.name == "a" || e.category == "hats") && e.path_known', HOUR),
            lambda e: [("", None)] if (e.name == "a" or e.category == "hats") and e.path is not None else [],
        ),
        "kinds": (
            FactDeclared("distinct", "web.event", "category", None, HOUR),
            lambda e: [("", e.category)] if e.category else [],
        ),
    }
    reads = {name: plan.declare(name, fact)[0].aggregate for name, (fact, _) in declared.items()}
    draw = random.Random(7)
    for _ in range(200):
        event = WebEvent(
            event_time=1,
            name=draw.choice(["product_viewed", "a"]),
            category=draw.choice(CATEGORIES),
            path=draw.choice([None, "/x"]),
        )
        expected = [
            Observation(reads[name], key, amount)
            for name, (_, by_hand) in declared.items()
            for key, amount in by_hand(event)
        ]
        assert plan.observe("web.event", event) == expected


def test_a_receipt_counts_once_under_each_category_of_its_lines() -> None:
    plan, id_ = keep("count", "pos.receipt", where="zone.category in e.categories")
    found = plan.observe("pos.receipt", receipt(categories=("shoes", "hats", "shoes", None)))
    assert found == [Observation(id_, "shoes"), Observation(id_, "hats")]
    assert plan.observe("pos.receipt", receipt(categories=(None,))) == []


def test_amounts_are_observed_in_whole_minor_units() -> None:
    plan, id_ = keep("sum", "pos.receipt", of="total")
    assert plan.observe("pos.receipt", receipt(total=-1999)) == [Observation(id_, "", -1999)]


def test_conditions_see_amounts_in_main_units() -> None:
    plan, _ = keep("count", "pos.receipt", where="e.total > 19.98 && e.total < 20.0")
    assert plan.observe("pos.receipt", receipt(total=1999))
    assert not plan.observe("pos.receipt", receipt(total=2000))


def test_distinct_over_a_list_observes_each_member() -> None:
    plan, id_ = keep("distinct", "pos.receipt", of="categories")
    found = plan.observe("pos.receipt", receipt(categories=("shoes", "hats")))
    assert found == [Observation(id_, "", "shoes"), Observation(id_, "", "hats")]


@pytest.mark.parametrize(
    "where",
    [
        'e.name == "a" && e.category == zone.category',
        'zone.category == e.category && e.name == "a"',
        '(e.category == zone.category) && e.name   ==  "a"',
        '(zone.category == e.category && e.name == "a")',
    ],
)
def test_order_brackets_and_blanks_do_not_make_another_aggregate(where: str) -> None:
    plan, id_ = keep("count", "web.event", where='e.name == "a" && e.category == zone.category')
    other, _ = plan.declare("other", FactDeclared("count", "web.event", None, where, HOUR))
    assert other.aggregate == id_
    assert other.key_leaf == "zone.category"
    assert plan.observe("web.event", web("a", "shoes")) == [Observation(id_, "shoes")]


def test_blanks_inside_of_a_string_do_make_another() -> None:
    plan, id_ = keep("count", "web.event", where='e.name == "a b"')
    other, _ = plan.declare("other", FactDeclared("count", "web.event", None, 'e.name == "a  b"', HOUR))
    assert other.aggregate != id_


@pytest.mark.parametrize(
    "where",
    [
        "e.category != zone.category",
        "e.category == zone.category || e.name == 'a'",
        "!(e.category == zone.category)",
        "e.category == zone.category && e.path == zone.id",
        "zone.category == 'shoes'",
        "e.categories.exists(c, c == zone.category)",
    ],
)
def test_a_where_that_cannot_be_a_key_is_e203(where: str) -> None:
    with pytest.raises(BadCondition) as bad:
        keep("count", "web.event", where=where)
    assert [trouble.code for trouble in bad.value.troubles] == ["E203"]


@pytest.mark.parametrize(
    ("op", "of", "code"),
    [
        ("sum", None, "E104"),
        ("sum", "kind", "E102"),
        ("sum", "totl", "E102"),
        ("count", "total", "E102"),
        ("last", "categories", "E102"),
    ],
)
def test_a_fact_says_of_which_field_and_one_it_can_take(op: str, of: str | None, code: str) -> None:
    with pytest.raises(BadFact) as bad:
        keep(op, "pos.receipt", of)
    assert bad.value.code == code


def test_types_of_facts_follow_their_verb() -> None:
    plan = FactPlan()

    def leaf(op: str, of: str | None) -> tuple[str, bool]:
        made = plan.declare("f", FactDeclared(op, "pos.receipt", of, None, HOUR))[1]
        return made.type, made.nullable

    assert leaf("count", None) == ("int", False)
    assert leaf("sum", "total") == ("double", False)
    assert leaf("max", "total") == ("double", True)
    assert leaf("last", "workstation_id") == ("string", True)
    assert leaf("distinct", "categories") == ("int", False)


def test_what_fired_is_observed_from_decisions_and_outcomes_by_their_name() -> None:
    plan = FactPlan()
    fired, _ = plan.declare("told", FactDeclared("count", "fired:offers", None, None, HOUR))
    shown, _ = plan.declare("seen", FactDeclared("count", "outcome:offers:SHOWN", None, None, HOUR))
    candidates = [
        Candidate(campaign_id=name, campaign_version="v", verdict=verdict, reason="NONE")
        for name, verdict in (("offers", "FIRED"), ("other", "FIRED"), ("offers", "OUTRANKED"))
    ]
    record = Decision(
        event_time=1,
        anchor_id="a",
        root="a",
        attempt=0,
        cause="TRIGGER",
        trigger=Trigger(kind="DWELL", id="t"),
        candidates=candidates,
    )
    assert plan.observe("decision.record", record) == [Observation(fired.aggregate, "")]
    assert plan.observe("outcome:offers:SHOWN", record) == [Observation(shown.aggregate, "")]
    assert fired.purposes == frozenset()
