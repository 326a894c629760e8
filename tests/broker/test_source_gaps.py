"""Rows that a person wrote off are told on a topic, each loss once, whatever dies in between."""

import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from flows.doctor import doctor
from schemas.codec import decode_body, unframed
from schemas.items import Event
from tests.broker.reading import Reader, Topics
from tests.broker.test_run import LIMIT_S, PARTITIONS, footfall, prepared, shop, until

POSITION, CONSENT = "sensing.position", "consent.record"


@pytest.fixture
def topics(broker, prefix):
    return Topics(broker, prefix)


def alerts(reader):
    return [item.record for item in reader.items if isinstance(item, Event)]


def gone(topics):
    """States of a reader whose next rows are no longer there."""
    topics.make(sensing__position=1)
    topics.put(POSITION, 0, range(10))
    reader = Reader(topics, topics=(POSITION,), lanes=1).read(10)
    states = reader.states()
    reader.close()
    topics.put(POSITION, 0, range(10, 30))
    return states


def accepting(topics, states, **rule):
    return Reader(
        topics, states, topics=(POSITION,), lanes=1, accept_loss=frozenset({(POSITION, 0)}), site_id="mad-01", **rule
    )


@pytest.mark.parametrize("when", ["before the start", "after the first look"])
def test_a_loss_is_told_once_before_the_first_row_behind_it(topics, when):
    states = gone(topics)
    if when == "before the start":
        topics.forget(POSITION, 0, 25)
    reader = accepting(topics, states)
    topics.forget(POSITION, 0, 25)
    reader.read(5).tick()
    (alert,) = alerts(reader)
    assert (alert.name, alert.severity, alert.stage, alert.site_id) == ("input-gap", "WARN", "SOURCE", "mad-01")
    assert alert.value == 15
    assert alert.cause.startswith("sensing.position:0 lane 0: rows are gone")
    assert alert.cause.endswith("offset 10 was wanted, reading went on at 25")
    assert [type(item) for item in reader.items].index(Event) < reader.items.index(reader.rows[0])
    after = reader.states()
    reader.close()
    again = accepting(topics, states)  # the epoch was never committed
    assert [one.event_id for one in alerts(again.read(5).tick())] == [alert.event_id]
    again.close()
    on = accepting(topics, after).tick()  # it was
    assert not alerts(on)
    on.close()


def test_a_drain_before_the_first_row_leaves_the_loss_to_the_next_start(topics):
    states = gone(topics)
    topics.forget(POSITION, 0, 25)
    drained = accepting(topics, states)
    drained.stop.set()
    with pytest.raises(StopIteration):
        drained.sweep()
    after = drained.states()
    drained.close()
    assert after == states, "behind the loss would be a place whose loss nobody was told"
    last = accepting(topics, after)
    assert [one.value for one in alerts(last.read(5))] == [15]
    last.close()


def test_a_drain_while_rows_are_prepared_tells_the_loss_in_front_of_them(topics):
    states = gone(topics)
    topics.forget(POSITION, 0, 25)
    reader = accepting(topics, states, prepare=lambda _items: False)
    pump = reader.lanes["lane-00"]._pump
    while pump._hands.empty():  # the first rows come in one sweep with the loss
        pump._sweep()
    with pytest.raises(StopIteration):
        reader.until(lambda: False)
    after = reader.states()
    reader.close()
    assert not reader.rows
    assert [one.value for one in alerts(reader)] == [15]
    assert after["lane-00"][3][0][2] == 25
    last = accepting(topics, after).read(5).tick()
    assert not alerts(last)
    assert last.of(POSITION, 0) == [str(number) for number in range(25, 30)]
    last.close()


def test_a_topic_made_again_is_another_loss_of_unknown_size(topics):
    states = gone(topics)
    told = []
    for _ in range(2):
        topics.drop(POSITION)
        topics.remake(sensing__position=1)
        topics.put(POSITION, 0, range(40))
        reader = accepting(topics, states).read(40)
        told += alerts(reader)
        reader.close()
    assert [one.value for one in told] == [None, None]
    assert "the topic was made again" in told[0].cause
    assert told[0].event_id != told[1].event_id


def test_every_process_that_reads_a_reference_topic_tells_its_own_loss(topics):
    topics.make(sensing__position=2, consent__record=1)
    topics.put(CONSENT, 0, range(10))
    rule = {"topics": (POSITION, CONSENT), "reference": frozenset({CONSENT})}
    states = []
    for lane in (0, 1):
        reader = Reader(topics, own=(lane,), **rule).read(10)
        states.append(reader.states())
        reader.close()
    topics.put(CONSENT, 0, range(10))
    topics.forget(CONSENT, 0, 15)
    told = []
    for lane in (0, 1):
        reader = Reader(topics, states[lane], own=(lane,), accept_loss=frozenset({(CONSENT, 0)}), **rule).read(5)
        told += alerts(reader)
        reader.close()
    assert [one.cause.split(":")[1] for one in told] == ["0 lane 0", "0 lane 1"]
    assert told[0].event_id != told[1].event_id


def on_topic(broker, prefix):
    """Alerts of that name on the output topic."""
    consumer = Consumer({
        "bootstrap.servers": broker, "group.id": prefix + "alerts", "enable.partition.eof": True, "log_level": 0,
    })  # fmt: skip
    consumer.assign([TopicPartition(prefix + "ops.alert", part, 0) for part in range(PARTITIONS)])
    found, ends = [], 0
    while ends < PARTITIONS:
        message = consumer.poll(LIMIT_S)
        assert message is not None
        if message.error():
            ends += 1
        else:
            found.append(decode_body("ops.alert", unframed(message.value())[1]))
    consumer.close()
    return [one for one in found if one.name == "input-gap"]


def test_a_shop_that_lost_rows_says_so_once_through_a_kill(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    settings = folder / "footfall.toml"
    settings.write_text(settings.read_text().replace('epoch = "500ms"', 'epoch = "30s"'))
    config = str(settings)
    prepared(folder)
    first = footfall("run", "store", "--config", config)
    until(first, "flowing")
    first.terminate()
    assert first.wait(LIMIT_S) == 0
    topics = Topics(broker, prefix)
    topics.put("web.event", 0, ["no row of ours"] * 20)
    topics.forget("web.event", 0, 20)
    refused = footfall("run", "store", "--config", config)
    _, err = refused.communicate(timeout=LIMIT_S)
    assert refused.returncode == 1
    gone = "web.event:0: offset 0 is wanted, the broker has 20 to 20"
    assert gone in err
    places = {one.what: one for one in doctor("store", settings)}["places"]
    assert gone in places.about
    assert places.remedy.endswith(f"footfall run store --config {config} --accept-loss web.event:0")
    assert not on_topic(broker, prefix)
    killed = footfall("run", "store", "--config", config, "--accept-loss", "web.event:0")
    until(killed, "flowing")
    limit = time.monotonic() + LIMIT_S
    while not on_topic(broker, prefix):
        assert time.monotonic() < limit
    killed.kill()  # within its first epoch: the place behind the loss is not committed
    killed.wait(LIMIT_S)
    last = footfall("run", "store", "--config", config, "--accept-loss", "web.event:0")
    until(last, "flowing")
    last.terminate()
    _, err = last.communicate(timeout=LIMIT_S)
    assert last.returncode == 0, err
    (alert,) = on_topic(broker, prefix)
    assert (alert.site_id, alert.source_id, alert.value) == ("mad-01", "store", 20)
    on = footfall("run", "store", "--config", config)
    until(on, "flowing")
    on.terminate()
    assert on.wait(LIMIT_S) == 0
    assert len(on_topic(broker, prefix)) == 1
