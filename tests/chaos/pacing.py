"""Says a crowd's waves to a broker, paced by acknowledgement and never by a clock.

Acknowledged is what the flow has told its consumer group: offsets go there once the epoch that read them is durable.
"""

import time
from collections.abc import Iterator
from threading import Condition, Event, Thread
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from schemas.codec import encode
from schemas.keys import key_of, partition_of
from tests.chaos.crowd import Row
from tests.chaos.shop import LIMIT_S

ASKED_S = 0.05
STEP = 500
"""Rows between two looks at how many may be said."""


class Said(Protocol):
    """Rows in waves."""

    @property
    def waves(self) -> int: ...

    def wave(self, number: int, /) -> Iterator[Row]: ...


class Waves(Thread):
    """Says wave after wave, each when all before it is durable, and no more rows than are allowed.

    Args:
        crowd: what is said, wave by wave.
        broker: bootstrap address.
        prefix: of the topics.
        flow: whose group acknowledges.
        ids: schema ids of what is said, by topic.
        partitions: of every topic.
    """

    def __init__(
        self, crowd: Said, broker: str, prefix: str, flow: str, ids: dict[str, int], partitions: int
    ) -> None:  # fmt: skip
        super().__init__(daemon=True, name="waves")
        self._crowd, self._prefix, self._ids, self._partitions = crowd, prefix, ids, partitions
        self._producer = Producer(
            {
                "bootstrap.servers": broker, "log_level": 0, "enable.idempotence": True, "linger.ms": 5,
                "compression.type": "lz4", "queue.buffering.max.messages": 200_000, "message.timeout.ms": 1_800_000,
            }
        )  # fmt: skip
        self._asker = Consumer(
            {"bootstrap.servers": broker, "group.id": f"footfall.{flow}", "log_level": 0, "enable.auto.commit": False}
        )
        self._places = [TopicPartition(prefix + topic, part) for topic in ids for part in range(partitions)]
        self._changed = Condition()
        self._allowed = self.sent = self.durable = 0
        self.wave = 0
        self.failed: list[str] = []
        self.in_vain = 0
        self.stamped = False
        """Whether rows bear the time of their hearing, and not that of their saying."""
        self.all_said, self._ended = Event(), Event()

    def allow(self, rows: int) -> None:
        """Say up to so many rows of all."""
        with self._changed:
            self._allowed = max(self._allowed, rows)
            self._changed.notify_all()

    def ask(self) -> int:
        """Rows that are durable now."""
        try:
            told = self._asker.committed(self._places, timeout=10)
        except KafkaException:  # it looks for the group's coordinator anew, and answers the next time
            self.in_vain += 1
            return self.durable
        self.durable = max(self.durable, sum(max(0, place.offset) for place in told))
        return self.durable

    def run(self) -> None:
        try:
            for number in range(self._crowd.waves):
                self.wave = number
                if self._ended.is_set():
                    return
                for count, (at, topic, record) in enumerate(self._crowd.wave(number)):
                    if count % STEP == 0:
                        self._wait(self.sent + STEP)
                    if self._ended.is_set():
                        return
                    key = key_of(topic, record)
                    part = partition_of(key, self._partitions)
                    value = encode(self._ids[topic], record)
                    self._producer.produce(
                        self._prefix + topic, value, key.encode(), part, on_delivery=self._heard,
                        timestamp=at // 1_000 if self.stamped else 0,
                    )  # fmt: skip
                    self._producer.poll(0)
                    self.sent += 1
                while self._producer.flush(1):
                    pass
                if number == self._crowd.waves - 1:
                    self.all_said.set()
                while self.ask() < self.sent and not self._ended.is_set():
                    time.sleep(ASKED_S)
        except Exception as error:
            self.failed.append(repr(error))

    def end(self) -> None:
        """Say no more."""
        self._ended.set()
        self.allow(1 << 40)
        self.join()

    def _wait(self, rows: int) -> None:
        with self._changed:
            while self._allowed < rows and not self._ended.is_set():
                self._producer.poll(0)
                self._changed.wait(0.05)

    def _heard(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))

    def reached(self, rows: int, runs: Any, *, limit_s: float = LIMIT_S) -> bool:
        """Wait until so many rows are durable, or `runs()` says that nobody works on it any more."""
        limit = time.monotonic() + limit_s
        while self.durable < rows and not self.failed and time.monotonic() < limit and runs():
            time.sleep(ASKED_S)
            if self.sent > self.durable:
                self.ask()
        return self.durable >= rows
