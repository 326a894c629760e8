"""The law of segments: equal to a full recompute at every event and at every instant at which anything could change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from operators.people.consent import compose
from operators.people.ledger import Contribution
from operators.profile import Profiles
from operators.state.memory import Memory
from schemas.people import Customer, Receipt, WebEvent
from schemas.person import usable
from schemas.reference import Consent
from tests.unit.segmenting import (
    AGGREGATES,
    ALL,
    CARD,
    COOKIE,
    HOUR,
    MAIL,
    T0,
    TOPICS,
    Desk,
    bought,
    crm,
    granted,
    person,
    viewed,
)


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
