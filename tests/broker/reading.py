"""Lanes of a Kafka source driven by hand, as the engine drives them, and topics to read from."""

import time
from collections.abc import Callable, Iterable
from threading import Event as Flag
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from operators.connectors.cluster import Cluster
from operators.connectors.reading import SourceRule, State
from operators.connectors.source import KafkaSource
from schemas.items import Heard, Item, Tick

LIMIT_S = 30.0


class Topics:
    """Topics of one test, by their names without prefix."""

    def __init__(self, broker: str, prefix: str) -> None:
        self.broker, self.prefix = broker, prefix
        self.admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
        self.producer = self._producer()

    def _producer(self) -> Producer:
        return Producer({
            "bootstrap.servers": self.broker, "log_level": 0, "linger.ms": 1,
            "enable.idempotence": True,  # a busy broker makes it try again: still in order, still once
        })  # fmt: skip

    def make(self, **counts: int) -> None:
        """Create topics; a double underscore in a name stands for its dot."""
        new = [NewTopic(self.prefix + self.named(name), count, 1) for name, count in counts.items()]
        for future in self.admin.create_topics(new).values():
            future.result(10)
        end, cluster = time.monotonic() + LIMIT_S, Cluster({"bootstrap.servers": self.broker}, lambda _text: None)
        while cluster.shapes([one.topic for one in new], LIMIT_S)[1]:  # made, and not told of yet
            assert time.monotonic() < end
            time.sleep(0.05)

    @staticmethod
    def named(name: str) -> str:
        return name.replace("__", ".")

    def drop(self, topic: str) -> None:
        self.admin.delete_topics([self.prefix + topic])[self.prefix + topic].result(10)
        self.producer = self._producer()

    def remake(self, **counts: int) -> None:
        """Create topics whose deletion may still be under way."""
        end = time.monotonic() + LIMIT_S
        while True:
            try:
                return self.make(**counts)
            except KafkaException:
                assert time.monotonic() < end
                time.sleep(0.1)

    def grow(self, topic: str, count: int) -> None:
        self.admin.create_partitions([NewPartitions(self.prefix + topic, count)])[self.prefix + topic].result(10)
        self.producer = self._producer()  # the old one looks for new partitions every five minutes

    def forget(self, topic: str, partition: int, before: int) -> None:
        """Delete the rows before an offset."""
        place = TopicPartition(self.prefix + topic, partition, before)
        for future in self.admin.delete_records([place]).values():
            future.result(10)

    def put(self, topic: str, partition: int, values: Iterable[int | str], at_ms: int = 0, step_ms: int = 0) -> None:
        """Append values, `step_ms` apart from `at_ms` on (0: now)."""
        for number, value in enumerate(values):
            stamp = {"timestamp": at_ms + number * step_ms} if at_ms else {}
            self.producer.produce(self.prefix + topic, str(value).encode(), partition=partition, **stamp)
            self.producer.poll(0)
        assert self.producer.flush(30) == 0


class Reader:
    """All lanes of a process, called in turn."""

    def __init__(
        self,
        on: Topics,
        states: dict[str, State] | None = None,
        prepare: Callable[[list[Item]], bool] = lambda _items: True,
        **rule: Any,
    ) -> None:
        named = {"flow": on.prefix.strip("."), "lanes": 2, "wait_s": 20.0, "bound_s": 3.0, "refresh_s": 60.0}
        settings = SourceRule(**{**named, **rule}, client={"bootstrap.servers": on.broker}, prefix=on.prefix)
        self.stop, self.said = Flag(), []
        self.source = KafkaSource(settings, stop=self.stop, say=self.said.append, prepare=prepare)
        names = self.source.list_parts()
        self.lanes = {name: self.source.build_part("topics", name, (states or {}).get(name)) for name in names}
        self.items: list[Item] = []
        self.by_lane: dict[str, list[Item]] = {name: [] for name in names}

    @property
    def counters(self) -> Any:
        return self.source.counters

    @property
    def rows(self) -> list[Heard]:
        return [item for item in self.items if isinstance(item, Heard)]

    @property
    def ticks(self) -> list[int]:
        return [item.clock for item in self.items if isinstance(item, Tick)]

    def of(self, topic: str, partition: int) -> list[str]:
        """Values read of a partition."""
        return [row.value.decode() for row in self.rows if (row.topic, row.partition) == (topic, partition)]

    def sweep(self) -> None:
        for name, lane in self.lanes.items():
            for _, batch in lane.next_batch():
                self.items += batch.items
                self.by_lane[name] += batch.items

    def until(self, done: Callable[[], bool], limit_s: float = LIMIT_S) -> "Reader":
        end = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < end, f"not within {limit_s} s; {len(self.rows)} rows; {self.said}"
            self.sweep()
        return self

    def read(self, rows: int) -> "Reader":
        return self.until(lambda: len(self.rows) >= rows)

    def tick(self, more: int = 2) -> "Reader":
        """Go on until so many ticks more have come."""
        have = len(self.ticks)
        return self.until(lambda: len(self.ticks) >= have + more)

    def states(self) -> dict[str, State]:
        return {name: lane.snapshot() for name, lane in self.lanes.items()}

    def close(self) -> None:
        for lane in self.lanes.values():
            lane.close()
