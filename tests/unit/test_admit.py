"""The door: every gate by name, clocks of sources, the watermark, and laws of order."""

import math
import random
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.admit import Admit, AdmitRule
from operators.door import clocks
from operators.door.times import END
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables
from operators.venues.place import Places
from schemas.codec import decode_body
from schemas.items import Due, Event, Fix, Occupied, Tally, Tick, Watermark
from schemas.people import Receipt, WebEvent
from schemas.reference import Consent, Device, Link, Ring, Site, Zone
from schemas.sensing import PeopleCount, Position, Scan, SourceStatus
from schemas.venue import Venue

T0 = 1_796_486_400_000_000
S = 1_000_000
MS = 1_000


def box(west, south, east, north):
    return Ring(xy_m=[west, south, east, south, east, north, west, north, west, south])


def zone(zone_id, ring, **fields):
    return Zone(event_time=0, zone_id=zone_id, floor=0.0, rings=[ring], **fields)


def venue(*zones, **site):
    store = zone("store", box(0, 0, 100, 100), kind="STORE")
    return Venue(
        site=Site(event_time=0, site_id="s1", lat_deg=0.0, lon_deg=0.0, time_zone="UTC", **site),
        floors=[],
        zones={each.zone_id: each for each in (store, *zones)},
        devices={"gate": Device(event_time=0, device_id="gate"), "poster": Device(event_time=0, device_id="poster")},
    )


def admit(place=None, memory=None, **rule):
    store = MemoryStore(memory)
    store.claim(None)
    store.open("0")
    tables = Tables(store)
    return Admit(
        AdmitRule(sealed=lambda payload: b"sealed" + payload, **rule), Places(place or venue()), tables
    ), tables


def reading(at_s, *, delay=0.0, source="g", subject="tag:1:a", x=10.0, y=10.0, **fields):
    """A position at T0 + at_s, heard `delay` seconds later."""
    event_time = T0 + round(at_s * S)
    return Position(
        event_time=event_time,
        ingest_time=fields.pop("ingest", event_time + round(delay * S)),
        site_id=fields.pop("site", "s1"),
        source_id=source,
        subject_id=subject,
        tech=fields.pop("tech", "UWB"),
        x_m=x,
        y_m=y,
        floor=fields.pop("floor", 0.0),
        **fields,
    )


def stream(seconds, *, rate=5, start=0.0, **fields):
    """Readings of one standing subject."""
    return [reading(start + i / rate, **fields) for i in range(round(seconds * rate))]


def items_of(records, *, end=True, partition=lambda _: 0, clock=lambda record: record.ingest_time):
    """What a source makes of rows: merged by the clock, a tick before a row whenever 100 ms have passed."""
    out, now, number = [], 0, 0
    for number, record in enumerate(sorted(records, key=clock)):
        at = clock(record)
        if at // 100_000 > now // 100_000:
            out.append(Tick(number - 1, at - at % 100_000))
        now = at
        topic = next(name for name, known in TOPIC.items() if isinstance(record, known))
        out.append(Event(number, now, topic, record, partition(record), number))
    if end:
        out.append(Tick(number, now, end=True))
    return out


TOPIC = {
    "sensing.position": Position,
    "sensing.count": PeopleCount,
    "sensing.scan": Scan,
    "sensing.status": SourceStatus,
    "web.event": WebEvent,
    "pos.receipt": Receipt,
    "consent.record": Consent,
    "identity.link": Link,
    "venue.zone": Zone,
    "venue.site": Site,
}


class Seen:
    """What came out, by kind."""

    def __init__(self, out):
        self.out = out
        self.fixes = [item for item in out if isinstance(item, Fix)]
        self.marks = [item for item in out if isinstance(item, Watermark)]
        self.dues = [item for item in out if isinstance(item, Due)]
        events = [item for item in out if isinstance(item, Event)]
        self.dead = [item.record for item in events if item.topic == "ops.dead-letter"]
        self.late = [item.record for item in events if item.topic == "ops.late"]
        self.alerts = [item.record for item in events if item.topic == "ops.alert"]
        self.passed = [item for item in events if not item.topic.startswith("ops.")]
        self.tally = Counter()
        for item in out:
            if isinstance(item, Tally):
                self.tally[item.fate] += item.count

    @property
    def reasons(self):
        return Counter(letter.reason for letter in self.dead)


def run(records, place=None, **options):
    rule = options.pop("rule", {})
    return Seen(admit(place, **rule)[0].step(items_of(records, **options)))


def facts(fixes):
    """What presence sees of fixes: not when they were released."""
    return [(f.event_time, f.subject_id, f.x_m, f.y_m, f.floor, f.accuracy_m, f.tech) for f in fixes]


# --- gates by name


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


def test_late_goes_whole_to_its_topic():
    """Behind the watermark: kept, never acted on, and by how much."""
    late = reading(10, delay=10, subject="tag:1:b", seq=3)
    seen = run([*stream(40), late])
    (found,) = seen.late
    assert (found.late_by_us, found.watermark) == (10 * S - 250 * MS, T0 + 20 * S - 250 * MS)
    assert decode_body("sensing.position", found.payload) == late
    assert (found.source_id, found.subject_id, found.origin_offset) == ("presence", "tag:1:b", 101)
    assert seen.tally == {"applied": 200, "late": 1}


def test_released_at_the_watermark_late_only_before_it():
    """A reading exactly at the watermark is in time."""
    good = stream(20)
    exact = reading(9.75, subject="tag:1:b", delay=0.25)
    before = reading(9.749999, subject="tag:1:c", delay=0.250001)
    seen = run([*good, exact, before])
    assert [late.late_by_us for late in seen.late] == [1]
    assert "tag:1:b" in {fix.subject_id for fix in seen.fixes}


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


# --- sources


def clocked(lag, seconds=30, *, jitter=0.0, rate=5, start=0.0, seed=1, **fields):
    """A source whose readings arrive `lag` seconds after what its clock says."""
    rng = random.Random(seed)
    return [
        reading(start + i / rate, delay=lag + rng.random() * jitter, **fields) for i in range(round(seconds * rate))
    ]


@pytest.mark.parametrize("hours", [2, -2, 0.25])
def test_a_source_hours_off_is_quarantined_and_named(hours):
    """A time-zone fault: nothing of it is merged, the other source goes on."""
    wrong = clocked(hours * 3600, source="counter", subject="tag:1:b", start=-hours * 3600, jitter=0.3)
    seen = run([*stream(40), *wrong])
    assert {fix.subject_id for fix in seen.fixes} == {"tag:1:a"}
    assert seen.reasons == {"CLOCK_QUARANTINE": 150}
    (alert,) = seen.alerts
    assert (alert.name, alert.severity, alert.source_id) == ("QUARANTINED", "PAGE", "activation")
    assert "'counter'" in alert.cause
    assert not seen.late


def test_a_quarantined_source_without_a_name_of_a_thing_is_told_by_the_place_of_its_reading():
    """An id from the wire may be anybody's address; where the row stands leads to it as well."""
    wrong = clocked(7200, source="ana@example.com", subject="tag:1:b", start=-7200)
    seen = run([*stream(40), *wrong])
    (alert,) = seen.alerts
    assert alert.cause.startswith("clock of the source of sensing.position:0, offset ")
    at = int(alert.cause.split("offset ")[1].split(",")[0])
    assert at in {letter.origin_offset for letter in seen.dead}


@pytest.mark.parametrize(("rate", "tags"), [(1, 10), (200, 1), (5, 100), (0.5, 1)])
def test_a_wrong_clock_is_found_at_any_rate(rate, tags):
    """Many tags in one beat, a busy source, a sparse one."""
    wrong = [
        reading(
            2 * i / rate / 2 + 7200, ingest=T0 + round(i / rate * S) + 3 * MS * tag, source="c", subject=f"tag:1:{tag}"
        )
        for i in range(round(60 * rate))
        for tag in range(tags)
    ]
    seen = run([*stream(70), *wrong])
    assert {fix.subject_id for fix in seen.fixes} <= {"tag:1:a"} or rate < 1
    assert [alert.name for alert in seen.alerts][-1] == "QUARANTINED"


@pytest.mark.parametrize(("ahead", "alerts"), [(0.2, []), (0.5, []), (2, ["DEGRADED"]), (5, ["DEGRADED"])])
def test_a_clock_ahead_is_corrected_at_once(ahead, alerts):
    """Delay cannot make a lag negative; above a second somebody hears of it."""
    seen = run([*stream(40), *clocked(-ahead, source="fast", subject="tag:1:b", start=ahead, jitter=0.05)])
    assert [alert.name for alert in seen.alerts] == alerts
    assert not seen.dead
    assert not seen.late
    times = [fix.event_time for fix in seen.fixes if fix.subject_id == "tag:1:b"]
    assert len(times) == 150
    if ahead > 0.25:
        true = [T0 + i * 200 * MS for i in range(150)]
        assert max(abs(time - expected) for time, expected in zip(times, true, strict=True)) < 60 * MS


def test_a_clock_behind_is_delay_until_it_is_steady_for_a_minute():
    """5 s behind with all but equal lags: late for a minute, then corrected."""
    seen = run([*stream(200), *clocked(5, 200, source="slow", subject="tag:1:b", start=-5, jitter=0.1)])
    assert [alert.name for alert in seen.alerts] == ["DEGRADED"]
    assert 200 < len(seen.late) < 400
    last = [fix for fix in seen.fixes if fix.subject_id == "tag:1:b"][-1]
    assert last.ingest_time - last.event_time < 200 * MS


def test_a_bridge_that_knows_its_offset_is_believed():
    """`sensing.status` carries the estimate of a protocol with a sent time."""
    said = SourceStatus(
        event_time=T0 - 10 * S,
        ingest_time=T0 - 10 * S,
        site_id="s1",
        source_id="slow",
        event_id="1",
        heartbeat_us=S,
        clock_offset_us=5 * S,
    )
    seen = run([said, *stream(40), *clocked(5, source="slow", subject="tag:1:b", start=-5, jitter=0.1)])
    assert not seen.late
    assert sum(fix.subject_id == "tag:1:b" for fix in seen.fixes) == 150


def test_an_operator_who_states_the_offset_ends_a_quarantine():
    """Two hours off, and known."""
    wrong = clocked(7200, source="counter", subject="tag:1:b", start=-7200, jitter=0.1)
    seen = run([*stream(40), *wrong], rule={"offsets": {"counter": 7200 * S}})
    assert not seen.dead
    assert sum(fix.subject_id == "tag:1:b" for fix in seen.fixes) == 150


def test_a_quarantined_source_comes_back_after_a_good_minute():
    """And says so."""
    wrong = clocked(7200, 10, source="c", subject="tag:1:b", start=-7200)
    good = clocked(0.1, 100, source="c", subject="tag:1:b", start=10)
    seen = run([*stream(130), *wrong, *good])
    assert [(alert.name, alert.cleared) for alert in seen.alerts] == [("QUARANTINED", False), ("QUARANTINED", True)]
    assert sum(fix.subject_id == "tag:1:b" for fix in seen.fixes) == pytest.approx(200, abs=2)


def test_a_clock_that_steps_is_followed():
    """5 s ahead for a while, then set right: what was before the step says nothing."""
    fast = clocked(-5, 40, source="c", subject="tag:1:b", start=5, jitter=0.05)
    right = clocked(0, 60, source="c", subject="tag:1:b", start=40, jitter=0.05)
    seen = run([*stream(110), *fast, *right])
    assert [(alert.name, alert.cleared) for alert in seen.alerts] == [("DEGRADED", False), ("DEGRADED", True)]
    last = [fix for fix in seen.fixes if fix.subject_id == "tag:1:b"][-50:]
    assert all(fix.ingest_time - fix.event_time < 100 * MS for fix in last)
    assert len(seen.late) < 60


def test_a_clock_that_drifts_is_followed():
    """1 ms a second fast: never refused, and within what is left alone or corrected."""
    drifting = [
        reading(i / 5, ingest=T0 + round((i / 5) / 1.001 * S) + 20 * MS, source="c", subject="tag:1:b")
        for i in range(5000)
    ]
    seen = run([*stream(1010), *drifting])
    assert not seen.dead
    assert not seen.late
    errors = [fix.event_time - fix.ingest_time for fix in seen.fixes if fix.subject_id == "tag:1:b"]
    assert max(map(abs, errors)) < 400 * MS


def test_a_device_in_2099_closes_nothing():
    """Among the first readings of its source, or later: refused, and no watermark moves."""
    odd = [
        msgspec.structs.replace(
            reading(t, subject="tag:1:z"), event_time=4_070_908_800 * S, ingest_time=T0 + round(t * S)
        )
        for t in (0.3, 2.1, 20.1)
    ]
    seen = run([*stream(40), *odd])
    assert seen.reasons == {"FUTURE_TIME": 3}
    assert seen.tally == {"applied": 200, "dead": 3}
    assert max(mark.at for mark in seen.marks if not mark.end) < T0 + 41 * S


@pytest.mark.parametrize("wild", [-9, -5, 40])
def test_one_wild_lag_in_a_probation_is_no_clock(wild):
    """The 5th percentile of 20 is the least of them: it must not stand alone."""
    records = stream(20)
    odd = reading(1.1, delay=wild, subject="tag:1:z")
    seen = run([*records, odd])
    assert not seen.alerts
    assert facts(fix for fix in seen.fixes if fix.subject_id == "tag:1:a") == facts(run(records).fixes)


def test_a_backlog_in_one_burst_is_no_clock_fault():
    """A phone uploads ten minutes at once: its lag shrinks as it is read; nobody else waits for it."""
    backlog = [reading(t, ingest=T0 + 660 * S + t, source="phone", subject="tag:1:p") for t in range(600)]
    seen = run([*stream(700), *backlog])
    assert not seen.alerts
    assert not seen.dead
    assert (len(seen.late), len(seen.fixes)) == (580, 3520)  # all but its probation is behind the others' watermark


def test_a_backlog_of_the_log_is_no_silence():
    """What was heard in time and is read two hours later, in one burst: the same fixes as live."""
    records = [*stream(20), *stream(20, subject="tag:1:b", start=40)]
    wall = {id(record): T0 + 7200 * S + i * MS for i, record in enumerate(records)}
    seen = run(records, clock=lambda record: wall[id(record)])
    assert facts(seen.fixes) == facts(run(records).fixes)
    assert not seen.late


def test_one_partition_an_hour_behind_holds_nobody_up():
    """It counts once nobody else does; until then what is behind is late."""
    behind = [reading(t / 5 - 3600, ingest=T0 + t * 200 * MS, subject="tag:1:b") for t in range(200)]
    seen = run([*stream(40), *behind], partition=lambda record: int(record.subject_id == "tag:1:b"))
    assert sum(fix.subject_id == "tag:1:a" for fix in seen.fixes) == 200
    released = [
        fix.clock - fix.event_time for fix in seen.fixes if fix.subject_id == "tag:1:a" and fix.event_time > T0 + 6 * S
    ]
    assert max(released) <= 1200 * MS
    assert seen.late


def test_in_a_catch_up_of_all_the_slowest_partition_leads():
    """After an outage the partition read last must not be late as a whole."""
    one = stream(60, subject="tag:1:a")
    two = stream(60, subject="tag:1:b")
    clock = {id(record): T0 + 7200 * S + i * MS for i, record in enumerate(one[:250])}
    clock |= {id(record): T0 + 7201 * S + i * MS for i, record in enumerate(two[:250])}
    clock |= {id(record): T0 + 7202 * S + i * MS for i, record in enumerate([*one[250:], *two[250:]])}
    seen = run(
        [*one, *two],
        partition=lambda record: int(record.subject_id == "tag:1:b"),
        clock=lambda record: clock[id(record)],
    )
    assert len(seen.late) == 248  # partition two was new when one had been read; from then on nothing is late
    assert sum(fix.subject_id == "tag:1:a" for fix in seen.fixes) == 300


# --- probation and watermark


def test_probation_lasts_twenty_readings_over_three_seconds():
    """Then all of it is released in event-time order."""
    core, _ = admit()
    records = stream(5)
    out = core.step(items_of(records[:19], end=False))
    assert not Seen(out).fixes
    out = core.step([Event(19, records[19].ingest_time, "sensing.position", records[19], 0, 19)])
    assert [fix.event_time for fix in Seen(out).fixes] == [record.event_time for record in records[:18]]


def test_probation_ends_after_ten_seconds_and_with_the_replay():
    """A source that says little is heard all the same."""
    few = [reading(0), reading(1)]
    assert len(run(few).fixes) == 2
    core, _ = admit()
    core.step(items_of(few, end=False))
    assert not Seen(core.step([Tick(1, T0 + 9_900 * MS)])).fixes
    assert len(Seen(core.step([Tick(1, T0 + 10_000 * MS)])).fixes) == 2


def test_probation_shuffled_is_released_sorted():
    """Whatever the order in which a new source is first heard."""
    records = stream(4)
    shuffled = [
        msgspec.structs.replace(record, ingest_time=T0 + 4 * S + i * MS)
        for i, record in enumerate(random.Random(3).sample(records, 20))
    ]
    seen = run(shuffled)
    assert [fix.event_time for fix in seen.fixes] == [record.event_time for record in records]
    assert not seen.late


def test_silence_moves_the_watermark_by_the_clock():
    """In silence it runs reorder + 1 s behind the clock, idle or not, and never goes back."""
    core, _ = admit()
    core.step(items_of(stream(20), end=False))
    last = T0 + 20 * S - 200 * MS
    marks = Seen(core.step([Tick(99, last + 5 * S)])).marks
    assert marks[-1].at == marks[-1].clock - 1250 * MS == last - last % (100 * MS) + 3750 * MS
    ats = [mark.at for mark in marks]
    assert ats == sorted(ats)
    assert all(mark.clock % (100 * MS) == 0 for mark in marks)


def test_reorder_is_worked_out_between_a_quarter_second_and_the_default():
    """p99 - p05 of the delays, at most what the technology is given."""
    for jitter, expected in [(0.0, 250), (0.5, 470), (9.0, 1000)]:
        core, _ = admit()
        core.step(items_of(clocked(0, 60, jitter=jitter), end=False))
        assert core._shore.source("s1", "g").reorder_us / MS == pytest.approx(expected, abs=25)
    core, _ = admit(reorder_us=2 * S)
    core.step(items_of(clocked(0, 60), end=False))
    assert core._shore.source("s1", "g").reorder_us == 2 * S


def test_a_source_that_dies_leaves_and_one_that_returns_counts_again():
    """Three heartbeats of silence: nobody waits for it."""
    short, returned = stream(10, source="b", subject="tag:1:b"), stream(10, source="b", subject="tag:1:b", start=30)
    seen = run([*stream(50), *short, *returned])
    assert not seen.late
    assert seen.tally == {"applied": 350}
    waits = [mark.clock - mark.at for mark in seen.marks if T0 + 20 * S < mark.at < T0 + 29 * S]
    assert max(waits) <= 450 * MS


def test_an_hour_of_silence_is_cheap_and_a_minute_of_it_is_exact():
    """Presence gets each step while timers may be left, then one watermark."""
    core, _ = admit()
    core.step(items_of(stream(20), end=False))
    marks = Seen(core.step([Tick(99, T0 + 3620 * S)])).marks
    assert 850 < len(marks) < 1000
    assert marks[-1].at == T0 + 3620 * S - 1250 * MS


def test_no_fix_is_older_than_the_watermark_before_it():
    """Outside of a probation's release."""
    seen = run([*clocked(0, 60, jitter=0.9), *clocked(0.2, 60, jitter=0.5, source="b", subject="tag:1:b", seed=2)])
    mark = 0
    for item in seen.out:
        if isinstance(item, Watermark):
            mark = item.at
        elif isinstance(item, Fix) and item.event_time > T0 + 12 * S:
            assert item.event_time >= mark
    assert seen.marks[-1].at == END
    assert seen.marks[-1].end


# --- laws


delays = st.lists(st.integers(0, 240), min_size=120, max_size=120)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(delays, st.sets(st.integers(0, 119), max_size=20), st.integers(0, 5))
def test_arrival_order_within_the_reorder_time_and_duplicates_never_matter(delayed, repeated, seed):
    """The same readings, each a little later, some twice: the same fixes in the same order."""
    walk = random.Random(seed)
    warm = stream(4, start=-5)  # its source is out of probation before the order is tried
    records = []
    for i in range(120):
        x = 30 + 10 * math.sin(i / 9) + walk.random() * 0.1
        records.append(reading(i / 10, subject=f"tag:1:{'abc'[i % 3]}", x=x, seq=i))
    moved = [
        msgspec.structs.replace(each, ingest_time=each.event_time + delay * MS)
        for each, delay in zip(records, delayed, strict=True)
    ]
    twice = [msgspec.structs.replace(moved[i], ingest_time=moved[i].ingest_time + 300 * MS) for i in sorted(repeated)]
    plain, shuffled = run([*warm, *records]), run([*warm, *moved, *twice])
    assert facts(shuffled.fixes) == facts(plain.fixes)
    assert not shuffled.late
    assert shuffled.tally["duplicate"] == len(twice)


def test_the_law_would_notice_a_door_without_a_buffer():
    """With no reorder time the same shuffle is not in order: the law bites."""
    records = [*stream(4, start=-5), *clocked(0, 30, jitter=0.24, rate=10)]
    assert run(records, rule={"reorder_us": 0}).late
    assert not run(records).late


def mixed(seed, size=600):
    """Good and bad readings of three sources, facts between them."""
    rng = random.Random(seed)
    rows = []
    for i in range(size):
        kind = rng.random()
        extra = {}
        if kind < 0.02:
            extra = {"x": rng.choice([math.nan, 900.0, 40.0])}
        elif kind < 0.04:
            extra = {"delay": rng.choice([-30, 20, 90_000])}
        record = reading(
            i / 20,
            **{
                "delay": rng.random() * 0.3,
                "source": rng.choice("gh"),
                "subject": f"tag:1:{rng.choice('abcd')}",
                "seq": i if rng.random() < 0.9 else None,
                **extra,
            },
        )
        rows.append(record)
        if rng.random() < 0.05:
            rows.append(msgspec.structs.replace(record, ingest_time=record.ingest_time + rng.randrange(2 * S)))
        if rng.random() < 0.05:
            at = T0 + i * 50 * MS
            rows.append(
                Link(
                    event_time=at - rng.randrange(5 * S),
                    ingest_time=at,
                    event_id=str(rng.randrange(50)),
                    from_id="tag:1:a",
                    to_id="loyalty:1:x",
                    valid_from=at,
                )
            )
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_every_row_meets_exactly_one_fate(seed):
    """read = applied + duplicate + late + dead, whatever comes; and accepted readings leave sorted."""
    rows = mixed(seed)
    seen = run(rows)
    assert sum(seen.tally.values()) == len(rows)
    assert seen.tally["applied"] == len(seen.fixes) + len(seen.passed)
    assert seen.tally["dead"] == len(seen.dead)
    assert seen.tally["late"] == len(seen.late)
    assert len(seen.dues) == len(seen.passed)


def without_tallies(out):
    return [item for item in out if not isinstance(item, Tally)]


@pytest.mark.parametrize("seed", range(3))
def test_batches_and_restarts_never_matter(seed):
    """The whole in one step, item by item, and stopped and resumed in the middle: the same items out."""
    items = items_of(mixed(seed))
    whole = admit()[0].step(items)
    core, _ = admit()
    single = [out for item in items for out in core.step([item])]
    assert without_tallies(single) == without_tallies(whole)
    memory = Memory()
    resumed, cut, token = [], [0, 137, 500, len(items)], None
    for start, stop in pairwise(cut):
        store = MemoryStore(memory)
        store.claim(token)
        store.open("0")
        tables = Tables(store)
        core = Admit(AdmitRule(sealed=lambda payload: b"sealed" + payload), Places(venue()), tables)
        resumed += core.step(items[start:stop])
        token = tables.commit()
    assert without_tallies(resumed) == without_tallies(whole)


# --- everything else


def test_what_is_not_a_position_passes_at_once_in_its_place():
    """Derived items and items of other steps too."""
    core, _ = admit()
    letter = Event(0, T0, "ops.dead-letter", Receipt(event_time=T0, receipt_id="r", currency="EUR", total_minor=1))
    occupied = Occupied(0, T0, "s1", "z", 1, "tag:1:a", inside=True)
    assert core.step([letter, occupied]) == [letter, occupied]


def fact(kind, at_s, event_id="e", **fields):
    at = T0 + round(at_s * S)
    return kind(
        event_time=at, ingest_time=fields.pop("ingest", at), event_id=event_id, site_id="s1", source_id="t", **fields
    )


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


def test_reference_records_come_again_when_the_watermark_reaches_them():
    """Before the reading of the same instant, in event-time order, at once if it is past."""
    links = [
        fact(Link, at, event_id=str(at), ingest=T0 + 8 * S, from_id="tag:1:a", to_id="x", valid_from=0)
        for at in (9.0, 8.5, 2.0)
    ]
    seen = run([*stream(20), *links])
    order = [
        (item.event_time - T0, "fix") if isinstance(item, Fix) else (item.event.record.event_time - T0, "due")
        for item in seen.out
        if isinstance(item, Fix | Due)
    ]
    assert order.index((2_000_000, "due")) < order.index((8_000_000, "fix"))
    assert order.index((8_500_000, "due")) == order.index((8_400_000, "fix")) + 1
    assert order.index((9_000_000, "due")) == order.index((9_000_000, "fix")) - 1
    assert [event.record.event_id for event in seen.passed] == ["9.0", "8.5", "2.0"]


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


def test_percentiles_are_nearest_rank():
    """Of 20 the 5th percentile is the least, the 99th the greatest."""
    values = list(range(1, 21))
    assert (clocks.rank(values, 0.05), clocks.rank(values, 0.99)) == (1, 20)
    assert (clocks.rank(list(range(1, 501)), 0.05), clocks.rank(list(range(1, 501)), 0.99)) == (25, 495)


def test_a_host_clock_set_back_stalls_nothing():
    """The watermark never goes back, and moves on as the new clock does."""
    core, _ = admit()
    core.step(items_of(stream(20), end=False))
    before = Seen(core.step([Tick(99, T0 + 40 * S)])).marks[-1].at
    assert not Seen(core.step([Tick(99, T0 + 10 * S)])).marks
    after = Seen(core.step([Tick(99, T0 + 60 * S)])).marks
    assert after[0].at > before


def test_settings_that_forgive_a_longer_silence_are_stepped_through():
    """A timer of presence may be due minutes into a silence; it must not wait for the next row."""
    core, _ = admit(longest_gap_us=600 * S)
    core.step(items_of(stream(20), end=False))
    assert len(Seen(core.step([Tick(99, T0 + 620 * S)])).marks) > 5900
