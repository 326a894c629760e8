"""What the Kafka source reads, in which order, and where it goes on."""

import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from operators.connectors.pump import Pump
from operators.connectors.source import losses
from schemas.topics import REFERENCE
from tests.broker.reading import Reader, Topics

POSITION, ZONE = "sensing.position", "venue.zone"


@pytest.fixture
def topics(broker, prefix):
    return Topics(broker, prefix)


def texts(stop, start=0):
    return [str(number) for number in range(start, stop)]


def test_each_partition_in_order_and_rows_numbered_as_they_are_handed_on(topics):
    topics.make(sensing__position=4, pos__receipt=4)
    for partition in range(4):
        topics.put(POSITION, partition, range(500))
    reader = Reader(topics, topics=(POSITION, "pos.receipt"), lanes=3).read(2_000)
    for partition in range(4):
        topics.put("pos.receipt", partition, range(100))
    reader.read(2_400)
    for partition in range(4):
        assert reader.of(POSITION, partition) == texts(500)
        assert reader.of("pos.receipt", partition) == texts(100)
    assert [row.number for row in reader.rows] == list(range(2_400))
    assert [row.clock for row in reader.rows] == sorted(row.clock for row in reader.rows)
    assert {row.form for row in reader.rows} == {"wire"}
    reader.close()


def _stopped_between_lanes(topics):
    """Lane 0 has handed on its rows; those of lane 1 are fetched, and still in the process."""
    topics.make(sensing__position=2)
    for partition in range(2):
        topics.put(POSITION, partition, range(300))
    first = Reader(topics, topics=(POSITION,), keyed=True)
    lane = first.lanes["lane-00"]
    while not first.rows:
        first.items += [item for _, batch in lane.next_batch() for item in batch.items]
    states = first.states()
    first.close()
    second = Reader(topics, states, topics=(POSITION,), keyed=True)
    second.until(lambda: second.counters.caught_up and len(second.ticks) > 2)
    second.close()
    return first, second


def test_a_resume_goes_on_at_what_was_handed_on(topics):
    first, second = _stopped_between_lanes(topics)
    for partition in range(2):
        assert first.of(POSITION, partition) + second.of(POSITION, partition) == texts(300)
    numbers = [row.number for row in first.rows + second.rows]
    assert [number // 2 for number in numbers] == list(range(600))


@pytest.mark.parametrize("keyed", [True, False])
def test_rows_that_could_not_be_handed_on_before_a_drain_are_read_by_the_next_start(topics, keyed):
    topics.make(sensing__position=2)
    for partition in range(2):
        topics.put(POSITION, partition, range(300))
    rest = [200]

    def prepare(items):
        rest[0] -= len(items)
        return rest[0] > 0

    first = Reader(topics, topics=(POSITION,), keyed=keyed, max_batch=50, prepare=prepare)
    with pytest.raises(StopIteration):
        first.until(lambda: False)
    states = first.states()
    first.close()
    assert 0 < len(first.rows) < 300
    assert first.counters.messages[POSITION] == len(first.rows)
    second = Reader(topics, states, topics=(POSITION,), keyed=keyed).read(600 - len(first.rows))
    second.close()
    for partition in range(2):
        assert first.of(POSITION, partition) + second.of(POSITION, partition) == texts(300)
    assert max(row.number for row in first.rows) < min(row.number for row in second.rows)


def test_mutant_offset_of_what_was_fetched(topics, monkeypatch):
    honest = Pump.snapshot

    def fetched(self, lane):
        for part in self._parts.values():
            part.next = part.read
        return honest(self, lane)

    monkeypatch.setattr(Pump, "snapshot", fetched)
    first, second = _stopped_between_lanes(topics)
    assert first.of(POSITION, 1) + second.of(POSITION, 1) != texts(300)


def test_reference_topics_are_read_whole_before_anything_happens(topics):
    topics.make(sensing__position=2, venue__zone=3)
    for partition in range(2):
        topics.put(POSITION, partition, range(50))
    for partition in range(3):
        topics.put(ZONE, partition, range(700))  # later than what happens, and yet before it
    read = {"topics": (POSITION, ZONE), "reference": REFERENCE & {POSITION, ZONE}, "lanes": 3}
    first = Reader(topics, **read, start="latest", max_batch=100)
    assert not first.counters.reference_read
    first.tick()
    assert first.counters.reference_read
    assert [row.topic for row in first.rows] == [ZONE] * 2_100
    states = first.states()
    first.close()

    for partition in range(2):
        topics.put(POSITION, partition, range(50, 60))
    topics.put(ZONE, 1, range(700, 710))
    second = Reader(topics, states, **read).read(30)
    assert [row.topic for row in second.rows] == [ZONE] * 10 + [POSITION] * 20
    second.close()


def test_every_process_reads_reference_topics_whole(topics):
    topics.make(sensing__position=4, venue__zone=2)
    for partition in range(4):
        topics.put(POSITION, partition, [partition])
    for partition in range(2):
        topics.put(ZONE, partition, [partition])
    read = {"topics": (POSITION, ZONE), "reference": frozenset({ZONE}), "lanes": 4}
    for own in ((0, 1), (2, 3)):
        reader = Reader(topics, **read, own=own).read(4)
        reader.tick()
        assert {row.partition for row in reader.rows if row.topic == ZONE} == {0, 1}
        assert {row.partition for row in reader.rows if row.topic == POSITION} == set(own)
        reader.close()


@pytest.mark.parametrize("start", ["earliest", "latest", "time"])
def test_a_first_start_begins_where_it_was_told_and_stays_there(topics, start):
    topics.make(sensing__position=2)
    topics.put(POSITION, 0, range(10), at_ms=int(time.time() * 1000) - 60_000, step_ms=1_000)
    at = (int(time.time() * 1000) - 55_500) * 1_000 if start == "time" else start
    first = Reader(topics, topics=(POSITION,), start=at)
    states = first.states()  # nothing was handed on
    first.close()
    topics.put(POSITION, 0, range(10, 12))
    second = Reader(topics, states, topics=(POSITION,), start="earliest")
    begin = {"earliest": 0, "latest": 10, "time": 5}[start]
    second.read(12 - begin).tick()
    assert second.of(POSITION, 0) == texts(12, begin)
    second.close()


def test_a_new_partition_is_read_from_its_first_row(topics):
    topics.make(sensing__position=2)
    reader = Reader(topics, topics=(POSITION,), start="latest", refresh_s=0.3).tick()
    topics.grow(POSITION, 3)
    topics.put(POSITION, 2, range(20))
    reader.read(20)
    assert reader.of(POSITION, 2) == texts(20)
    assert reader.counters.new_partitions == 1
    assert any("new partition 2" in said for said in reader.said)
    states = reader.states()
    reader.close()

    topics.grow(POSITION, 4)  # while nobody ran
    topics.put(POSITION, 3, range(7))
    topics.put(POSITION, 2, range(20, 22))
    again = Reader(topics, states, topics=(POSITION,), start="latest").read(9).tick()
    assert again.of(POSITION, 3) == texts(7)
    assert again.of(POSITION, 2) == texts(22, 20)
    again.close()


def test_only_what_was_committed_is_read_and_markers_are_no_lag(topics):
    topics.make(sensing__position=1)
    producer = Producer({"bootstrap.servers": topics.broker, "transactional.id": topics.prefix, "log_level": 0})
    producer.init_transactions(20)
    for number, keep in enumerate((True, False, True)):
        producer.begin_transaction()
        producer.produce(topics.prefix + POSITION, str(number).encode(), partition=0)
        producer.flush(20)
        (producer.commit_transaction if keep else producer.abort_transaction)(20)
    reader = Reader(topics, topics=(POSITION,), lanes=1).read(2)
    reader.until(lambda: reader.states()["lane-00"][3][0][2] == 6)
    reader.tick(12)  # lag is measured once a second
    assert reader.of(POSITION, 0) == ["0", "2"]
    assert reader.counters.lag == {(POSITION, 0): 0}
    reader.close()


def test_offsets_are_told_to_outside_tools_once_an_epoch_is_durable(topics):
    topics.make(sensing__position=2)
    topics.put(POSITION, 0, range(5))
    reader = Reader(topics, topics=(POSITION,)).read(5)
    group = f"footfall.{topics.prefix.strip('.')}"
    outside = Consumer({"bootstrap.servers": topics.broker, "group.id": group, "log_level": 0})
    place = TopicPartition(topics.prefix + POSITION, 0)

    def committed():
        return outside.committed([place], timeout=10)[0].offset

    reader.tick()
    assert committed() < 0
    reader.states()
    reader.until(lambda: committed() == 5)
    assert reader.counters.epochs == 2  # two lanes
    outside.close()
    reader.close()


def test_losses_are_named_by_topic_and_partition():
    assert losses(["sensing.position:3"]) == {(POSITION, 3)}
    for wrong in ("sensing.position", ":3", "sensing.position:x"):
        with pytest.raises(ValueError, match="TOPIC:PARTITION"):
            losses([wrong])
