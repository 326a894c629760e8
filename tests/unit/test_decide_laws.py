"""Laws of decisions on random histories, against slow and obvious oracles; and known bugs that these must catch."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as some

from operators.decisions import arbitration, caps, guards
from operators.decisions.arbitration import arm, bucket
from operators.decisions.guards import Answer, quiet_until
from operators.decisions.occasion import Reading
from operators.rules.campaigns import Arm, Quiet, Test
from schemas import ids
from schemas.items import Event
from schemas.reference import Device
from tests.unit.deciding import (
    ALL,
    CARD,
    DAY,
    MAIL,
    PUSH,
    SCREEN,
    TAG,
    H,
    M,
    S,
    Shop,
    campaign,
    person,
    rules_of,
)

MADRID = ZoneInfo("Europe/Madrid")
NUMBER = "phone:1:number"
MEMBERS = (CARD, MAIL, NUMBER)
WEB = {"event": {"topic": "web.event"}}
BASE = {"consent": ["personalisation"]}
CHANGES = (1_792_890_000 * S, 1_806_195_600 * S)  # clocks go back on 2026-10-25, forward on 2027-03-28, at 01:00 UTC


@cache
def capped_rules():
    """Three campaigns whose caps share a tag, a channel and a day."""
    return rules_of(
        campaign("one", WEB, group="a", tags=["deal"], guard=BASE | {"caps": {"this": "2 per 3h", "any": "3 per calendar day"}}),
        campaign("two", WEB, group="b", tags=["deal"], guard=BASE | {"caps": {"tag.deal": "3 per 5h", "push": "5 per 1d"}}),
        campaign(
            "three",
            WEB,
            group="c",
            guard=BASE | {"caps": {"any": "4 per calendar week", "this": "1 per 30m"}},
            test={"holdout": "30%", "metric": "conversion", "window": "1d"},
        ),
    )  # fmt: skip


WINDOWS = {
    "one": [("this:one", 2, 3 * H), ("any", 3, "day")],
    "two": [("tag.deal", 3, 5 * H), ("push", 5, DAY)],
    "three": [("any", 4, "week"), ("this:three", 1, 30 * M)],
}
SCOPES = {
    "one": ("this:one", "push", "tag.deal", "any"),
    "two": ("this:two", "push", "tag.deal", "any"),
    "three": ("this:three", "push", "any"),
}


def span(at, unit):
    """The local day or ISO week of an instant, by the borders of it and not by its date."""
    here = datetime.fromtimestamp(at / S, UTC).astimezone(MADRID)
    start = here.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        start = (start - timedelta(days=start.weekday())).replace(tzinfo=MADRID)
    end = (start + timedelta(days=1 if unit == "day" else 7)).replace(tzinfo=MADRID)
    return round(start.timestamp()) * S, round(end.timestamp()) * S


def broken(charges, at, limit, window):
    """Whether some window of a cap that holds `at` holds more than `limit` charges, `at` among them."""
    if isinstance(window, str):
        start, end = span(at, window)
        return sum(start <= each < end for each in charges) > limit
    return any(
        end - window < at <= end and sum(end - window < each <= end for each in charges) > limit
        for each in charges
        for end in [each]
    )


actions = some.lists(
    some.one_of(
        some.tuples(some.just("web"), some.sampled_from(MEMBERS), some.integers(-40 * M, 3 * H)),
        some.tuples(some.just("who"), some.integers(0, 4), some.just(0)),
    ),
    min_size=5,
    max_size=40,
)
PARTITIONS = (
    ((CARD,), (MAIL,), (NUMBER,)),
    ((CARD, MAIL), (NUMBER,)),
    ((CARD,), (MAIL, NUMBER)),
    ((CARD, NUMBER), (MAIL,)),
    ((CARD, MAIL, NUMBER),),
)


@cache
def day_rules():
    """The first of them alone."""
    return rules_of(
        campaign("one", WEB, tags=["deal"], guard=BASE | {"caps": {"this": "2 per 3h", "any": "3 per calendar day"}})
    )


def play(story, start, rules=capped_rules):
    """Run a story of web events, merges and splits; the shop, and who was who at each decision."""
    s = Shop(rules())
    groups = PARTITIONS[0]
    s.link(*(person(*group) for group in groups), at=-DAY)
    for member in MEMBERS:
        s.consent(-DAY, member=member)
        s.point(at=-DAY, member=member)
    at, seen, told = start - 1_796_486_400 * S, [], 0
    for place, (what, which, gap) in enumerate(story):
        if what == "who":
            groups = PARTITIONS[which]
            s.link(*(person(*group) for group in groups), at=at, kind="MERGE")
            continue
        at += gap
        s.web(at, key=str(place), member=which, clock=at)
        members = next(group for group in groups if which in group)
        seen += [(decision, members) for decision in s.decisions[told:]]
        told = len(s.decisions)
    return s, seen


def cap_violations(seen):
    """Every firing that a cap forbids, by brute force; and every refusal by a cap that none does."""
    charged = []  # (payer, scope, at)
    found = []
    for decision, members in seen:
        at = decision.event_time
        for candidate in sorted(decision.candidates, key=lambda each: each.campaign_id):
            name = candidate.campaign_id
            payer = decision.anchor_id if decision.anchor_id in members else members[0]
            if candidate.verdict == "HELD_OUT":
                charged.append((payer, f"this:{name}", at))
            hers = {
                scope: [c[2] for c in charged if c[0] in members and c[1] == scope] for scope, _, _ in WINDOWS[name]
            }
            full = [scope for scope, limit, window in WINDOWS[name] if broken([*hers[scope], at], at, limit, window)]
            if candidate.verdict == "FIRED":
                if full:
                    found.append((decision.event_id, name, full))
                charged += [(payer, scope, at) for scope in SCOPES[name]]
            elif candidate.reason.startswith("CAP_") and not full:
                found.append((decision.event_id, name, "refused for nothing"))
    return found


@settings(derandomize=True, max_examples=150, deadline=None)
@given(actions, some.sampled_from(CHANGES), some.integers(-30 * H, 3 * H))
def test_caps_are_never_broken_and_never_refuse_for_nothing(story, change, ahead):
    _, seen = play(story, change + ahead)
    assert cap_violations(seen) == []


def busy():
    return [("web", MEMBERS[n % 3], 7 * M) if n % 5 else ("who", n % 4 + 1, 0) for n in range(60)]


def test_the_oracle_of_caps_sees_a_cap_that_is_off_by_one(monkeypatch):
    _, seen = play(busy(), CHANGES[0])
    assert any(candidate.reason.startswith("CAP_") for decision, _ in seen for candidate in decision.candidates)
    monkeypatch.setattr(guards, "in_window", lambda *given: caps.in_window(*given) - 1)
    _, seen = play(busy(), CHANGES[0])
    assert cap_violations(seen)


def test_the_oracle_of_caps_sees_ledgers_that_a_merge_does_not_add(monkeypatch):
    monkeypatch.setattr(
        caps.Ledger,
        "of",
        lambda self, members, scope: list((self._table.get(next(iter(members))) or {}).get(scope, ())),
    )
    _, seen = play(busy(), CHANGES[0])
    assert cap_violations(seen)


def test_the_oracle_of_caps_sees_a_day_of_24_hours(monkeypatch):
    """On the day on which clocks go back, the 25th hour is still the same day."""
    story = [("web", CARD, 0), ("web", CARD, 8 * H), ("web", CARD, 8 * H), ("web", CARD, 8 * H + 30 * M)]
    start = CHANGES[0] - 3 * H + 10 * M  # 00:10 of a day of 25 hours
    _, seen = play(story, start, day_rules)
    assert cap_violations(seen) == []
    monkeypatch.setattr(
        guards,
        "in_calendar",
        lambda charges, at, unit, _: sum(at - (DAY if unit == "day" else 7 * DAY) < c <= at for c in charges),
    )
    _, seen = play(story, start, day_rules)
    assert cap_violations(seen)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    some.lists(some.integers(-60 * H, 60 * H), max_size=12),
    some.integers(-60 * H, 60 * H),
    some.sampled_from(["day", "week"]),
    some.sampled_from(CHANGES),
)
def test_calendar_spans_equal_those_by_their_borders(offsets, ahead, unit, change):
    at = change + ahead
    charges = sorted(change + each for each in offsets)
    start, end = span(at, unit)
    assert caps.in_calendar(charges, at, unit, "Europe/Madrid") == sum(start <= each < end for each in charges)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    some.integers(0, 24 * 60 - 1),
    some.integers(0, 24 * 60 - 1),
    some.integers(-30 * 60, 30 * 60),
    some.integers(0, M - 1),
    some.sampled_from(CHANGES),
)
@example(2 * 60 + 30, 3 * 60, 0, 0, CHANGES[1])
@example(2 * 60, 3 * 60, 30, 0, CHANGES[0])
@example(2 * 60 + 1, 0, -1, 0, CHANGES[0])
def test_quiet_hours_end_at_the_first_minute_that_is_not_quiet(start, end, minutes, rest, change):
    assume(start != end)
    at = change + minutes * M + rest
    until = quiet_until((start, end), at, "Europe/Madrid")

    def quiet(instant):
        here = datetime.fromtimestamp(instant // S, UTC).astimezone(MADRID)
        return Quiet.covers((start, end), here.hour * 60 + here.minute)

    if until is None:
        assert not quiet(at)
        return
    expected = at - at % M
    while quiet(expected):
        expected += M
        if expected > at + 3 * DAY:
            pytest.fail("quiet for ever")
    assert until == expected


# Holdout.


def halves(share):
    return Test("t", (Arm("control", 0, share), Arm("treated", share, 10_000)))


def test_holdout_shares_are_what_was_asked_for_and_tests_are_independent():
    anchors = [f"loyalty:1:{n:020d}" for n in range(20_000)]
    held = {name: {each for each in anchors if bucket(name, each) < 1000} for name in ("one", "two")}
    assert [round(len(each) / 20_000, 2) for each in held.values()] == [0.10, 0.10]
    assert round(len(held["one"] & held["two"]) / 20_000, 2) == 0.01
    tenths = Counter(bucket("one", each) // 1000 for each in anchors)
    assert all(abs(count - 2000) < 200 for count in tenths.values())
    assert arm(halves(10_000), CARD).held
    assert not arm(halves(0), CARD).held


def told_in_holdout(seen):
    """Firings of a campaign to somebody one of whose anchors is held out of it."""
    return [
        decision.event_id
        for decision, members in seen
        for candidate in decision.candidates
        if candidate.campaign_id == "three"
        and candidate.verdict == "FIRED"
        and bucket("three", decision.anchor_id) < 3000
    ]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(actions)
def test_nobody_who_is_held_out_is_told(story):
    _, seen = play(story, CHANGES[0])
    assert told_in_holdout(seen) == []


def test_the_oracle_of_holdouts_sees_one_that_is_ignored(monkeypatch):
    name = next(anchor for anchor in (f"loyalty:1:{n}" for n in range(100)) if bucket("three", anchor) < 3000)
    s = Shop(capped_rules())
    monkeypatch.setattr(arbitration, "arm", lambda test, anchor: arbitration.Arm("treated", 0, held=False))
    s.link(person(name), at=-DAY)
    s.consent(-DAY, member=name)
    s.point(at=-DAY, member=name)
    s.web(0, member=name)
    assert told_in_holdout([(each, (name,)) for each in s.decisions])


# Consent.

PURPOSES = ("personalisation", "in_store_location", "contact", "linking", "display_name")


@cache
def consent_rules():
    guard = {"consent": ["personalisation", "in_store_location"]}
    return rules_of(
        campaign(
            "one",
            {"dwell": {"zone": "offers", "at_least": "45s"}},
            if_={"near": 'zone.category == "offers"'},
            guard=guard,
        ),
        campaign("two", {"dwell": {"zone": "offers", "at_least": "45s"}}, guard=guard, group="b", do=[SCREEN, PUSH]),
    )


consents = some.lists(
    some.tuples(
        some.sampled_from([CARD, TAG]),
        some.sets(some.sampled_from(PURPOSES)),
        some.sets(some.sampled_from(PURPOSES)),
        some.integers(-50, 60),
        some.booleans(),
    ),
    max_size=5,
)


def unlawful(story):
    """Commands for which a purpose was not granted when they were made, by a plain look at the records."""
    s = Shop(consent_rules())
    s.link(person(CARD, TAG), at=-100 * S)
    s.point()
    heard, found, told = {}, [], 0

    def granted(purpose):
        said = list(heard.values())
        states = ["no" if r[3] or purpose in r[2] else "yes" if purpose in r[1] else "" for r in said]
        return "yes" in states and "no" not in states

    events = [
        (at * S, 0, ("consent", member, given, denied, withdrawn)) for member, given, denied, at, withdrawn in story
    ]
    events += [(0, 1, ("enter",)), (45 * S, 1, ("dwell",))]
    for at, _, (what, *rest) in sorted(events, key=lambda each: each[:2]):
        if what == "consent":
            member, given, denied, withdrawn = rest
            heard[member] = ("", given, denied, withdrawn)
            s.consent(
                at,
                granted=tuple(sorted(given - denied)),
                denied=tuple(sorted(denied)),
                member=member,
                withdrawn=withdrawn,
            )
        else:
            s.enter(0) if what == "enter" else s.dwell(0)
        for command in s.commands[told:]:
            needed = ["personalisation", "in_store_location"] + (["contact"] if command.channel == "PUSH" else [])
            found += [(command.event_id, purpose) for purpose in needed if not granted(purpose)]
        told = len(s.commands)
    return found


@settings(derandomize=True, max_examples=100, deadline=None)
@given(consents)
def test_nothing_is_sent_without_every_purpose(story):
    assert unlawful(story) == []


def test_the_oracle_of_consent_sees_a_gate_that_is_skipped(monkeypatch):
    story = [(CARD, {"contact", "in_store_location"}, set(), -10, False)]
    assert unlawful(story) == []
    monkeypatch.setattr(guards, "consent", lambda *_: Answer("skipped"))
    assert unlawful(story)
    monkeypatch.setattr(Reading, "missing", lambda *_: ())
    assert unlawful(story)


# Audience.


@settings(derandomize=True, max_examples=100, deadline=None)
@given(some.sets(some.sampled_from([TAG, CARD, "tag:1:b", "track:1:c"])), some.booleans(), some.booleans())
def test_no_personal_text_while_somebody_else_is_in_view(present, shared, agreed):
    s = Shop(personal_rules()).known()
    s.consent(-30 * S, granted=(*ALL, "display_name") if agreed else ALL, language="es")
    s.hear(
        Device(event_id="d", device_id="screen-7", kind="SCREEN", x_m=12.0, y_m=6.0, view_zones=["offers"], shared=shared, **s.base(0))
    )  # fmt: skip
    s.present("offers", *sorted(present))
    s.stay()
    personal = bool(s.commands) and s.commands[-1].locale == "es"
    assert personal == (agreed and not shared and not present - {TAG, CARD})


@cache
def personal_rules():
    """The personal part is written in a locale of its own, so that a command tells which one was chosen."""
    parts = {
        "screen": {"en": "Look here"},
        "screen_personal": {"en": "{{ person.first_name }}, look", "es": "{{ person.first_name }}"},
    }
    guard = {"consent": ["personalisation", "in_store_location"]}
    return rules_of(
        campaign(guard=guard | {"consent": [*guard["consent"], "display_name"]}, do=[SCREEN | {"template": "parts"}]),
        templates={"parts": parts},
    )


# Resume.


@cache
def story_rules():
    hold = {"quiet": {"venue": "17:00-17:20", "else": "hold", "at_most": "1h"}}
    left = {"absence": {"after": {"exited": {"site": "any"}}, "without": {"event": "pos.receipt"}, "within": "1h"}}
    two = {"sequence": {"of": [{"event": {"topic": "web.event"}}, {"entered": {"zone": "shoes"}}], "within": "1h"}}
    plain = {"consent": ["personalisation", "in_store_location"]}
    return rules_of(
        campaign("held", guard=plain | hold, group="a"),
        campaign("stocked", guard=plain | {"stock": {"of": "zone.category", "at_least": 1}}, group="b"),
        campaign("left", left, guard=plain, group="c"),
        campaign("both", two, guard=plain | {"caps": {"this": "1 per 1h"}}, group="d"),
        campaign("known", {"identified": {"in_zone": "offers"}}, guard=plain, group="e"),
        campaign("gold", {"segment": {"entered": "premium"}}, guard=plain, group="f"),
    )


def long_story():
    s = Shop(story_rules())
    s.link(person(TAG), at=-100 * S)
    s.link(person(CARD), at=-100 * S)
    s.consent()
    s.point()
    s.customer("gold")
    s.web(-S)
    s.enter(0, "store")
    s.stay(5 * S)
    s.present("offers", TAG)
    s.link(person(CARD, TAG), at=60 * S, kind="MERGE")
    s.stock(70 * S, 3)
    s.exit(5 * S, 80 * S)
    s.enter(90 * S, "shoes")
    s.tick(2 * M)
    s.stay(3 * M)
    s.tick(20 * M)
    s.exit(0, 21 * M, "store")
    s.web(22 * M)
    s.tick(2 * H)
    return s


def test_resume_at_any_prefix_equals_the_whole():
    whole = long_story()
    assert len(whole.decisions) >= 8
    assert {each.trigger.kind for each in whole.decisions} == {"DWELL", "ABSENCE", "SEQUENCE", "IDENTIFIED", "SEGMENT"}
    assert {"HOLD_ENDED", "STOCK_KNOWN", "IDENTIFIED"} <= {each.cause for each in whole.decisions}
    for cut in range(len(whole.taken)):
        first = Shop(story_rules())
        for items in whole.taken[:cut]:
            first.take(*items)
        token = first.tables.commit()
        rest = Shop(story_rules(), memory=first.store.memory, token=token)
        for items in whole.taken[cut:]:
            rest.take(*items)
        assert first.out + rest.out == whole.out, f"cut at {cut}"


def test_batches_do_not_matter():
    whole = long_story()
    at_once = Shop(story_rules())
    at_once.take(*(item for items in whole.taken for item in items))

    def derived(made):
        return [item for item in made if isinstance(item, Event) and item.offset == -1]

    assert derived(at_once.out) == derived(whole.out)


def test_ids_are_functions_of_the_data():
    decision = long_story().decisions[0]
    assert decision.event_id == ids.decision(decision.anchor_id, decision.trigger.id, decision.attempt)
    assert long_story().out == long_story().out
