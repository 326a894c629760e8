"""The door: clocks of sources that are wrong are found, corrected or shut out, and what only looks like one is not."""

import msgspec
import pytest

from operators.door import clocks
from schemas.sensing import SourceStatus
from tests.unit.admitting import MS, T0, S, clocked, facts, reading, run, stream


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


def test_percentiles_are_nearest_rank():
    """Of 20 the 5th percentile is the least, the 99th the greatest."""
    values = list(range(1, 21))
    assert (clocks.rank(values, 0.05), clocks.rank(values, 0.99)) == (1, 20)
    assert (clocks.rank(list(range(1, 501)), 0.05), clocks.rank(list(range(1, 501)), 0.99)) == (25, 495)
