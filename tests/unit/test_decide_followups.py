"""Decide: follow-ups by time and of what fired, and what the end of a replay does to those that wait."""

import pytest

from operators.decide import DecideRule
from schemas import ids
from schemas.items import Tick
from tests.unit.deciding import CARD, GUARD, MAIL, MAILED, SCREEN, T0, TAG, H, M, S, campaign, paired, person, shop

LEFT = {"absence": {"after": {"exited": {"site": "any"}}, "without": {"event": "pos.receipt"}, "within": "2h"}}


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
