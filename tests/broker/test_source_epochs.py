"""One lane hands on the rows of all: each row still belongs to the epoch whose snapshot says that it was handed on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir

from operators.connectors.hands import Hands
from tests.broker.reading import Reader, Topics

POSITION = "sensing.position"


@pytest.fixture
def topics(broker, prefix):
    return Topics(broker, prefix)


def called(reader, name, times):
    """What one lane hands on in so many calls."""
    found = []
    for _ in range(times):
        found += [item for _, batch in reader.lanes[name].next_batch() for item in batch.items]
    return found


def closing(topics):
    """Lane 0 has closed its epoch, lane 1 is called on, then closes it too; then the process is killed.

    Answers how often each row was handed on, by the epochs that are kept and by what follows.
    """
    topics.make(sensing__position=2)
    for partition in range(2):
        topics.put(POSITION, partition, range(100))
    first = Reader(topics, topics=(POSITION,)).read(200).tick()
    states = {"lane-00": first.lanes["lane-00"].snapshot()}
    for partition in range(2):
        topics.put(POSITION, partition, range(100, 150))
    between = called(first, "lane-01", 300)
    states["lane-01"] = first.lanes["lane-01"].snapshot()
    kept = [(row.partition, row.offset) for row in [*first.rows, *between] if hasattr(row, "offset")]
    first.close()
    second = Reader(topics, states, topics=(POSITION,))
    second.until(lambda: second.counters.caught_up and len(second.ticks) > 2)
    after = [(row.partition, row.offset) for row in second.rows]
    second.close()
    return between, kept + after


def test_rows_of_a_lane_that_has_closed_its_epoch_wait_for_the_next(topics):
    between, rows = closing(topics)
    assert between == [], "neither rows nor a clock that says they were heard"
    assert sorted(rows) == [(partition, offset) for partition in range(2) for offset in range(150)]


def test_mutant_rows_are_handed_on_in_an_epoch_that_their_lane_has_closed(topics, monkeypatch):
    monkeypatch.setattr(Hands, "together", lambda self: True)
    _, rows = closing(topics)
    assert len(rows) > len(set(rows)), "handed on by lane 1, unknown to lane 0"


def test_rows_that_waited_come_as_soon_as_all_have_closed(topics):
    topics.make(sensing__position=2)
    reader = Reader(topics, topics=(POSITION,)).tick()
    reader.lanes["lane-00"].snapshot()
    for partition in range(2):
        topics.put(POSITION, partition, range(100))
    assert called(reader, "lane-01", 300) == []
    reader.lanes["lane-01"].snapshot()
    found = called(reader, "lane-01", 1)
    while len(found) < 200:
        found += called(reader, "lane-01", 1)
    assert sum(hasattr(item, "offset") for item in found) == 200, "those of lane 0 too: it is in the same epoch now"
    reader.close()


COUNTING = """
import json, sys
from datetime import timedelta
from threading import Event as Flag

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from operators.connectors.live import HandSink
from operators.connectors.reading import SourceRule
from operators.connectors.source import KafkaSource
from schemas.items import Batch, Heard

broker, prefix, recovery = sys.argv[1:]

class Follows(StatefulBatchLogic):
    '''Keeps the next offset of each partition in the engine's state, and compares it with every row.'''
    def __init__(self, state):
        self.next = dict(state or ())
    def on_batch(self, values):
        for batch in values:
            for row in batch.items:
                if isinstance(row, Heard):
                    if row.offset != self.next.get(row.partition, 0):
                        print(json.dumps(["wrong", row.partition, row.offset, self.next.get(row.partition, 0)]), flush=True)
                        raise SystemExit(3)
                    self.next[row.partition] = row.offset + 1
        return [Batch([], {f"{place}": at for place, at in self.next.items()})], False
    def snapshot(self):
        return tuple(self.next.items())

def take(batch):
    print(json.dumps(["at", sum(batch.stamps.values())]), flush=True)

rule = SourceRule(flow="reading", client={"bootstrap.servers": broker}, topics=("sensing.position",), prefix=prefix,
                  lanes=3, max_batch=10)
flow = Dataflow("reading")
rows = op.input("topics", flow, KafkaSource(rule, stop=Flag(), say=lambda _: None))
counted = op.stateful_batch("follows", rows, Follows)
op.output("records", counted, HandSink(take))
cli_main(flow, epoch_interval=timedelta(milliseconds=5), recovery_config=RecoveryConfig(recovery))
"""


def test_the_state_of_a_core_and_the_places_of_the_source_stay_together_over_kills(topics, tmp_path):
    topics.make(sensing__position=4)
    for partition in range(4):
        topics.put(POSITION, partition, range(3_000))
    init_db_dir(tmp_path, 1)
    root, at, resumed = Path(__file__).parents[2], 0, 0
    for kill_after in (300, 20, 200, 1, 250, None):
        process = subprocess.Popen(
            [sys.executable, "-c", COUNTING, topics.broker, topics.prefix, str(tmp_path)],
            cwd=root, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        try:
            for count, line in enumerate(process.stdout, 1):
                if not line.endswith(b"\n"):
                    break
                said = json.loads(line)
                assert said[0] == "at", said
                resumed += count == 1 and said[1] > 200
                at = said[1]
                if count == kill_after or at == 12_000:
                    process.kill()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert at == 12_000
    assert resumed >= 2, f"it went on from a state {resumed} times"
