"""The broker goes away, the process ends or is killed: nothing is lost, nothing is read twice."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Timer

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from confluent_kafka import KafkaError

from operators.connectors.access import BrokerAway, BrokerRefused
from operators.connectors.cluster import Refused
from operators.connectors.live import HandSink
from operators.connectors.reading import SourceRule
from operators.connectors.source import KafkaSource
from schemas.items import Heard
from tests.broker.reading import Reader, Topics

POSITION = "sensing.position"


def test_a_broker_killed_while_it_is_read_loses_nothing(kafka, prefix):
    topics = Topics(kafka.bootstrap, prefix)
    topics.make(sensing__position=4)
    for partition in range(4):
        topics.put(POSITION, partition, range(20_000))
    reader = Reader(topics, topics=(POSITION,), max_batch=200).read(10_000)
    kafka.kill()
    reader.until(lambda: reader.counters.away)
    away = len(reader.ticks)
    calm = time.monotonic() + 1.0
    reader.until(lambda: time.monotonic() > calm)
    assert len(reader.ticks) == away, "nothing can be heard: that is no silence"
    kafka.start()
    for partition in range(4):
        topics.put(POSITION, partition, range(20_000, 20_100))
    reader.read(80_400).tick()
    for partition in range(4):
        assert reader.of(POSITION, partition) == [str(number) for number in range(20_100)]
    assert reader.said[-2:] == [said for said in reader.said if "broker is" in said][-2:]
    assert not reader.counters.away
    reader.close()


def test_an_idle_source_ticks_again_when_the_broker_is_back(kafka, prefix):
    topics = Topics(kafka.bootstrap, prefix)
    topics.make(sensing__position=2)
    topics.put(POSITION, 0, range(3))
    reader = Reader(topics, topics=(POSITION,)).read(3).tick()
    kafka.kill()
    reader.until(lambda: reader.counters.away)
    kafka.start()
    reader.tick()
    assert reader.of(POSITION, 0) == ["0", "1", "2"]
    reader.close()


@pytest.mark.parametrize("said", ["as it goes", "while it is away"])
def test_a_topic_that_is_unknown_while_the_broker_goes_does_not_end_the_wait(kafka, prefix, said):
    topics = Topics(kafka.bootstrap, prefix)
    topics.make(sensing__position=1)
    topics.put(POSITION, 0, range(3))
    reader = Reader(topics, topics=(POSITION,), lanes=1, bound_s=1.0).read(3)
    unknown = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    kafka.kill()
    if said == "as it goes":
        reader.lanes["lane-00"]._pump._erred(unknown)
    reader.until(lambda: reader.counters.away)
    if said == "while it is away":
        reader.lanes["lane-00"]._pump._erred(unknown)
    borne = time.monotonic() + 3.0
    reader.until(lambda: time.monotonic() > borne)
    kafka.start()
    topics.put(POSITION, 0, range(3, 6))
    assert reader.read(6).of(POSITION, 0) == [str(number) for number in range(6)]
    reader.close()


def test_a_topic_that_was_missing_before_the_broker_went_is_borne_anew_when_it_is_back(kafka, prefix):
    topics = Topics(kafka.bootstrap, prefix)
    topics.make(sensing__position=1, web__event=1)
    reader = Reader(topics, topics=(POSITION, "web.event"), lanes=1, refresh_s=0.2, bound_s=4.0).tick()
    pump = reader.lanes["lane-00"]._pump
    topics.drop(POSITION)
    reader.until(lambda: pump._absent is not None)
    kafka.kill()
    reader.until(lambda: reader.counters.away)
    borne = time.monotonic() + 5.0
    reader.until(lambda: time.monotonic() > borne)
    kafka.start()
    back = time.monotonic()
    with pytest.raises(Refused, match=r"not let us read for 4 s: missing on it: .*sensing\.position"):
        reader.tick(1_000)
    assert time.monotonic() - back > 4.0


def test_what_came_while_the_broker_was_out_of_reach_comes_before_the_clock(kafka, prefix):
    """A broker that stands still takes nothing; what it takes once it goes on has waited with its producers."""
    topics = Topics(kafka.bootstrap, prefix)
    topics.make(sensing__position=2)
    reader = Reader(topics, topics=(POSITION,)).tick()
    kafka.kill()
    reader.until(lambda: reader.counters.away)
    since = int(time.time() * 1000)
    kafka.start()
    topics.put(POSITION, 1, range(50), at_ms=since)  # before the reader is called again
    at = len(reader.items)
    reader.read(50)
    assert all(isinstance(item, Heard) for item in reader.items[at:]), reader.items[at:][:3]
    reader.close()


def flow_of(source, take):
    flow = Dataflow("reading")
    op.output("records", op.input("topics", flow, source), HandSink(take))
    return flow


def run(topics, recovery, stop_after, stop):
    """Run a flow until it has handed on so many rows, then drain it."""
    rows = []

    def take(batch):
        rows.extend((item.partition, int(item.value)) for item in batch.items if isinstance(item, Heard))
        if len(rows) >= stop_after:
            stop.set()

    rule = SourceRule(
        flow="reading", client={"bootstrap.servers": topics.broker}, topics=(POSITION,), prefix=topics.prefix, lanes=3
    )
    source = KafkaSource(rule, stop=stop, say=lambda _: None)
    began = time.monotonic()
    guard = Timer(60, stop.set)
    guard.start()
    cli_main(flow_of(source, take), epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(str(recovery)))
    guard.cancel()
    assert time.monotonic() - began < 55
    return rows


def test_a_drain_leaves_nothing_to_replay(broker, prefix, tmp_path):
    topics = Topics(broker, prefix)
    topics.make(sensing__position=4)
    for partition in range(4):
        topics.put(POSITION, partition, range(3_000))
    init_db_dir(tmp_path, 1)
    read = []
    while len(read) < 12_000:
        read += run(topics, tmp_path, min(2_500, 12_000 - len(read)), Flag())
    assert max(Counter(read).values()) == 1
    assert sorted(read) == [(partition, number) for partition in range(4) for number in range(3_000)]


KILLED = """
import json, sys
from datetime import timedelta
from threading import Event as Flag
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from operators.connectors.reading import SourceRule
from operators.connectors.source import KafkaSource
from schemas.items import Heard
from tests.broker.test_source_outage import POSITION, flow_of

broker, prefix, recovery = sys.argv[1:]
def take(batch):
    for item in batch.items:
        if isinstance(item, Heard):
            print(json.dumps([item.partition, int(item.value), item.number]), flush=True)
rule = SourceRule(flow="reading", client={"bootstrap.servers": broker}, topics=(POSITION,), prefix=prefix, lanes=3,
                  max_batch=50)
cli_main(flow_of(KafkaSource(rule, stop=Flag(), say=lambda _: None), take), epoch_interval=timedelta(seconds=0.05),
         recovery_config=RecoveryConfig(recovery))
"""


def test_a_killed_reader_goes_on_from_its_last_epoch(broker, prefix, tmp_path):
    """What was handed on again is what the last epoch held; each partition has no gap, and numbers go on."""
    topics = Topics(broker, prefix)
    topics.make(sensing__position=4)
    for partition in range(4):
        topics.put(POSITION, partition, range(4_000))
    init_db_dir(tmp_path, 1)
    root = Path(__file__).parents[2]
    seen: Counter[int] = Counter()
    again, kills = 0, iter((700, 5, 1_900, 300, 2_500))
    while sum(seen.values()) < 16_000:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, topics.broker, prefix, str(tmp_path)],
            cwd=root, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        follows: dict[int, int] = {}
        numbers, kill_after = [], next(kills, None)
        try:
            for count, line in enumerate(process.stdout, 1):
                if not line.endswith(b"\n"):
                    break
                partition, value, number = json.loads(line)
                if partition not in follows:
                    assert value <= seen[partition], "a gap"
                    again += seen[partition] - value
                assert value == follows.get(partition, value)
                follows[partition] = value + 1
                seen[partition] = max(seen[partition], value + 1)
                numbers.append(number)
                if count == kill_after or sum(seen.values()) == 16_000:
                    process.kill()  # what it has printed by then is still to be read
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert dict(seen) == dict.fromkeys(range(4), 4_000)
    assert again < 16_000, "it began anew each time"


def test_a_broker_that_speaks_otherwise_is_no_broker(broker, prefix):
    """TLS to a port without it: the start ends, and says what it was told."""
    topics = Topics(broker, prefix)
    topics.make(sensing__position=1)
    rule = SourceRule(
        flow="reading", client={"bootstrap.servers": broker, "security.protocol": "SSL"}, topics=(POSITION,),
        prefix=prefix, wait_s=2.0,
    )  # fmt: skip
    source = KafkaSource(rule, stop=Flag(), say=lambda _: None)
    with pytest.raises((BrokerRefused, BrokerAway), match=broker):
        source.build_part("topics", "lane-00", None)
