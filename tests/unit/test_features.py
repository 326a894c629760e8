"""Features: the registry does not move, and 24 numbers equal what a slow reading of all facts says, to the bit."""

import math
import struct
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import operators.models.features as core
from operators.models.features import Moment, features_hash, vector
from operators.models.history import History, observe
from schemas.derived import DwellReached, Transition, Visit
from schemas.features import FEATURE_HASH, FEATURES, INDEX, NAMES, registry_hash
from schemas.people import Receipt, ReceiptLine, WebEvent, WebItem
from schemas.person import DENIED, GRANTED, Consents
from schemas.types import AnyRecord

MADRID = ZoneInfo("Europe/Madrid")
S, MIN, H, D = 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6
NOON = 1_796_468_400_000_000  # 2026-12-05 12:00 in Madrid
YES = Consents({"profiling": GRANTED, "in_store_location": GRANTED, "linking": GRANTED}, {})
CATEGORY = {"offers": "offers", "shoes": "shoes", "door": None}


def enter(visit: str, zone: str, at: int, seen: int | None = None, site: str = "mad-01") -> Transition:
    return Transition(
        event_id=f"in-{visit}", event_time=at + S if seen is None else seen, site_id=site, visit_id=visit, subject_id="tag:1:a",
        zone_id=zone, zone_revision=0, kind="ENTER", at=at, reason="CROSSED", tech="UWB",
    )  # fmt: skip


def leave(visit: str, zone: str, at: int, seen: int | None = None, site: str = "mad-01") -> Transition:
    return Transition(
        event_id=f"out-{visit}", event_time=at + S if seen is None else seen, site_id=site, visit_id=visit, subject_id="tag:1:a",
        zone_id=zone, zone_revision=0, kind="EXIT", at=at, reason="LEFT", tech="UWB",
    )  # fmt: skip


def dwell(visit: str, zone: str, entered: int, after: int, site: str = "mad-01") -> DwellReached:
    return DwellReached(
        event_id=f"dwell-{visit}-{after}", event_time=entered + after, ingest_time=entered + after, site_id=site, visit_id=visit,
        subject_id="tag:1:a", zone_id=zone, zone_revision=0, threshold_us=after, entered_at=entered, reached_at=entered + after,
        fired_at=entered + after, last_fix_at=entered + after, fix_count=9, quality=1.0,
    )  # fmt: skip


def visit(name: str, zone: str, entered: int, left: int, seen: int) -> Visit:
    return Visit(
        event_id=f"visit-{name}", event_time=seen, site_id="mad-01", visit_id=name, subject_id="tag:1:a", zone_id=zone,
        zone_revision=0, entered_at=entered, left_at=left, dwell_us=left - entered, observed_us=0, fix_count=3, gap_count=0,
        max_gap_us=0, enter_reason="CROSSED", exit_reason="LEFT", fired_us=[], tech="UWB", revision=0,
    )  # fmt: skip


def web(
    name: str, at: int, category: str = "shoes", sku: str = "a", pieces: int = 1, price: int = 1990, session: str = "s"
) -> WebEvent:
    item = WebItem(sku=sku, category=category, quantity_milli=1000 * pieces, price_minor=price)
    return WebEvent(
        event_id=f"{name}-{at}-{sku}", event_time=at, name=name, session_id=session, category=category, items=[item]
    )


def receipt(at: int, net: int, category: str = "shoes", kind: str = "SALE") -> Receipt:
    sign = -1 if net < 0 else 1
    line = ReceiptLine(kind=kind, sku="a", category=category, quantity_milli=1000 * sign, line_total_minor=net)
    return Receipt(
        event_id=f"r-{at}-{net}",
        event_time=at,
        receipt_id=f"r{at}",
        kind=kind,
        currency="EUR",
        total_minor=net,
        lines=[line],
    )


def history(*records: AnyRecord, clock: int = NOON) -> History:
    made = History()
    for record in records:
        category = CATEGORY.get(getattr(record, "zone_id", ""))
        observe(made, record, category=category, zone=MADRID, clock=clock)
    return made


def moment(at: int = NOON, **more: object) -> Moment:
    told: dict = {"zone_id": "shoes", "visit_id": "v1", "category": "shoes", "occupancy": 2, **more}
    return Moment(at=at, site_id="mad-01", zone=MADRID, **told)


def bits(values: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(values)}d", *(math.nan if value != value else value for value in values))


def named(values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True))


# -- the registry


def test_the_registry_is_what_models_were_trained_on():
    assert len(NAMES) == 24 == len(set(NAMES))
    assert FEATURE_HASH == "22bc82f723eb6b5282024a56696b2443"


def test_prose_does_not_change_the_registry_and_meaning_does():
    from msgspec.structs import replace

    prose = (replace(FEATURES[0], definition="said better"), *FEATURES[1:])
    unit = (replace(FEATURES[0], unit="ms"), *FEATURES[1:])
    assert registry_hash(prose) == FEATURE_HASH != registry_hash(unit)
    assert registry_hash((FEATURES[1], FEATURES[0], *FEATURES[2:])) != FEATURE_HASH


# -- single numbers


def test_nobody_knows_anything():
    found = named(vector([], moment(occupancy=None), YES))
    missing = {feature.name: feature.missing for feature in FEATURES}
    for name, value in found.items():
        if name not in {"hour", "weekday"}:
            assert (math.isnan(value) and missing[name] == "NaN") or (value == 0.0 and missing[name] == "0"), name
    assert (found["hour"], found["weekday"]) == (12.0, 5.0)


def test_stays_of_this_visit_and_before():
    found = named(
        vector(
            [
                history(
                    enter("v9", "shoes", NOON - 40 * D), leave("v9", "shoes", NOON - 40 * D + 10 * MIN),
                    enter("v8", "shoes", NOON - 3 * D), leave("v8", "shoes", NOON - 3 * D + 60 * S),
                    enter("v3", "door", NOON - 10 * MIN), leave("v3", "door", NOON - 9 * MIN),
                    enter("v2", "shoes", NOON - 8 * MIN), leave("v2", "shoes", NOON - 7 * MIN),
                    enter("v1", "shoes", NOON - 45 * S),
                )
            ],
            moment(),
            YES,
        )
    )  # fmt: skip
    assert found["dwell_s"] == 45.0
    assert found["zone_stays_visit"] == 2.0
    assert found["category_dwell_s_30d"] == 60.0 + 60.0 + 45.0
    assert found["visit_s"] == 600.0
    assert found["zones_visit"] == 2.0
    assert found["visits_90d"] == 3.0


def test_a_stay_is_open_until_its_end_was_heard():
    early = history(enter("v1", "shoes", NOON - 60 * S), leave("v1", "shoes", NOON - 30 * S, seen=NOON + S))
    assert named(vector([early], moment(), YES))["category_dwell_s_30d"] == 60.0
    assert named(vector([early], moment(NOON + S), YES))["category_dwell_s_30d"] == 30.0


def test_a_dwell_alone_tells_of_its_stay():
    assert named(vector([history(dwell("v1", "shoes", NOON - 45 * S, 45 * S))], moment(), YES))["dwell_s"] == 45.0


def test_a_stay_that_lost_its_end_counts_for_nothing_after_a_day():
    found = named(vector([history(enter("old", "shoes", NOON - 2 * D))], moment(), YES))
    assert found["category_dwell_s_30d"] == 0.0
    assert math.isnan(found["visit_s"])


def test_web_and_cart():
    found = named(
        vector(
            [
                history(
                    web("product_viewed", NOON - 8 * D),
                    web("product_viewed", NOON - 2 * H, session="s1"),
                    web("product_viewed", NOON - 90 * MIN, category="garden", session="s2"),
                    web("product_added", NOON - 80 * MIN, sku="x", pieces=3, price=1000),
                    web("product_added", NOON - 70 * MIN, sku="y", category="garden", price=500),
                    web("product_removed", NOON - 60 * MIN, sku="x", pieces=1, price=1000),
                )
            ],
            moment(),
            YES,
        )
    )
    assert found["web_age_min"] == 60.0
    assert (found["views_7d"], found["category_views_7d"], found["web_sessions_7d"]) == (2.0, 1.0, 3.0)
    assert (found["cart_items"], found["cart_value"]) == (3.0, 25.0)
    assert found["cart_age_h"] == 80 / 60
    assert found["cart_has_category"] == 1.0


def test_an_order_empties_the_cart():
    found = named(vector([history(web("product_added", NOON - H), web("order_completed", NOON - MIN))], moment(), YES))
    assert found["cart_items"] == 0.0
    assert math.isnan(found["cart_age_h"])


def test_purchases_and_value():
    bought = [receipt(NOON - 400 * D, 1000), receipt(NOON - 20 * D, 3000), receipt(NOON - 13 * D, 5000, "garden")]
    found = named(vector([history(*bought, receipt(NOON - 10 * D, -1000, kind="RETURN"))], moment(), YES))
    assert found["category_days_since"] == 20.0
    assert found["category_purchases_180d"] == 1.0
    assert found["return_share_365d"] == 1000 / 8000
    assert found["rfm_x"] == 2.0
    assert found["rfm_recency_w"] == 387 / 7
    assert found["rfm_age_w"] == 400 / 7
    assert found["rfm_mean_value"] == 40.0


# -- consents


def test_a_refused_purpose_takes_its_group_and_no_other():
    full = vector([history(enter("v1", "shoes", NOON - 45 * S), web("product_viewed", NOON - H))], moment(), YES)
    refused = vector(
        [history(enter("v1", "shoes", NOON - 45 * S), web("product_viewed", NOON - H))],
        moment(),
        Consents({"profiling": GRANTED, "in_store_location": DENIED}, {}),
    )
    assert all(math.isnan(value) for value in refused[:6])
    assert bits(refused[6:]) == bits(full[6:])


# -- the slow reading of all facts, and the laws


@dataclass(frozen=True)
class Said:
    """A record, the member it is credited to, and when it was heard."""

    member: int
    record: AnyRecord


def slowly(said: list[Said], members: set[int], at: int, spot: Moment) -> tuple[float, ...]:
    """Every feature by its definition, from all records that are known at `at`."""
    known = [one.record for one in said if one.member in members and one.record.event_time <= at]
    stays: dict[str, list] = {}
    for record in sorted((r for r in known if isinstance(r, Transition)), key=lambda r: r.kind):
        if record.kind == "ENTER" and record.at > at - 90 * D:
            stays[record.visit_id] = [record.at, at, record.zone_id]
        elif record.visit_id in stays:
            stays[record.visit_id][1] = record.at
    listed = sorted(stays.values())
    visits: list[list] = []
    for entered, left, zone in listed:
        if visits and entered - max(end for _, end, _ in visits[-1]) <= 30 * MIN:
            visits[-1].append((entered, left, zone))
        else:
            visits.append([(entered, left, zone)])
    here = visits[-1] if visits and at - max(end for _, end, _ in visits[-1]) <= 30 * MIN else []
    nan = math.nan
    out = [
        (at - stays["v1"][0]) / S if "v1" in stays else nan,
        float(sum(zone == spot.zone_id for _, _, zone in here)),
        sum(
            left - max(entered, at - 30 * D)
            for entered, left, zone in listed
            if CATEGORY[zone] == spot.category and left > at - 30 * D
        )
        / S,
        (at - here[0][0]) / S if here else nan,
        float(len({zone for _, _, zone in here})),
        float(len(visits)),
    ]
    clicks = sorted(
        (r for r in known if isinstance(r, WebEvent) and r.event_time > at - 30 * D), key=lambda r: r.event_time
    )
    week = [r for r in clicks if r.event_time > at - 7 * D]
    views = [r for r in week if r.name == "product_viewed"]
    out += [
        (at - clicks[-1].event_time) / MIN if clicks else nan,
        float(len(views)),
        float(sum(spot.category == r.category for r in views)),
        float(len({r.session_id for r in week})),
    ]
    ordered = max((r.event_time for r in clicks if r.name == "order_completed"), default=0)
    added = [r for r in clicks if r.name == "product_added" and r.event_time > ordered]
    out += [
        sum(r.items[0].quantity_milli for r in added) / 1000,
        sum(r.items[0].quantity_milli * r.items[0].price_minor for r in added) / 100_000,
        (at - added[0].event_time) / H if added else nan,
        float(any(r.category == spot.category for r in added)),
    ]
    tickets = [r for r in known if isinstance(r, Receipt)]
    year = [r for r in tickets if r.event_time > at - 365 * D]
    sales = [r for r in year if r.kind == "SALE" and r.lines[0].category == spot.category]
    sold = sum(r.total_minor for r in year if r.kind == "SALE")
    days: dict[int, int] = {}
    for r in tickets:
        day = datetime.fromtimestamp(r.event_time / S, MADRID).toordinal()
        days[day] = days.get(day, 0) + r.total_minor
    bought = sorted(day for day in days if days[day] > 0)
    today = datetime.fromtimestamp(at / S, MADRID).toordinal()
    out += [
        (at - max(r.event_time for r in sales)) / D if sales else nan,
        float(sum(r.event_time > at - 180 * D for r in sales)),
        -sum(r.total_minor for r in year if r.kind == "RETURN") / sold if sold else nan,
        float(max(0, len(bought) - 1)),
        (bought[-1] - bought[0]) / 7 if bought else nan,
        (today - bought[0]) / 7 if bought else nan,
        sum(days[day] for day in bought[1:]) / (100 * (len(bought) - 1)) if len(bought) > 1 else nan,
    ]
    local = datetime.fromtimestamp(at / S, MADRID)
    return *out, float(local.hour), float(local.weekday()), 2.0


@st.composite
def pasts(draw) -> list[Said]:
    """What three identifiers did over a year and more; all instants differ, as ids of facts do."""
    said: list[Said] = []
    count = draw(st.integers(0, 30))
    spans = st.sampled_from([5 * MIN, 3 * H, 9 * D, 100 * D, 500 * D])
    for number in range(count):
        at = NOON + 10 * MIN - draw(st.integers(0, draw(spans))) // S * S - number
        member = draw(st.integers(0, 2))
        match draw(st.integers(0, 4)):
            case 0 | 1:
                name = (
                    "v1"
                    if not any(isinstance(s.record, Transition) and s.record.visit_id == "v1" for s in said)
                    else f"w{number}"
                )
                zone = draw(st.sampled_from(sorted(CATEGORY)))
                stay = draw(st.integers(1, 3600)) * S
                said += [Said(member, enter(name, zone, at)), Said(member, leave(name, zone, at + stay))]
            case 2 | 3:
                name = draw(st.sampled_from(["product_viewed", "product_added", "order_completed", "page_viewed"]))
                said.append(
                    Said(
                        member,
                        web(
                            name,
                            at,
                            draw(st.sampled_from(["shoes", "offers"])),
                            f"sku{number}",
                            draw(st.integers(1, 3)),
                            draw(st.integers(0, 9999)),
                            draw(st.sampled_from("abc")),
                        ),
                    )
                )
            case _:
                net = draw(st.integers(1, 20_000))
                kind = draw(st.sampled_from(["SALE", "SALE", "RETURN"]))
                said.append(
                    Said(
                        member,
                        receipt(at, net if kind == "SALE" else -net, draw(st.sampled_from(["shoes", "offers"])), kind),
                    )
                )
    return said


def told(said: list[Said], members: int = 3) -> list[History]:
    return [history(*(one.record for one in said if one.member == member)) for member in range(members)]


LAW = settings(derandomize=True, max_examples=150, deadline=None)


@LAW
@given(pasts())
def test_the_core_equals_the_slow_reading_to_the_bit(said):
    assert bits(vector(told(said), moment(), YES)) == bits(slowly(said, {0, 1, 2}, NOON, moment()))


@LAW
@given(pasts(), st.randoms(use_true_random=False))
def test_order_of_arrival_repeats_and_who_it_lies_with_do_not_matter(said, random):
    usual = vector(told(said), moment(), YES)
    together = history(*(one.record for one in said))
    assert bits(vector([together], moment(), YES)) == bits(usual)  # features(merge(a, b)) = features of the union
    pairs: dict[str, list[AnyRecord]] = {}
    for number, one in enumerate(said):  # an exit never comes before its entry: presence says them in order
        pairs.setdefault(getattr(one.record, "visit_id", str(number)), []).append(one.record)
    groups = list(pairs.values())
    random.shuffle(groups)
    shuffled = [record for group in groups for record in group]
    assert bits(vector([history(*shuffled, *shuffled)], moment(), YES)) == bits(usual)


@LAW
@given(pasts())
def test_no_later_fact_moves_a_bit(said):
    before = [one for one in said if one.record.event_time <= NOON]
    assert bits(vector(told(before), moment(), YES)) == bits(vector(told(said), moment(), YES))


@LAW
@given(pasts())
def test_a_split_gives_back_what_each_had(said):
    alone = [vector([one], moment(), YES) for one in told(said)]
    merged = told(said)
    vector(merged, moment(), YES)
    assert [bits(vector([one], moment(), YES)) for one in merged] == [bits(one) for one in alone]


def test_the_slow_reading_catches_a_core_that_sees_the_future(monkeypatch):
    said = [Said(0, web("product_viewed", NOON - MIN)), Said(0, web("product_viewed", NOON + MIN))]
    monkeypatch.setattr(core, "_known", lambda members, at: [click for one in members for click in one.clicks])
    assert bits(vector(told(said), moment(), YES)) != bits(slowly(said, {0, 1, 2}, NOON, moment()))


def test_history_survives_its_bytes_and_forgets_what_left_every_window():
    import msgspec

    one = history(
        receipt(NOON - 500 * D, 700),
        receipt(NOON - D, 300),
        enter("old", "shoes", NOON - 200 * D),
        enter("v1", "shoes", NOON),
    )
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=History)
    assert again == one
    assert len(one.tickets) == 2
    assert list(one.stays) == ["v1"]
    assert named(vector([one], moment(), YES))["rfm_x"] == 1.0


def test_receipts_without_room_keep_their_value():
    many = [receipt(NOON - n * D, 100 + n) for n in range(520)]
    one, two = history(*many), [history(*many[:260]), history(*many[260:])]
    assert (len(one.tickets), len(one.days)) == (512, 8)
    assert bits(vector([one], moment(), YES)) == bits(vector(two, moment(), YES))


# -- the hash of a vector


def test_every_nan_is_one_nan_and_every_bit_counts():
    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))[0]
    row = (1.5, math.nan, *[0.0] * 22)
    assert features_hash(row) == features_hash((1.5, odd, *[0.0] * 22))
    assert features_hash(row) != features_hash((math.nextafter(1.5, 2), *row[1:]))
    assert len(features_hash(row)) == 32


@pytest.mark.parametrize("name", NAMES)
def test_each_feature_has_its_place(name):
    assert NAMES[INDEX[name]] == name
