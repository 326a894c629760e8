"""What a page of metrics says of time, state, disk and what runs; without a flow."""

import math
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from flows import health, scraped
from flows.carried import Carried, Reach
from flows.health import Meters
from flows.ports import state_figures
from flows.scraped import Scraped
from operators.connectors.reading import Counters
from operators.decisions.consent_view import ConsentView
from operators.door.clocks import Source, Trust
from operators.door.shore import Shore
from operators.state.memory import MemoryStore
from operators.state.rocks import RocksStore
from operators.state.store import Tables
from schemas.derived import Candidate, Command, Decision, DwellReached, Outcome, Score, Trigger, Visit
from schemas.items import Batch, Event, Tick, Watermark
from schemas.reference import Consent
from schemas.sensing import SourceStatus

S = 1_000_000
NOW = 1_796_486_400 * S
ENVELOPE = {"event_id": "id", "event_time": NOW, "ingest_time": NOW, "site_id": "mad-01", "source_id": "store"}
STAY = {"visit_id": "v", "subject_id": "tag:1:x", "zone_id": "offers", "zone_revision": 1}


@pytest.fixture
def meters(monkeypatch):
    monkeypatch.setattr(health, "wall", lambda: NOW)
    return Meters(1.0)


def value(registry, name, **labels):
    return registry.get_sample_value(f"footfall_{name}", labels)


def test_the_watermark_that_presence_stood_by_is_compared_with_the_clock(meters):
    assert math.isnan(value(meters.registry, "watermark_lag_seconds"))
    meters.take(Batch([Watermark(0, NOW, NOW - 5 * S)], {"heard": NOW}))  # of a flow without presence: no rows of it
    assert math.isnan(value(meters.registry, "watermark_lag_seconds"))
    meters.take(Batch([Watermark(0, NOW, NOW - 3 * S)], {"heard": NOW, "dwell": NOW}))
    assert value(meters.registry, "watermark_lag_seconds") == 3


def test_a_step_of_the_clock_that_was_left_out_made_its_timers_wait(meters):
    steps = (NOW - 3 * S, NOW - 3 * S + 100_000, NOW - 50_000, NOW - 50_000)  # the last from another shard
    late = 0.0
    for step, waited in zip(steps, (3.0, 2.9, 2.8, 0.0), strict=True):
        meters.take(Batch([Tick(0, step)]))
        late += waited
        assert value(meters.registry, "timer_lateness_seconds_sum") == pytest.approx(late)
    assert value(meters.registry, "timer_lateness_seconds_count") == 3


def test_the_wait_of_a_dwell_is_by_design_and_the_way_of_an_action_is_not(meters):
    dwell = DwellReached(
        **ENVELOPE, **STAY, threshold_us=45 * S, entered_at=NOW - 47 * S, reached_at=NOW - 2 * S, fired_at=NOW,
        last_fix_at=NOW - 3 * S, fix_count=9, quality=1.0,
    )  # fmt: skip
    command = Command(
        **ENVELOPE, campaign_id="hello", campaign_version="1", step="0", decision_id="d", channel="SCREEN",
        target_id="screen", template_id="t", locale="en", params={}, purpose="p", while_present=True,
        expires_at=NOW + S, priority=0,
    )  # fmt: skip
    score = Score(
        **ENVELOPE, person_id="p", model="intent", model_version="1", score=0.35, reasons=[], features_hash=""
    )
    stamps = {"heard": NOW - 30_000, "person": NOW - 10_000}
    events = [Event(0, NOW, "any", record) for record in (dwell, command, score)]
    meters.take(Batch(events, stamps))
    meters.take(Batch(events[:1], stamps))
    assert value(meters.registry, "event_wait_seconds_sum") == 4
    assert value(meters.registry, "publish_latency_seconds_sum") == pytest.approx(0.01)
    assert value(meters.registry, "publish_latency_seconds_count") == 1
    assert value(meters.registry, "score_bucket", le="0.3") == 0
    assert value(meters.registry, "score_bucket", le="0.4") == 1


def test_a_consent_that_forbids_is_counted_where_it_was_seen(meters):
    def candidate(verdict, reason):
        return Candidate(campaign_id="hello", campaign_version="1", verdict=verdict, reason=reason)

    decision = Decision(
        **ENVELOPE, anchor_id="a", root="r", attempt=1, cause="TRIGGER",
        trigger=Trigger(kind="DWELL", id="e"),
        candidates=[
            candidate("SUPPRESSED", "CONSENT_MISSING"), candidate("SUPPRESSED", "CONSENT_STALE"),
            candidate("SUPPRESSED", "PAUSED"), candidate("FIRED", "NONE"),
        ],
    )  # fmt: skip
    outcomes = [
        Outcome(**ENVELOPE, action_id="a", channel="PUSH", status="SUPPRESSED", reason=reason, attempt=1)
        for reason in ("CONSENT_WITHDRAWN", "OUT_OF_STOCK")
    ]
    visits = [
        Visit(
            **ENVELOPE, **STAY, entered_at=NOW - 9 * S, left_at=NOW, dwell_us=9 * S, observed_us=9 * S, fix_count=9,
            gap_count=0, max_gap_us=0, enter_reason="CROSSED", exit_reason=reason, fired_us=[], tech="UWB", revision=1,
        )
        for reason in ("WITHDRAWN", "LEFT")
    ]  # fmt: skip
    meters.take(Batch([Event(0, NOW, "any", record) for record in (decision, *outcomes, *visits)]))
    found = {
        gate: value(meters.registry, "consent_refusals_total", gate=gate) for gate in ("collect", "decide", "dispatch")
    }
    assert found == {"collect": 1, "decide": 2, "dispatch": 1}


def tables():
    store = MemoryStore()
    store.open("alone")
    return Tables(store)


class Aside:
    """A core, by what it tells of itself."""

    def __init__(self, idle, offset, known_to):
        self.idle_sources, self.clock_offset, self.consents_known_to = idle, offset, known_to


def test_all_cores_of_a_process_are_told_of_together(monkeypatch):
    monkeypatch.setattr(scraped, "wall", lambda: NOW)
    registry, doors, deciders = CollectorRegistry(), [], []
    registry.register(Scraped(volumes={}, doors=doors, deciders=deciders))
    assert (value(registry, "idle_sources"), value(registry, "clock_offset_seconds")) == (0, 0)
    assert math.isnan(value(registry, "consent_age_seconds")), "not known is not young"
    for core in (Aside(1, 300_000, None), Aside(2, 1_500_000, NOW - 3 * S), Aside(0, 0, NOW - 7 * S)):
        doors.append(core)
        deciders.append(core)
    assert value(registry, "idle_sources") == 3
    assert value(registry, "clock_offset_seconds") == 1.5
    assert value(registry, "consent_age_seconds") == 7


def test_a_source_that_falls_silent_is_idle_until_it_speaks():
    shore = Shore(tables(), 1)
    source = shore.add(Source("mad-01", "uwb", Trust.TRUSTED, S, estimate=-2 * S))
    tried = shore.add(Source("mad-01", "new", Trust.PROBATION, S, count=3))
    assert (shore.idle, shore.offset) == (0, 2 * S), "one that is tried has fallen silent of nothing"
    for partition in (0, 1):
        shore.entered(source, partition, NOW, NOW, NOW)
    shore.stepped(NOW + S)
    assert shore.idle == 0
    shore.stepped(NOW + 10 * S)
    assert shore.idle == 1
    shore.entered(source, 1, NOW + 10 * S, NOW + 10 * S, NOW + 10 * S)
    assert shore.idle == 0, "one partition is enough"
    shore.stepped(NOW + 30 * S)
    source.trust = tried.trust = Trust.QUARANTINED
    assert shore.idle == 0, "nobody waits for it"


def test_what_is_known_of_consents_reaches_as_far_as_the_slowest_source():
    view = ConsentView(2 * S, tables(), 1)
    assert view.least is None
    for name in ("crm", "app", "till"):
        view.heard(Consent(**ENVELOPE | {"source_id": name}, identifier="loyalty:1:x"))
    assert view.least is None, "who says nothing of itself is taken to be up to date"
    for name, mark in (("crm", NOW - S), ("app", NOW - 5 * S), ("other", NOW - 9 * S)):
        view.heard(SourceStatus(**ENVELOPE | {"source_id": name}, watermark=mark, heartbeat_us=S))
    assert view.least == NOW - 5 * S


def told(collector):
    """Kind and labels by name, as they stand on a page."""
    ends = {"counter": "_total", "info": "_info"}
    for one in collector.collect():
        labels = {name for sample in one.samples for name in sample.labels} - {"le"}
        yield f"{one.name}{ends.get(one.type, '')}", (one.type, labels)


def test_the_list_of_metrics_is_that_of_the_code(meters):
    """Every series is made to say something, so that its labels are seen."""
    for family in vars(meters).values():
        if isinstance(family, Counter | Gauge | Histogram) and family._labelnames:
            family.labels(*family._labelnames)
    counters = Counters(lag={("web.event", 0): 1}, age={("web.event", 0): 1.0})
    meters.watch(
        lambda: 0,
        [
            Carried(counters, Reach(counters, lambda: None), lambda: {("written", "web.event"): 1}),
            Scraped(volumes={"state": Path("/")}, state=lambda: {"0": (1, 1)}, model=("1", "ff"), rules="ff"),
        ],
    )
    found = dict(told(meters.registry))
    page = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(footfall_\w+)` \| (\w+) \|([^|]*)\|(.*)$", page, re.MULTILINE)
    assert {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows} == found
    assert len(rows) == len(found), "each once"
    assert all(len(re.split(r" \|", rest)) == 4 for *_, rest in rows), "meaning, alert, what to do"
    named = set(re.findall(r"`(footfall_\w+)", page))
    assert named <= set(found), "nothing is spoken of that is not there"


def test_what_is_looked_up_when_somebody_asks(tmp_path):
    store = RocksStore(tmp_path / "state", 3)
    store.claim(None)
    registry, answers = CollectorRegistry(), [True]
    registry.register(
        Scraped(
            volumes={"state": tmp_path, "gone": tmp_path / "gone"}, state=state_figures, answered=lambda: answers[0],
            unknown=lambda: 2, model=("12ab", "ff00"), rules="0123",
        )
    )  # fmt: skip
    assert value(registry, "state_keys", shard="alone") is None
    store.open("alone")
    for number in range(50):
        store.put(b"%d" % number, b"x" * 1_000)
    store.commit()
    assert 50 <= value(registry, "state_keys", shard="alone") <= 60  # undo and token are keys too
    assert value(registry, "state_bytes", shard="alone") > 50_000
    assert value(registry, "disk_free_bytes", volume="state") > 0
    assert value(registry, "disk_free_bytes", volume="gone") is None
    assert value(registry, "registry_up") == 1
    answers[0] = False
    assert value(registry, "registry_up") == 0
    assert value(registry, "schema_unknown_total") == 2
    assert value(registry, "model_info", version="12ab", sha="ff00") == 1
    assert value(registry, "campaigns_info", sha="0123") == 1
    store.close()
    assert value(registry, "state_keys", shard="alone") is None
