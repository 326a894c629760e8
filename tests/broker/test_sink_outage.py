"""The guarded sink while its broker is away: it waits, says that it lives, and loses nothing; inside the engine too."""

import os
import threading
import time
from itertools import pairwise

import pytest
from bytewax.dataflow import Dataflow
from bytewax.operators import input as read_from
from bytewax.operators import output
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from bytewax.testing import TestingSource

from operators.connectors.senders import Undelivered
from operators.connectors.sink import GuardedSink
from schemas.items import Batch
from tests.broker.saying import Life, batch, command, event_ids, expected, outputs, read, topics, transition

own = pytest.mark.skipif("FOOTFALL_TEST_KAFKA" in os.environ, reason="a broker that is named is not killed")


def in_background(call):
    """Run a call; answers its thread and where its fault goes."""
    faults = []

    def run():
        try:
            call()
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, faults


def once(broker, prefix, count):
    found = event_ids(broker, prefix)
    assert sum((expected(count) - found).values()) == 0, "lost"
    assert sum((found - expected(count)).values()) == 0, "doubled"


@own
def test_an_epoch_waits_for_the_broker_and_beats(kafka, prefix):
    topics(kafka.bootstrap, prefix)
    beats = []
    life = Life(outputs(kafka.bootstrap, prefix, beat=lambda: beats.append(time.monotonic())))
    life.say(*range(6))
    life.lane.snapshot()
    kafka.kill()
    for number in range(6, 12):
        life.lane.write_batch([Batch([item for item in batch(number).items if item.topic != "action.command"])])
    beats.clear()
    waiting, faults = in_background(life.lane.snapshot)
    waiting.join(3.0)
    assert waiting.is_alive()
    assert len(beats) >= 2
    assert max(after - before for before, after in pairwise(beats)) < 2.5
    kafka.start()
    waiting.join(90)
    assert not faults
    life.say(*range(6, 12))
    life.lane.snapshot()
    once(kafka.bootstrap, prefix, 12)


@own
def test_no_transaction_is_opened_on_a_broker_that_is_away(kafka, prefix):
    topics(kafka.bootstrap, prefix)
    life = Life(outputs(kafka.bootstrap, prefix))
    life.say(0)
    life.lane.snapshot()
    kafka.kill()
    time.sleep(0.2)
    waiting, faults = in_background(lambda: life.say(2))
    waiting.join(14.0)  # longer than a transaction may stand open
    assert waiting.is_alive()
    kafka.start()
    waiting.join(90)
    assert not faults
    life.lane.snapshot()
    assert len(read(kafka.bootstrap, prefix)["action.command"]) == 2


@own
def test_a_transaction_that_an_outage_ends_is_written_anew(kafka, prefix):
    topics(kafka.bootstrap, prefix)
    beats = []
    life = Life(outputs(kafka.bootstrap, prefix, beat=lambda: beats.append(time.monotonic())))
    life.say(0)
    life.lane.snapshot()
    commit = life.lane._commands.commit

    def commit_in_an_outage():
        kafka.kill()
        back.start()
        commit()

    life.lane._commands.commit = commit_in_an_outage
    back = threading.Timer(15.0, kafka.start)  # longer than a transaction may stand open
    life.say(2)
    back.join()
    life.say(4)
    life.lane.snapshot()
    assert max(after - before for before, after in pairwise(beats)) < 3
    found = read(kafka.bootstrap, prefix)["action.command"]
    assert sorted(record.event_id for _, record in found) == sorted(
        command(number).record.event_id for number in (0, 2, 4)
    )


def test_what_a_lost_transaction_committed_after_all_is_not_written_anew(broker, prefix):
    topics(broker, prefix)
    life = Life(outputs(broker, prefix))
    commit = life.lane._commands.commit

    def commit_unheard():
        commit()
        raise Undelivered("its end was not heard")

    life.lane._commands.commit = commit_unheard
    life.say(2)
    assert not life.lane.written_anew
    life.say(4)
    life.lane.snapshot()
    assert len(read(broker, prefix)["action.command"]) == 2


@own
def test_restarts_under_load_lose_and_double_nothing(kafka, prefix):
    """A restart may end a transaction and with it the process: the next one goes on from the last epoch."""
    topics(kafka.bootstrap, prefix)
    made = outputs(kafka.bootstrap, prefix)
    life, kept, at, deaths = Life(made), (None, 0), 0, 0
    restarting, faults = in_background(lambda: [(time.sleep(1.0), kafka.restart()) for _ in range(3)])
    while restarting.is_alive() or at < 300:
        try:
            life.say(at)
            at += 1
            if at % 20 == 0:
                kept = (life.lane.snapshot(), at)
        except Undelivered:
            deaths += 1
            life.die()
            life, at = Life(made, kept[0]), kept[1]
        time.sleep(0.01)
    restarting.join()
    life.lane.snapshot()
    assert not faults
    once(kafka.bootstrap, prefix, at)


@own
def test_a_broker_that_stays_away_ends_the_process(kafka, prefix):
    topics(kafka.bootstrap, prefix)
    life = Life(outputs(kafka.bootstrap, prefix, wait_s=2.0))
    life.lane.write_batch([Batch([transition(0)])])
    life.lane.snapshot()
    kafka.kill()
    try:
        life.lane.write_batch([Batch([transition(1)])])
        with pytest.raises(Undelivered):
            life.lane.snapshot()
    finally:
        kafka.start()


def test_the_engine_stops_and_goes_on_with_nothing_twice(broker, prefix, tmp_path):
    topics(broker, prefix)
    made = outputs(broker, prefix)
    init_db_dir(tmp_path, 1)
    items = [("0", batch(number)) for number in range(30)]
    for cut in (7, 15, 23):
        items.insert(cut, TestingSource.ABORT())
    source = TestingSource(items)
    for _ in range(4):
        sink = GuardedSink(made)
        flow = Dataflow("store")
        output("records", read_from("topics", flow, source), sink)
        cli_main(flow, recovery_config=RecoveryConfig(str(tmp_path)), epoch_interval=None)
    once(broker, prefix, 30)
    assert sink.lanes[0].guard.pending == 0


def test_a_command_alone_is_readable_when_the_call_returns(broker, prefix):
    topics(broker, prefix)
    life = Life(outputs(broker, prefix))
    life.lane.write_batch([Batch([command(0)])])
    assert len(read(broker, prefix)["action.command"]) == 1
