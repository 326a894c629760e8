"""Keyed lanes: each a stream of its own, read once by all processes of a cluster together."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir

from operators.connectors.reading import SourceRule
from operators.connectors.source import KafkaSource
from schemas.items import Heard, Opened, Tick
from schemas.shards import SHARDS
from tests.broker.reading import Reader, Topics

POSITION, ZONE = "sensing.position", "venue.zone"
READ = {"topics": (POSITION, ZONE), "reference": frozenset({ZONE}), "keyed": True}
LANES = 4


@pytest.fixture
def topics(broker, prefix):
    topics = Topics(broker, prefix)
    topics.make(sensing__position=LANES, venue__zone=2)
    for partition in range(2):
        topics.put(ZONE, partition, range(300))
    for partition in range(LANES):
        topics.put(POSITION, partition, range(500))
    return topics


class Keyed(Reader):
    """A process of the cluster; what each lane sent, and under which keys."""

    def __init__(self, on, own=None, states=None, lanes=LANES):
        super().__init__(on, states, **READ, own=own, lanes=lanes)
        self.keys = {name: set() for name in self.lanes}

    def sweep(self):
        for name, lane in self.lanes.items():
            for key, batch in lane.next_batch():
                self.keys[name] |= {key, batch.shard}
                self.items += batch.items
                self.by_lane[name] += batch.items

    def of_kind(self, name, kind):
        return [item for item in self.by_lane[name] if isinstance(item, kind)]


def places(rows):
    return sorted((row.topic, row.partition, int(row.value)) for row in rows)


EVERYTHING = sorted(
    [(POSITION, partition, number) for partition in range(LANES) for number in range(500)]
    + [(ZONE, partition, number) for partition in range(2) for number in range(300)]
)


def test_all_processes_together_read_each_partition_once_under_the_shard_of_its_lane(topics):
    read = []
    for own in ((0, 2), (1, 3)):
        reader = Keyed(topics, own).read(1_300)
        reader.tick(4)
        assert list(reader.lanes) == [f"lane-{lane:02d}" for lane in own]
        for lane in own:
            name = f"lane-{lane:02d}"
            assert reader.keys[name] == {SHARDS[lane]}
            rows = reader.of_kind(name, Heard)
            assert {row.partition for row in rows} == {lane}
            assert {row.number % LANES for row in rows} == {lane}
        numbers = [row.number for row in reader.rows]
        assert numbers == sorted(numbers)
        read += reader.rows
        reader.close()
    assert places(read) == EVERYTHING
    assert max(Counter(row.number for row in read).values()) == 1


def test_every_lane_has_every_tick_whether_it_holds_partitions_or_not(topics):
    reader = Keyed(topics, lanes=6).read(len(EVERYTHING))
    reader.tick(6 * 6)
    steps = {name: [tick.clock for tick in reader.of_kind(name, Tick)] for name in reader.lanes}
    assert len(steps) == 6
    assert len(steps["lane-05"]) > 4
    assert len({tuple(found) for found in steps.values()}) == 1
    assert steps["lane-00"] == sorted(set(steps["lane-00"]))
    for lane, name in enumerate(reader.lanes):
        assert {tick.lane for tick in reader.of_kind(name, Tick)} == {lane}
        last = lane - 6
        for item in reader.by_lane[name]:
            assert item.number >= last
            last = item.number
    reader.close()


def test_a_lane_that_comes_late_has_the_ticks_that_it_missed_before_its_rows(topics):
    """A lane that has closed its epoch is not called while others still are."""
    reader = Keyed(topics).read(len(EVERYTHING)).tick()
    away = reader.lanes.pop("lane-03")
    missed = len(reader.of_kind("lane-00", Tick))
    reader.tick(3 * 4)
    topics.put(POSITION, 3, [500])
    late = len(reader.by_lane["lane-03"])
    steps = [tick.clock for tick in reader.of_kind("lane-00", Tick)[missed:]]
    reader.lanes["lane-03"] = away
    reader.read(len(EVERYTHING) + 1)
    found = reader.by_lane["lane-03"][late:]
    assert [item.clock for item in found if isinstance(item, Tick)][: len(steps)] == steps
    assert [item.clock for item in found] == sorted(item.clock for item in found)
    reader.close()


def test_each_lane_says_once_that_its_reference_rows_are_out_in_every_execution(topics):
    states = {}
    for zones in (300, 10):
        for own in ((0, 1, 4), (2, 3, 5)):  # the second holds no reference partition, and lane 5 none at all
            reader = Keyed(topics, own, states, lanes=6)
            reader.until(lambda reader=reader: reader.counters.caught_up).tick(6)
            for lane in own:
                name = f"lane-{lane:02d}"
                assert [item.lane for item in reader.of_kind(name, Opened)] == [lane]
                kinds = [type(item) if getattr(item, "topic", "") != ZONE else "zone" for item in reader.by_lane[name]]
                assert kinds[: kinds.index(Opened)] == ["zone"] * (zones if lane < 2 else 0)
                assert "zone" not in kinds[kinds.index(Opened) :]
            states |= reader.states()
            reader.close()
        topics.put(ZONE, 0, range(300, 310))
        topics.put(ZONE, 1, range(300, 310))


def test_a_process_hands_on_nothing_else_before_all_of_its_own_reference_partitions_are_read(topics):
    topics.put(ZONE, 1, range(300, 5_300))
    reader = Keyed(topics, (1, 2))  # the rows of lane 2 wait for the reference rows of lane 1
    reader.read(5_300 + 1_000)
    order = [item.topic if isinstance(item, Heard) else type(item) for item in reader.items]
    assert order[:5_300] == [ZONE] * 5_300
    assert ZONE not in order[5_300:]
    reader.close()


def test_lanes_move_to_other_processes_with_what_they_have_read(topics):
    read, states = [], {}
    for own, rows in (((0,), 400), ((1, 2, 3), 900)):
        reader = Keyed(topics, own, states).read(rows)
        states |= reader.states()
        read += reader.rows
        reader.close()
    more = [(POSITION, partition, number) for partition in range(LANES) for number in range(500, 900)]
    for partition in range(LANES):
        topics.put(POSITION, partition, range(500, 900))
    for own in ((0, 1), (2, 3)):  # lane 1 brings a greater counter than lane 0 has
        reader = Keyed(topics, own, {name: state for name, state in states.items() if int(name[-2:]) in own})
        reader.until(lambda reader=reader: reader.counters.caught_up).tick(4)
        numbers = [row.number for row in reader.rows]
        assert numbers == sorted(numbers)
        read += reader.rows
        reader.close()
    assert places(read) == sorted(EVERYTHING + more)
    assert max(Counter(row.number for row in read).values()) == 1
    for lane in range(LANES):
        mine = [row.number for row in read if row.number % LANES == lane]
        assert mine == sorted(mine)


def test_there_is_a_shard_for_each_lane():
    rule = SourceRule(flow="reading", client={}, topics=(POSITION,), lanes=len(SHARDS) + 1, keyed=True)
    with pytest.raises(ValueError, match=f"at most {len(SHARDS)}"):
        KafkaSource(rule, stop=None, say=print)


CLUSTER = """
import json, sys
from datetime import timedelta
from threading import Event as Flag, Timer

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from operators.connectors.live import HandSink
from operators.connectors.reading import SourceRule
from operators.connectors.source import KafkaSource
from schemas.items import Heard, Opened
from tests.broker.test_source_keyed import LANES, READ

broker, prefix, recovery, number, rows, *addresses = sys.argv[1:]
count, stop, read = max(1, len(addresses)), Flag(), 0

def take(batch):
    global read
    for item in batch.items:
        if isinstance(item, (Heard, Opened)):
            place = [item.topic, item.partition, int(item.value)] if isinstance(item, Heard) else ["", item.lane, 0]
            print(json.dumps([batch.shard, item.number, place]), flush=True)
            read += isinstance(item, Heard)
    if read >= int(rows) and not stop.is_set():
        Timer(0.3, stop.set).start()

rule = SourceRule(flow="reading", client={"bootstrap.servers": broker}, prefix=prefix, lanes=LANES, max_batch=50,
                  own=tuple(range(int(number), LANES, count)), **READ)
flow = Dataflow("reading")
op.output("records", op.input("topics", flow, KafkaSource(rule, stop=stop, say=lambda _: None)), HandSink(take))
Timer(60, stop.set).start()
cluster = {"process_id": int(number), "addresses": addresses} if addresses else {}
cli_main(flow, epoch_interval=timedelta(seconds=0.05), recovery_config=RecoveryConfig(recovery), **cluster)
import os
os._exit(0)  # the guard need not be waited for
"""


def _free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _cluster(topics, recovery, rows):
    """Run one process for each number of rows; what each lane sent."""
    root = Path(__file__).parents[2]
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(len(rows))] if len(rows) > 1 else []
    files = [recovery / f"said-{number}" for number in range(len(rows))]  # a full pipe would hold up the cluster
    processes = []
    for number, (most, file) in enumerate(zip(rows, files, strict=True)):
        told = [topics.broker, topics.prefix, str(recovery), str(number), str(most), *addresses]
        with file.open("wb") as out:
            command = [sys.executable, "-c", CLUSTER, *told]
            processes.append(
                subprocess.Popen(command, cwd=root, stdout=out, env={**os.environ, "PYTHONPATH": str(root)})
            )
    try:
        assert [process.wait(timeout=90) for process in processes] == [0] * len(rows)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    return [json.loads(line) for line in lines if line.startswith(b"[")]  # the engine says there when it connects


def test_a_cluster_of_the_engine_reads_each_row_once_also_when_it_shrinks(topics, tmp_path):
    """Two processes, then one that takes over both states: nothing lost, nothing twice, each lane opens each time."""
    init_db_dir(tmp_path, 2)
    read = []
    for rows in ((1_300, 1_300), (80,)):
        found = _cluster(topics, tmp_path, rows)
        opened = sorted(lane for _, _, (topic, lane, _) in found if not topic)
        assert opened == list(range(LANES))
        read += [one for one in found if one[2][0]]
        for partition in range(LANES):
            topics.put(POSITION, partition, range(500, 520))
    assert sorted(tuple(place) for _, _, place in read) == sorted(
        EVERYTHING + [(POSITION, partition, number) for partition in range(LANES) for number in range(500, 520)]
    )
    assert max(Counter(number for _, number, _ in read).values()) == 1
    assert {(shard, place[1]) for shard, _, place in read} == {(SHARDS[lane], lane) for lane in range(LANES)}
