"""The door: every gate by name, in its order, for readings and for other topics; what is said twice, and who is nobody."""

import math

import msgspec
import pytest

from schemas.items import Event, Occupied, Tick
from schemas.people import Receipt, WebEvent
from schemas.reference import Consent, Link, Ring, Site, Zone
from schemas.sensing import PeopleCount, Scan, SourceStatus
from tests.unit.admitting import MS, T0, S, Seen, admit, box, fact, facts, items_of, reading, run, stream, venue, zone


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("NOT_FINITE", {"x": math.nan}),
        ("NOT_FINITE", {"y": math.inf}),
        ("NOT_FINITE", {"floor": math.nan}),
        ("NOT_FINITE", {"accuracy_m": math.nan}),
        ("NOT_FINITE", {"z_m": math.inf}),
        ("NOT_FINITE", {"speed_mps": math.nan}),
        ("OUT_OF_RANGE", {"accuracy_m": 0.0}),
        ("OUT_OF_RANGE", {"accuracy_m": 1001.0}),
        ("OUT_OF_RANGE", {"speed_mps": -1.0}),
        ("UNKNOWN_PLACE", {"site": "elsewhere"}),
        ("UNKNOWN_PLACE", {"floor": 7.0}),
        ("OFF_FLOOR", {"x": 105.5}),
        ("FUTURE_TIME", {"ingest": T0 + 7 * S + 800 * MS}),
        ("TOO_OLD", {"ingest": T0 + 100_000 * S}),
        ("IMPOSSIBLE_SPEED", {"x": 20.0}),
    ],
)
def test_a_gate_refuses_one_reading_and_no_neighbour(reason, bad):
    """One bad reading among a hundred good ones; the letter says where it stood."""
    good = stream(20)
    wrong = reading(10.1, seq=7, **bad)
    seen = run([*good, wrong])
    assert seen.reasons == {reason: 1}
    assert seen.dead[0].stage == "ADMIT"
    assert seen.dead[0].payload.startswith(b"sealed")
    assert seen.tally == {"applied": 100, "dead": 1}
    assert facts(seen.fixes) == facts(run(good).fixes)


def test_five_metres_outside_are_still_the_floor():
    """More than 5 m is off it."""
    assert run(stream(2, x=105.0)).tally == {"applied": 10}


def test_the_gates_come_in_their_order():
    """A reading wrong in every way is refused for the first of them."""
    wrong = reading(5, x=math.nan, accuracy_m=-1.0, site="elsewhere", ingest=T0)
    for fix, reason in [
        ({"x_m": 1.0}, "OUT_OF_RANGE"),
        ({"accuracy_m": None}, "UNKNOWN_PLACE"),
        ({"site_id": "s1", "floor": 3.0}, "UNKNOWN_PLACE"),
        ({"floor": 0.0, "x_m": 900.0}, "OFF_FLOOR"),
    ]:
        wrong = msgspec.structs.replace(wrong, **fix)
        assert run([*stream(1), wrong]).reasons == {reason: 1}


def test_a_duplicate_is_counted_and_is_no_record():
    """The same (source, seq), or the same subject, time and place through another gateway."""
    good = [msgspec.structs.replace(each, seq=i) for i, each in enumerate(stream(20))]
    resent = msgspec.structs.replace(good[50], ingest_time=good[50].ingest_time + 100 * MS)
    relayed = msgspec.structs.replace(good[60], source_id="g2", seq=9999)
    renumbered = msgspec.structs.replace(good[70], x_m=10.2)
    seen = run([*good, resent, relayed, renumbered])
    assert seen.tally == {"applied": 100, "duplicate": 3}
    assert not seen.dead
    assert facts(seen.fixes) == facts(run(good).fixes)


def test_after_a_second_a_new_place_is_believed():
    """A jump is refused while it could be a wild fix, and does not become the reference."""
    there = [reading(10 + i / 5, x=40.0) for i in range(20)]
    seen = run([*stream(10), *there])
    refused = [letter.event_time - T0 for letter in seen.dead]
    assert seen.reasons == {"IMPOSSIBLE_SPEED": 5}
    assert refused == [10_000_000, 10_200_000, 10_400_000, 10_600_000, 10_800_000]


def test_walking_pace_and_half_a_metre_are_allowed():
    """5 m/s and 0.5 m: exactly at the limit passes."""
    assert run([*stream(4), reading(4, x=11.5)]).tally == {"applied": 21}
    assert run([*stream(4), reading(4, x=11.51)]).tally == {"applied": 20, "dead": 1}


def test_who_is_nobody_is_counted_and_not_tracked():
    """Namespace `track`, a site that only counts, and sensitive zones leave no fix and no state."""
    assert run(stream(20, subject="track:1:x")).tally == {"applied": 100}
    for records, place in [
        (stream(20, subject="track:1:x"), venue()),
        (stream(20), venue(legal_basis="COUNTS_ONLY")),
        (stream(20, x=50.0, y=50.0), venue(zone("chapel", box(45, 45, 55, 55), sensitive=True))),
    ]:
        core, tables = admit(place)
        seen = Seen(core.step(items_of(records)))
        assert seen.tally == {"applied": 100}
        assert not seen.fixes
        assert not dict(core._trails.items())
        tables.commit()


def test_what_is_not_a_position_passes_at_once_in_its_place():
    """Derived items and items of other steps too."""
    core, _ = admit()
    letter = Event(0, T0, "ops.dead-letter", Receipt(event_time=T0, receipt_id="r", currency="EUR", total_minor=1))
    occupied = Occupied(0, T0, "s1", "z", 1, "tag:1:a", inside=True)
    assert core.step([letter, occupied]) == [letter, occupied]


RECEIPT = {"receipt_id": "r", "currency": "EUR", "total_minor": -500}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (fact(Scan, 0, subject_id="tag:1:a", device_id="unknown"), "UNKNOWN_PLACE"),
        (
            fact(PeopleCount, 0, counter_id="unknown", interval_start=0, interval_end=1, count_in=0, count_out=0),
            "UNKNOWN_PLACE",
        ),
        (
            fact(PeopleCount, 0, counter_id="gate", interval_start=0, interval_end=1, count_in=-1, count_out=0),
            "OUT_OF_RANGE",
        ),
        (
            fact(PeopleCount, 0, counter_id="gate", interval_start=2, interval_end=1, count_in=0, count_out=0),
            "OUT_OF_RANGE",
        ),
        (fact(SourceStatus, 0, heartbeat_us=-1), "OUT_OF_RANGE"),
        (fact(Link, 0, from_id="a", to_id="b", valid_from=0, confidence=1.5), "OUT_OF_RANGE"),
        (fact(Link, 0, from_id="a", to_id="b", valid_from=0, confidence=math.nan), "NOT_FINITE"),
        (fact(Zone, 0, zone_id="z", floor=0.0, rings=[Ring(xy_m=[0.0, math.inf])]), "NOT_FINITE"),
        (fact(Zone, 0, zone_id="z", floor=0.0, rings=[], gap_us=-1), "OUT_OF_RANGE"),
        (fact(Scan, 3, subject_id="tag:1:a", device_id="poster", ingest=T0), "FUTURE_TIME"),
        (fact(Receipt, 64_000_000 * 40, **RECEIPT), "FUTURE_TIME"),
        (fact(Receipt, -T0 / S, **RECEIPT), "TOO_OLD"),
        (fact(Receipt, 0, ingest=T0 + 401 * 86_400 * S, **RECEIPT), "TOO_OLD"),
    ],
)
def test_other_topics_have_their_gates_too(record, reason):
    """Only those that apply to them."""
    seen = run([record])
    assert seen.reasons == {reason: 1}
    assert not seen.passed


def test_facts_may_be_late_early_and_negative():
    """Only `sensing.*` knows lateness; goods coming back are negative; consent never grows too old."""
    seen = run(
        [
            *stream(20),
            fact(Receipt, 100, ingest=T0 + 10 * S, **RECEIPT),
            fact(WebEvent, -3600, ingest=T0 + 10 * S, name="product_viewed"),
            fact(Consent, -86_400 * 900, ingest=T0 + 10 * S, identifier="tag:1:a"),
        ]
    )
    assert not seen.dead
    assert len(seen.passed) == 3


def test_the_same_event_id_is_applied_once_per_topic():
    """And only the last ones are remembered."""
    rows = [fact(Receipt, i, event_id=str(i % 3), **RECEIPT) for i in range(9)] + [
        fact(WebEvent, 0, event_id="1", name="x")
    ]
    assert run(rows).tally == {"applied": 4, "duplicate": 6}
    assert run(rows, rule={"remembered": 1}).tally == {"applied": 10}


def test_the_venue_may_change_while_it_is_read():
    """A zone on a new floor makes the floor known; a site that turns to counting tracks nobody any more."""
    upstairs = fact(Zone, 5, zone_id="up", floor=1.0, rings=[box(0, 0, 9, 9)])
    seen = run([upstairs, reading(4, floor=1.0), reading(6, floor=1.0)])
    assert seen.reasons == {"UNKNOWN_PLACE": 1}
    assert len(seen.fixes) == 1
    closed = fact(Site, 5, lat_deg=0.0, lon_deg=0.0, time_zone="UTC", legal_basis="COUNTS_ONLY")
    seen = run([closed, *stream(20)])
    assert max(fix.event_time for fix in seen.fixes) < T0 + 5 * S
    assert seen.tally["applied"] == 101


def test_packed_readings_are_counted_under_their_own_topic():
    """The same gates; a dead letter and a late row name the reading by its index."""
    core, _ = admit()
    events = [
        Event(i, T0 + i * 200 * MS, "sensing.position-batch", reading(i / 5, x=10.0 if i != 30 else 900.0), 2, 77, i)
        for i in range(60)
    ]
    seen = Seen(
        core.step(
            [
                *events,
                Event(60, T0 + 12 * S, "sensing.position-batch", reading(3, subject="tag:1:b", delay=9), 2, 78, 5),
                Tick(60, T0 + 13 * S, end=True),
            ]
        )
    )
    assert seen.tally == {"applied": 59, "dead": 1, "late": 1}
    assert (seen.dead[0].origin_offset, seen.dead[0].index) == (77, 30)
    assert (seen.late[0].origin_topic, seen.late[0].origin_offset) == ("sensing.position-batch", 78)
    assert len({seen.late[0].event_id, seen.dead[0].event_id}) == 2
