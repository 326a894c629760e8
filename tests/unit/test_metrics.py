"""What a page of metrics says of time, state, disk and what runs; without a flow."""

import math

import pytest
from prometheus_client import CollectorRegistry

from flows import health
from flows.health import Meters
from flows.ports import state_figures
from flows.scraped import Scraped
from operators.state.rocks import RocksStore
from schemas.derived import Command, DwellReached, Score
from schemas.items import Batch, Event, Tick, Watermark

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
