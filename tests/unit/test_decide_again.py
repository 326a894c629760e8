"""Decided again, follow-ups by time, sequences, segments, who becomes known; and what stands in commands."""

import pytest
from msgspec.structs import replace

from operators.decide import DecideRule
from schemas import ids
from schemas.derived import Outcome
from schemas.items import Tick
from schemas.reference import Link
from tests.unit.deciding import (
    ALL,
    CARD,
    GUARD,
    MAIL,
    PUSH,
    SCREEN,
    T0,
    TAG,
    H,
    M,
    S,
    campaign,
    person,
    shop,
    square,
)

PREMIUM = {"premium": '"premium" in person.segments'}
NO_ONE = {"identity": "anyone", "consent": []}
LEFT = {"absence": {"after": {"exited": {"site": "any"}}, "without": {"event": "pos.receipt"}, "within": "2h"}}
MAILED = {"channel": "email", "template": "plain", "ttl": "24h"}
HOLD = {"quiet": {"venue": "17:00-17:30", "else": "hold", "at_most": "1h"}}


def paired(s, at, *members, kind="MERGE"):
    """A QR code ties the tag to the card."""
    record = Link(event_id=f"link-{at}", from_id=TAG, to_id=CARD, method="QR_PAIR", valid_from=T0 + at, **s.base(at))
    return s.link_by(record, TAG, person(*(members or (CARD, TAG))), kind=kind)


def stranger(s):
    """A tag that is nobody's yet, and a customer who is not here yet."""
    s.link(person(TAG), at=-100 * S)
    s.link(person(CARD), at=-100 * S)
    s.consent()
    s.customer("gold")
    s.point()
    return s


def test_paired_at_sixty_seconds_fires_at_sixty_seconds():
    s = stranger(shop(campaign(if_=PREMIUM)))
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
    s = stranger(shop(campaign(if_=PREMIUM)))
    s.stay()
    s.exit(0, 55 * S)
    paired(s, 60 * S)
    assert len(s.decisions) == 1


def test_a_link_that_tells_nothing_new_is_no_reason_to_decide_again():
    s = shop(campaign(if_=PREMIUM)).known(tier="silver")
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
    s = shop(campaign(if_=PREMIUM)).known(granted=("in_store_location",))
    s.stay()
    s.consent(60 * S)
    assert s.said() == ("FIRED", "NONE")
    again = s.decisions[-1]
    assert (again.cause, again.attempt) == ("CONSENT_GIVEN", 1)
    assert again.event_time == T0 + 60 * S
    assert again.anchor_id == CARD


def test_consent_given_too_little_is_recorded_and_may_be_given_again():
    s = shop(campaign(if_=PREMIUM)).known(granted=("in_store_location",))
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
    s = shop(campaign(if_=PREMIUM)).known(granted=("in_store_location",))
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


# Follow-ups.


def left_shop(**parts):
    return shop(campaign("come-back", when=LEFT, guard=GUARD, do=[MAILED], **parts))


def visited(s):
    s.known(CARD, TAG, MAIL)
    s.point("EMAIL", member=MAIL)
    s.enter(0, "store")
    s.exit(0, 10 * M, "store")
    return s


def test_left_without_buying_rings_two_hours_later():
    s = visited(left_shop())
    s.tick(10 * M + 2 * H - 1)
    assert not s.decisions
    s.tick(10 * M + 2 * H)
    (decision,) = s.decisions
    assert s.said() == ("FIRED", "NONE")
    assert decision.trigger.kind == "ABSENCE"
    assert decision.event_time == decision.ingest_time == decision.trigger.reached_at == T0 + 10 * M + 2 * H
    assert decision.trigger.visit_id == s.visit(0, "store")
    assert decision.input_ids == [decision.trigger.id, ids.transition(s.visit(0, "store"), "EXIT")]
    (command,) = s.commands
    assert (command.channel, command.target_id, command.purpose) == ("EMAIL", MAIL, "contact")
    assert command.event_id == ids.action("come-back", command.campaign_version, CARD, s.visit(0, "store"), 0)


@pytest.mark.parametrize("bought", [11 * M, 10 * M + 2 * H, 5 * M])
def test_a_receipt_within_the_time_or_before_she_left_ends_the_wait(bought):
    s = visited(left_shop())
    if bought < 10 * M:
        s = left_shop()
        s.known(CARD, TAG, MAIL)
        s.enter(0, "store")
        s.receipt(bought)
        s.exit(0, 10 * M, "store")
    else:
        s.receipt(bought)
    s.tick(3 * H)
    assert not s.decisions


def test_a_receipt_that_comes_after_the_time_is_too_late():
    s = visited(left_shop())
    s.tick(10 * M + 2 * H)
    s.receipt(10 * M + 2 * H + 1)
    assert s.said() == ("FIRED", "NONE")


def test_a_receipt_of_another_member_counts():
    s = left_shop()
    s.known(CARD, MAIL)
    s.link(person(TAG), at=-S)
    s.enter(0, "store")
    s.exit(0, 10 * M, "store")
    s.receipt(20 * M)
    paired(s, 30 * M, CARD, TAG, MAIL)
    s.tick(3 * H)
    assert not s.decisions


def test_every_guard_is_asked_when_it_rings():
    s = visited(left_shop())
    s.consent(H, granted=(), withdrawn=True)
    s.tick(3 * H)
    assert s.said() == ("SUPPRESSED", "CONSENT_WITHDRAWN")


@pytest.mark.parametrize(("end", "count"), [("close", 0), ("keep", 0), ("all", 1)])
def test_waiting_follow_ups_ring_up_to_the_last_ingest_time_unless_all_are_asked_for(end, count):
    s = shop(campaign("come-back", when=LEFT, do=[MAILED]), rule=DecideRule(end=end))
    visited(s)
    s.tick(20 * M, end=True)
    assert len(s.decisions) == count


def test_the_end_of_a_replay_decides_no_stay_that_lies_ahead():
    for last, count in ((45 * S, 1), (45 * S - 1, 0)):
        s = shop(campaign()).known()
        s.enter(0)
        made = []
        s.take = made.append  # what the end fires stands before the tick in one batch
        s.dwell(0, clock=last)
        del s.take
        s.take(made[0], Tick(s.number, T0 + last, end=True))
        assert len(s.decisions) == count


def test_two_follow_ups_of_one_exit_are_one_record():
    s = shop(
        campaign("come-back", when=LEFT, do=[MAILED], group="a"),
        campaign("ask", when=LEFT, do=[MAILED], group="b"),
    )
    visited(s)
    s.tick(3 * H)
    assert [each.campaign_id for each in s.decisions[-1].candidates] == ["ask", "come-back"]


def test_a_follow_up_of_what_fired():
    guard = {"consent": ["personalisation"]}
    s = shop(
        campaign(do=[SCREEN]),
        campaign(
            "reward",
            when={"entered": {"zone": "shoes"}},
            facts={"told": {"fired": "offer", "within": "1d"}},
            if_={"told": "facts.told >= 1"},
            guard=guard,
        ),
    ).known()
    s.enter(0, "shoes")
    assert s.said() == ("NOT_MATCHED", "CLAUSE_FALSE")
    s.stay()
    s.enter(3 * M, "shoes")
    assert s.said() == ("FIRED", "NONE")
    assert s.decisions[-1].input_ids == [s.decisions[-1].trigger.id, s.decisions[1].event_id]


# Other triggers.


def test_entered_and_exited_a_zone_and_the_shop():
    s = shop(
        campaign("in-zone", when={"entered": {"zone": "offers"}}, group="a"),
        campaign("out-zone", when={"exited": {"zone": "offers"}}, group="a"),
        campaign("in-shop", when={"entered": {"site": "any"}}, group="a"),
        campaign("out-shop", when={"exited": {"site": "mad-01"}}, group="a"),
    ).known()
    s.enter(0, "store")
    s.enter(10 * S, "offers")
    s.exit(10 * S, 20 * S, "offers")
    s.exit(0, 30 * S, "store")
    said = [(each.trigger.kind, each.trigger.zone_id, [c.campaign_id for c in each.candidates]) for each in s.decisions]
    assert said == [
        ("ENTERED", "store", ["in-shop"]),
        ("ENTERED", "offers", ["in-zone"]),
        ("EXITED", "offers", ["out-zone"]),
        ("EXITED", "store", ["out-shop"]),
    ]


def test_an_event_that_fits_where_with_its_leaves():
    s = shop(
        campaign(
            when={"event": {"topic": "web.event", "where": 'e.name == "product_viewed"'}},
            if_={"offers": 'e.category == "offers"'},
            guard={"consent": ["personalisation"]},
        )
    ).known()
    s.web(0, "page_viewed")
    s.web(10 * S)
    s.web(20 * S, category="shoes")
    assert [(each.trigger.kind, each.candidates[0].reason) for each in s.decisions] == [
        ("EVENT", "NONE"),
        ("EVENT", "CLAUSE_FALSE"),
    ]
    assert s.commands[-1].visit_id is None
    assert s.commands[-1].event_id == ids.action(
        "offer", s.commands[-1].campaign_version, CARD, s.decisions[0].trigger.id, 0
    )


def test_an_event_told_twice_is_decided_once():
    s = shop(campaign(when={"event": {"topic": "web.event"}}, guard={"consent": ["personalisation"]})).known()
    s.web(0)
    s.web(0)
    assert len(s.decisions) == 1


SEQUENCE = {
    "sequence": {
        "of": [
            {"event": {"topic": "web.event", "where": 'e.name == "one"'}},
            {"event": {"topic": "web.event", "where": 'e.name == "two"'}},
        ],
        "within": "3h",
    }
}


@pytest.mark.parametrize(
    ("story", "count"),
    [
        ([("one", 0), ("two", 3 * H)], 1),
        ([("one", 0), ("two", 3 * H + 1)], 0),
        ([("two", 0), ("one", S)], 0),
        ([("one", 0), ("one", 2 * H), ("two", 4 * H)], 1),
        ([("one", 0), ("two", H), ("two", 2 * H)], 1),
        ([("one", 0), ("two", H), ("one", 2 * H), ("two", 3 * H)], 2),
    ],
)
def test_sequence_from_the_newest_start(story, count):
    s = shop(campaign(when=SEQUENCE, guard={"consent": ["personalisation"]})).known()
    for name, at in story:
        s.web(at, name)
    assert [each.trigger.kind for each in s.decisions] == ["SEQUENCE"] * count


def test_a_sequence_goes_on_after_a_merge():
    s = shop(campaign(when=SEQUENCE, guard={"consent": ["personalisation"]})).known(CARD)
    s.link(person(MAIL), at=-S)
    s.web(0, "one", member=MAIL)
    s.link(person(CARD, MAIL), at=S, kind="MERGE")
    s.web(2 * S, "two")
    assert len(s.decisions) == 1


def test_a_split_leaves_each_side_its_part_of_a_sequence():
    s = shop(campaign(when=SEQUENCE, guard={"consent": ["personalisation"]})).known(CARD)
    s.link(person(CARD, MAIL), at=-S)
    s.web(0, "one", member=MAIL)
    s.web(S, "none")
    s.link(person(CARD), person(MAIL), at=S, kind="SPLIT")
    s.web(2 * S, "two")
    assert not s.decisions
    s.web(2 * S, "two", member=MAIL)
    assert len(s.decisions) == 1


def test_a_zone_is_read_as_it_is_after_an_edit():
    s = shop(campaign(if_={"shoes": 'zone.category == "shoes"'}, do=[SCREEN])).known()
    s.stay()
    assert s.said() == ("NOT_MATCHED", "CLAUSE_FALSE")
    s.exit(0, M)
    s.hear(replace(square("offers", "OFFER", 30, 4, "shoes"), event_id="edit", **s.base(M)))
    s.stay(2 * M)
    assert s.said() == ("FIRED", "NONE")
    assert s.commands[-1].target_id == "screen-8", "and the nearest screen is another one"


def test_segment_entered_and_left():
    s = shop(
        campaign("hello", when={"segment": {"entered": "premium"}}, guard={"consent": ["personalisation"]}),
        campaign("bye", when={"segment": {"left": "premium"}}, guard={"consent": ["personalisation"]}),
    ).known(tier="silver")
    s.customer("gold", at=S)
    s.customer("silver", at=M)
    assert [(each.trigger.kind, each.candidates[0].campaign_id, each.candidates[0].reason) for each in s.decisions] == [
        ("SEGMENT", "hello", "NONE"),
        ("SEGMENT", "bye", "NONE"),
    ]
    changes = s.records("segment.change")
    assert [each.trigger.id for each in s.decisions] == [each.event_id for each in changes]


def test_a_merge_moves_a_membership_and_triggers_nothing():
    s = shop(campaign("hello", when={"segment": {"entered": "premium"}}, guard={"consent": ["personalisation"]}))
    s.link(person(MAIL), at=-100 * S)
    s.known(CARD)
    s.link(person(CARD, MAIL, anchor=MAIL), at=S, kind="MERGE")
    assert len(s.records("segment.change")) == 3
    assert len(s.decisions) == 1


def test_identified_while_in_the_zone():
    s = stranger(
        shop(
            campaign(when={"identified": {"in_zone": "offers"}}),
            campaign("any", when={"identified": {"in_zone": "shoes"}}),
        )
    )
    s.enter(0)
    assert not s.decisions
    paired(s, 30 * S)
    (decision,) = s.decisions
    assert (decision.trigger.kind, decision.trigger.zone_id, decision.trigger.visit_id) == (
        "IDENTIFIED",
        "offers",
        s.visit(0),
    )
    assert s.said() == ("FIRED", "NONE")
    assert decision.input_ids == [decision.trigger.id, "link-30000000"]
    paired(s, 40 * S, CARD, TAG, MAIL)
    assert len(s.decisions) == 1


def test_a_link_without_an_event_is_acted_on_too():
    s = stranger(shop(campaign(if_=PREMIUM)))
    s.stay()
    s.link(person(CARD, TAG), at=60 * S, kind="MERGE")
    assert s.said() == ("FIRED", "NONE")
    assert s.decisions[-1].cause == "IDENTIFIED"


# Commands.


def test_fallbacks_wait_for_the_entry_before_and_what_goes_beside_does_not():
    do = [SCREEN, PUSH | {"fallback_after": "5s"}, MAILED | {"fallback_after": "1m"}, PUSH | {"also": True}]
    s = shop(campaign(do=do)).known(CARD, TAG, MAIL)
    s.point("EMAIL", member=MAIL)
    s.stay()
    screen, push, mail, beside = s.commands
    at = screen.event_time
    assert [each.waits_for for each in s.commands] == [None, screen.event_id, push.event_id, None]
    assert [each.not_before for each in s.commands] == [None, at + 5 * S, at + M, None]
    assert [each.expires_at - at for each in s.commands] == [20 * S, M, 24 * H, M]
    assert [each.step for each in s.commands] == ["0", "1", "2", "3"]
    assert [each.while_present for each in s.commands] == [True, False, False, False]
    assert [each.purpose for each in s.commands] == ["personalisation", "contact", "contact", "contact"]
    assert beside.channel == "PUSH"
    assert mail.target_id == MAIL
    assert s.decisions[-1].actions == [each.event_id for each in s.commands]
    assert {each.decision_id for each in s.commands} == {s.decisions[-1].event_id}


@pytest.mark.parametrize(("language", "locale"), [("es", "es"), ("es-MX", "es"), ("fr", "en"), ("", "en")])
def test_locale_is_the_consents_language_or_the_fallback(language, locale):
    s = shop(campaign()).known()
    s.consent(-30 * S, language=language)
    s.stay()
    assert s.commands[-1].locale == locale


def test_params_are_the_variables_of_the_part_as_text():
    s = shop(campaign(do=[PUSH | {"template": "tiered"}])).known()
    s.stay()
    assert s.commands[-1].params == {"person.tier": "gold"}


def test_the_nearest_screen_that_has_the_zone_in_view():
    s = shop(campaign(do=[SCREEN]), campaign("shoes", when={"entered": {"zone": "shoes"}}, do=[SCREEN])).known()
    s.stay()
    assert s.commands[-1].target_id == "screen-7"
    s.enter(M, "shoes")
    assert s.said() == ("SUPPRESSED", "NO_REACHABLE_CHANNEL")


def test_the_newest_verified_contact_point_is_where_it_goes():
    s = shop(campaign()).known(CARD, TAG, MAIL)
    s.point(member=MAIL, at=-10 * S)
    s.point(member=TAG, at=-5 * S, verified=False)
    s.stay()
    assert s.commands[-1].target_id == MAIL


def test_a_reservation_for_a_fallback_is_returned_when_it_was_not_needed():
    caps = {"caps": {"push": "1 per 4h"}}
    for reason, said in (("NOT_NEEDED", "NONE"), ("EXPIRED", "CAP_CHANNEL")):
        s = shop(campaign(guard=GUARD | caps, do=[SCREEN, PUSH | {"fallback_after": "5s"}])).known()
        s.stay()
        push = s.commands[-1]
        s.hear(
            Outcome(event_id="o", action_id=push.event_id, channel="PUSH", status="SUPPRESSED", reason=reason, attempt=0,
                    **s.base(50 * S))
        )  # fmt: skip
        s.exit(0, M)
        s.stay(2 * M)
        assert s.only().reason == said


def test_a_cap_on_what_was_shown_is_returned_for_what_was_not():
    caps = {"caps": {"this": {"limit": "1 per 24h", "count": "shown"}}}
    s = shop(campaign(guard=GUARD | caps)).known()
    s.stay()
    s.hear(
        Outcome(event_id="o", action_id=s.commands[-1].event_id, channel="PUSH", status="EXPIRED", reason="EXPIRED",
                attempt=0, **s.base(50 * S))
    )  # fmt: skip
    s.exit(0, M)
    s.stay(2 * M)
    assert s.said() == ("FIRED", "NONE")


def test_outcomes_are_facts_of_who_was_told():
    s = shop(
        campaign(),
        campaign(
            "again",
            when={"entered": {"zone": "shoes"}},
            facts={"clicked": {"outcome": "offer", "status": "clicked", "within": "1d"}},
            if_={"clicked": "facts.clicked >= 1"},
            guard={"consent": ["personalisation"]},
        ),
    ).known()
    s.stay()
    s.hear(
        Outcome(event_id="o", action_id=s.commands[-1].event_id, channel="PUSH", status="CLICKED", reason="NONE",
                attempt=0, **s.base(50 * S))
    )  # fmt: skip
    s.enter(2 * M, "shoes")
    assert s.said() == ("FIRED", "NONE")


def test_nothing_personal_of_a_member_that_is_only_inferred_without_linking():
    granted = ("personalisation", "in_store_location", "contact")
    s = shop(campaign(if_={"gold": 'person.tier == "gold"'}))
    s.link(person(CARD, TAG, MAIL, inferred=(MAIL,)), at=-100 * S)
    s.consent(granted=granted)
    s.customer("gold", member=MAIL)
    s.point()
    s.stay()
    assert s.said() == ("NOT_MATCHED", "VALUE_MISSING")
    s.exit(0, M)
    s.consent(M, granted=(*granted, "linking"))
    s.stay(2 * M)
    assert s.said() == ("FIRED", "NONE")
