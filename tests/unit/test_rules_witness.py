"""Contradictions and clauses that say nothing are found, and nothing is called one that is not."""

import pytest

from operators.rules import lint
from operators.rules.faults import repaired

TEMPLATE = b"template: hello\nfallback_locale: en\nparts: {push: {en: 'Hello'}}\n"


def campaign(*clauses: str) -> dict[str, bytes]:
    lines = "".join(f"  c{at}: '{clause}'\n" for at, clause in enumerate(clauses))
    text = (
        "campaign: one\nowner: x\nwhen: {entered: {site: any}}\n"
        "facts:\n  views: {count: web.event, within: 7d}\n  spend: {sum: pos.receipt, of: total, within: 7d}\n"
        f"if:\n{lines}"
        "unless:\n  read: 'facts.views < 0 || facts.spend < 0.0'\n"
        "guard: {consent: [personalisation, profiling, in_store_location]}\n"
        "do: [{channel: push, template: hello, ttl: 60s}]\n"
    )
    return {"campaigns/one.yaml": text.encode(), "templates/hello.yaml": TEMPLATE}


def codes(*clauses: str) -> list[tuple[str, int]]:
    return [(fault.code, fault.line) for fault in lint(campaign(*clauses)).faults]


FIRST = 8
"""Line of the first clause."""


@pytest.mark.parametrize(
    "clauses",
    [
        ('"premium" in person.segments',),
        ("facts.views >= 3", "facts.spend > 400.0"),
        ("facts.views >= 3 && facts.views <= 3",),
        ('person.tier == "gold"', 'zone.category == "shoes"', "score.intent > 0.6"),
        ("size(person.segments) > 3",),
        ("person.ltv_known && person.ltv > 3.0",),
        ("!person.ltv_known",),
        ("person.tier == zone.category",),
        ('person.segments.exists(s, s == "a") && !("b" in person.segments)',),
    ],
)
def test_what_can_hold_and_can_fail_is_not_warned_of(clauses: tuple[str, ...]) -> None:
    assert codes(*clauses) == []


def test_clauses_that_exclude_each_other_are_named() -> None:
    found = lint(campaign("facts.views >= 3", 'person.tier == "gold"', "facts.views < 2")).faults
    assert [(fault.code, fault.what) for fault in found] == [
        ("W501", "no values satisfy if: clauses c0 and c2 exclude each other")
    ]


def test_three_clauses_may_exclude_each_other_though_no_two_do() -> None:
    found = lint(campaign("facts.views > 1 || facts.spend > 1.0", "facts.views < 1", "facts.spend < 1.0")).faults
    assert [fault.what for fault in found] == ["no values satisfy all clauses of if"]


@pytest.mark.parametrize(
    "clause", ["facts.views > 3 && facts.views < 2", 'person.tier == "a" && person.tier == "b"', "false"]
)
def test_a_clause_that_never_holds_is_w501(clause: str) -> None:
    assert codes(clause) == [("W501", FIRST)]


@pytest.mark.parametrize(
    "clause", ["facts.views > 3 || facts.views < 9", "true", 'person.tier == "a" || person.tier != "a"']
)
def test_a_clause_that_always_holds_is_w502(clause: str) -> None:
    assert codes(clause) == [("W502", FIRST)]


def test_a_clause_that_follows_from_another_is_w502() -> None:
    assert codes("facts.views > 5", "facts.views > 3") == [("W502", FIRST + 1)]


def test_too_many_combinations_are_said_to_be_unchecked() -> None:
    leaves = ("facts.spend", "person.ltv", "score.intent", "visit.dwell_s")
    (fault,) = lint(campaign(*(" || ".join(f"{leaf} == {at}.5" for at in range(6)) for leaf in leaves))).faults
    assert fault.code == "W501"
    assert "not checked" in fault.what


def test_a_literal_of_the_wrong_kind_is_repaired_on_request() -> None:
    files = campaign("facts.spend > 500 && person.ltv < -3")
    faults = [fault for fault in lint(files).faults if fault.edit]
    name = "campaigns/one.yaml"
    mended = {**files, name: repaired(files[name], [fault for fault in faults if fault.file == name])}
    assert b"facts.spend > 500.0 && person.ltv < -3.0" in mended[name]
    assert [fault for fault in lint(mended).faults if fault.refuses] == []


def rival(name: str, priority: int, clause: str, more: str = "") -> bytes:
    return (
        f"campaign: {name}\nowner: x\npriority: {priority}\nwhen: {{entered: {{site: any}}}}\n"
        f"facts:\n  views: {{count: web.event, within: 7d}}\nif:\n  few: 'facts.views >= {clause}'\n"
        f"guard: {{consent: [personalisation]}}\ndo: [{{channel: push, template: hello, ttl: 60s}}]\n{more}"
    ).encode()


def shadowed(above: bytes, below: bytes) -> list[str]:
    files = {"campaigns/above.yaml": above, "campaigns/below.yaml": below, "templates/hello.yaml": TEMPLATE}
    found = lint(files).faults
    assert {fault.code for fault in found} <= {"W502"}
    return [fault.file for fault in found]


def test_a_campaign_that_another_one_always_precedes_is_w502() -> None:
    assert shadowed(rival("above", 60, "2"), rival("below", 50, "3")) == ["campaigns/below.yaml"]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        (rival("above", 60, "4"), rival("below", 50, "3")),
        (rival("above", 50, "2"), rival("below", 50, "3")),
        (rival("above", 60, "2", "paused: true\n"), rival("below", 50, "3")),
        (rival("above", 60, "2", "group: other\n"), rival("below", 50, "3")),
        (rival("above", 60, "2", "test: {holdout: 10%}\n"), rival("below", 50, "3")),
        (rival("above", 60, "2", 'sites: {include: ["mad-*"]}\n'), rival("below", 50, "3")),
        (rival("above", 60, "2").replace(b"7d", b"6d"), rival("below", 50, "3")),
        (rival("above", 60, "2").replace(b"guard: {", b"guard: {caps: {this: 1 per 24h}, "), rival("below", 50, "3")),
        (rival("above", 60, "2").replace(b"guard: {", b"guard: {identity: asserted, "), rival("below", 50, "3")),
    ],
)
def test_a_campaign_that_may_get_its_turn_is_not(above: bytes, below: bytes) -> None:
    assert shadowed(above, below) == []
