"""The metrics of a shop that runs: every name of the list is there and says something, in few series."""

import math
import os
import time

import pytest
from confluent_kafka import Producer

from operators.connectors import subjects
from operators.connectors.registry import Registry, RegistryAccess
from tests.broker.test_run import LIMIT_S, asked, feed, footfall, live_topics, moved, prepared, shop, until

MOST_SERIES = 500
NAMES = """
    input_events_total late_events_total input_lag_events input_lag_seconds dead_letters_total suppressed_total decisions_total
    watermark_lag_seconds stage_seconds decision_latency_seconds publish_latency_seconds event_wait_seconds
    timer_lateness_seconds epoch_age_seconds epoch_stall_seconds epoch_dirty_keys resume_seconds starts_total
    state_keys state_bytes state_rollbacks_total
    disk_free_bytes model_info campaigns_info schema_unknown_total registry_up score
    broker_up offset_commit_failures_total outputs_total actions_deduplicated_total actions_orphaned_total
    idle_sources clock_offset_seconds consent_age_seconds
"""
own = pytest.mark.skipif("FOOTFALL_TEST_KAFKA" in os.environ, reason="a broker that is named is not killed")
LAG = 'footfall_input_lag_{}{{topic="sensing.position"}}'
UNKNOWN = 'footfall_dead_letters_total{reason="UNKNOWN_SCHEMA",stage="DECODE"}'


def series(page):
    found = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            name, _, told = line.rpartition(" ")
            found[name] = float(told)
    return found


def lacking(found):
    """What the page does not say yet."""
    told = "\n".join(found)
    missing = [name for name in NAMES.split() if f"footfall_{name}" not in told]
    least = {
        'footfall_state_keys{shard="0"}': 10, 'footfall_state_bytes{shard="0"}': 1_000, UNKNOWN: 1,
        "footfall_timer_lateness_seconds_count": 10, "footfall_epoch_stall_seconds_count": 3,
    }  # fmt: skip
    missing += [name for name, count in least.items() if found.get(name, 0) < count]
    # the day of the simulated shop is to come, so the watermark may stand ahead of the clock
    return missing + ["watermark"] * math.isnan(found["footfall_watermark_lag_seconds"])


def test_a_shop_tells_of_its_time_its_state_and_its_disk(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config = str(folder / "footfall.toml")
    prepared(folder)
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("store"), prefix)
    process = footfall("run", "store", "--config", config)
    port = until(process, "listening")["port"]
    until(process, "flowing")
    feed(broker, prefix, ids, moved(folder)[:3_000])
    producer = Producer({"bootstrap.servers": broker, "log_level": 0})
    producer.produce(prefix + "web.event", b"\x00" + (1 << 30).to_bytes(4, "big") + b"x", partition=0)
    assert producer.flush(30) == 0
    limit = time.monotonic() + LIMIT_S
    while missing := lacking(found := series(asked(port, "/metrics")[1])):
        assert time.monotonic() < limit, missing
        time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert len(found) < MOST_SERIES
    assert found['footfall_disk_free_bytes{volume="state"}'] > 0
    assert found['footfall_disk_free_bytes{volume="recovery"}'] > 0
    assert found["footfall_registry_up"] == found["footfall_broker_up"] == 1
    assert found['footfall_outputs_total{outcome="written",topic="presence.dwell"}'] > 0
    assert found["footfall_schema_unknown_total"] == 1


@own
def test_a_broker_that_is_away_is_told_of_and_no_lag_is_read_as_none(tmp_path, kafka, registry, prefix):
    folder = shop(tmp_path / "shop", kafka.bootstrap, registry, prefix)
    prepared(folder)
    process = footfall("run", "store", "--config", str(folder / "footfall.toml"))
    port = until(process, "listening")["port"]
    until(process, "flowing")

    def awaited(well):
        limit = time.monotonic() + LIMIT_S
        while not well(found := series(asked(port, "/metrics")[1])):
            assert time.monotonic() < limit, found
            time.sleep(0.1)

    lags = [LAG.format(name) for name in ("events", "seconds")]
    awaited(lambda found: found["footfall_broker_up"] == 1 and [found.get(name) for name in lags] == [0, 0])
    kafka.kill()
    awaited(lambda found: found["footfall_broker_up"] == 0 and all(math.isnan(found[name]) for name in lags))
    kafka.start()
    awaited(lambda found: found["footfall_broker_up"] == 1 and [found[name] for name in lags] == [0, 0])
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
