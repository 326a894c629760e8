"""The door: probation, the watermark, what is late behind it, and what waits for it; in silence and in a catch-up."""

import random

import msgspec
import pytest

from operators.door.times import END
from schemas.codec import decode_body
from schemas.items import Due, Event, Fix, Tick, Watermark
from schemas.reference import Link
from tests.unit.admitting import MS, T0, S, Seen, admit, clocked, fact, facts, items_of, reading, run, stream


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
