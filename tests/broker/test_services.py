"""The broker and the registry themselves: they start, say how long that took, and survive a kill."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.broker.jars import STOPPED
from tests.broker.kafka import Kafka
from tests.broker.registry import Registry
from tests.broker.skipping import or_skipped


@pytest.fixture(scope="module")
def fresh(folder: Path) -> Iterator[Kafka]:
    """A broker with nothing on it: one that holds the topics of a whole run takes their number to come back."""
    with or_skipped(Kafka, folder / "fresh") as one:
        yield one


def test_a_killed_broker_keeps_what_was_acknowledged(fresh: Kafka, capsys: pytest.CaptureFixture[str]):
    kafka, topic = fresh, "t"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, 4)])[topic].result(10)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all", "log_level": 0})
    faults = []
    for number in range(100):
        producer.produce(
            topic, b"x", partition=number % 4, on_delivery=lambda error, _: faults.append(error) if error else None
        )
    assert producer.flush(10) == 0
    assert not faults
    boot = kafka.jvm.boot_s
    rss = kafka.jvm.rss_mb()
    again = kafka.restart()
    ends = _ends(kafka.bootstrap, topic)
    with capsys.disabled():
        print(
            f"\nbroker: format {kafka.format_s:.1f} s, boot {boot:.1f} s, after SIGKILL {again:.1f} s, RSS {rss:.0f} MB"
        )
    assert ends == [25, 25, 25, 25]
    assert again < 10


def test_a_broker_stops_when_asked(fresh: Kafka, capsys: pytest.CaptureFixture[str]):
    seconds, code = fresh.stop()
    fresh.start()
    with capsys.disabled():
        print(f"\nbroker: SIGTERM to exit {seconds:.1f} s, code {code}")
    assert code == STOPPED


@pytest.mark.skipif("FOOTFALL_TEST_REGISTRY" in os.environ, reason="a registry is named")
def test_the_registry_says_how_long_it_took(own_registry: Registry, capsys: pytest.CaptureFixture[str]):
    with capsys.disabled():
        print(f"\nregistry: boot {own_registry.jvm.boot_s:.1f} s, RSS {own_registry.jvm.rss_mb():.0f} MB")
    assert own_registry.jvm.boot_s < 60


def _ends(bootstrap: str, topic: str) -> list[int]:
    """Ends of the partitions; a node that is just back may not lead them yet, and a client remembers who did."""
    until = time.monotonic() + 30
    while True:
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        found = admin.list_offsets({TopicPartition(topic, part): OffsetSpec.latest() for part in range(4)})
        try:
            return [answer.result(10).offset for _, answer in sorted(found.items(), key=lambda pair: pair[0].partition)]
        except KafkaException:
            if time.monotonic() > until:
                raise
