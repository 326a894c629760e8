"""Each reason of the closed list that a decision can have, by name; and the order in which they are looked for."""

from types import SimpleNamespace

import pytest

from operators.decide import DecideRule
from operators.decisions.arbitration import bucket
from schemas.derived import Reason, Score
from schemas.items import Event
from schemas.people import Customer
from schemas.reference import Device, Release
from schemas.sensing import SourceStatus
from tests.unit.deciding import (
    ALL,
    CARD,
    COOKIE,
    DAY,
    DWELL,
    GUARD,
    MAIL,
    PUSH,
    SCREEN,
    TAG,
    H,
    M,
    S,
    campaign,
    person,
    shop,
)

PREMIUM = {"premium": '"premium" in person.segments'}
BOUGHT = {"bought": {"event": "pos.receipt", "where": "zone.category in e.categories", "within": "2h"}}


def guarded(**parts):
    return campaign(guard=GUARD | parts)


def test_fired_when_nothing_stands_in_the_way():
    s = shop(campaign(if_=PREMIUM)).known()
    s.stay()
    assert s.said() == ("FIRED", "NONE")
    assert s.only().rank == 1
    assert [command.channel for command in s.commands] == ["PUSH"]


def test_no_campaign_no_record():
    s = shop(campaign()).known()
    s.stay(after=30 * S)
    s.stay(zone="shoes")
    assert not s.decisions


# If and unless.


def test_clause_false():
    s = shop(campaign(if_=PREMIUM)).known(tier="silver")
    s.stay()
    assert s.said() == ("NOT_MATCHED", "CLAUSE_FALSE")
    assert s.only().detail == "premium"
    assert s.only().guards == {}, "a campaign that did not match holds the verdicts of its clauses only"


def test_every_clause_is_evaluated_and_unless_follows():
    s = shop(
        campaign(if_=PREMIUM | {"gold": 'person.tier == "gold"', "long": "visit.dwell_s > 10.0"}, unless=BOUGHT)
    ).known(tier="silver")
    s.stay()
    rows = [(row.name, row.value) for row in s.only().clauses]
    assert rows == [("premium", "FALSE"), ("gold", "FALSE"), ("long", "TRUE"), ("bought", "FALSE")]
    assert s.only().clauses[1].seen == ["person.tier = set"]
    assert s.only().clauses[2].seen == ["visit.dwell_s = 45.0"]


def test_value_missing():
    s = shop(campaign(if_={"gold": 'person.tier == "gold"'})).known(tier=None)
    s.stay()
    assert s.said() == ("NOT_MATCHED", "VALUE_MISSING")
    assert s.only().detail == "person.tier"


def test_unless_matched():
    s = shop(campaign(if_=PREMIUM, unless=BOUGHT)).known()
    s.receipt(-H)
    s.stay()
    assert s.said() == ("SUPPRESSED", "UNLESS_MATCHED")
    assert [(row.name, row.value) for row in s.only().clauses][-1] == ("bought", "TRUE")
    assert s.decisions[-1].input_ids[0] == s.decisions[-1].trigger.id
    assert len(s.decisions[-1].input_ids) == 2, "the receipt is named"


def test_unless_of_another_category_or_too_long_ago_does_not_match():
    s = shop(campaign(if_=PREMIUM, unless=BOUGHT)).known()
    s.receipt(-H, category="shoes")
    s.receipt(45 * S - 2 * H)
    s.stay()
    assert s.said() == ("FIRED", "NONE")


def test_unless_needs_no_purpose():
    s = shop(campaign(unless=BOUGHT, guard={"consent": ["in_store_location"]})).known(
        granted=("in_store_location", "contact")
    )
    s.receipt(-H)
    s.stay()
    assert s.said() == ("SUPPRESSED", "UNLESS_MATCHED")


# In force, and fresh.


@pytest.mark.parametrize(
    ("valid", "reason"),
    [
        ({"from": "2026-12-05T17:00:45"}, "NONE"),
        ({"from": "2026-12-05T17:00:46"}, "NOT_IN_FORCE"),
        ({"to": "2026-12-05T17:00:45"}, "NOT_IN_FORCE"),
        ({"to": "2026-12-05T17:00:46"}, "NONE"),
    ],
)
def test_not_in_force_outside_valid_in_venue_time_half_open(valid, reason):
    s = shop(campaign(valid=valid)).known()
    s.stay()
    assert s.only().reason == reason


def test_paused_in_the_file():
    s = shop(campaign(paused=True)).known()
    s.stay()
    assert s.said() == ("SUPPRESSED", "PAUSED")
    assert s.only().clauses == []


def test_paused_and_retired_by_a_release_from_its_event_time_on():
    s = shop(campaign(guard=GUARD)).known()
    for at, state in ((100 * S, "PAUSED"), (300 * S, "ACTIVE"), (500 * S, "RETIRED")):
        s.hear(
            Release(event_id=state, kind="CAMPAIGNS", name="offer", version="1", effective_at=s.base(at)["event_time"],
                    state=state, **s.base(0))
        )  # fmt: skip
    said = []
    for entered in (0, 100 * S, 300 * S, 500 * S):
        s.stay(entered)
        said.append(s.only().reason)
        s.exit(entered, entered + 50 * S)
    assert said == ["NONE", "PAUSED", "NONE", "NOT_IN_FORCE"]


def test_site_excluded():
    s = shop(campaign(sites={"include": ["mad-*"], "exclude": ["mad-01"]})).known()
    s.stay()
    assert s.said() == ("SUPPRESSED", "SITE_EXCLUDED")


def test_a_campaign_of_another_site_is_no_candidate():
    s = shop(campaign(sites={"include": ["bcn-*"]})).known()
    s.stay()
    assert not s.decisions


@pytest.mark.parametrize(("clock", "reason"), [(55 * S, "NONE"), (55 * S + 1, "STALE_TRIGGER")])
def test_stale_trigger_past_ten_seconds_behind_the_clock(clock, reason):
    s = shop(campaign()).known()
    s.enter(0)
    s.dwell(0, clock=clock)
    assert s.only().reason == reason


def test_a_stale_trigger_is_not_decided_again():
    s = shop(campaign()).known(granted=("contact",))
    s.enter(0)
    s.dwell(0, clock=M * 2)
    s.consent(M * 2)
    assert len(s.decisions) == 1


def test_late_facts_trigger_nothing_but_a_record():
    s = shop(campaign(when={"event": {"topic": "web.event"}}, guard={"consent": ["personalisation"]})).known()
    s.web(0, clock=11 * S)
    assert s.said() == ("SUPPRESSED", "STALE_TRIGGER")
    assert not s.commands


# Guards.


@pytest.mark.parametrize(
    ("needed", "who", "reason"),
    [
        ("asserted", person(CARD, TAG), "NONE"),
        ("asserted", person(CARD, TAG, state="CONFIRMED"), "IDENTITY_TOO_WEAK"),
        ("confirmed", person(CARD, TAG, state="CONFIRMED"), "NONE"),
        ("confirmed", person(CARD, TAG, state="CANDIDATE"), "IDENTITY_TOO_WEAK"),
        ("candidate", person(CARD, TAG, state="CANDIDATE"), "NONE"),
        ("candidate", person(TAG), "IDENTITY_TOO_WEAK"),
        ("anyone", person(TAG), "NONE"),
    ],
)
def test_identity_too_weak(needed, who, reason):
    s = shop(campaign(guard={"identity": needed, "consent": []}, do=[SCREEN]))
    s.link(who)
    s.stay()
    assert s.only().reason == reason


def test_consent_missing_for_a_leaf_makes_the_clause_unknown():
    s = shop(campaign(if_=PREMIUM)).known(granted=("in_store_location", "linking", "contact"))
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_MISSING")
    assert s.only().detail == "personalisation"
    assert s.only().clauses[0].value == "UNKNOWN"
    assert s.only().guards["consent"].startswith("needs personalisation,in_store_location missing personalisation")


def test_consent_missing_for_several_leaves_names_them_in_guard_order():
    guard = {"consent": ["profiling", "personalisation", "in_store_location"]}
    conditions = PREMIUM | {"near": 'zone.category == "offers"', "keen": "score.intent > 0.5"}
    s = shop(campaign(if_=conditions, guard=guard)).known(granted=("contact",))
    s.stay()
    assert s.only().reason == "CONSENT_MISSING"
    assert s.only().detail == "profiling,personalisation,in_store_location"


def test_a_false_clause_outweighs_a_missing_purpose():
    s = shop(campaign(if_=PREMIUM | {"far": 'site.id == "bcn-01"'})).known(granted=("contact",))
    s.stay()
    assert s.said() == ("NOT_MATCHED", "CLAUSE_FALSE")


def test_a_missing_value_beside_a_missing_purpose_is_no_matter_of_consent():
    guard = {"consent": ["personalisation", "in_store_location"]}
    s = shop(campaign(if_=PREMIUM | {"wet": 'context.weather == "rain"'}, guard=guard)).known(granted=("contact",))
    s.stay()
    assert s.said() == ("NOT_MATCHED", "VALUE_MISSING")
    assert s.only().detail == "context.weather"


def test_consent_missing_for_a_purpose_that_no_clause_reads():
    s = shop(guarded()).known(granted=("in_store_location", "contact"))
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_MISSING")
    assert s.only().detail == "personalisation"


def test_consent_missing_for_contact_of_the_only_channel():
    s = shop(guarded()).known(granted=("personalisation", "in_store_location"))
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_MISSING")
    assert s.only().detail == "contact"


def test_without_contact_the_screen_beside_it_still_shows():
    s = shop(campaign(do=[SCREEN, PUSH | {"also": True}])).known(granted=("personalisation", "in_store_location"))
    s.stay()
    assert [command.channel for command in s.commands] == ["SCREEN"]


def test_consent_withdrawn():
    s = shop(guarded()).known()
    s.consent(-30 * S, granted=(), withdrawn=True)
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_WITHDRAWN")


def test_consent_expired():
    s = shop(guarded()).known()
    s.consent(-30 * S, valid_until=s.base(45 * S)["event_time"])
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_EXPIRED")


@pytest.mark.parametrize(("watermark", "reason"), [(43 * S, "NONE"), (43 * S - 1, "CONSENT_STALE"), (None, "NONE")])
def test_consent_stale_where_the_source_of_consents_says_that_it_lags(watermark, reason):
    s = shop(campaign(do=[PUSH])).known()
    for source in ("", "positions"):  # consents come from the first
        mark = 0 if source else None if watermark is None else s.base(watermark)["event_time"]
        status = SourceStatus(
            event_id=f"status {source}",
            state="UP",
            watermark=mark,
            heartbeat_us=S,
            **s.base(44 * S) | {"source_id": source},
        )
        s.hear(status)
    s.stay()
    assert s.only().reason == reason


def test_consent_denied_by_one_member_is_denied():
    s = shop(guarded()).known(CARD, MAIL, TAG)
    s.consent(-30 * S, granted=(), denied=("personalisation",), member=MAIL)
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_MISSING")


STOCK = {"stock": {"of": "zone.category", "at_least": 3, "max_age": "15m"}}


@pytest.mark.parametrize(
    ("value", "told", "reason"),
    [
        (3, 0, "NONE"),
        (2, 0, "OUT_OF_STOCK"),
        (3, 45 * S - 15 * M, "NONE"),
        (3, 45 * S - 15 * M - 1, "STOCK_UNKNOWN"),
        ("plenty", 0, "STOCK_UNKNOWN"),
    ],
)
def test_out_of_stock_and_stock_unknown(value, told, reason):
    s = shop(guarded(**STOCK)).known()
    s.stock(told, value)
    s.stay()
    assert s.only().reason == reason


def test_stock_unknown_when_nobody_told_or_it_is_no_longer_valid():
    s = shop(guarded(**STOCK)).known()
    s.stay()
    assert s.said() == ("SUPPRESSED", "STOCK_UNKNOWN")
    s.stock(60 * S, 9, until=10 * S, of="shoes")
    s.stock(0, 9, until=45 * S)
    s.exit(0, 70 * S)
    s.stay(80 * S)
    assert s.only().reason == "STOCK_UNKNOWN"


NAMED = SCREEN | {"template": "named"}
SHOWN = GUARD | {"consent": ["personalisation", "in_store_location", "display_name"]}


def alone(s, *devices):
    """The screen is no shared one, and everybody in view is counted."""
    s.hear(
        Device(event_id="d", device_id="screen-7", kind="SCREEN", x_m=12.0, y_m=6.0, view_zones=["offers"], **s.base(0))
    )
    return s


def test_audience_shared_when_a_second_subject_is_in_view():
    s = alone(shop(campaign(do=[NAMED], guard=SHOWN)).known(granted=(*ALL, "display_name")))
    s.present("offers", TAG, "tag:1:other")
    s.stay()
    assert s.said() == ("SUPPRESSED", "AUDIENCE_SHARED")


def test_a_personal_screen_when_she_is_alone_and_agreed():
    s = alone(shop(campaign(do=[NAMED], guard=SHOWN)).known(granted=(*ALL, "display_name")))
    s.present("offers", TAG)
    s.stay()
    assert s.said() == ("FIRED", "NONE")
    assert s.commands[-1].params == {}, "the name is not in a command"


def test_where_not_everybody_is_sensed_every_screen_is_shared():
    s = alone(shop(campaign(do=[NAMED], guard=SHOWN)).known(granted=(*ALL, "display_name")))
    s.stay()
    assert s.said() == ("SUPPRESSED", "AUDIENCE_SHARED")


def test_a_shared_screen_never_shows_a_personal_part():
    s = shop(campaign(do=[NAMED], guard=SHOWN)).known(granted=(*ALL, "display_name"))
    s.present("offers", TAG)
    s.stay()
    assert s.said() == ("SUPPRESSED", "AUDIENCE_SHARED")


def test_a_personal_screen_needs_display_name():
    s = alone(shop(campaign(do=[NAMED], guard=SHOWN)).known())
    s.present("offers", TAG)
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_MISSING")
    assert s.only().detail == "display_name"


QUIET = {"quiet": {"venue": "17:00-18:00", "person": "22:00-08:00", "else": "drop"}}


def test_quiet_venue():
    s = shop(guarded(**QUIET)).known()
    s.stay()
    assert s.said() == ("SUPPRESSED", "QUIET_VENUE")


def test_quiet_person_in_her_own_time_zone():
    quiet = {"quiet": {"person": "22:00-08:00", "else": "drop"}}
    s = shop(guarded(**quiet)).known()
    s.stay()
    assert s.said() == ("FIRED", "NONE"), "17:00 in Madrid"
    s.exit(0, M)
    s.hear(
        Customer(event_id="moved", identifiers=[CARD], tier="gold", traits={"time_zone": "Asia/Tokyo"}, **s.base(M)),
        CARD,
    )
    s.stay(2 * M)
    assert s.said() == ("SUPPRESSED", "QUIET_PERSON"), "01:00 in Tokyo"


def test_screens_in_the_shop_use_the_quiet_hours_of_the_venue_only():
    quiet = {"quiet": {"person": "16:00-18:00", "else": "drop"}}
    s = shop(campaign(guard=GUARD | quiet, do=[SCREEN, PUSH | {"also": True}])).known()
    s.stay()
    assert [command.channel for command in s.commands] == ["SCREEN"]


def test_held_until_the_quiet_hour_ends():
    hold = {"quiet": {"venue": "17:00-17:30", "else": "hold", "at_most": "1h"}}
    s = shop(guarded(**hold)).known()
    s.stay()
    assert s.said() == ("SUPPRESSED", "HELD")
    assert s.only().detail == "until 2026-12-05T17:30"


def test_a_hold_longer_than_at_most_drops():
    hold = {"quiet": {"venue": "17:00-18:30", "else": "hold", "at_most": "1h"}}
    s = shop(guarded(**hold)).known()
    s.stay()
    assert s.said() == ("SUPPRESSED", "QUIET_VENUE")


def test_stay_ended_when_a_hold_outlasts_the_stay():
    hold = {"quiet": {"venue": "17:00-17:30", "else": "hold", "at_most": "1h"}}
    s = shop(guarded(**hold)).known()
    s.stay()
    s.exit(0, 2 * M)
    s.tick(30 * M)
    assert s.said() == ("SUPPRESSED", "STAY_ENDED")
    assert (s.decisions[-1].cause, s.decisions[-1].attempt) == ("HOLD_ENDED", 1)


def capped(**caps):
    return guarded(caps=caps)


def twice(s, gap=10 * M):
    s.stay()
    s.exit(0, M)
    s.stay(gap)
    return s.decisions[-1].candidates[0].reason


def test_cap_this():
    s = shop(capped(this="1 per 24h")).known()
    assert twice(s) == "CAP_THIS"
    assert s.only().detail == "this: 1 per 24h"
    assert s.only().guards["caps"] == "this 1/1 per 24h"


def test_cap_this_is_rolling_to_the_microsecond():
    assert twice(shop(capped(this="1 per 24h")).known(), DAY) == "NONE"
    assert twice(shop(capped(this="1 per 24h")).known(), DAY - 1) == "CAP_THIS"


def test_cap_channel():
    assert twice(shop(capped(push="1 per 4h")).known()) == "CAP_CHANNEL"
    assert twice(shop(capped(push="1 per 4h")).known(), 4 * H) == "NONE"


def test_cap_of_a_channel_that_is_not_used_does_not_bind():
    s = shop(
        capped(push="1 per 4h"),
        campaign("other", do=[SCREEN], group="screens", guard=GUARD | {"caps": {"push": "1 per 4h"}}),
    )
    s.known()
    twice(s)
    assert s.said("other") == ("FIRED", "NONE")
    assert s.said("offer") == ("SUPPRESSED", "CAP_CHANNEL")


def test_cap_tag_counts_across_campaigns():
    s = shop(
        campaign("one", tags=["deal"]),
        campaign(
            "two", tags=["deal"], when={"entered": {"zone": "shoes"}}, guard=GUARD | {"caps": {"tag.deal": "1 per 7d"}}
        ),
    ).known()
    s.stay()
    s.enter(2 * M, "shoes")
    assert s.said() == ("SUPPRESSED", "CAP_TAG")


def test_cap_any_per_calendar_day_of_the_venue():
    assert twice(shop(capped(any="1 per calendar day")).known()) == "CAP_ANY"
    assert twice(shop(capped(any="1 per calendar day")).known(), 7 * H - 45 * S - 1) == "CAP_ANY", (
        "a moment to midnight"
    )
    assert twice(shop(capped(any="1 per calendar day")).known(), 7 * H - 45 * S) == "NONE"


def test_already_fired_in_this_stay_whatever_the_trigger():
    s = shop(campaign(when={"event": {"topic": "presence.dwell"}})).known()
    s.stay()
    s.dwell(0, 90 * S)
    assert [each.candidates[0].reason for each in s.decisions] == ["NONE", "ALREADY_FIRED"]


def test_guards_are_all_asked_and_the_first_in_order_is_the_reason():
    parts = {"identity": "asserted", **STOCK, **QUIET, "caps": {"this": "1 per 24h"}}
    s = shop(guarded(**parts)).known(state="CONFIRMED", granted=("in_store_location",))
    s.stay()
    assert s.only().reason == "IDENTITY_TOO_WEAK"
    assert list(s.only().guards) == ["identity", "consent", "stock", "audience", "quiet", "caps"]
    assert "missing personalisation" in s.only().guards["consent"]
    assert s.only().guards["stock"] == "unknown"
    assert s.only().guards["quiet"] == "venue until 18:00"
    assert s.only().guards["caps"] == "this 0/1 per 24h"


# Arbitration.


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


# Channels, and the score.


def test_no_reachable_channel_without_a_verified_contact_point():
    s = shop(campaign())
    s.link(person(CARD, TAG))
    s.consent()
    s.point(verified=False)
    s.stay()
    assert s.said() == ("SUPPRESSED", "NO_REACHABLE_CHANNEL")
    assert s.only().detail == "PUSH"
    assert s.only().rank == 0


def test_no_reachable_channel_for_a_text_that_lacks_a_value():
    s = shop(campaign(do=[PUSH | {"template": "tiered"}])).known(tier=None)
    s.stay()
    assert s.said() == ("SUPPRESSED", "NO_REACHABLE_CHANNEL")


def test_the_next_entry_takes_the_place_of_one_that_cannot_be_sent():
    s = shop(campaign(do=[PUSH | {"template": "tiered"}, SCREEN | {"fallback_after": "5s"}])).known(tier=None)
    s.stay()
    (command,) = s.commands
    assert (command.channel, command.step, command.waits_for, command.not_before) == ("SCREEN", "1", None, None)


KEEN = campaign(if_={"keen": "score.intent > 0.5"}, guard=GUARD | {"consent": ["profiling", "in_store_location"]})


def test_model_unavailable():
    s = shop(KEEN, score=lambda *_: None).known()
    s.stay()
    assert s.said() == ("SUPPRESSED", "MODEL_UNAVAILABLE")
    assert s.decisions[-1].score is None
    assert not s.records("decision.score")


def scorer(value, asked):
    def score(person, trigger, zone_id, visit_id, at, consents, occupancy, member=None):
        asked.append((person.anchor, trigger.record.event_id, zone_id, visit_id, at, occupancy, member))
        row = Score(
            event_id="score", event_time=at, person_id=person.anchor, visit_id=visit_id, model="intent",
            model_version="1", score=value, reasons=[], features_hash="",
        )  # fmt: skip
        event = Event(trigger.number, trigger.clock, "decision.score", row)
        return SimpleNamespace(value=value, event=event, reasons=lambda: [Reason(feature="views_7d", weight=1.0)])

    return score


@pytest.mark.parametrize(
    ("value", "said", "reasons"), [(0.9, ("FIRED", "NONE"), 1), (0.1, ("NOT_MATCHED", "CLAUSE_FALSE"), 0)]
)
def test_a_score_is_asked_once_and_its_row_goes_out_before_the_decision(value, said, reasons):
    asked = []
    s = shop(KEEN, campaign("plain", group="x"), campaign("keen-too", group="y", if_={"keen": "score.intent > 0.5"}, guard=KEEN["guard"]), score=scorer(value, asked)).known()  # fmt: skip
    s.stay()
    assert s.said("offer") == said
    assert len(asked) == 1
    assert s.decisions[-1].score == value
    topics = [item.topic for item in s.out if isinstance(item, Event) and item.topic.startswith(("decision", "action"))]
    assert topics[:2] == ["decision.score", "decision.record"]


def test_reasons_of_a_score_are_told_only_when_something_fired():
    for value, count in ((0.9, 1), (0.1, 0)):
        s = shop(KEEN, score=scorer(value, [])).known()
        s.stay()
        assert len(s.decisions[-1].reasons) == count


def test_no_score_is_asked_for_that_nobody_reads():
    asked = []
    s = shop(campaign(), score=scorer(0.9, asked)).known()
    s.stay()
    assert asked == []
    assert s.decisions[-1].score is None


def test_when_in_the_other_zone_dwell_needs_its_own_threshold():
    s = shop(campaign(when=DWELL), campaign("long", when={"dwell": {"zone": "offers", "at_least": "90s"}})).known()
    s.stay()
    assert [each.campaign_id for each in s.decisions[-1].candidates] == ["offer"]
