"""Scores of people: ids, purposes, whose facts count, and a vector in training that is the vector in service."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.models.features import features_hash
from operators.models.learn import train_intent
from operators.models.model import load_model
from operators.models.training import ALL_GRANTED, Row, TrainingTap
from operators.score import Scores, counting
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas import ids
from schemas.derived import Command, DwellReached, Transition
from schemas.features import INDEX, NAMES
from schemas.items import Event, Linked, Member, Occupied, Person, Tick, Touched
from schemas.people import Receipt, ReceiptLine, WebEvent, WebItem
from schemas.person import DENIED, GRANTED, Consents
from schemas.reference import Site, Zone
from schemas.venue import Venue

S, MIN, H, D = 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6
NOON = 1_796_468_400_000_000
ANA = Person(
    "loyalty:1:ana",
    "loyalty:1:ana",
    (Member("loyalty:1:ana"), Member("tag:1:ana"), Member("cookie:1:x", inferred=True)),
)
VENUE = Venue(
    site=Site(event_time=0, site_id="mad-01", lat_deg=40.0, lon_deg=-3.0, time_zone="Europe/Madrid"),
    floors=[],
    zones={name: Zone(event_time=0, zone_id=name, floor=0.0, rings=[], category=name) for name in ("shoes", "offers")},
    devices={},
)


def tables() -> Tables:
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    return Tables(store)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    rng = np.random.Generator(np.random.PCG64(1))
    rows = []
    for number in range(700):
        features = rng.random(len(NAMES))
        features[INDEX["category_views_7d"]] = rng.integers(0, 7)
        bought = bool(rng.random() < 0.1 + 0.1 * features[INDEX["category_views_7d"]])
        rows.append(Row(number * H, "s", "shoes", f"v{number}", "m", "ASSERTED", tuple(features.tolist()), "p", bought))
    return load_model(train_intent(rows, Path(tmp_path_factory.mktemp("m")), seed=1, horizon_us=H, trees=12).folder)


def touch(record, member="tag:1:ana", person=ANA, number=1) -> Touched:
    topic = {
        Transition: "presence.transition",
        DwellReached: "presence.dwell",
        WebEvent: "web.event",
        Receipt: "pos.receipt",
    }[type(record)]
    return Touched(Event(number, max(record.ingest_time, record.event_time), topic, record), member, person)


def enter(visit="v1", at=NOON - 45 * S, zone="shoes") -> Transition:
    return Transition(
        event_id=f"in-{visit}", event_time=at, site_id="mad-01", visit_id=visit, subject_id="tag:1:ana", zone_id=zone,
        zone_revision=0, kind="ENTER", at=at, reason="CROSSED", tech="UWB",
    )  # fmt: skip


def dwell(visit="v1", at=NOON, after=45 * S, zone="shoes", site="mad-01") -> DwellReached:
    return DwellReached(
        event_id=f"dwell-{visit}-{after}", event_time=at, ingest_time=at + 7, site_id=site, visit_id=visit, subject_id="tag:1:ana",
        zone_id=zone, zone_revision=0, threshold_us=after, entered_at=at - after, reached_at=at, fired_at=at, last_fix_at=at,
        fix_count=9, quality=1.0,
    )  # fmt: skip


def view(at, category="shoes") -> WebEvent:
    return WebEvent(event_id=f"w{at}", event_time=at, name="product_viewed", session_id="s", category=category)


def order(at, category="shoes") -> WebEvent:
    return WebEvent(
        event_id=f"o{at}", event_time=at, name="order_completed", items=[WebItem(sku="a", category=category)]
    )


def sale(at, category="shoes", pieces=1) -> Receipt:
    line = ReceiptLine(sku="a", category=category, quantity_milli=1000 * pieces, line_total_minor=1990 * pieces)
    return Receipt(
        event_id=f"r{at}", event_time=at, receipt_id=f"r{at}", currency="EUR", total_minor=1990 * pieces, lines=[line]
    )


def asked(scores: Scores, consents: Consents = ALL_GRANTED, person: Person = ANA, trigger=None, member="tag:1:ana"):
    trigger = touch(trigger or dwell()).event
    return scores.score(person, trigger, "shoes", "v1", trigger.record.event_time, consents, 3, member)


def same(one, other) -> bool:
    return [struct.pack("<d", value) for value in one] == [struct.pack("<d", value) for value in other]


# -- the row


def test_a_score_is_a_row_with_the_times_of_its_trigger(model):
    scores = Scores(model, VENUE, tables())
    scores.observe(touch(enter()), ANA)
    scored = asked(scores)
    row = scored.event.record
    assert scored.event.topic == "decision.score"
    assert (row.event_time, row.ingest_time, row.site_id, row.source_id) == (NOON, NOON + 7, "mad-01", "activation")
    assert row.event_id == ids.score("loyalty:1:ana", "dwell-v1-45000000", "intent", model.version)
    assert (row.person_id, row.visit_id, row.model, row.model_version) == (
        "loyalty:1:ana",
        "v1",
        "intent",
        model.version,
    )
    assert row.score == scored.value == model.score(scored.features)
    assert row.reasons == []
    assert row.features_hash == features_hash(scored.features)
    assert scored.features[INDEX["dwell_s"]] == 45.0
    assert scored.features[INDEX["zone_occupancy"]] == 3.0


def test_reasons_name_five_features_at_most_the_strongest_first(model):
    scores = Scores(model, VENUE, tables())
    for number in range(5):
        scores.observe(touch(view(NOON - H + number)), ANA)
    reasons = asked(scores).reasons()
    assert 1 <= len(reasons) <= 5
    weights = [abs(reason.weight) for reason in reasons]
    assert weights == sorted(weights, reverse=True)
    assert all(struct.unpack("<f", struct.pack("<f", reason.weight))[0] == reason.weight for reason in reasons)
    assert "category_views_7d" in {reason.feature for reason in reasons}


def test_the_venue_stands_in_for_a_trigger_without_a_site(model):
    scores = Scores(model, VENUE, tables())
    assert asked(scores, trigger=dwell(site="")).event.record.site_id == "mad-01"


# -- when there is none


def test_no_model_or_no_profiling_no_score(model):
    assert asked(Scores(None, VENUE, tables())) is None
    scores = Scores(model, VENUE, tables())
    assert asked(scores, Consents({"profiling": DENIED, "in_store_location": GRANTED}, {})) is None
    assert asked(scores, Consents({}, {})) is None


def test_without_location_the_score_stands_on_the_rest(model):
    scores = Scores(model, VENUE, tables())
    scores.observe(touch(enter()), ANA)
    scores.observe(touch(view(NOON - H)), ANA)
    scored = asked(scores, Consents({"profiling": GRANTED}, {}))
    assert math.isnan(scored.features[INDEX["dwell_s"]])
    assert scored.features[INDEX["views_7d"]] == 1.0


# -- whose facts


def test_an_inferred_member_counts_with_linking_only():
    no_linking = Consents({"profiling": GRANTED}, {})
    assert counting(ANA, "tag:1:ana", ALL_GRANTED) == ["loyalty:1:ana", "tag:1:ana", "cookie:1:x"]
    assert counting(ANA, "tag:1:ana", no_linking) == ["loyalty:1:ana", "tag:1:ana"]
    assert counting(ANA, "cookie:1:x", no_linking) == ["cookie:1:x"]
    assert counting(ANA, None, no_linking) == ["loyalty:1:ana", "tag:1:ana"]


def test_a_merged_person_has_the_facts_of_both_and_a_split_gives_them_back(model):
    scores = Scores(model, VENUE, tables())
    tag = Person("tag:1:ana", "tag:1:ana", (Member("tag:1:ana"),))
    card = Person("loyalty:1:ana", "loyalty:1:ana", (Member("loyalty:1:ana"),))
    scores.observe(touch(enter(), person=tag), tag)
    scores.observe(touch(sale(NOON - D), "loyalty:1:ana", card), card)
    before = asked(scores, person=tag).features
    both = asked(scores).features
    assert (both[INDEX["dwell_s"]], both[INDEX["category_days_since"]]) == (45.0, 1.0)
    assert same(asked(scores, person=tag).features, before)


def test_forgetting_a_member_leaves_nothing(model):
    scores = Scores(model, VENUE, tables())
    scores.observe(touch(enter()), ANA)
    scores.forget("tag:1:ana")
    assert math.isnan(asked(scores).features[INDEX["dwell_s"]])


def test_histories_come_back_from_the_store(model):
    kept = tables()
    first = Scores(model, VENUE, kept)
    for record in (enter(), view(NOON - H), sale(NOON - D)):
        first.observe(touch(record), ANA)
    before = asked(first).features
    kept.commit()
    assert same(asked(Scores(model, VENUE, Tables(kept.store))).features, before)


# -- training sees what service saw

PASTS = st.lists(
    st.one_of(
        st.builds(
            lambda n, z: enter(f"v{n}", NOON - n * 7 * MIN, z), st.integers(0, 40), st.sampled_from(["shoes", "offers"])
        ),
        st.builds(
            lambda n, z: dwell(f"v{n % 5}", NOON - n * 7 * MIN, 45 * S, z),
            st.integers(0, 40),
            st.sampled_from(["shoes", "offers"]),
        ),
        st.builds(lambda n: view(NOON - n * 11 * MIN), st.integers(0, 1000)),
        st.builds(lambda n: sale(NOON - n * 13 * MIN), st.integers(-100, 1000)),
    ),
    max_size=40,
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(PASTS, st.sampled_from([1, 3, 100]))
def test_a_row_to_learn_from_is_the_vector_that_was_scored(model, records, size):
    items = [
        item
        for number, record in enumerate(records)
        for item in (touch(record, number=number), Occupied(number, NOON, "mad-01", "shoes", number, "", inside=True))
    ]
    scores, live, occupied = Scores(model, VENUE, tables()), [], {}
    for item in items:
        if isinstance(item, Occupied):
            occupied[item.zone_id] = item.count
            continue
        scores.observe(item, ANA)
        record = item.event.record
        if isinstance(record, DwellReached):
            scored = scores.score(
                ANA,
                item.event,
                record.zone_id,
                record.visit_id,
                record.event_time,
                ALL_GRANTED,
                occupied.get(record.zone_id),
                item.member,
            )
            live.append((record.event_time, record.visit_id, scored.event.record.features_hash))
    tap = TrainingTap(tables(), VENUE, D)
    for start in range(0, len(items), size):
        assert tap.step(items[start : start + size]) == items[start : start + size]
    tap.step([Tick(10**6, NOON + 9 * D)])
    assert sorted((row.at, row.visit_id, features_hash(row.features)) for row in tap.rows()) == sorted(live)


# -- labels


def rows_after(*later, horizon=D, until=NOON + 3 * D, person=ANA):
    tap = TrainingTap(tables(), VENUE, horizon)
    tap.step([touch(enter(), person=person), touch(dwell(), person=person), *later, Tick(99, until)])
    return tap.rows()


def bought(*later, **more) -> bool:
    (row,) = rows_after(*later, **more)
    return row.bought


def test_a_purchase_of_the_category_within_the_horizon_is_the_label():
    assert bought(touch(sale(NOON + H), "loyalty:1:ana"))
    assert bought(touch(order(NOON + D), "loyalty:1:ana"))
    assert not bought(touch(sale(NOON + D + 1), "loyalty:1:ana"))
    assert not bought(touch(sale(NOON), "loyalty:1:ana"))
    assert not bought(touch(sale(NOON + H, "offers"), "loyalty:1:ana"))
    assert not bought(touch(sale(NOON + H, pieces=-1), "loyalty:1:ana"))
    assert not bought(touch(view(NOON + H), "loyalty:1:ana"))


def test_only_closed_horizons_give_rows():
    assert rows_after(until=NOON + D - 1) == []
    assert len(rows_after(until=NOON + D)) == 1


def test_who_was_who_is_known_at_the_end():
    alone = Person("tag:1:ana", "tag:1:ana", (Member("tag:1:ana"),))
    other = Person("loyalty:1:ana", "loyalty:1:ana", (Member("loyalty:1:ana"),))
    paid = touch(sale(NOON + H), "loyalty:1:ana", other)
    assert not bought(paid, person=alone)
    assert bought(paid, Linked(5, NOON + 2 * H, NOON + 2 * H, "MERGE", (ANA,)), person=alone)


def test_a_treated_stay_says_so():
    command = Command(
        event_id="a", event_time=NOON, campaign_id="c", campaign_version="1", step="0", decision_id="d", anchor_id="x", visit_id="v1",
        channel="SCREEN", target_id="t", template_id="o", locale="en", params={}, purpose="personalisation", consent_epoch=None,
        waits_for=None, while_present=True, not_before=None, expires_at=NOON + H, priority=1,
    )  # fmt: skip
    (row,) = rows_after(Event(3, NOON, "action.command", command))
    assert row.treated


def test_nobody_who_refused_profiling_is_learned_from():
    tap = TrainingTap(tables(), VENUE, D, lambda _person, _at: Consents({"profiling": DENIED}, {}))
    tap.step([touch(dwell()), Tick(9, NOON + 9 * D)])
    assert tap.rows() == []
