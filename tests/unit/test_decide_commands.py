"""Decide: what stands in commands, for which channel, and what their outcomes give back."""

import pytest

from schemas.derived import Outcome
from tests.unit.deciding import CARD, GUARD, MAIL, MAILED, PUSH, SCREEN, TAG, H, M, S, campaign, person, shop


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
