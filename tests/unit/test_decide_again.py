"""Decided again: who becomes known, consent given, a hold that ended, stock that is known."""

import pytest

from operators.decide import DecideRule
from schemas import ids
from tests.unit.deciding import (
    ALL,
    CARD,
    GUARD,
    IS_PREMIUM,
    MAIL,
    SCREEN,
    T0,
    TAG,
    M,
    S,
    campaign,
    paired,
    person,
    shop,
    stranger,
)

NO_ONE = {"identity": "anyone", "consent": []}
HOLD = {"quiet": {"venue": "17:00-17:30", "else": "hold", "at_most": "1h"}}


def test_paired_at_sixty_seconds_fires_at_sixty_seconds():
    s = stranger(shop(campaign(if_=IS_PREMIUM)))
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_MISSING")
    paired(s, 60 * S)
    assert s.said() == ("FIRED", "NONE")
    again = s.decisions[-1]
    assert (again.cause, again.attempt, again.event_time) == ("IDENTIFIED", 1, T0 + 60 * S)
    assert again.trigger == s.decisions[0].trigger
    assert again.anchor_id == TAG, "the anchor of a decided visit stays with it"
    assert again.root == CARD
    assert again.event_id == ids.decision(TAG, again.trigger.id, 1)
    assert again.input_ids == [again.trigger.id, "link-60000000"]
    assert s.commands[-1].event_time == T0 + 60 * S


def test_a_link_after_the_stay_changes_nothing():
    s = stranger(shop(campaign(if_=IS_PREMIUM)))
    s.stay()
    s.exit(0, 55 * S)
    paired(s, 60 * S)
    assert len(s.decisions) == 1


def test_a_link_that_tells_nothing_new_is_no_reason_to_decide_again():
    s = shop(campaign(if_=IS_PREMIUM)).known(tier="silver")
    s.stay()
    paired(s, 60 * S, CARD, TAG, MAIL, kind="GREW")
    assert len(s.decisions) == 1


def test_what_has_fired_is_not_decided_again():
    s = shop(campaign()).known()
    s.stay()
    s.consent(60 * S)
    paired(s, 70 * S, CARD, TAG, MAIL)
    assert len(s.decisions) == 1


def test_a_firing_under_the_anonymous_anchor_counts_after_the_merge():
    caps = {"caps": {"this": "1 per 24h"}}
    s = stranger(shop(campaign(guard=NO_ONE | caps, do=[SCREEN])))
    s.stay()
    assert s.said() == ("FIRED", "NONE")
    paired(s, 60 * S)
    s.exit(0, 70 * S)
    s.stay(2 * M)
    assert s.said() == ("SUPPRESSED", "CAP_THIS")
    s.exit(2 * M, 3 * M)
    s.link(person(CARD), person(TAG), at=200 * S, kind="SPLIT")
    s.stay(5 * M)
    assert s.said() == ("SUPPRESSED", "CAP_THIS"), "the tag was told"
    s.stay(6 * M, member=CARD)
    assert s.said() == ("FIRED", "NONE"), "the card was not: a split returns ledgers"


def test_consent_given_while_she_stands_there():
    s = shop(campaign(if_=IS_PREMIUM)).known(granted=("in_store_location",))
    s.stay()
    s.consent(60 * S)
    assert s.said() == ("FIRED", "NONE")
    again = s.decisions[-1]
    assert (again.cause, again.attempt) == ("CONSENT_GIVEN", 1)
    assert again.event_time == T0 + 60 * S
    assert again.anchor_id == CARD


def test_consent_given_too_little_is_recorded_and_may_be_given_again():
    s = shop(campaign(if_=IS_PREMIUM)).known(granted=("in_store_location",))
    s.stay()
    s.consent(60 * S, granted=("personalisation", "in_store_location"))
    s.consent(70 * S)
    assert [(each.cause, each.attempt, each.candidates[0].reason) for each in s.decisions] == [
        ("TRIGGER", 0, "CONSENT_MISSING"),
        ("CONSENT_GIVEN", 1, "CONSENT_MISSING"),
        ("CONSENT_GIVEN", 2, "NONE"),
    ]


@pytest.mark.parametrize("how", ["withdrawn", "denied", "late"])
def test_a_consent_that_gives_nothing_now_decides_nothing(how):
    s = shop(campaign(if_=IS_PREMIUM)).known(granted=("in_store_location",))
    s.stay()
    if how == "withdrawn":
        s.consent(60 * S, withdrawn=True)
    elif how == "denied":
        s.consent(60 * S, granted=(), denied=ALL)
    else:
        s.consent(60 * S, clock=71 * S)
    assert len(s.decisions) == 1


def test_hold_ended_decides_again_and_never_sends_what_was():
    for bought, reason in ((False, "NONE"), (True, "UNLESS_MATCHED")):
        s = shop(campaign(guard=GUARD | HOLD, unless={"bought": {"event": "pos.receipt", "within": "2h"}})).known()
        s.stay()
        if bought:
            s.receipt(10 * M)
        s.tick(30 * M - 1)
        assert len(s.decisions) == 1
        s.tick(30 * M)
        again = s.decisions[-1]
        assert (again.cause, again.attempt, again.candidates[0].reason) == ("HOLD_ENDED", 1, reason)
        assert again.event_time == again.ingest_time == T0 + 30 * M


def test_a_timer_that_fell_due_before_an_event_rings_before_it_even_without_a_tick():
    s = shop(campaign(guard=GUARD | HOLD), campaign("next", when={"entered": {"zone": "shoes"}}, group="b")).known()
    s.stay()
    s.enter(30 * M + S, "shoes")
    assert [each.cause for each in s.decisions] == ["TRIGGER", "HOLD_ENDED", "TRIGGER"]
    assert s.decisions[1].event_time == T0 + 30 * M


def test_a_hold_of_one_group_does_not_tell_the_other_again():
    s = shop(campaign("held", group="a", guard=GUARD | HOLD), campaign("now", group="b")).known()
    s.stay()
    assert (s.said("held"), s.said("now")) == (("SUPPRESSED", "HELD"), ("FIRED", "NONE"))
    s.tick(30 * M)
    assert (s.said("held"), s.said("now")) == (("FIRED", "NONE"), ("SUPPRESSED", "ALREADY_FIRED"))


def test_a_live_timer_that_fell_due_while_nobody_ran_is_stale():
    s = shop(campaign(guard=GUARD | HOLD), rule=DecideRule(timers_go_stale=True)).known()
    s.stay()
    s.tick(31 * M)
    assert s.said() == ("SUPPRESSED", "STALE_TRIGGER")


STOCK = {"stock": {"of": "zone.category", "at_least": 1, "max_age": "15m"}}


@pytest.mark.parametrize("scope", ["mad-01", "offers"])
def test_stock_known_while_she_stands_there(scope):
    s = shop(campaign(guard=GUARD | STOCK)).known()
    s.stay()
    s.stock(60 * S, 3, scope=scope)
    assert s.said() == ("FIRED", "NONE")
    assert (s.decisions[-1].cause, s.decisions[-1].attempt) == ("STOCK_KNOWN", 1)


def test_stock_of_something_else_or_elsewhere_decides_nothing():
    s = shop(
        campaign(guard=GUARD | STOCK), campaign("free", when={"dwell": {"zone": "shoes", "at_least": "45s"}})
    ).known()
    s.stay()
    s.stock(60 * S, 3, of="shoes")
    s.stock(60 * S, 3, scope="bcn-01")
    s.stock(60 * S, 3, clock=71 * S)
    assert len(s.decisions) == 1


def test_a_link_without_an_event_is_acted_on_too():
    s = stranger(shop(campaign(if_=IS_PREMIUM)))
    s.stay()
    s.link(person(CARD, TAG), at=60 * S, kind="MERGE")
    assert s.said() == ("FIRED", "NONE")
    assert s.decisions[-1].cause == "IDENTIFIED"
