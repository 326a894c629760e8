"""Segments: entered and left by event, by time, by merge and split; what is read, and what a file says."""

from operators.rules.load import check_rules
from operators.state.memory import Memory
from schemas.items import Event, Touched
from schemas.person import Cause
from schemas.reference import Consent
from tests.unit.segmenting import (
    BROWSER,
    CARD,
    COOKIE,
    HOUR,
    MAIL,
    PREMIUM,
    STUCK,
    T0,
    Clause,
    Desk,
    bought,
    crm,
    granted,
    person,
    segment,
    viewed,
)

BOTH = segment("both", Clause(lambda held: {"browser", "premium"} <= set(held), "person.segments"))


def at_desk(*persons, **more):
    desk = Desk(**more)
    desk.link("GREW", T0, *(persons or (person(CARD),)))
    return desk


def test_who_has_not_granted_what_a_segment_reads_is_no_member():
    desk = at_desk()
    desk.hear(CARD, crm("c", T0, "Gold"))
    assert desk.taken() == []
    desk.hear(CARD, granted("k", T0 + 1))
    assert desk.taken() == [(CARD, "premium", "ENTERED", "EVENT", T0 + 1)]
    assert desk.segments.of(person(CARD)) == ["premium"]
    desk.hear(CARD, Consent(event_id="w", event_time=T0 + 2, identifier=CARD, withdrawn=True))
    assert desk.taken() == [(CARD, "premium", "LEFT", "EVENT", T0 + 2)]


def test_a_consent_that_runs_out_ends_the_membership_at_that_instant():
    desk = at_desk()
    desk.hear(CARD, crm("c", T0, "gold"))
    desk.hear(CARD, granted("k", T0, valid_until=T0 + HOUR))
    desk.taken()
    desk.tick(T0 + HOUR - 1)
    assert desk.taken() == []
    desk.tick(T0 + 2 * HOUR)
    assert desk.taken() == [(CARD, "premium", "LEFT", "TIME", T0 + HOUR)]


def test_a_fact_leaves_its_window_by_itself_and_so_does_the_member():
    desk = at_desk()
    desk.hear(CARD, viewed("a", T0))
    desk.hear(CARD, viewed("b", T0 + 1))
    assert desk.taken() == [(CARD, "browser", "ENTERED", "EVENT", T0 + 1)]
    assert desk.segments.next_due() == T0 + 3 * HOUR
    desk.tick(T0 + 4 * HOUR)
    assert desk.taken() == [(CARD, "browser", "LEFT", "TIME", T0 + 3 * HOUR)]
    assert desk.segments.next_due() is None


def test_between_enter_and_leave_a_member_stays_and_a_stranger_stays_out():
    desk = at_desk()
    desk.hear(CARD, granted("k", T0))
    desk.hear(CARD, bought("r1", T0 + 1, 700))
    assert desk.taken() == []
    desk.hear(CARD, bought("r2", T0 + 2, 300))
    desk.hear(CARD, bought("r3", T0 + 3, -400))
    assert desk.taken() == [(CARD, "spender", "ENTERED", "EVENT", T0 + 2)]
    desk.hear(CARD, bought("r4", T0 + 4, -200))
    assert desk.taken() == [(CARD, "spender", "LEFT", "EVENT", T0 + 4)]


def test_what_is_not_known_keeps_nobody_in():
    desk = at_desk(segments=(STUCK,))
    desk.hear(CARD, granted("k", T0))
    desk.hear(CARD, viewed("a", T0))
    desk.tick(T0 + 3 * HOUR)
    assert [told[2:] for told in desk.taken()] == [("ENTERED", "EVENT", T0), ("LEFT", "TIME", T0 + 3 * HOUR)]


def test_a_segment_may_read_the_segments_before_it():
    desk = at_desk(segments=(segment("a-first", BROWSER.enter, None, "views"), segment("b-second", BOTH.enter)))
    desk.hear(CARD, granted("k", T0))
    assert desk.taken() == []
    ordered = (segment("browser", BROWSER.enter, None, "views"), PREMIUM, segment("z-both", BOTH.enter))
    desk = at_desk(segments=ordered)
    desk.hear(CARD, granted("k", T0))
    desk.hear(CARD, crm("c", T0, "gold"))
    desk.hear(CARD, viewed("a", T0))
    desk.taken()
    desk.hear(CARD, viewed("b", T0 + 1))
    assert [told[1] for told in desk.taken()] == ["browser", "z-both"]


def test_who_is_absorbed_leaves_and_the_person_goes_on_with_what_either_held():
    desk = at_desk(person(CARD), person(MAIL))
    desk.hear(MAIL, granted("k", T0, member=MAIL))
    desk.hear(MAIL, bought("r1", T0 + 1, 1000))
    desk.hear(MAIL, bought("r2", T0 + 2, -400))
    desk.taken()
    desk.link("MERGE", T0 + 3, person(CARD, MAIL))
    assert desk.taken() == [
        (MAIL, "spender", "LEFT", "MERGE", T0 + 3),
        (CARD, "spender", "ENTERED", "MERGE", T0 + 3),
    ]
    desk.link("SPLIT", T0 + 4, person(CARD), person(MAIL))
    assert desk.taken() == [
        (CARD, "spender", "LEFT", "SPLIT", T0 + 4),
        (MAIL, "spender", "ENTERED", "SPLIT", T0 + 4),
    ]


def test_facts_of_an_inferred_member_count_only_where_linking_is_granted():
    desk = at_desk(person(CARD, COOKIE))
    desk.hear(COOKIE, viewed("a", T0))
    desk.hear(COOKIE, viewed("b", T0))
    assert desk.taken() == []
    desk.hear(CARD, granted("k", T0 + 1, "linking"))
    assert desk.taken() == [(CARD, "browser", "ENTERED", "EVENT", T0 + 1)]


def test_scores_are_kept_for_the_times_when_none_is_made():
    keen = segment("keen", Clause(lambda intent: intent > 0.5, "score.intent"))
    desk = at_desk(segments=(keen,))
    desk.hear(CARD, granted("k", T0, valid_until=T0 + HOUR))
    changes = desk.segments.evaluate(person(CARD), Cause(0, T0, T0 + 1, T0 + 1), "EVENT", {"intent": 0.9})
    assert [change.record.kind for change in changes] == ["ENTERED"]
    desk.hear(CARD, viewed("a", T0 + 2))
    assert desk.segments.of(person(CARD)) == ["keen"]
    assert desk.segments.scores(person(CARD)) == {"intent": 0.9}
    desk.hear(CARD, Consent(event_id="w", event_time=T0 + 3, identifier=CARD, withdrawn=True))
    assert desk.segments.scores(person(CARD)) == {}


def test_a_record_has_the_times_of_its_cause_and_the_venues_site():
    desk = at_desk()
    desk.hear(CARD, crm("c", T0, "gold"))
    cause = Cause(9, T0 + 5, T0 + 1, T0 + 4)
    desk.people.apply(Touched(Event(9, T0 + 5, "consent.record", granted("k", T0 + 1)), CARD, person(CARD)))
    (change,) = desk.segments.evaluate(person(CARD), cause, "EVENT")
    record = change.record
    assert (change.number, change.clock, change.offset, change.topic) == (9, T0 + 5, -1, "segment.change")
    assert (record.event_time, record.ingest_time, record.site_id, record.source_id) == (
        T0 + 1,
        T0 + 4,
        "mad",
        "activation",
    )


def test_a_new_version_is_asked_of_everybody_once():
    memory = Memory()
    desk = at_desk(memory=memory)
    desk.hear(CARD, granted("k", T0))
    desk.hear(CARD, crm("c", T0, "gold"))
    token = desk.tables.commit()
    silver = segment("premium", Clause(lambda tier: tier == "silver", "person.tier"), version="2")
    other = Desk((silver,), memory, token)
    other._rung(other.segments.recheck(T0 + HOUR, 0, T0 + HOUR))
    assert other.taken() == [(CARD, "premium", "LEFT", "RULE", T0 + HOUR)]
    assert other.segments.recheck(T0 + HOUR, 0, T0 + HOUR) == []
    gone = Desk((), memory, token)
    gone._rung(gone.segments.recheck(T0 + HOUR, 0, T0 + HOUR))
    assert gone.taken() == [(CARD, "premium", "LEFT", "RULE", T0 + HOUR)]


PAGE = b"""\
segment: premium
facts: {spend_90d: {sum: pos.receipt, of: total, within: 90d}}
enter: 'facts.spend_90d >= 600.0 || person.tier == "gold"'
leave: 'facts.spend_90d < 500.0 && person.tier != "gold"'
"""


def test_a_segment_as_a_file_writes_it():
    rules, faults = check_rules({"segments/premium.yaml": PAGE}, None)
    assert faults == []
    desk = Desk(list(rules.segments.values()), plan=rules.plan)
    desk.link("GREW", T0, person(CARD), person(MAIL))
    desk.hear(CARD, bought("r1", T0, 60_000))
    assert desk.taken() == [], "nothing granted yet"
    desk.hear(CARD, granted("k1", T0 + 1))
    assert desk.taken() == [(CARD, "premium", "ENTERED", "EVENT", T0 + 1)]
    desk.hear(CARD, bought("r2", T0 + HOUR, -5_000))
    desk.tick(T0 + 90 * 24 * HOUR)
    assert desk.taken() == [(CARD, "premium", "LEFT", "TIME", T0 + 90 * 24 * HOUR)], "no tier keeps nobody in"
    desk.hear(MAIL, granted("k2", T0, "linking", member=MAIL))
    desk.hear(MAIL, crm("c", T0, "Gold"))
    assert desk.taken() == [], "gold without personalisation"
