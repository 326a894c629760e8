"""Segments: entered and left by event, by time, by merge and split; against a recompute at every instant."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from operators.people.consent import compose
from operators.people.ledger import Contribution
from operators.profile import ProfileRule, Profiles
from operators.rules.load import check_rules
from operators.segments import Segments
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables
from schemas import ids
from schemas.items import Event, Linked, Member, Person, Touched
from schemas.people import Customer, Receipt, WebEvent
from schemas.person import Aggregate, Cause, Observation, usable
from schemas.reference import Consent, Purpose

T0 = 1_796_482_800_000_000
HOUR = 3_600_000_000
CARD, MAIL, COOKIE = "loyalty:1:card", "email:1:mail", "cookie:1:cookie"
AGGREGATES = {
    one.id: one
    for one in (
        Aggregate("views", "web.event", "count", None, 3 * HOUR),
        Aggregate("spend", "pos.receipt", "sum", "total", 5 * HOUR),
    )
}
TOPICS = {WebEvent: "web.event", Receipt: "pos.receipt", Customer: "crm.customer", Consent: "consent.record"}


class Plan:
    aggregates = AGGREGATES

    def observe(self, topic, record):
        return [
            Observation(one.id, "", getattr(record, "total_minor", None))
            for one in AGGREGATES.values()
            if one.topic == topic
        ]


class Clause:
    """A condition in Python; what it reads and misses makes it unknown."""

    def __init__(self, test, *reads, purposes=("personalisation",)):
        self.test, self.reads, self.purposes = test, reads, frozenset(purposes)

    def evaluate(self, values):
        seen = [values.get(leaf) for leaf in self.reads]
        if any(value is None for value in seen):
            return SimpleNamespace(value="UNKNOWN")
        return SimpleNamespace(value="TRUE" if self.test(*seen) else "FALSE")


def segment(name, enter, leave=None, *facts, version="1"):
    reads = {fact: SimpleNamespace(aggregate=fact, key_leaf=None) for fact in facts}
    return SimpleNamespace(id=name, version=version, enter=enter, leave=leave, facts=reads)


PREMIUM = segment("premium", Clause(lambda tier: tier == "gold", "person.tier"))
SPENDER = segment(
    "spender",
    Clause(lambda spend: spend >= 10.0, "facts.spend"),
    Clause(lambda spend: spend < 5.0, "facts.spend"),
    "spend",
)
BROWSER = segment("browser", Clause(lambda views: views >= 2, "facts.views", purposes=()), None, "views")
BOTH = segment("both", Clause(lambda held: {"browser", "premium"} <= set(held), "person.segments"))
STUCK = segment(
    "stuck",
    Clause(lambda views: views >= 1, "facts.views"),
    Clause(lambda tier: tier != "gold", "person.tier"),
    "views",
)
ALL = (PREMIUM, SPENDER, BROWSER, STUCK)


def person(*members):
    return Person(
        members[0], members[0], tuple(Member(one, inferred=one == COOKIE and len(members) > 1) for one in members)
    )


class Desk:
    """Profiles and segments as the flow drives them: the timers, the person's own timers, the event, the judgement."""

    def __init__(self, segments=ALL, memory=None, token=None, plan=None):
        self.store = MemoryStore(memory)
        self.store.claim(token)
        self.store.open("0")
        self.tables = Tables(self.store)
        self.people = Profiles(ProfileRule(), plan or Plan(), self.tables)
        self.segments = Segments(segments, self.people, self.tables, "mad")
        self.told = []

    def tick(self, clock):
        self._rung(self.segments.ring(clock, 0, clock))

    def link(self, why, clock, *persons):
        self.people.link(Linked(0, clock, clock, why, persons))
        for one in persons:
            self._take(self.segments.evaluate(one, Cause(0, clock, clock, clock), why))

    def hear(self, member, record, clock=None):
        clock = record.event_time if clock is None else clock
        her = self.people.person_of(member)
        event = Event(0, clock, TOPICS[type(record)], record)
        self._rung(self.segments.settle(her, record.event_time, 0, clock))
        self.people.apply(Touched(event, member, her))
        self._take(self.segments.evaluate(her, Cause.of(event), "EVENT"))

    def _rung(self, rung):
        for one in rung:
            self._take(one.changes)

    def _take(self, changes):
        for change in changes:
            record = change.record
            assert record.event_id == ids.segment(record.person_id, record.segment_id, record.kind, record.event_time)
            self.told.append((record.person_id, record.segment_id, record.kind, record.cause, record.event_time))

    def taken(self):
        told, self.told = self.told, []
        return told


def granted(name, at, *codes, member=CARD, **more):
    purposes = [Purpose(code=code, granted=True) for code in codes or ("personalisation",)]
    return Consent(event_id=name, event_time=at, ingest_time=at, identifier=member, purposes=purposes, **more)


def crm(name, at, tier):
    return Customer(event_id=name, event_time=at, ingest_time=at, identifiers=[CARD], tier=tier)


def viewed(name, at):
    return WebEvent(event_id=name, event_time=at, ingest_time=at, name="product_viewed")


def bought(name, at, total):
    return Receipt(event_id=name, event_time=at, ingest_time=at, receipt_id=name, currency="EUR", total_minor=total)


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


# The law: equal to a full recompute at every event and at every instant at which anything could change.


class Slow:
    """Keeps every event and asks from the start at every instant; no windows, no heap, no tables."""

    def __init__(self, segments=ALL):
        self.segments = sorted(segments, key=lambda one: one.id)
        self.events = {}
        self.persons = {}
        self.held, self.at, self.resting = {}, {}, set()
        self.told = []

    def tick(self, clock):
        while True:
            dues = [(self.due(anchor), anchor) for anchor in self.live()]
            dues = sorted(due for due in dues if due[0] is not None and due[0] <= clock)
            if not dues:
                return
            self.judge(dues[0][1], dues[0][0], "TIME")

    def live(self):
        return [anchor for anchor in self.held if anchor not in self.resting]

    def link(self, why, clock, *persons):
        for one in persons:
            for member in one.members:
                self.persons[member.identifier] = one
        for one in persons:
            prior = dict.fromkeys(self.held.get(one.anchor, ()))
            told = set() if one.anchor in self.resting else set(prior)
            for member in sorted(each.identifier for each in one.members):
                if member != one.anchor and member in self.live():
                    self.told += [(member, name, "LEFT", "MERGE", clock) for name in sorted(self.held[member])]
                    prior |= dict.fromkeys(self.held[member])
                    self.resting.add(member)
                    self.at[one.anchor] = max(self.at.get(one.anchor, 0), self.at[member])
            self.resting.discard(one.anchor)
            self.judge(one.anchor, clock, why, set(prior), told)

    def hear(self, member, record, clock=None):
        anchor = self.persons[member].anchor
        while (due := self.due(anchor)) is not None and due <= record.event_time:
            self.judge(anchor, due, "TIME")
        self.events[record.event_id] = (member, record)
        self.judge(anchor, record.event_time, "EVENT")

    def judge(self, anchor, when, why, prior=None, told=None):
        at = self.at[anchor] = max(self.at.get(anchor, 0), when)
        prior = self.held.get(anchor, set()) if prior is None else prior
        told = prior if told is None else told
        consents, facts = self.seen(anchor, at)
        after = set()
        for one in self.segments:
            purposes = one.enter.purposes | (one.leave.purposes if one.leave else set())
            enter = one.enter.evaluate(facts).value == "TRUE"
            stays = enter
            if one.id in prior and one.leave is not None:
                leave = one.leave.evaluate(facts).value
                stays = leave == "FALSE" or (leave == "UNKNOWN" and enter)
            if stays and all(consents.granted(purpose) for purpose in purposes):
                after.add(one.id)
        self.told += [
            (anchor, name, "ENTERED" if name in after else "LEFT", why, when) for name in sorted(told ^ after)
        ]
        self.held[anchor] = after

    def seen(self, anchor, at):
        records = self.of(self.persons[anchor])
        consents = compose(self.agreed(records), at)
        records = self.of(usable(self.persons[anchor], consents))
        tiers = sorted((one.event_time, one.event_id, one.tier) for _, one in newest(records, Customer) if one.tier)
        inside = [(one, at - self.within(one) < one.event_time <= at) for _, one in records if self.within(one)]
        return consents, {
            "person.tier": tiers[-1][2].lower() if tiers else None,
            "facts.views": sum(now for one, now in inside if isinstance(one, WebEvent)),
            "facts.spend": sum(one.total_minor for one, now in inside if now and isinstance(one, Receipt)) / 100,
        }

    def due(self, anchor):
        at = self.at[anchor]
        everybody = self.of(self.persons[anchor])
        consents, _ = self.seen(anchor, at)
        instants = {one.valid_until for _, one in newest(everybody, Consent) if one.valid_until and not one.withdrawn}
        for _, one in self.of(usable(self.persons[anchor], consents)):
            if within := self.within(one):
                instants |= {one.event_time, one.event_time + within}
        return min((instant for instant in instants if instant > at), default=None)

    def of(self, her):
        members = {member.identifier for member in her.members}
        return [(member, record) for member, record in self.events.values() if member in members]

    @staticmethod
    def agreed(records):
        contributions = []
        for _, one in newest(records, Consent):
            contributions.append(Contribution())
            contributions[-1].agree(one)
        return [one.agreed for one in contributions]

    @staticmethod
    def within(record):
        return next((one.within_us for one in AGGREGATES.values() if one.topic == TOPICS[type(record)]), None)


def newest(records, kind):
    ordered = sorted(records, key=lambda pair: (pair[1].event_time, pair[1].event_id))
    return list({member: (member, one) for member, one in ordered if isinstance(one, kind)}.values())


@some.composite
def days(draw, most=30):
    """Steps in order of the clock: rows of three identifiers, late or not, repeats, merges, splits, silence."""
    steps, clock, together = [("link", "GREW", T0, person(CARD), person(MAIL), person(COOKIE))], T0, False
    rows = []
    for place in range(draw(some.integers(1, most))):
        clock += draw(some.sampled_from((0, HOUR // 4, HOUR, HOUR, 3 * HOUR)))
        kind = draw(some.sampled_from(("web", "web", "pos", "crm", "consent", "consent", "turn", "tick", "again")))
        at = clock - draw(some.sampled_from((0, 0, 0, HOUR // 2, 2 * HOUR, 7 * HOUR)))
        member, name = draw(some.sampled_from((CARD, MAIL, COOKIE))), f"e{place}"
        steps.append(("tick", clock))
        match kind:
            case "web":
                rows.append((member, viewed(name, at)))
            case "pos":
                rows.append((member, bought(name, at, draw(some.sampled_from((300, 1000, -600))))))
            case "crm":
                rows.append((member, crm(name, at, draw(some.sampled_from(("gold", "silver"))))))
            case "consent":
                codes = draw(some.sampled_from((("personalisation", "linking"), ("personalisation",), ("linking",))))
                until = draw(some.sampled_from((None, None, clock + 2 * HOUR)))
                withdrawn = draw(some.sampled_from((False, False, False, True)))
                rows.append((member, granted(name, at, *codes, member=member, valid_until=until, withdrawn=withdrawn)))
            case "turn":
                together = not together
                everyone = [person(CARD, MAIL, COOKIE)] if together else [person(CARD), person(MAIL), person(COOKIE)]
                steps.append(("link", "MERGE" if together else "SPLIT", clock, *everyone))
                continue
            case "tick":
                continue
            case _ if not rows:
                continue
        steps.append(("hear", *(draw(some.sampled_from(rows)) if kind == "again" else rows[-1]), clock))
    return [*steps, ("tick", clock + 10 * HOUR)]


def run(desk, steps):
    told = []
    for name, *arguments in steps:
        getattr(desk, name)(*arguments)
        told.append(list(desk.told))
        desk.told.clear()
    return told


def equals_a_recompute(steps):
    assert run(Desk(), steps) == run(Slow(), steps)


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(days())
def test_membership_equals_a_recompute_at_every_event_and_timer(steps):
    equals_a_recompute(steps)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(days(), some.integers(0, 40))
def test_a_restart_anywhere_changes_nothing(steps, cut):
    memory = Memory()
    desk = Desk(memory=memory)
    told = run(desk, steps[:cut])
    again = Desk(memory=memory, token=desk.tables.commit())
    assert told + run(again, steps[cut:]) == run(Slow(), steps)


def test_the_recompute_notices_a_timer_that_never_rings(monkeypatch):
    steps = [
        ("link", "GREW", T0, person(CARD)),
        ("hear", CARD, viewed("a", T0), T0),
        ("hear", CARD, viewed("b", T0), T0),
        ("tick", T0 + 9 * HOUR),
    ]
    equals_a_recompute(steps)
    monkeypatch.setattr(Profiles, "next_change", lambda *_: None)
    with pytest.raises(AssertionError):
        equals_a_recompute(steps)
