"""Every reason has words, and they say which clause decided."""

from typing import get_args

import pytest

from flows.words import MOMENTS, REASONS, clause_that_decided, in_words, moment_in_words, reason_in_words
from schemas.derived import Candidate, Clause, DecisionReason, Trigger, TriggerKind

STAY = Trigger(kind="DWELL", id="x", zone_id="offers", visit_id="v", reached_at=0)


def _candidate(reason: str, detail: str | None = None, *clauses: tuple[str, str]) -> Candidate:
    told = [Clause(name=name, value=value, seen=[f"path.{name} = 3"]) for name, value in clauses]
    return Candidate(
        campaign_id="c", campaign_version="1", verdict="SUPPRESSED", reason=reason, detail=detail, clauses=told
    )


@pytest.mark.parametrize("reason", get_args(DecisionReason)[1].symbols)
def test_every_reason_has_a_sentence_with_and_without_detail(reason: str) -> None:
    for detail in (None, "some detail"):
        words = in_words(_candidate(reason, detail, ("a", "FALSE"), ("b", "TRUE"), ("c", "UNKNOWN")), STAY)
        assert "{" not in words
        assert words.startswith("c: stayed in offers, but ")
    assert len(reason_in_words(reason)) > 10


def test_no_sentence_stands_for_a_reason_that_does_not_exist() -> None:
    assert set(REASONS) == set(get_args(DecisionReason)[1].symbols)
    assert set(MOMENTS) == set(get_args(TriggerKind)[1].symbols)


def test_the_first_false_condition_is_the_one_that_is_named() -> None:
    clauses = (("premium", "TRUE"), ("intent", "FALSE"), ("bought", "FALSE"))
    assert clause_that_decided(_candidate("CLAUSE_FALSE", None, *clauses)) == '"intent" (path.intent = 3)'


def test_the_matching_unless_is_the_one_that_is_named() -> None:
    clauses = (("premium", "TRUE"), ("bought", "TRUE"))
    assert clause_that_decided(_candidate("UNLESS_MATCHED", None, *clauses)) == '"bought" (path.bought = 3)'


def test_a_personal_value_is_not_repeated() -> None:
    told = Clause(name="premium", value="FALSE", seen=["person.segments = set"])
    words = in_words(
        Candidate(campaign_id="c", campaign_version="1", verdict="NOT_MATCHED", reason="CLAUSE_FALSE", clauses=[told]),
        STAY,
    )
    assert words == 'c: stayed in offers, but the condition "premium" does not hold'


def test_what_fired_is_told_as_done() -> None:
    fired = Candidate(campaign_id="c", campaign_version="1", verdict="FIRED", reason="NONE")
    assert in_words(fired, STAY) == "c: stayed in offers, and everything was in order, so it was done"
    assert moment_in_words(Trigger(kind="ENTERED", id="x")) == "came into the shop"
