"""Decide: what triggers a decision: zones, events, sequences, segments, and who becomes known."""

import pytest

from schemas import ids
from tests.unit.deciding import CARD, MAIL, TAG, H, M, S, campaign, paired, person, shop, stranger


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
