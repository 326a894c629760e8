"""The guarded sink against a real broker: crashes, zombies, outages and foreign writers; 0 lost, 0 doubled."""

import contextlib
import random
import threading
import time
from collections import Counter

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from operators.connectors import outlet, owner
from operators.connectors.outlet import Misrouted
from operators.connectors.outputs import HOUR_US
from operators.connectors.owner import Fenced
from operators.connectors.senders import Undelivered
from operators.connectors.sink import GuardedSink
from operators.connectors.tails import ForeignWriter, OutputChanged, TailGone, TopicsAnew
from schemas.items import Batch
from schemas.keys import partition_of
from schemas.parcels import unpacked
from tests.broker.saying import (
    Life,
    assignment,
    batch,
    client,
    command,
    event_ids,
    expected,
    outputs,
    read,
    topics,
    transition,
)

SEED = 7


class Killed(Exception):
    """A crash in the midst of a call."""


def once(broker, prefix, count):
    found = event_ids(broker, prefix)
    wanted = expected(count)
    lost = wanted - found
    doubled = found - wanted
    assert (sum(lost.values()), sum(doubled.values())) == (0, 0)


@pytest.fixture
def made(broker, prefix):
    topics(broker, prefix)
    return outputs(broker, prefix)


def test_crashes_anywhere_lose_and_double_nothing(made, broker, prefix):
    dice = random.Random(SEED)
    count, kept, at, crashes = 150, (None, 0), 0, 0
    life = Life(made)
    while at < count:
        what = dice.random()
        if what < 0.6:
            life.say(at)
            at += 1
        elif what < 0.8:
            snapshot = life.lane.snapshot()
            if dice.random() < 0.7:  # else: the epoch never became durable
                kept = (snapshot, at)
        elif crashes < 25:
            crashes += 1
            if dice.random() < 0.4:  # with a transaction open
                life.lane._commands.commit = _killed
                with contextlib.suppress(Killed):
                    life.say(at)
            life.die()
            life, at = Life(made, kept[0]), kept[1]
    life.lane.snapshot()
    assert crashes == 25
    assert life.lane.guard.pending == 0
    found = event_ids(broker, prefix)
    assert expected(count) - found == {}
    assert all(times == 1 for times in found.values())


def _killed():
    raise Killed


def second_crash(made):
    """Twice killed: the second time before all of the tail was said again."""
    life = Life(made)
    start = life.lane.snapshot()
    life.say(*range(12))
    life.lane._wide.flush()
    life.die()
    life = Life(made, start)
    life.say(*range(5))
    middle = life.lane.snapshot()
    life.die()
    life = Life(made, middle)
    life.say(*range(5, 12))
    life.lane.snapshot()


def test_a_second_crash_before_the_repetition_doubles_nothing(made, broker, prefix):
    second_crash(made)
    once(broker, prefix, 12)


def test_a_snapshot_of_the_end_would_double(made, broker, prefix, monkeypatch):
    monkeypatch.setattr("operators.connectors.guard.Guard.low", lambda self, place: self._next[place])
    second_crash(made)
    doubled = event_ids(broker, prefix) - expected(12)
    assert sum(doubled.values()) == sum(expected(12).values()) - sum(expected(5).values())


def test_without_any_snapshot_the_whole_topic_is_read(made, broker, prefix):
    life = Life(made)
    life.say(*range(10))
    life.lane.snapshot()  # of an epoch that never became durable
    life.die()
    life = Life(made)
    assert life.lane.guard.pending == sum(expected(10).values())
    life.say(*range(12))
    life.lane.snapshot()
    once(broker, prefix, 12)


def test_keys_headers_and_partitions_are_ours(made, broker, prefix):
    life = Life(made)
    life.say(0, 1, 2)
    life.lane.snapshot()
    found = read(broker, prefix)
    for message, record in found["action.command"]:
        assert dict(message.headers()) == {"action-id": record.event_id.encode()}
        assert message.key().decode() == record.anchor_id
    by_key = {message.key(): message.partition() for message, _ in found["presence.transition"]}
    assert set(by_key) == {b"mad-01|tag:1:0", b"mad-01|tag:1:1", b"mad-01|tag:1:2"}


def test_the_snapshot_is_plain_and_small(made):
    def leaves(value):
        return [leaf for one in value for leaf in leaves(one)] if isinstance(value, tuple) else [value]

    snapshot = Life(made).lane.snapshot()
    assert {type(leaf) for leaf in leaves(snapshot)} <= {str, int}


def test_ids_that_are_not_said_again_are_dropped_and_counted(broker, prefix):
    topics(broker, prefix)
    made = outputs(broker, prefix, orphan_after=HOUR_US)
    life = Life(made)
    start = life.lane.snapshot()
    life.say(0, 1)
    life.lane.snapshot()
    life = Life(made, start)
    life.lane.write_batch([Batch([transition(1)])])
    stuck = life.lane.snapshot()
    assert life.lane.guard.pending == sum(expected(2).values()) - 1
    assert stuck == Life(made, stuck).lane.snapshot()
    life = Life(made, stuck)
    life.lane.write_batch([Batch([transition(2 + 3600)])])
    life.lane.snapshot()
    assert life.lane.guard.pending == 0
    orphaned = {topic: count for (what, topic), count in life.lane.guard.counts.items() if what == "orphaned"}
    assert orphaned == {"presence.transition": 1, "action.command": 1, "identity.assignment": 1}


def test_a_zombie_is_shut_out_of_commands_by_the_broker(made, broker, prefix, monkeypatch):
    monkeypatch.setattr(owner, "FRESH_S", 1e9)  # the broker alone
    old = Life(made)
    old.say(0)
    start = old.lane.snapshot()
    new = Life(made, start)
    new.say(2)
    with pytest.raises(Fenced):
        old.lane.write_batch([Batch([command(2)])])
    new.lane.snapshot()
    found = event_ids(broker, prefix)
    assert all(times == 1 for times in found.values())


def test_a_woken_zombie_sees_the_claim_before_it_writes(made, broker, prefix, monkeypatch):
    old = Life(made)
    old.say(1)
    start = old.lane.snapshot()
    new = Life(made, start)
    new.say(3)
    new.lane.snapshot()
    monkeypatch.setattr(owner, "FRESH_S", 0.0)  # it slept for longer than a claim is believed
    with pytest.raises(Fenced, match="another process has claimed"):
        old.lane.write_batch([Batch([transition(3)])])
    assert all(times == 1 for times in event_ids(broker, prefix).values())


def test_no_epoch_of_a_zombie_closes(made):
    old = Life(made)
    old.say(1)
    Life(made)
    with pytest.raises(Fenced):
        old.lane.snapshot()


def test_without_a_claim_an_idempotent_zombie_goes_on(broker, prefix):
    topics(broker, prefix)
    made = outputs(broker, prefix, owner=False)
    old = Life(made)
    start = old.lane.snapshot()
    new = Life(made, start)
    new.lane.write_batch([Batch([transition(3)])])
    new.lane.snapshot()
    old.lane.write_batch([Batch([transition(3)])])
    old.lane.snapshot()
    assert sum(event_ids(broker, prefix).values()) == 2


def test_the_newest_of_two_that_start_at_once_owns(made):
    both = []
    starting = [threading.Thread(target=lambda: both.append(_claimed(made))) for _ in range(2)]
    for one in starting:
        one.start()
    for one in starting:
        one.join()
    alive = [one for one in both if one is not None and _owns(one)]
    assert len(alive) <= 1
    assert alive or None in both


def _claimed(made):
    sink = GuardedSink(made)
    try:
        sink.open()
    except Exception:
        return None
    return sink


def _owns(sink):
    try:
        sink._opened.owner.check()
    except Fenced:
        return False
    return True


def test_a_dead_letter_that_is_too_large_goes_out_without_what_it_quotes(broker, prefix):
    topics(broker, prefix, **{"max.message.bytes": "4000"})
    life = Life(outputs(broker, prefix))
    life.lane.write_batch([Batch([command(0, {"text": "x" * 5000})])])
    life.lane.snapshot()
    [(_, letter)] = read(broker, prefix)["ops.dead-letter"]
    assert (letter.reason, letter.payload) == ("SINK_REFUSED", None)
    assert letter.payload_size > 5000


def test_a_dead_letter_that_cannot_be_written_stops_the_process(broker, prefix):
    topics(broker, prefix, **{"max.message.bytes": "700"})
    life = Life(outputs(broker, prefix))
    with pytest.raises(Misrouted, match="nor its dead letter"):
        life.lane.write_batch([Batch([command(0, {"text": "x" * 5000})])])


def test_a_topic_of_small_records_makes_those_of_others_no_smaller(broker, prefix):
    topics(broker, prefix, only=("presence.transition", "action.command", "ops.dead-letter"))
    topics(broker, prefix, only=("identity.assignment",), owners=False, **{"max.message.bytes": "2000"})
    life = Life(outputs(broker, prefix))
    large = transition(0)
    large = msgspec.structs.replace(large, record=msgspec.structs.replace(large.record, zone_id="x" * 5000))
    life.lane.write_batch([Batch([large, *(assignment(number) for number in range(100))])])
    life.lane.snapshot()
    found = read(broker, prefix)
    assert {topic: len(rows) for topic, rows in found.items() if rows} == {
        "presence.transition": 1,
        "identity.assignment": 100,
    }


def test_a_dead_letter_of_the_sink_says_what_was_refused(broker, prefix):
    topics(broker, prefix, only=("presence.transition", "identity.assignment", "ops.dead-letter"))
    topics(broker, prefix, only=("action.command",), owners=False, **{"max.message.bytes": "4000"})
    made = outputs(broker, prefix)
    huge = Batch([command(0, {"text": "x" * 100_000}), command(2)])
    for _ in range(2):
        life = Life(made)
        life.lane.write_batch([huge])
        life.lane.snapshot()
    found = read(broker, prefix)
    [(message, letter)] = found["ops.dead-letter"]
    assert (letter.stage, letter.reason, letter.origin_topic) == ("SINK", "SINK_REFUSED", "action.command")
    assert letter.payload_size > 100_000
    assert len(letter.payload) == 64 << 10
    assert dict(message.headers()) == {"error.code": b"SINK_REFUSED"}
    assert [record.event_id for _, record in found["action.command"]] == [command(2).record.event_id]


def alter(admin, name, **config):
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)
    until = time.monotonic() + 20
    while time.monotonic() < until:  # the controller has it, and the broker only in a moment
        [told] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
        if all(told.result(20)[key].value == value for key, value in config.items()):
            return
    raise AssertionError(f"{name} does not take {config}")


def undeliverable(made, broker, prefix):
    """A topic that stops taking what it took when the sink was opened."""
    life = Life(made)
    life.say(0)
    life.lane.snapshot()
    alter(AdminClient(client(broker)), f"{prefix}presence.transition", **{"max.message.bytes": "100"})
    life.lane.write_batch([Batch([transition(1)])])
    life.lane.snapshot()


def test_a_delivery_error_is_raised_and_not_swallowed(made, broker, prefix):
    with pytest.raises(Undelivered, match="MSG_SIZE_TOO_LARGE"):
        undeliverable(made, broker, prefix)


def test_a_swallowed_delivery_error_would_lose(made, broker, prefix, monkeypatch):
    monkeypatch.setattr("operators.connectors.senders.Sender._settle", lambda self: self._told.clear())
    undeliverable(made, broker, prefix)  # the epoch closes as if all were well
    assert event_ids(broker, prefix)[transition(1).record.event_id] == 0


def test_a_delivery_error_is_raised_at_the_next_batch(made, broker, prefix):
    life = Life(made)
    alter(AdminClient(client(broker)), f"{prefix}presence.transition", **{"max.message.bytes": "100"})
    life.lane.write_batch([Batch([transition(1)])])
    until = time.monotonic() + 10
    with pytest.raises(Undelivered):  # noqa: PT012 it comes when the broker has answered
        while time.monotonic() < until:
            life.lane.write_batch([Batch([])])


def stranger(broker, prefix):
    """Somebody else's transaction, open on one of our topics."""
    producer = Producer(client(broker) | {"transactional.id": f"{prefix}stranger", "transaction.timeout.ms": 60_000})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(f"{prefix}action.command", b"not ours", b"k", 1)
    producer.flush(10)
    return producer


def test_a_foreign_writer_is_named(made, broker, prefix, monkeypatch):
    monkeypatch.setattr(outlet, "_PATIENCE_S", 1.0)
    producer = stranger(broker, prefix)
    with pytest.raises(ForeignWriter, match=r"action\.command \[1\] is committed up to 0 of 1"):
        Life(made)
    producer.abort_transaction(10)


def test_a_foreign_writer_that_ends_is_waited_for(made, broker, prefix):
    producer = stranger(broker, prefix)
    ending = threading.Timer(1.5, lambda: producer.commit_transaction(10))
    ending.start()
    life = Life(made)
    ending.join()
    assert life.lane.guard.counts["foreign", "action.command"] == 1
    life.say(*range(4))
    life.lane.snapshot()


def test_a_count_of_messages_in_place_of_the_end_never_ends(made, broker, prefix, monkeypatch):
    """Markers take offsets: three transactions are more offsets than records."""
    life = Life(made)
    life.say(0, 2, 4)
    life.lane.snapshot()

    def counted(self, message, reached, open_parts, found):
        if message.error() is None:
            found(message)
            reached[message.topic(), message.partition()] += 1
            if (
                reached[message.topic(), message.partition()]
                >= self.ends(reached)[message.topic(), message.partition()]
            ):
                open_parts.discard((message.topic(), message.partition()))

    monkeypatch.setattr(outlet, "_PATIENCE_S", 1.0)
    monkeypatch.setattr("operators.connectors.tails.CALL_S", 1.0)
    monkeypatch.setattr("operators.connectors.tails.Tails._take", counted)
    with pytest.raises(ForeignWriter):
        Life(made)


def test_a_missing_topic_is_named(broker, prefix):
    topics(broker, prefix, only=("presence.transition", "action.command"))
    with pytest.raises(OutputChanged, match=r"missing topics: .*identity.assignment, .*ops.dead-letter"):
        Life(outputs(broker, prefix))


def test_a_topic_that_has_grown_is_written_as_before(made, broker, prefix):
    life = Life(made)
    snapshot = life.lane.snapshot()
    life.say(*range(12))
    life.die()
    name = f"{prefix}action.command"
    admin = AdminClient(client(broker))
    admin.create_partitions([NewPartitions(name, 8)])[name].result(20)
    again = Life(made, snapshot)
    again.say(*range(20))
    again.lane.snapshot()
    once(broker, prefix, 20)
    assert {message.partition() for message, _ in read(broker, prefix)["action.command"]} <= {0, 1, 2}


def test_lanes_that_others_deal_to_refuse_a_topic_that_has_grown(broker, prefix):
    topics(broker, prefix)
    made = outputs(broker, prefix, lanes=2)
    snapshot = GuardedSink(made).build_part("store.records", "out-00", None).snapshot()
    name = f"{prefix}action.command"
    admin = AdminClient(client(broker))
    admin.create_partitions([NewPartitions(name, 4)])[name].result(20)
    with pytest.raises(OutputChanged, match="has 4 partitions, and had 3"):
        GuardedSink(made).build_part("store.records", "out-00", snapshot)


def test_topics_made_anew_are_refused_and_begin_empty_once_that_is_accepted(made, broker, prefix):
    life = Life(made)
    life.say(*range(12))
    snapshot = life.lane.snapshot()
    life.say(*range(12, 18))
    life.die()
    admin, lost = AdminClient(client(broker)), ("action.command", "identity.assignment")
    for future in admin.delete_topics([prefix + topic for topic in lost]).values():
        future.result(20)
    topics(broker, prefix, only=lost[:1], owners=False)
    topics(broker, prefix, only=lost[1:], owners=False, **{"cleanup.policy": "compact"})
    places = [f"{topic}:{part}" for topic in lost for part in range(3)]
    with pytest.raises(TopicsAnew, match=rf"{prefix}action.command, {prefix}identity.assignment: made anew") as told:
        Life(made, snapshot)
    assert told.value.places == tuple(places)
    with pytest.raises(TopicsAnew) as told:
        Life(outputs(broker, prefix, accept_loss=frozenset(places[:5])), snapshot)
    assert told.value.places == ("identity.assignment:2",)
    accepted = outputs(broker, prefix, accept_loss=frozenset(places))
    for _ in range(2):  # killed before its first snapshot, and started again
        life = Life(accepted, snapshot)
        life.say(*range(12, 18))
        life.lane._wide.flush()
        life.die()
    life = Life(accepted, snapshot)
    life.say(*range(12, 18))
    snapshot = life.lane.snapshot()
    assert life.lane.guard.pending == 0
    life.die()
    Life(made, snapshot).say(*range(18, 20))
    wanted = Counter(
        item.record.event_id
        for number in range(20)
        for item in batch(number).items
        if number >= 12 or item.topic not in lost
    )
    assert event_ids(broker, prefix) == wanted


def test_a_tail_that_is_gone_is_refused_unless_accepted(made, broker, prefix):
    life = Life(made)
    snapshot = life.lane.snapshot()
    life.lane.write_batch([Batch([transition(0)])])
    life.lane.snapshot()
    part = partition_of("mad-01|tag:1:0", 3)
    name = f"{prefix}presence.transition"
    admin = AdminClient(client(broker))
    for future in admin.delete_records([TopicPartition(name, part, 1)]).values():
        future.result(20)
    with pytest.raises(TailGone, match=rf"presence.transition:{part} \(read from 0, it begins at 1\)"):
        Life(made, snapshot)
    accepted = outputs(broker, prefix, accept_loss=frozenset({f"presence.transition:{part}"}))
    Life(accepted, snapshot).lane.snapshot()


def test_lanes_share_the_partitions_and_a_batch_is_dealt_over_them(broker, prefix):
    topics(broker, prefix)
    made = outputs(broker, prefix, lanes=2)
    for _ in range(2):
        sink = GuardedSink(made)
        assert sink.list_parts() == ["out-00", "out-01"]
        lanes = {name: sink.build_part("store.records", name, None) for name in sink.list_parts()}
        for number in range(20):
            for name, part in sink.outlets(("0", batch(number))):
                assert sink.part_fn(name) == int(name[-2:])
                lanes[name].write_batch([unpacked(part)])
        for lane in lanes.values():
            lane.snapshot()
            assert lane.guard.pending == 0
    once(broker, prefix, 20)
