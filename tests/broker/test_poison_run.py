"""`footfall run` is fed what no producer should say, is killed in the midst of it, and goes on."""

import random
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from flows.joining import live_topics
from operators.connectors import subjects
from operators.connectors.registry import Registry, RegistryAccess
from tests.broker.test_run import LIMIT_S, PARTITIONS, footfall, prepared, shop, told, until
from tests.flow.poison import plain, rows, rubbish, wire


def poison(ids):
    """Topic and value of everything, one in ten sound."""
    draw = random.Random(7)
    for topic in live_topics("store"):
        sound = wire(ids[topic], topic, plain(topic))
        values = [wire(ids[topic], topic, row) for _, row in rows(topic)] + list(rubbish(sound, draw))
        for number, value in enumerate(values):
            if value is not None:
                yield topic, value
            if number % 10 == 0:
                yield topic, sound


def durable(broker, prefix):
    """Rows that the flow has told its group of."""
    asker = Consumer({"bootstrap.servers": broker, "group.id": "footfall.store", "log_level": 0})
    places = [TopicPartition(prefix + topic, part) for topic in live_topics("store") for part in range(PARTITIONS)]
    found = sum(max(0, place.offset) for place in asker.committed(places, timeout=30))
    asker.close()
    return found


def test_a_flow_goes_on_behind_everything_it_should_not_hear(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config = str(folder / "footfall.toml")
    prepared(folder)
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("store"), prefix)
    producer = Producer({"bootstrap.servers": broker, "log_level": 0, "linger.ms": 5, "message.max.bytes": 1 << 20})
    values = list(poison(ids))
    draw = random.Random(7)
    draw.shuffle(values)
    half = len(values) // 2
    for life, part in enumerate((values[:half], values[half:])):
        process = footfall("run", "store", "--config", config)
        for number, (topic, value) in enumerate(part):
            producer.produce(prefix + topic, value, b"all", number % PARTITIONS)
            producer.poll(0)
        producer.flush(30)
        until(process, "flowing")
        limit = time.monotonic() + LIMIT_S
        while durable(broker, prefix) < (len(values) if life else half // 2):
            assert process.poll() is None, process.communicate()[1][-2000:]
            assert time.monotonic() < limit
            time.sleep(0.2)
        if life == 0:
            process.kill()
            process.wait(LIMIT_S)
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    letters = told(broker, prefix, "ops.dead-letter")
    assert len(letters) > len(values) // 3
    assert max(letters.values()) == 1
    assert told(broker, prefix, "identity.assignment")
