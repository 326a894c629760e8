"""Decide: who of those that may speak does: rank, groups, and the arms of tests."""

from operators.decide import DecideRule
from operators.decisions.arbitration import bucket
from tests.unit.deciding import CARD, COOKIE, GUARD, SCREEN, TAG, M, S, campaign, person, shop


def test_outranked_by_priority_then_id():
    s = shop(campaign("b-low", priority=10), campaign("c-high", priority=90), campaign("a-high", priority=90)).known()
    s.stay()
    assert s.said("a-high") == ("FIRED", "NONE")
    assert s.said("c-high") == ("OUTRANKED", "OUTRANKED")
    assert s.only("c-high").detail == "a-high"
    assert [(each.campaign_id, each.rank) for each in s.decisions[-1].candidates] == [
        ("a-high", 1),
        ("b-low", 3),
        ("c-high", 2),
    ]


def test_each_group_has_a_winner():
    s = shop(campaign("one", group="offers"), campaign("two", group="news")).known()
    s.stay()
    assert {each.verdict for each in s.decisions[-1].candidates} == {"FIRED"}
    assert len(s.decisions[-1].actions) == 2


def test_the_winners_of_two_groups_cannot_break_a_cap_together():
    caps = GUARD | {"caps": {"any": "1 per 24h"}}
    s = shop(campaign("one", group="offers", guard=caps), campaign("two", group="news", guard=caps)).known()
    s.stay()
    assert s.said("one") == ("FIRED", "NONE")
    assert s.said("two") == ("SUPPRESSED", "CAP_ANY")


def holdout(name, share="50%", **parts):
    return campaign(name, test={"holdout": share, "metric": "basket_value", "window": "24h"}, **parts)


def held_out_name(anchor, held=True):
    """Name of a campaign whose holdout of half the buckets has, or has not, an anchor in it."""
    names = (f"test-{n}" for n in range(100))
    return next(name for name in names if (bucket(name, anchor) < 5000) is held)


def test_held_out_and_the_walk_continues():
    name = held_out_name(CARD)
    s = shop(holdout(name, priority=90), campaign("next", priority=10)).known()
    s.stay()
    assert s.said(name) == ("HELD_OUT", "HELD_OUT")
    assert s.only(name).detail == f"bucket {bucket(name, CARD)}"
    assert s.only(name).arm == "control"
    assert s.said("next") == ("FIRED", "NONE")
    assert s.only("next").rank == 2


def test_a_held_out_person_is_charged_the_own_cap_and_no_other():
    name = held_out_name(CARD)
    caps = GUARD | {"caps": {"this": "1 per 24h", "push": "1 per 4h", "any": "1 per 24h"}}
    s = shop(holdout(name, guard=caps)).known()
    s.stay()
    s.exit(0, M)
    s.stay(5 * M)
    assert s.said(name) == ("SUPPRESSED", "CAP_THIS")
    assert s.only(name).guards["caps"] == "this 1/1 per 24h; push 0/1 per 4h; any 0/1 per 24h"


def test_treated_arm_is_recorded():
    name = held_out_name(CARD, held=False)
    s = shop(holdout(name)).known()
    s.stay()
    assert s.said(name) == ("FIRED", "NONE")
    assert s.only(name).arm == "treated"


def test_held_out_global():
    s = shop(campaign(), rule=DecideRule(control=1.0)).known()
    s.stay()
    assert s.said() == ("HELD_OUT", "HELD_OUT_GLOBAL")


def test_mixed_arms_when_anchors_of_different_arms_meet():
    name = next(
        name for name in (f"test-{n}" for n in range(100)) if bucket(name, CARD) >= 5000 and bucket(name, COOKIE) < 5000
    )
    s = shop(holdout(name)).known()
    s.link(person(COOKIE), at=-50 * S)
    s.stay()
    assert s.said(name) == ("FIRED", "NONE")
    s.exit(0, M)
    s.link(person(CARD, TAG, COOKIE), at=90 * S, kind="MERGE")
    s.stay(2 * M)
    assert s.said(name) == ("HELD_OUT", "MIXED_ARMS")
    assert s.only(name).arm == "mixed"
    s.exit(2 * M, 3 * M)
    s.link(person(CARD, TAG), person(COOKIE), at=200 * S, kind="SPLIT")
    s.stay(4 * M)
    assert s.said(name) == ("FIRED", "NONE"), "a split gives back the arm"


def test_a_tag_that_was_in_no_test_has_no_arm():
    name = next(
        name for name in (f"test-{n}" for n in range(100)) if bucket(name, CARD) >= 5000 and bucket(name, TAG) < 5000
    )
    s = shop(holdout(name))
    s.link(person(TAG), at=-90 * S)
    s.known()
    s.stay()
    assert s.said(name) == ("FIRED", "NONE")


def test_a_test_by_zone_and_half_hour_draws_slots_and_not_persons():
    parts = {"holdout": "50%", "metric": "basket_value", "window": "24h", "unit": "zone_slot"}
    s = shop(campaign(test=parts, do=[SCREEN])).known()
    expected, said = [], []
    for slot in range(8):
        s.stay(slot * 30 * M)
        s.exit(slot * 30 * M, slot * 30 * M + M)
        at = s.decisions[-1].event_time
        expected.append("HELD_OUT" if bucket("offer", f"offers\0{at // (30 * M)}") < 5000 else "FIRED")
        said.append(s.only().verdict)
    assert said == expected
    assert set(said) == {"HELD_OUT", "FIRED"}
