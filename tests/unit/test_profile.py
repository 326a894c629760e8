"""Profiles, case by case: what is told when, and the failures the field knows."""

from operators.people.windows import HOUR
from operators.profile import ProfileRule, Profiles
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables
from schemas import ids
from schemas.derived import DwellReached, Transition
from schemas.items import Event, Linked, Member, Person, Touched
from schemas.people import ContactPoint, Customer, Receipt, WebEvent
from schemas.person import Aggregate, Cause, Observation
from schemas.reference import Consent, Purpose

T0 = 1_796_482_800_000_000
MINUTE = 60_000_000
DAY = 24 * HOUR
CARD, MAIL, COOKIE = "loyalty:1:card", "email:1:mail", "cookie:1:cookie"


class Plan:
    """What these tests want kept."""

    aggregates = {
        one.id: one
        for one in (
            Aggregate("views", "web.event", "count", None, 7 * DAY),
            Aggregate("spend", "pos.receipt", "sum", "total", 90 * DAY),
            Aggregate("best", "pos.receipt", "max", "total", 90 * DAY),
            Aggregate("visits", "pos.receipt", "count", None, 90 * DAY),
            Aggregate("page", "web.event", "last", "path", 7 * DAY),
            Aggregate("kinds", "web.event", "distinct", "category", 7 * DAY),
            Aggregate("told", "fired:welcome", "count", None, DAY),
        )
    }

    def observe(self, topic, record):
        if topic == "web.event":
            return [
                Observation("views", ""),
                Observation("views", record.category or ""),
                Observation("page", "", record.path),
                Observation("kinds", "", record.category),
            ]
        if topic == "pos.receipt":
            return [
                Observation("spend", "", record.total_minor),
                Observation("best", "", record.total_minor),
                Observation("visits", ""),
            ]
        return []


TOPICS = {
    WebEvent: "web.event",
    Receipt: "pos.receipt",
    Customer: "crm.customer",
    Consent: "consent.record",
    ContactPoint: "crm.contact-point",
    Transition: "presence.transition",
    DwellReached: "presence.dwell",
}


class Desk:
    """Profiles with a row counter."""

    def __init__(self, rule=None, memory=None):
        self.store = MemoryStore(memory)
        self.store.claim(None)
        self.store.open("0")
        self.tables = Tables(self.store)
        self.people = Profiles(rule or ProfileRule(), Plan(), self.tables)
        self.number = 0

    def link(self, *persons, kind="GREW"):
        self.people.link(Linked(self.number, T0, T0, kind, persons))

    def hear(self, member, record, clock=None):
        self.number += 1
        clock = record.event_time if clock is None else clock
        event = Event(self.number, clock, TOPICS[type(record)], record)
        return self.people.apply(Touched(event, member, self.people.person_of(member) or person(member)))


def person(*members):
    return Person(members[0], members[0], tuple(Member(one) for one in members))


def viewed(name, at=T0, **more):
    return WebEvent(event_id=name, event_time=at, name="product_viewed", **more)


def bought(name, total, at=T0, receipt=None, kind="SALE"):
    return Receipt(
        event_id=name, event_time=at, receipt_id=receipt or name, currency="EUR", total_minor=total, kind=kind
    )


def crm(name, tier, at=T0, **more):
    return Customer(event_id=name, event_time=at, identifiers=[CARD], tier=tier, source_id="erp", **more)


def test_tier_is_lower_case_and_the_last_writer_wins_in_any_order():
    desk = Desk()
    assert desk.hear(CARD, crm("b", "GOLD", T0 + 1)).customer
    assert not desk.hear(CARD, crm("a", "Silver", T0)).customer
    assert desk.people.tier(person(CARD)) == "gold"


def test_a_deleted_record_takes_its_tier_and_traits_away_and_nobody_elses():
    desk = Desk()
    desk.hear(MAIL, crm("m", "silver", T0, traits={"shoe": "42"}))
    desk.hear(CARD, crm("a", "gold", T0 + 1, traits={"shoe": "43"}))
    both = person(CARD, MAIL)
    assert (desk.people.tier(both), desk.people.traits(both)) == ("gold", {"shoe": "43"})
    desk.hear(CARD, crm("b", None, T0 + 2, deleted=True))
    assert (desk.people.tier(both), desk.people.traits(both)) == ("silver", {"shoe": "42"})


def test_a_repeat_is_told_and_changes_nothing():
    desk = Desk()
    assert desk.hear(COOKIE, viewed("v")).new
    again = desk.hear(COOKIE, viewed("v"))
    assert not again.new
    assert not again.anything
    assert desk.people.fact(person(COOKIE), "views", "", T0) == 1


def test_windows_are_open_at_their_start_and_closed_at_their_end():
    desk = Desk()
    desk.hear(COOKIE, viewed("v"))
    her = person(COOKIE)
    assert [desk.people.fact(her, "views", "", at) for at in (T0 - 1, T0, T0 + 7 * DAY - 1, T0 + 7 * DAY)] == [
        0,
        1,
        1,
        0,
    ]
    assert desk.people.changes_at(her, "views", "", T0) == T0 + 7 * DAY
    assert desk.people.changes_at(her, "views", "", T0 - 5) == T0
    assert desk.people.changes_at(her, "views", "", T0 + 7 * DAY) is None


def test_amounts_show_in_main_units_and_nothing_yet_is_zero_or_unknown():
    desk = Desk()
    her = person(CARD)
    names = ("spend", "best", "visits", "page", "kinds")
    assert [desk.people.fact(her, name, "", T0) for name in names] == [0, None, 0, None, 0]
    desk.hear(CARD, bought("r1", 10))
    desk.hear(CARD, bought("r2", 20))
    desk.hear(CARD, bought("r3", -7, kind="RETURN"))
    assert [desk.people.fact(her, name, "", T0) for name in names[:3]] == [0.23, 0.2, 3]
    assert desk.people.fact_sources(her, "spend", "", T0) == ["r1", "r2", "r3"]


def test_a_receipt_counts_once_a_person_whoever_it_came_with_and_however_often():
    desk = Desk()
    desk.hear(CARD, bought("first", 1000, T0, "till-1/17"))
    desk.hear(MAIL, bought("resent", 1000, T0 + 1, "till-1/17"))
    desk.hear(MAIL, bought("corrected", 900, T0 + 2, "till-1/17"))
    at = T0 + MINUTE
    facts = {who: desk.people.fact(person(*who), "spend", "", at) for who in ((CARD,), (MAIL,), (CARD, MAIL))}
    assert facts == {(CARD,): 10.0, (MAIL,): 9.0, (CARD, MAIL): 9.0}
    assert desk.people.fact(person(CARD, MAIL), "visits", "", at) == 1


def test_last_and_distinct_go_by_event_time():
    desk = Desk()
    desk.hear(COOKIE, viewed("b", T0 + 2, path="/b", category="shoes"))
    desk.hear(COOKIE, viewed("a", T0 + 1, path="/a", category="hats"))
    desk.hear(COOKIE, viewed("c", T0 + 3))
    her = person(COOKIE)
    assert desk.people.fact(her, "page", "", T0 + 3) == "/b"
    assert desk.people.fact(her, "kinds", "", T0 + 3) == 2
    assert desk.people.fact(her, "views", "hats", T0 + 3) == 1


def test_beyond_256_events_an_hour_counts_whole_while_its_newest_event_stands_in_the_window():
    desk = Desk()
    ten = T0 // HOUR * HOUR + HOUR
    early = [ten + minute * MINUTE for minute in (0, 10, 50)]
    for place, at in enumerate([*early, *(ten + 2 * HOUR + second * 1_000_000 for second in range(256))]):
        desk.hear(COOKIE, viewed(f"v{place}", at))
    her = person(COOKIE)
    leaves = [at + 7 * DAY for at in early]
    assert desk.people.fact(her, "views", "", ten + 3 * HOUR) == 259
    assert desk.people.fact(her, "views", "", leaves[1]) == 259, "two left, their hour still stands: off by two"
    assert desk.people.fact(her, "views", "", leaves[2]) == 256
    assert desk.people.changes_at(her, "views", "", leaves[0]) == leaves[2]


def test_more_than_256_receipts_stay_exact_to_the_cent():
    desk = Desk()
    for place in range(400):
        desk.hear(CARD, bought(f"r{place}", 333, T0 + place * HOUR, f"till/{place % 300}"))
    assert desk.people.fact(person(CARD), "spend", "", T0 + 400 * HOUR) == 300 * 333 / 100


def test_what_no_window_can_reach_is_not_kept():
    desk = Desk()
    late = desk.hear(COOKIE, viewed("old", T0 - 30 * DAY), clock=T0)
    assert late.new
    assert late.facts == ()
    desk.hear(COOKIE, viewed("v1", T0))
    desk.hear(COOKIE, viewed("v2", T0 + 60 * DAY))
    desk.tables.commit()
    kept = desk.people._contributions.get(COOKIE)
    assert len(kept.facts["views"][""].entries) == 1


def test_live_facts_are_unknown_until_their_window_is_covered():
    desk = Desk(ProfileRule(complete=False))
    desk.hear(COOKIE, viewed("v", T0))
    her = person(COOKIE)
    assert desk.people.fact(her, "views", "", T0 + DAY) is None
    assert desk.people.fact(her, "views", "", T0 + 7 * DAY - 1) is None
    assert desk.people.changes_at(her, "views", "", T0 + DAY) == T0 + 7 * DAY
    assert desk.people.fact(her, "views", "", T0 + 7 * DAY) == 0


def test_firings_are_facts_and_count_once():
    desk = Desk()
    assert desk.people.observe_fired(person(CARD, MAIL), "welcome", T0, "d1")
    assert not desk.people.observe_fired(person(CARD, MAIL), "welcome", T0, "d1")
    assert not desk.people.observe_fired(person(CARD, MAIL), "unasked", T0, "d2")
    assert desk.people.fact(person(CARD, MAIL), "told", "", T0) == 1
    assert desk.people.fact(person(MAIL), "told", "", T0) == 0


def test_the_newest_verified_contact_point_of_a_kind_is_the_way_to_reach_her():
    desk = Desk()

    def point(name, member, at, **more):
        desk.hear(
            member, ContactPoint(event_id=name, event_time=at, identifier=member, kind="PUSH", value_sealed=b"", **more)
        )

    point("a", CARD, T0, verified=True)
    point("b", MAIL, T0 + 1, verified=True)
    point("c", COOKIE, T0 + 2)
    her = person(CARD, MAIL, COOKIE)
    assert [(one.kind, one.identifier, one.at) for one in desk.people.reach(her)] == [("PUSH", MAIL, T0 + 1)]
    point("d", MAIL, T0 + 3, verified=True, deleted=True)
    assert [one.identifier for one in desk.people.reach(her)] == [CARD]


def _moved(kind, at, visit="visit"):
    return Transition(
        event_id=f"{visit}-{kind}", event_time=at, site_id="mad", visit_id=visit, subject_id=CARD, zone_id="offers",
        zone_revision=0, kind=kind, at=T0, reason="CROSSED", tech="UWB",
    )  # fmt: skip


def test_a_stay_is_open_until_its_exit_whichever_is_heard_first():
    desk = Desk()
    assert desk.hear(CARD, _moved("ENTER", T0 + 1)).presence
    assert [(one.visit_id, one.zone_id, one.entered_at) for one in desk.people.open_visits(person(CARD))] == [
        ("visit", "offers", T0)
    ]
    assert desk.hear(CARD, _moved("EXIT", T0 + 9)).presence
    assert desk.hear(CARD, _moved("EXIT", T0 + 9, "other")).presence
    assert not desk.hear(CARD, _moved("ENTER", T0 + 1, "other")).presence
    assert desk.people.open_visits(person(CARD)) == []


def test_snapshots_are_told_only_when_something_published_changed():
    desk = Desk()
    desk.link(person(CARD, MAIL))
    her = desk.people.person_of(MAIL)
    cause = Cause(7, T0, T0, T0 + 1, "mad")
    assert desk.people.snapshot(her, [], {}, cause) is None, "nothing is known of her yet"
    desk.hear(CARD, crm("c", "gold", traits={"shoe": "43"}))
    told = desk.people.snapshot(her, ["premium"], {"intent": 0.5}, cause)
    record = told.record
    assert (told.number, told.topic, record.event_id) == (7, "profile.snapshot", ids.snapshot(CARD, 1))
    assert (record.version, record.tier, record.segments, record.scores) == (1, "gold", ["premium"], {"intent": "0.5"})
    assert (record.traits[0].name, record.traits[0].source, record.site_id) == ("shoe", "erp", "mad")
    assert desk.people.snapshot(her, ["premium"], {"intent": 0.5}, cause) is None
    desk.hear(MAIL, bought("r", 100, T0 + 5))
    again = desk.people.snapshot(her, ["premium"], {"intent": 0.5}, cause).record
    assert (again.version, again.last_receipt_at) == (2, T0 + 5)


def test_a_member_that_moved_is_found_with_its_new_person():
    desk = Desk()
    desk.link(person(CARD, COOKIE), person(MAIL))
    desk.link(person(CARD, MAIL, COOKIE), kind="MERGE")
    assert desk.people.person_of(MAIL).root == CARD
    desk.link(person(CARD), person(MAIL, COOKIE), kind="SPLIT")
    assert desk.people.person_of(COOKIE).root == MAIL
    assert desk.people.person_of("tag:1:nobody") is None


def test_a_profile_is_read_back_from_the_store():
    memory = Memory()
    desk = Desk(memory=memory)
    desk.link(person(CARD, COOKIE))
    for place in range(300):
        desk.hear(COOKIE, viewed(f"v{place}", T0 + place * MINUTE, path=f"/{place}", category=str(place % 5)))
    desk.hear(
        CARD,
        Consent(
            event_id="k", event_time=T0, identifier=CARD, epoch="e", purposes=[Purpose(code="linking", granted=True)]
        ),
    )
    token = desk.tables.commit()
    store = MemoryStore(memory)
    store.claim(token)
    store.open("0")
    again = Profiles(ProfileRule(), Plan(), Tables(store))
    her, at = again.person_of(COOKIE), T0 + 300 * MINUTE
    assert her == person(CARD, COOKIE)
    assert again.consents(her, at).granted("linking")
    for name in Plan.aggregates:
        assert again.fact(her, name, "", at) == desk.people.fact(her, name, "", at)
