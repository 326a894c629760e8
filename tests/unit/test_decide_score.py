"""Decide: a score is asked once, only where it is read, and told only where something fired."""

from types import SimpleNamespace

import pytest

from schemas.derived import Reason, Score
from schemas.items import Event
from tests.unit.deciding import GUARD, campaign, shop

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
