"""Latency through a real broker: generator, broker, pipeline and observer are four processes.

Open loop: positions and web events are sent when they are due, whether the pipeline keeps up or not. Each web
event completes a decision, so latency runs from its *scheduled* arrival to the moment an observer, reading
committed records only, has the `decision.record` or the `action.command` in hand. Beside the pipeline a plain
consumer loop answers every web event on the same broker in the same run: the floor of this path.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from shutil import copy2
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from hdrh.histogram import HdrHistogram

from benchmarks.results import result, say
from flows.deployment import EXAMPLE
from operators.connectors import subjects
from operators.connectors.registry import Registry, RegistryAccess
from schemas.codec import decode_body, encode, unframed
from schemas.keys import key_of, partition_of
from schemas.people import WebEvent
from schemas.pseudonym import tokens
from schemas.sensing import Position

if TYPE_CHECKING:
    from tests.broker.kafka import Kafka
    from tests.broker.registry import Registry as TestRegistry

ROOT = Path(__file__).resolve().parents[1]
PARTITIONS = 4
WEB_SHARE = 0.1
SLOT_S = 0.001
STAGES = ("heard", "decode", "admit", "dwell", "occupancy", "stitch", "person")
KEY = b"a key for the latency bench"
SETTINGS = """
[pseudonym]
key_file = ".key"
[kafka]
bootstrap = "{broker}"
start = "latest"
[registry]
url = "{registry}"
[topics]
partitions = 4
[state]
backend = "rocksdb"
[engine]
epoch = "10s"
lanes = 4
[metrics]
listen = "127.0.0.1:{port}"
"""
CAMPAIGN = """
campaign: looked-at-it
owner: bench
when: {event: {topic: web.event, where: 'e.name == "product_viewed"'}}
if:
  named: 'e.category == "shoes"'
guard:
  identity: anyone
do:
  - {channel: webhook, template: said, ttl: 60s}
"""
TEMPLATE = "template: said\nfallback_locale: en\nparts:\n  webhook: {en: 'somebody looked at {{ site.id }}'}\n"


def _now() -> int:
    return time.time_ns() // 1000


def generate(broker: str, registry: str, rate: int, seconds: float) -> None:
    """Send when due, ahead of the other processes where the system grants it; print how late the sends were.

    Sensors do not share their processor with the shop's worker: a generator that waits for one is late by what
    it measures.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), ("sensing.position", "web.event"), "")
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "linger.ms": 5,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
        }
    )
    token = tokens(KEY, 1)
    walkers = [token(f"tag:walker-{number}") for number in range(max(1, round(rate * (1 - WEB_SHARE) / 5)))]
    late = HdrHistogram(1, 60_000_000, 3)
    begun, number, webs = _now(), 0, 0
    total = int(rate * seconds)
    while number < total:
        due = begun + int(number / rate * 1e6)
        if due > _now():
            time.sleep(SLOT_S)
            producer.poll(0)
            continue
        if number % round(1 / WEB_SHARE) == 0:
            webs += 1
            record: Any = WebEvent(
                event_id=f"{begun}-{webs}", event_time=due, ingest_time=due, source_id="web", name="product_viewed",
                identifiers=[token(f"cookie:c{webs % 5000}")], category="shoes" if webs % 20 == 0 else "books",
            )  # fmt: skip
            topic = "web.event"
        else:
            who = number % len(walkers)
            x = 5 + (number // len(walkers) + 7 * who) % 300 / 10
            record = Position(
                event_time=due, ingest_time=due, source_id=f"uwb-{who % 4}", site_id="mad-01", seq=number, tech="UWB",
                subject_id=walkers[who], x_m=x, y_m=8.0, floor=0.0,
            )  # fmt: skip
            topic = "sensing.position"
        key = key_of(topic, record)
        producer.produce(topic, encode(ids[topic], record), key.encode(), partition_of(key, PARTITIONS))
        late.record_value(max(1, _now() - due))
        number += 1
    producer.flush(30)
    sys.stdout.buffer.write(orjson.dumps({"late": _quantiles(late), "sent": total, "webs": webs, "begun": begun}))


def _assigned(broker: str, topics: list[str]) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": broker, "group.id": "observer", "enable.auto.commit": False,
            "isolation.level": "read_committed", "fetch.queue.backoff.ms": 10, "auto.offset.reset": "latest",
        }
    )  # fmt: skip
    parts = []
    for topic in topics:
        for partition in range(PARTITIONS):
            high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10, cached=False)[1]
            parts.append(TopicPartition(topic, partition, high))
    consumer.assign(parts)
    return consumer


def observe(broker: str, seconds: float, warm_up: float) -> None:
    """Take the time of every record that comes out; print the histograms."""
    names = {"decision.record": "decision", "action.command": "command", "bench.loop": "loop"}
    consumer = _assigned(broker, list(names))
    found = {name: HdrHistogram(1, 60_000_000, 3) for name in (*names.values(), *STAGES, "decided", "acknowledged")}
    by_second: defaultdict[int, list[int]] = defaultdict(list)
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.flush()
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        message = consumer.poll(0.2)
        if message is None or message.error() or time.monotonic() - begun < warm_up:
            continue
        now, name = _now(), names[str(message.topic())]
        value = bytes(message.value() or b"")
        due = int(value) if name == "loop" else decode_body(str(message.topic()), unframed(value)[1]).ingest_time
        found[name].record_value(max(1, now - due))
        if name == "decision":
            by_second[due // 1_000_000].append(now - due)
            stages = dict(message.headers() or []).get("ff-stages")
            if stages is not None:
                passed = orjson.loads(stages)
                found["decided"].record_value(max(1, passed["person"] - due))
                found["acknowledged"].record_value(max(1, now - passed["person"]))
                for before, after in pairwise(("due", *STAGES)):
                    found[after].record_value(max(1, passed[after] - passed.get(before, due)))
    counts = {name: found[name].get_total_count() for name in found}
    quantiles = {name: _quantiles(found[name]) for name in found if counts[name]}
    told = {"counts": counts, "latency_ms": quantiles, "by_second": sorted(by_second.items())}
    sys.stdout.buffer.write(orjson.dumps(told))


def loop(broker: str) -> None:
    """The plain consumer loop: decode, decide by an `if`, produce."""
    consumer = _assigned(broker, ["web.event"])
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 0, "acks": "all", "enable.idempotence": True})
    while True:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            record = decode_body("web.event", unframed(bytes(message.value() or b""))[1])
            if isinstance(record, WebEvent) and record.name == "product_viewed":
                producer.produce(
                    "bench.loop", str(record.ingest_time).encode(), partition=int(message.partition() or 0)
                )
        producer.poll(0)


def _quantiles(found: Any) -> dict[str, float]:
    points = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9, "max": 100}
    return {name: round(found.get_value_at_percentile(point) / 1e3, 2) for name, point in points.items()}


def part(*words: object, **options: Any) -> "subprocess.Popen[bytes]":
    """Start one of the processes."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RUST_BACKTRACE": "0"}
    return subprocess.Popen([sys.executable, "-m", *map(str, words)], cwd=ROOT, env=env, **options)


def _ready(port: int, limit_s: float = 90) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1).status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"the pipeline must be ready within {limit_s:.0f} s")


@contextmanager
def worker(folder: Path, kafka: "Kafka", registry: "TestRegistry") -> Iterator["subprocess.Popen[bytes]"]:
    """`footfall run store` with one campaign, ready, on topics and subjects of its own; it drains at the end."""
    from tests.broker.jars import free_ports

    base = folder / "shop"
    for name in ("campaigns", "templates", "segments"):
        (base / name).mkdir(parents=True)
    copy2(EXAMPLE / "venue.geojson", base)
    (base / ".key").write_bytes(KEY)
    (base / ".key").chmod(0o400)
    (base / "campaigns" / "looked-at-it.yaml").write_text(CAMPAIGN.lstrip())
    (base / "templates" / "said.yaml").write_text(TEMPLATE)
    (port,) = free_ports(1)
    config = base / "footfall.toml"
    config.write_text(SETTINGS.format(broker=kafka.bootstrap, registry=registry.url, port=port))
    for words in (
        ("topics", "create", "--config", config, "--apply"),
        ("schemas", "register", "--registry", registry.url),
    ):
        if part("flows.cli", *words, stderr=subprocess.DEVNULL).wait():
            raise RuntimeError(f"footfall {' '.join(map(str, words[:2]))} must succeed")
    with (folder / "worker.log").open("wb") as log:
        process = part("flows.cli", "run", "store", "--config", config, stderr=log)
        try:
            try:
                _ready(port)
            except TimeoutError:
                say((folder / "worker.log").read_text()[-4000:])
                raise
            yield process
        finally:
            process.terminate()
            process.wait(30)


def latency(rate: int, seconds: float, command: str) -> dict[str, Any]:
    """Start the four processes, and the loop beside them; answers the result."""
    from tests.broker.kafka import Kafka
    from tests.broker.registry import Registry as TestRegistry

    with (
        TemporaryDirectory() as folder,
        Kafka(Path(folder) / "kafka", fast=True) as kafka,
        TestRegistry(Path(folder) / "registry") as registry,
    ):
        loop_topic(kafka.bootstrap)
        with worker(Path(folder), kafka, registry) as pipeline:
            beside = part("benchmarks.broker", "loop", "--broker", kafka.bootstrap)
            try:
                return _measured(kafka.bootstrap, registry.url, rate, seconds, 10.0, command, pipeline.pid)
            finally:
                beside.terminate()


def loop_topic(broker: str) -> None:
    """Make the topic that the plain loop answers on."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic("bench.loop", PARTITIONS, 1)])["bench.loop"].result(20)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measured(
    broker: str, registry: str, rate: int, seconds: float, warm_up: float, command: str, pid: int
) -> dict[str, Any]:
    whole = warm_up + seconds
    watching = part(
        "benchmarks.broker",
        "observe",
        "--broker",
        broker,
        "--seconds",
        whole + 3,
        "--warm-up",
        warm_up,
        stdout=subprocess.PIPE,
    )
    assert watching.stdout is not None
    watching.stdout.readline()
    before = _cpu_s(pid)
    sending = part(
        "benchmarks.broker", "generate", "--broker", broker, "--registry", registry, "--rate", rate, "--seconds", whole,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    sent = orjson.loads(sending.communicate()[0])
    busy = _cpu_s(pid) - before
    seen = orjson.loads(watching.communicate()[0])
    stages = seen["latency_ms"]
    shown = ("decided", "acknowledged", "decision", "command", "loop")
    for name in shown:
        if name in stages:
            say(f"broker at {rate:,}/s, {name}: p50 {stages[name]['p50']} ms, p99 {stages[name]['p99']} ms")
    late = sent["late"]
    void = (
        None
        if late["p999"] <= max(5.0, stages["decision"]["p99"] / 10)
        else f"the generator was {late['p999']} ms late at p99.9"
    )
    return result(
        f"latency-broker-{rate}",
        title=f"through Kafka 4.1.1 at {rate:,} events/s",
        command=command,
        offered_per_s=rate,
        events=sent["sent"],
        counts=seen["counts"],
        warmup_s=warm_up,
        seconds=seconds,
        generator_late_ms=late,
        latency_ms={name: stages[name] for name in shown if name in stages},
        stages_ms={name: stages[name] for name in STAGES if name in stages},
        cpu_s_per_million=round(busy / sent["sent"] * 1e6, 1),
        settings={
            "broker": "kafka-4.1.1",
            "format": "avro",
            "partitions": PARTITIONS,
            "epoch_s": 10,
            "state": "rocksdb",
            "sync": True,
        },
        void=void,
    )


def main() -> None:
    """One of the processes of the bench."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("generate", "observe", "loop"))
    parser.add_argument("--broker", required=True)
    parser.add_argument("--registry", default="")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--warm-up", type=float, default=10)
    asked = parser.parse_args()
    if asked.part == "generate":
        generate(asked.broker, asked.registry, asked.rate, asked.seconds)
    elif asked.part == "observe":
        observe(asked.broker, asked.seconds, asked.warm_up)
    else:
        loop(asked.broker)


if __name__ == "__main__":
    main()
