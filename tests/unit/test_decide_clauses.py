"""Decide: whether a campaign matches, is in force here and now, and is fresh: the reasons of that part of the list."""

import pytest
from msgspec.structs import replace

from schemas.reference import Release
from tests.unit.deciding import (
    CARD,
    DWELL,
    GUARD,
    IS_PREMIUM,
    MAIL,
    SCREEN,
    TAG,
    H,
    M,
    S,
    campaign,
    person,
    shop,
    square,
)

BOUGHT = {"bought": {"event": "pos.receipt", "where": "zone.category in e.categories", "within": "2h"}}


def test_fired_when_nothing_stands_in_the_way():
    s = shop(campaign(if_=IS_PREMIUM)).known()
    s.stay()
    assert s.said() == ("FIRED", "NONE")
    assert s.only().rank == 1
    assert [command.channel for command in s.commands] == ["PUSH"]


def test_no_campaign_no_record():
    s = shop(campaign()).known()
    s.stay(after=30 * S)
    s.stay(zone="shoes")
    assert not s.decisions


def test_clause_false():
    s = shop(campaign(if_=IS_PREMIUM)).known(tier="silver")
    s.stay()
    assert s.said() == ("NOT_MATCHED", "CLAUSE_FALSE")
    assert s.only().detail == "premium"
    assert s.only().guards == {}, "a campaign that did not match holds the verdicts of its clauses only"


def test_every_clause_is_evaluated_and_unless_follows():
    s = shop(
        campaign(if_=IS_PREMIUM | {"gold": 'person.tier == "gold"', "long": "visit.dwell_s > 10.0"}, unless=BOUGHT)
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
    s = shop(campaign(if_=IS_PREMIUM, unless=BOUGHT)).known()
    s.receipt(-H)
    s.stay()
    assert s.said() == ("SUPPRESSED", "UNLESS_MATCHED")
    assert [(row.name, row.value) for row in s.only().clauses][-1] == ("bought", "TRUE")
    assert s.decisions[-1].input_ids[0] == s.decisions[-1].trigger.id
    assert len(s.decisions[-1].input_ids) == 2, "the receipt is named"


def test_unless_of_another_category_or_too_long_ago_does_not_match():
    s = shop(campaign(if_=IS_PREMIUM, unless=BOUGHT)).known()
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


def test_when_in_the_other_zone_dwell_needs_its_own_threshold():
    s = shop(campaign(when=DWELL), campaign("long", when={"dwell": {"zone": "offers", "at_least": "90s"}})).known()
    s.stay()
    assert [each.campaign_id for each in s.decisions[-1].candidates] == ["offer"]


def test_a_zone_is_read_as_it_is_after_an_edit():
    s = shop(campaign(if_={"shoes": 'zone.category == "shoes"'}, do=[SCREEN])).known()
    s.stay()
    assert s.said() == ("NOT_MATCHED", "CLAUSE_FALSE")
    s.exit(0, M)
    s.hear(replace(square("offers", "OFFER", 30, 4, "shoes"), event_id="edit", **s.base(M)))
    s.stay(2 * M)
    assert s.said() == ("FIRED", "NONE")
    assert s.commands[-1].target_id == "screen-8", "and the nearest screen is another one"


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
