"""A backlog is not silence, and no timer waits for a message."""

import time
from itertools import pairwise

import pytest
from confluent_kafka import TopicPartition

from operators.connectors import backlog, pump
from operators.connectors.pump import Pump
from schemas.items import Heard, Tick
from tests.broker.reading import Reader, Topics

POSITION = "sensing.position"
HOUR_MS = 3_600_000


@pytest.fixture
def topics(broker, prefix):
    return Topics(broker, prefix)


def an_hour_old(topics, rows=6_000):
    """An hour of rows that have waited for an hour: partition 1 is busy, 0 sparse, 2 begins late, 3 is empty."""
    topics.make(sensing__position=4)
    began = int(time.time() * 1000) - 2 * HOUR_MS
    topics.put(POSITION, 1, range(rows), began, HOUR_MS // rows)
    topics.put(POSITION, 0, range(60), began + 7, HOUR_MS // 60)
    topics.put(POSITION, 2, range(rows // 2), began + HOUR_MS // 2, HOUR_MS // rows)
    return rows + 60 + rows // 2, began


def appended(row, began, rows=6_000):
    """When a row of `an_hour_old` was appended."""
    first, step = {1: (0, rows), 0: (7, 60), 2: (HOUR_MS // 2, rows)}[row.partition]
    return began + first + int(row.value) * (HOUR_MS // step)


def caught_up(topics, **rule):
    reader = Reader(topics, topics=(POSITION,), **{"lanes": 3, **rule})
    return reader.until(lambda: reader.counters.caught_up and len(reader.ticks) > 2)


def ticks_before_the_last_row(reader):
    last = max(place for place, item in enumerate(reader.items) if isinstance(item, Heard))
    return sum(isinstance(item, Tick) for item in reader.items[:last])


@pytest.mark.parametrize(("lanes", "keyed"), [(1, False), (3, False), (3, True)])
def test_a_backlog_comes_in_the_order_of_its_appends_and_the_clock_waits_for_it(topics, lanes, keyed):
    rows, began = an_hour_old(topics)
    reader = caught_up(topics, lanes=lanes, keyed=keyed)
    assert len(reader.rows) == rows
    assert ticks_before_the_last_row(reader) == 0
    times = [appended(row, began) for row in reader.rows]
    back = max(earlier - later for earlier, later in pairwise(times))
    assert back <= (backlog.SLICE_MS if keyed else 0)
    for partition in range(3):
        mine = [int(row.value) for row in reader.rows if row.partition == partition]
        assert mine == list(range(len(mine)))
    now = time.time() * 1e6
    assert all(now - 30e6 < row.clock <= now for row in reader.rows), "the clock is that of the source, not of the rows"
    reader.close()


def test_mutant_a_clock_that_runs_ahead_of_the_backlog(topics, monkeypatch):
    monkeypatch.setattr(Pump, "_behind", lambda self, part, now_ms: False)
    an_hour_old(topics)
    reader = Reader(topics, topics=(POSITION,), lanes=3)
    reader.read(9_060)
    assert ticks_before_the_last_row(reader) > 0
    reader.close()


def test_partitions_far_ahead_wait_on_the_broker_not_in_memory(topics, monkeypatch):
    monkeypatch.setattr(pump, "HELD_ROWS", 200)
    topics.make(sensing__position=2)
    now = int(time.time() * 1000)
    topics.put(POSITION, 0, range(5_000), now - HOUR_MS, 1)
    topics.put(POSITION, 1, range(5_000), now - 2 * HOUR_MS, 1)
    reader = Reader(topics, topics=(POSITION,), lanes=1, max_batch=100)
    most = 0
    while len(reader.rows) < 10_000:
        reader.sweep()
        most = max(most, *(len(part.queue) for part in reader.lanes["lane-00"]._pump._parts.values()))
    assert [row.partition for row in reader.rows] == [1] * 5_000 + [0] * 5_000
    assert reader.of(POSITION, 0) == reader.of(POSITION, 1) == [str(number) for number in range(5_000)]
    assert most <= 300
    reader.close()


def test_a_producer_whose_clock_is_behind_stops_no_clock_of_ours(topics):
    topics.make(sensing__position=2)
    reader = caught_up(topics)
    have = len(reader.ticks)
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 2.0:
        topics.put(POSITION, 0, [number], at_ms=int(time.time() * 1000) - HOUR_MS)
        number += 1
        reader.sweep()
    assert len(reader.ticks) - have >= 15
    reader.close()


def lateness(topics, **rule):
    """How late each tick came, ms: idle for a second, then under load."""
    reader = caught_up(topics, **rule)
    late, have, end = [], len(reader.ticks), time.monotonic() + 2.0
    loaded = False
    while time.monotonic() < end:
        if not loaded and time.monotonic() > end - 1.0:
            topics.put(POSITION, 0, range(5_000))
            loaded = True
        reader.sweep()
        if len(reader.ticks) > have:
            late += [time.time() * 1e3 - tick / 1e3 for tick in reader.ticks[have:]]
            have = len(reader.ticks)
    reader.close()
    assert len(late) > 3
    return sorted(late)


def test_ticks_come_on_time(topics):
    topics.make(sensing__position=2)
    late = lateness(topics)
    assert late[len(late) // 2] < 10.0, late


def test_mutant_a_wait_that_looks_at_no_timer(topics, monkeypatch):
    topics.make(sensing__position=2)
    monkeypatch.setattr(Pump, "_wait", lambda self, now: 0.33)
    late = lateness(topics)
    assert late[len(late) // 2] >= 10.0, late


def test_a_partition_that_owes_rows_and_delivers_none_stops_the_others_only_for_a_while(topics, monkeypatch):
    monkeypatch.setattr(pump, "GIVE_UP_S", 0.7)
    topics.make(sensing__position=2)
    for partition in range(2):
        topics.put(POSITION, partition, range(100), int(time.time() * 1000) - HOUR_MS, 1)
    reader = Reader(topics, topics=(POSITION,))
    monkeypatch.setattr(Pump, "_poll", lambda self, wait_s: time.sleep(wait_s))
    reader.sweep()  # partitions are placed, nothing is fetched yet
    stuck = [TopicPartition(topics.prefix + POSITION, 1)]
    consumer = reader.lanes["lane-00"]._pump._consumer
    consumer.pause(stuck)
    monkeypatch.undo()
    monkeypatch.setattr(pump, "GIVE_UP_S", 0.7)
    calm = time.monotonic() + 0.4
    reader.until(lambda: time.monotonic() > calm)
    assert not reader.items
    reader.read(100).tick()
    assert {row.partition for row in reader.rows} == {0}
    assert any("position:1 has more and delivers nothing" in said for said in reader.said)
    consumer.resume(stuck)
    reader.read(200)
    assert reader.of(POSITION, 1) == [str(number) for number in range(100)]
    reader.close()
