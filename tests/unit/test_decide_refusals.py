"""Decide: each guard that refuses, by name, and the order in which their reasons are looked for."""

import pytest

from schemas.people import Customer
from schemas.reference import Device
from schemas.sensing import SourceStatus
from tests.unit.deciding import (
    ALL,
    CARD,
    DAY,
    GUARD,
    IS_PREMIUM,
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


def guarded(**parts):
    return campaign(guard=GUARD | parts)


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
    s = shop(campaign(if_=IS_PREMIUM)).known(granted=("in_store_location", "linking", "contact"))
    s.stay()
    assert s.said() == ("SUPPRESSED", "CONSENT_MISSING")
    assert s.only().detail == "personalisation"
    assert s.only().clauses[0].value == "UNKNOWN"
    assert s.only().guards["consent"].startswith("needs personalisation,in_store_location missing personalisation")


def test_consent_missing_for_several_leaves_names_them_in_guard_order():
    guard = {"consent": ["profiling", "personalisation", "in_store_location"]}
    conditions = IS_PREMIUM | {"near": 'zone.category == "offers"', "keen": "score.intent > 0.5"}
    s = shop(campaign(if_=conditions, guard=guard)).known(granted=("contact",))
    s.stay()
    assert s.only().reason == "CONSENT_MISSING"
    assert s.only().detail == "profiling,personalisation,in_store_location"


def test_a_false_clause_outweighs_a_missing_purpose():
    s = shop(campaign(if_=IS_PREMIUM | {"far": 'site.id == "bcn-01"'})).known(granted=("contact",))
    s.stay()
    assert s.said() == ("NOT_MATCHED", "CLAUSE_FALSE")


def test_a_missing_value_beside_a_missing_purpose_is_no_matter_of_consent():
    guard = {"consent": ["personalisation", "in_store_location"]}
    s = shop(campaign(if_=IS_PREMIUM | {"wet": 'context.weather == "rain"'}, guard=guard)).known(granted=("contact",))
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
