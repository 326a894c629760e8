"""The shop on a real broker: its raw topics, the process that reads them, and what stands on its outputs."""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from flows.sensors import SECOND
from flows.simulate import EXAMPLE, copy_example
from operators.connectors import subjects
from operators.connectors.registry import Registry as Reached
from operators.connectors.registry import RegistryAccess
from schemas.codec import encode, head_of
from schemas.keys import key_of, partition_of
from schemas.types import AnyRecord
from tests.broker.kafka import Kafka
from tests.broker.mock import Mock
from tests.broker.registry import Registry
from tests.chaos.saturday import OUTPUTS, READ, RULES, Day
from tests.chaos.shop import DEDUPLICATED, LIMIT_S, ROOT, Process

PARTITIONS = 2
SLOWEST = 1_000
"""Rows a second that a flow reads at the least, on a machine that has much to do."""
KEPT = "log.retention.check.interval.ms=86400000\nlog.initial.task.delay.ms=86400000\n"
"""The rows have the times of a Saturday: nothing is too old while a row is run."""
SETTINGS = (
    RULES
    + """\
[kafka]
bootstrap = "{broker}"
[registry]
url = "{registry}"
[topics]
prefix = "{prefix}"
partitions = 2
[state]
backend = "rocksdb"
dir = "{state}"
[engine]
epoch = "{epoch}"
lanes = 2
[metrics]
listen = "127.0.0.1:0"
"""
)


class Bench:
    """A broker, or the mock cluster in its place, and a registry of our own, and one day that all runs of a row share."""

    def __init__(self, folder: Path, *, seed: int, minutes: float, mock: bool = False) -> None:
        self.folder = folder
        self._seed, self._minutes = seed, minutes
        self.calm: dict[tuple[int, int, int, int], Any] = {}
        """What undisturbed runs over a crowd came to, for rows that share them."""
        self.kafka: Kafka | Mock = Mock(folder / "mock") if mock else Kafka(folder / "kafka", extra=KEPT)
        self.registry = Registry(folder / "registry")

    @property
    def changes(self) -> str:
        """What a flow must be changed by to run here (`mutated`)."""
        return f"on-mock={self.kafka.control}" if isinstance(self.kafka, Mock) else ""

    @property
    def killable(self) -> Kafka:
        """The broker, for rows that kill it."""
        assert isinstance(self.kafka, Kafka)
        return self.kafka

    @property
    def mock(self) -> Mock:
        """The mock cluster, for rows that make it answer errors."""
        assert isinstance(self.kafka, Mock)
        return self.kafka

    @cached_property
    def day(self) -> Day:
        """The day, and the replay of it, worked out before anything is timed."""
        day = Day(self.folder / "day", seed=self._seed, minutes=self._minutes)
        day.reference  # noqa: B018
        return day

    @classmethod
    @contextmanager
    def open(cls, *, seed: int, minutes: float, mock: bool = False) -> Iterator["Bench"]:
        """Start both, and end them."""
        with tempfile.TemporaryDirectory(prefix="footfall-chaos-", ignore_cleanup_errors=True) as folder:
            bench = cls(Path(folder), seed=seed, minutes=minutes, mock=mock)
            with bench.kafka, bench.registry:
                yield bench


class Shop:
    """Topics of one run, its feeder, its processes and its outputs."""

    def __init__(self, bench: Bench, name: str, *, epoch: str = "200ms") -> None:
        self.bench, self.prefix, self._epoch = bench, f"{name}.", epoch
        self.day = bench.day
        self.state = bench.folder / f"{name}-state"
        self.config = self.configured(name, self.state)
        for words in (["topics", "create", "--apply"], ["schemas", "register"]):
            command = [sys.executable, "-m", "flows.cli", *words, "--config", str(self.config)]
            subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=LIMIT_S)
        self._ids = subjects.ids(Reached(RegistryAccess(url=bench.registry.url)), sorted(READ), self.prefix)

    def configured(self, name: str, state: Path) -> Path:
        """Settings of a process with this state directory."""
        folder = self.bench.folder / name
        folder.mkdir()
        copy_example(EXAMPLE, folder)
        config = folder / "footfall.toml"
        config.write_text(
            SETTINGS.format(
                key=self.day.folder / ".key", broker=self.bench.kafka.bootstrap, registry=self.bench.registry.url,
                prefix=self.prefix, state=state, epoch=self._epoch,
            )
        )  # fmt: skip
        return config

    def feed(self) -> "Feeder":
        """Say the whole day: what stands first, then what happens."""
        feeder = Feeder(self)
        feeder.send(self.day.standing)
        feeder.flush()
        feeder.send(self.day.happening)
        feeder.flush()
        return feeder

    def waiting(self) -> int:
        """Rows that were said and are not durable yet, as the flow has told its consumer group."""
        asker = Consumer(
            {"bootstrap.servers": self.bench.kafka.bootstrap, "group.id": "footfall.store", "log_level": 0}
        )
        places = [TopicPartition(self.prefix + topic, part) for topic in READ for part in range(PARTITIONS)]
        told = asker.committed(places, timeout=30)
        asker.close()
        return self.day.events - sum(max(0, place.offset) for place in told)

    def gained(self, share: float, process: "Footfall") -> None:
        """Wait until that share of the day is durable: disturbances are spread over it, however slow the machine is."""
        limit = time.monotonic() + LIMIT_S
        while process.child.poll() is None and time.monotonic() < limit:
            if self.waiting() <= self.day.events * (1 - share):
                return
            process.ends_within(0.2)

    def message(self, topic: str, record: AnyRecord) -> tuple[str, bytes, bytes, int]:
        """A record as its producer says it."""
        key = key_of(topic, record)
        return self.prefix + topic, encode(self._ids[topic], record), key.encode(), partition_of(key, PARTITIONS)

    def start(self, config: Path | None = None, *, mutant: str | None = None) -> "Footfall":
        """A process of the flow, with a bug put back if one is named."""
        return Footfall.run(config or self.config, mutant)

    def compared(self) -> dict[str, Any]:
        """What was lost, doubled or invented, against the replay, by id.

        Compared is what happened until shortly before the shop closes: a replay ends there, and a live flow goes on.
        Dead letters and late rows have ids of the place they were read at, which a file does not share.
        """
        before = self.day.closing - 20 * SECOND
        times: dict[str, dict[str, int]] = {topic: {} for topic in OUTPUTS}
        counts: dict[str, Counter[str]] = {topic: Counter() for topic in OUTPUTS}
        for topic, event_id, at in read(self.bench.kafka.bootstrap, self.prefix):
            times[topic][event_id] = at
            counts[topic][event_id] += 1
        rows = {}
        for topic in OUTPUTS:
            reference = self.day.reference[topic]
            wanted = {one for one, at in reference.items() if at < before}
            got = {one for one, at in times[topic].items() if at < before}
            placed = topic in {"ops.dead-letter", "ops.late"}
            rows[topic] = {
                "wanted": len(wanted),
                "lost": max(0, len(wanted) - len(got)) if placed else len(wanted - counts[topic].keys()),
                "doubled": sum(number - 1 for number in counts[topic].values()),
                "invented": max(0, len(got) - len(wanted)) if placed else len(got - reference.keys()),
            }
        kept = {topic: row for topic, row in rows.items() if topic != "ops.late" and any(row.values())}
        sums = {name: sum(row[name] for row in kept.values()) for name in ("wanted", "lost", "doubled", "invented")}
        return {"events": self.day.events, "actions": rows["action.command"]["wanted"], **sums, "topics": kept}


def well(compared: dict[str, Any]) -> bool:
    """Nothing lost, doubled or invented."""
    return bool(compared["actions"]) and not any(compared[name] for name in ("lost", "doubled", "invented"))


def read(broker: str, prefix: str) -> Iterator[tuple[str, str, int]]:
    """Topic, id and event time of every committed record on the outputs."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker, "group.id": "chaos", "isolation.level": "read_committed", "log_level": 0,
            "enable.partition.eof": True, "enable.auto.commit": False, "auto.offset.reset": "error",
        }
    )  # fmt: skip
    left = {(prefix + topic, part) for topic in OUTPUTS for part in range(PARTITIONS)}
    consumer.assign([TopicPartition(name, part, 0) for name, part in sorted(left)])
    limit = time.monotonic() + LIMIT_S
    try:
        while left:
            if time.monotonic() > limit:
                raise RuntimeError(f"outputs could not be read to their end: {sorted(left)}")
            for message in consumer.consume(1_000, 0.2):
                error = message.error()
                if error is None:
                    yield str(message.topic())[len(prefix) :], *head_of(message.value() or b"")
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((str(message.topic()), int(message.partition() or 0)))
    finally:
        consumer.close()


class Feeder:
    """Says what happens in the shop, in order."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.rows = shop.day.events
        self.sent = 0
        self.failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": shop.bench.kafka.bootstrap, "log_level": 0, "enable.idempotence": True,
                "linger.ms": 5, "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000,
            }
        )  # fmt: skip

    def send(self, rows: list[tuple[int, str, AnyRecord]]) -> None:
        """Hand rows over; the time on each is that of its hearing."""
        for at, topic, record in rows:
            name, value, key, part = self._shop.message(topic, record)
            self._producer.produce(name, value, key, part, on_delivery=self._heard, timestamp=at // 1_000)
            self.sent += 1
        self._producer.poll(0)

    def _heard(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))

    def flush(self) -> None:
        """Wait until all that was said is on the broker."""
        while self._producer.flush(1):
            pass


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass
class Footfall(Process):
    """`footfall run store`, as it is met."""

    @classmethod
    def run(cls, config: Path, mutant: str | None = None) -> "Footfall":
        program = ["flows.cli"] if mutant is None else ["tests.chaos.mutated", mutant]
        command = [sys.executable, "-m", *program, "run", "store", "--config", str(config)]
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env=ENVIRONMENT)
        process = cls(child, time.monotonic())
        Thread(target=process._listen, daemon=True).start()
        return process

    def figure(self, name: str, missing: float = float("inf")) -> float:
        """A metric, summed over its labels; `missing` where there is none yet."""
        self.until("listening")
        found = self.figures(name)
        return sum(found) if found else missing

    def lag(self) -> float:
        """Rows that are on the broker and were not handed on; infinite before anything is known."""
        return self.figure("footfall_input_lag_events")

    def caught_up(self, feeder: Feeder, *, calm_s: float = 1.0) -> bool:
        """Wait until all that was said is read; false where the process ended."""
        limit, calm = time.monotonic() + LIMIT_S + feeder.rows / SLOWEST, 0.0
        while time.monotonic() < limit and self.child.poll() is None:
            if self.lag() == 0:
                calm = calm or time.monotonic()
                if time.monotonic() - calm > calm_s:
                    return True
            else:
                calm = 0.0
            time.sleep(0.1)
        return False

    def cause(self) -> str:
        """Why it stopped, in its own words."""
        said = self.event("refused") or self.event("stopped") or {}
        return str(said.get("cause", self.other[-1:]))


def finished(shop: Shop, feeder: Feeder, config: Path | None = None, *, mutant: str | None = None) -> dict[str, Any]:
    """One more process, undisturbed, until all is read and every stay is over; then it drains."""
    process = shop.start(config, mutant=mutant)
    caught = process.caught_up(feeder, calm_s=6.0)
    suppressed = process.figure(DEDUPLICATED, 0.0)
    process.child.terminate()
    code = process.wait()
    found = {"caught_up": caught, "code": code, "suppressed": suppressed, "feeder_failed": feeder.failed[:1]}
    return found if caught and code == 0 else found | {"cause": process.cause()}


def spread(values: list[float]) -> dict[str, float]:
    """Least, median and greatest."""
    ordered = sorted(values) or [0.0]
    middle = ordered[len(ordered) // 2]
    return {"least": round(ordered[0], 3), "median": round(middle, 3), "greatest": round(ordered[-1], 3)}


def draw_of(seed: int, row: str) -> random.Random:
    """The generator of a row."""
    return random.Random(f"{row}:{seed}")
