"""Laws of the profile: a function of the set of events, against a slow oracle that keeps them all."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from operators import profile as profile_module
from operators.people.windows import HOUR
from operators.profile import ProfileRule, Profiles
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables
from schemas.derived import Transition
from schemas.items import Event, Linked, Member, Person, Touched
from schemas.people import ContactPoint, Customer, Receipt, WebEvent
from schemas.person import Aggregate, Observation
from schemas.reference import Consent, Purpose

T0 = 1_796_482_800_000_000
DAY = 24 * HOUR
END = T0 + 4 * DAY
RULE = ProfileRule(exact=3)
MEMBERS = ("loyalty:1:a", "email:1:b", "cookie:1:c")
CATEGORIES = ("", "shoes", "hats")
AGGREGATES = {
    one.id: one
    for one in (
        Aggregate("views", "web.event", "count", None, 2 * DAY),
        Aggregate("page", "web.event", "last", "path", 2 * DAY),
        Aggregate("kinds", "web.event", "distinct", "category", 2 * DAY),
        Aggregate("far", "web.event", "max", "path", DAY),
        Aggregate("spend", "pos.receipt", "sum", "total", 3 * DAY),
        Aggregate("best", "pos.receipt", "max", "total", DAY),
        Aggregate("visits", "pos.receipt", "count", None, 3 * DAY),
    )
}


class Plan:
    aggregates = AGGREGATES

    def observe(self, topic, record):
        return [
            Observation(one.id, key, _value(one, record))
            for one in AGGREGATES.values()
            if one.topic == topic
            for key in dict.fromkeys(("", getattr(record, "category", None) or ""))
        ]


def _value(aggregate, record):
    return {"total": getattr(record, "total_minor", None), None: None}.get(
        aggregate.of, getattr(record, aggregate.of or "", None)
    )


SETTLED = settings(derandomize=True, max_examples=80, deadline=None)
instants = some.integers(0, 10 * 24).map(lambda half: T0 - DAY + half * HOUR // 2)


@some.composite
def histories(draw, most=25):
    """Events of three identifiers: (member, record), each with an id of its own."""
    history = []
    for place in range(draw(some.integers(1, most))):
        member = draw(some.sampled_from(MEMBERS))
        at, name = draw(instants), f"e{place:03}"
        kind = draw(some.sampled_from(("web", "web", "web", "pos", "pos", "crm", "consent", "contact", "stay")))
        one_of = lambda *values: draw(some.sampled_from(values))  # noqa: E731
        match kind:
            case "web":
                record = WebEvent(
                    event_id=name, event_time=at, name="product_viewed", path=one_of("/a", "/b", "/c"),
                    category=one_of("shoes", "hats", None),
                )  # fmt: skip
            case "pos":
                record = Receipt(
                    event_id=name, event_time=at, receipt_id=one_of("r1", "r2", "r3", f"own-{place}"), currency="EUR",
                    total_minor=one_of(100, 1, -50, 999), kind=one_of("SALE", "RETURN", "VOID"),
                )  # fmt: skip
            case "crm":
                record = Customer(
                    event_id=name, event_time=at, identifiers=[member], tier=one_of("Gold", "silver", None),
                    traits={one_of("shoe", "size"): one_of("1", "2")}, source_id="erp", deleted=one_of(False, False, True),
                )  # fmt: skip
            case "consent":
                record = Consent(
                    event_id=name, event_time=at, identifier=member, epoch=name,
                    purposes=[
                        Purpose(code=code, granted=one_of(True, True, False), channels=one_of([], ["PUSH"], ["push", "sms"]))
                        for code in ("linking", "contact", "personalisation")
                        if one_of(True, False)
                    ],
                    valid_until=one_of(None, END - DAY), withdrawn=one_of(False, False, False, True),
                )  # fmt: skip
            case "contact":
                record = ContactPoint(
                    event_id=name, event_time=at, identifier=member, kind=one_of("PUSH", "NAME"), value_sealed=b"",
                    verified=one_of(True, False), deleted=one_of(False, False, True),
                )  # fmt: skip
            case _:
                visit = one_of("s1", "s2", "s3")
                record = Transition(
                    event_id=name, event_time=at, site_id="mad", visit_id=f"{member}-{visit}", subject_id=member,
                    zone_id="offers", zone_revision=0, kind=one_of("ENTER", "EXIT"), at=T0, reason="CROSSED", tech="UWB",
                )  # fmt: skip
        history.append((member, record))
    return history


TOPICS = {
    WebEvent: "web.event", Receipt: "pos.receipt", Customer: "crm.customer", Consent: "consent.record",
    ContactPoint: "crm.contact-point", Transition: "presence.transition",
}  # fmt: skip


def opened(memory=None, token=None):
    store = MemoryStore(memory)
    store.claim(token)
    store.open("0")
    tables = Tables(store)
    return Profiles(RULE, Plan(), tables), tables


def heard(people, history, clock=END):
    return [people.apply(Touched(Event(0, clock, TOPICS[type(one)], one), who, person(who))) for who, one in history]


def person(*members):
    return Person(members[0], members[0], tuple(Member(one) for one in members))


ASKED = [END - DAY + step * HOUR // 3 for step in range(0, 30 * 3, 7)]


def composed(people, her):
    """All that can be asked about a person."""
    return {
        "tier": people.tier(her),
        "traits": dict(people.traits(her)),
        "reach": [(one.kind, one.identifier, one.at) for one in people.reach(her)],
        "consents": [
            (at, sorted(seen.purposes.items()), sorted(seen.contact.items()), seen.contact_any, seen.epoch)
            for at in ASKED
            for seen in [people.consents(her, at)]
        ],
        "visits": [one.visit_id for one in people.open_visits(her)],
        "facts": [
            (name, key, at, people.fact(her, name, key, at), people.fact_sources(her, name, key, at))
            for name in AGGREGATES
            for key in CATEGORIES
            for at in ASKED
        ],
    }


# The oracle: every event ever heard, asked from the start each time.


def told(history, her):
    """What `composed` must be, from the whole history of her members."""
    mine = [
        (who, one)
        for member in her.members
        for who, one in dict.fromkeys(_hashable(history))
        if who == member.identifier
    ]
    records = [HELD[one] for _, one in mine]
    newest = {}
    for who, name in sorted(mine, key=lambda pair: _place(HELD[pair[1]])):
        record = HELD[name]
        newest[who, type(record), getattr(record, "kind", None) if isinstance(record, ContactPoint) else None] = record
    crm = sorted((one for one in newest.values() if isinstance(one, Customer) and not one.deleted), key=_place)
    tiers = [one.tier.lower() for one in crm if one.tier]
    points = {}
    for (who, _, kind), one in sorted(newest.items(), key=lambda pair: _place(pair[1])):
        if isinstance(one, ContactPoint) and one.verified and not one.deleted:
            points[kind] = (kind, who, one.event_time)
    consents = [one for one in newest.values() if isinstance(one, Consent)]
    stays = defaultdict(set)
    for one in records:
        if isinstance(one, Transition) and one.event_time >= END - RULE.slack_us:
            stays[one.visit_id].add(one.kind)
    return {
        "tier": tiers[-1] if tiers else None,
        "traits": {name: value for one in crm for name, value in one.traits.items()},
        "reach": sorted(points.values()),
        "consents": [(at, *_agreed(consents, at)) for at in ASKED],
        "visits": sorted(visit for visit, kinds in stays.items() if "EXIT" not in kinds),
        "facts": [
            (name, key, at, *_fact(mine, AGGREGATES[name], key, at))
            for name in AGGREGATES
            for key in CATEGORIES
            for at in ASKED
        ],
    }


HELD = {}


def _hashable(history):
    for who, one in history:
        HELD[one.event_id] = one
        yield who, one.event_id


def _place(record):
    return record.event_time, record.event_id


def _agreed(records, at):
    def state(code, channel):
        words = set()
        for one in records:
            said = [
                each.granted
                for each in one.purposes
                if each.code == code
                and (code != "contact" or not each.channels or channel in [name.lower() for name in each.channels])
            ]
            if one.withdrawn:
                words.add("WITHDRAWN")
            elif said and not all(said):
                words.add("DENIED")
            elif said:
                words.add("EXPIRED" if one.valid_until is not None and at >= one.valid_until else "GRANTED")
        return next((word for word in ("DENIED", "WITHDRAWN", "GRANTED", "EXPIRED") if word in words), "UNSET")

    codes = {each.code for one in records for each in one.purposes}
    if any(one.withdrawn for one in records):
        codes |= {
            "in_store_location", "linking", "personalisation", "profiling", "display_name", "contact", "measurement",
            "assistance", "audience_export", "ownership",
        }  # fmt: skip
    channels = {
        name.lower() for one in records for each in one.purposes if each.code == "contact" for name in each.channels
    }
    epoch = max(records, key=_place).epoch if records else None
    return (
        sorted((code, state(code, None)) for code in codes),
        sorted((channel, state("contact", channel)) for channel in channels),
        state("contact", None),
        epoch,
    )


def _fact(mine, aggregate, key, at):
    """The rule of hours as it is written: newest `exact` of a member one by one, the rest whole hours."""
    after, single, hours = at - aggregate.within_us, [], []
    for member in MEMBERS:
        fits = []
        for who, name in mine:
            record = HELD[name]
            if who == member and TOPICS[type(record)] == aggregate.topic:
                value = _value(aggregate, record)
                if key in ("", getattr(record, "category", None) or "") and (
                    value is not None or aggregate.op == "count"
                ):
                    fits.append(record)
        fits.sort(key=_place)
        cut = 0 if aggregate.topic == "pos.receipt" else max(0, len(fits) - RULE.exact)
        single += fits[cut:]
        by_hour = defaultdict(list)
        for one in fits[:cut]:
            by_hour[one.event_time // HOUR].append(one)
        hours += by_hour.values()
    single = sorted((one for one in single if after < one.event_time <= at), key=_place)
    if aggregate.topic == "pos.receipt":
        single = sorted({one.receipt_id: one for one in single}.values(), key=_place)
    whole = single + [one for hour in hours if after < hour[-1].event_time <= at for one in hour]
    values = [_value(aggregate, one) for one in sorted(whole, key=_place)]
    minor = 100 if aggregate.of == "total" else 1
    result = {
        "count": lambda: len(values),
        "sum": lambda: sum(values) / minor,
        "max": lambda: max(values) if minor == 1 else max(values) / minor,
        "last": lambda: values[-1],
        "distinct": lambda: len(set(values)),
    }
    missing = not values and aggregate.op in ("max", "last")
    return None if missing else result[aggregate.op](), [one.event_id for one in single][-32:]


def equals_the_oracle(history):
    people, _ = opened()
    heard(people, history)
    for her in (*map(person, MEMBERS), person(*MEMBERS)):
        assert composed(people, her) == told(history, her)


@SETTLED
@given(histories())
def test_the_profile_equals_a_recomputation_from_all_events(history):
    equals_the_oracle(history)


TWICE = [
    (MEMBERS[0], Receipt(event_id="e1", event_time=END - HOUR, receipt_id="r1", currency="EUR", total_minor=100)),
    (MEMBERS[1], Receipt(event_id="e2", event_time=END - HOUR, receipt_id="r1", currency="EUR", total_minor=100)),
]


def test_the_oracle_notices_a_receipt_counted_by_its_event(monkeypatch):
    equals_the_oracle(TWICE)
    monkeypatch.setattr(profile_module, "unit_of", lambda record: record.event_id)
    with pytest.raises(AssertionError):
        equals_the_oracle(TWICE)


@SETTLED
@given(histories(), some.randoms(use_true_random=False))
def test_order_and_repeats_never_matter(history, chance):
    shuffled = history + chance.choices(history, k=len(history))
    chance.shuffle(shuffled)
    first, _ = opened()
    second, _ = opened()
    heard(first, history)
    changes = heard(second, shuffled)
    assert sum(change.new for change in changes) == len(history)
    assert composed(second, person(*MEMBERS)) == composed(first, person(*MEMBERS))


@SETTLED
@given(histories(), histories(most=6))
def test_a_split_takes_a_merge_back(history, later):
    a, b = person(MEMBERS[0]), person(*MEMBERS[1:])
    people, _ = opened()
    people.link(Linked(0, T0, T0, "GREW", (a, b)))
    heard(people, history)
    apart = [composed(people, one) for one in (a, b)]
    people.link(Linked(0, T0, T0, "MERGE", (person(*MEMBERS),)))
    assert people.person_of(MEMBERS[2]) == person(*MEMBERS)
    people.link(Linked(0, T0, T0, "SPLIT", (a, b)))
    assert [people.person_of(one.root) for one in (a, b)] == [a, b]
    assert [composed(people, one) for one in (a, b)] == apart
    fresh = [(who, one) for who, one in later if one.event_id not in {known.event_id for _, known in history}]
    heard(people, fresh)
    assert [composed(people, one) for one in (a, b)] == [told(history + fresh, one) for one in (a, b)]


@SETTLED
@given(histories(), some.integers(0, 25))
def test_stop_anywhere_resume_and_go_on_is_the_whole(history, cut):
    memory = Memory()
    before, tables = opened(memory)
    heard(before, history[:cut])
    token = tables.commit()
    after, _ = opened(memory, token)
    assert not any(change.new for change in heard(after, history[:cut]))
    heard(after, history[cut:])
    assert composed(after, person(*MEMBERS)) == told(history, person(*MEMBERS))


@SETTLED
@given(histories())
def test_a_fact_changes_by_itself_only_when_it_said_it_would(history):
    people, _ = opened()
    heard(people, history)
    her = person(*MEMBERS)
    for name in AGGREGATES:
        at, changes = ASKED[0], set()
        while (following := people.changes_at(her, name, "", at)) is not None and following <= ASKED[-1]:
            changes.add(following)
            at = following
        for early, late in pairwise(ASKED):
            if not any(early < one <= late for one in changes):
                assert people.fact(her, name, "", early) == people.fact(her, name, "", late)
