"""`footfall run` as it is met: prepared, fed, killed, asked for its health, and drained."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import msgspec
import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from flows.deployment import EXAMPLE
from flows.joining import live_topics
from flows.simulate import write_directory
from operators.connectors import subjects
from operators.connectors.registry import Registry, RegistryAccess
from schemas.codec import decode_body, encode, unframed
from schemas.keys import key_of, partition_of
from schemas.pseudonym import subject_tokens, tokens
from schemas.rows import from_line, instant
from schemas.topics import TOPICS

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 90.0
PARTITIONS = 2
SETTINGS = """
[pseudonym]
key_file = ".key"
[kafka]
bootstrap = "{broker}"
wait = "{wait}"
[registry]
url = "{registry}"
[topics]
prefix = "{prefix}"
partitions = 2
[state]
backend = "rocksdb"
[engine]
epoch = "500ms"
lanes = 2
[metrics]
listen = "127.0.0.1:0"
"""


def shop(folder, broker, registry, prefix, wait="60s"):
    write_directory(folder, seed=5, minutes=1)
    (folder / ".key").write_text("a key for the broker tests")
    (folder / ".key").chmod(0o400)
    (folder / "footfall.toml").write_text(SETTINGS.format(broker=broker, registry=registry, prefix=prefix, wait=wait))
    return folder


def footfall(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **options,
    )  # fmt: skip


def done(*words):
    process = footfall(*words)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    return out


def until(process, event):
    """Read the log up to an event."""
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("{") and json.loads(line)["event"] == event:
            return json.loads(line)
    raise AssertionError(f"{event} was never said: {''.join(said[-60:])}")


def prepared(folder):
    done("topics", "create", "--apply", "--config", str(folder / "footfall.toml"))
    done("schemas", "register", "--config", str(folder / "footfall.toml"))


def moved(folder):
    """The rows of the day in the order of their hearing, as if they had just been heard."""
    rows = []
    for path in folder.glob("*.jsonl"):
        if path.stem in live_topics("store"):
            for line in path.read_bytes().splitlines():
                row = orjson.loads(line)
                clock = row.get("ingest_time") or row["event_time"]
                rows.append((instant(clock), path.stem, line))
    return sorted(rows, key=lambda one: one[0])


def feed(broker, prefix, ids, rows):
    producer = Producer({"bootstrap.servers": broker, "log_level": 0, "linger.ms": 5})
    sent = Counter()
    for number, (_, topic, line) in enumerate(rows):
        try:
            record = from_line(TOPICS[topic].record, line)
        except Exception:
            continue  # the day has bad rows on purpose
        producer.produce(prefix + topic, encode(ids[topic], record), b"all", number % PARTITIONS)
        producer.poll(0)
        sent[topic] += 1
    producer.flush(20)
    return sent


def told(broker, prefix, topic, partitions=PARTITIONS):
    """Event ids on an output topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker, "group.id": prefix + "reader", "isolation.level": "read_committed",
            "enable.partition.eof": True, "log_level": 0,
        }
    )  # fmt: skip
    consumer.assign([TopicPartition(prefix + topic, part, 0) for part in range(partitions)])
    found, ends = Counter(), 0
    limit = time.monotonic() + LIMIT_S
    while ends < partitions and time.monotonic() < limit:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            ends += 1
            continue
        _, body = unframed(message.value())
        found[decode_body(topic, body).event_id] += 1
    consumer.close()
    return found


def asked(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_shop_is_killed_and_says_everything_once(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config = str(folder / "footfall.toml")
    prepared(folder)
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("store"), prefix)
    rows = moved(folder)[:4_000]
    sent = Counter()
    for number in range(4):
        process = footfall("run", "store", "--config", config)
        port = until(process, "listening")["port"]
        start = until(process, "start")
        sent += feed(broker, prefix, ids, rows[number * 1_000 : (number + 1) * 1_000])
        until(process, "flowing")
        if number < 3:
            time.sleep(1.2)
            process.kill()
            process.wait(LIMIT_S)
            continue
        assert start["starts"] == {"first": 1, "crash": 3}
        limit = time.monotonic() + LIMIT_S
        while asked(port, "/ready")[0] != 200:
            assert time.monotonic() < limit
            time.sleep(0.1)
        assert asked(port, "/startup")[0] == asked(port, "/live")[0] == 200
        while "footfall_epoch_stall_seconds_count 3" not in asked(port, "/metrics")[1]:
            assert time.monotonic() < limit
            time.sleep(0.1)
        page = asked(port, "/metrics")[1]
        assert 'footfall_starts_total{cause="crash"} 3.0' in page
        assert "footfall_decision_latency_seconds" in page
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        assert time.monotonic() - began < 5
    assert sent["sensing.position"] > 1_000
    transitions = told(broker, prefix, "presence.transition")
    assert transitions
    assert max(transitions.values()) == 1
    assert not [one for one, count in told(broker, prefix, "identity.assignment").items() if count > 1]
    report = footfall("doctor", "--config", config, "--json")
    out, err = report.communicate(timeout=LIMIT_S)
    assert report.returncode == 0, out + err
    assert orjson.loads(out)["well"]


def test_what_is_missing_is_named_with_the_command(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    process = footfall("run", "store", "--config", str(folder / "footfall.toml"))
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert f"{prefix}sensing.position" in err
    assert "footfall topics create" in err


def test_a_broker_away_is_waited_for_and_then_named(tmp_path, registry, prefix):
    folder = shop(tmp_path / "shop", "127.0.0.1:1", registry, prefix, wait="3s")
    began = time.monotonic()
    process = footfall("run", "store", "--config", str(folder / "footfall.toml"))
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert time.monotonic() - began > 3
    events = [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")]
    assert events.index("waiting") < events.index("stopped")
    assert "does not answer" in err


def test_a_run_without_a_key_is_wrong_use(tmp_path):
    (tmp_path / "footfall.toml").write_text('[state]\nbackend = "rocksdb"\n')
    process = footfall("run", "store", "--config", str(tmp_path / "footfall.toml"))
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert "key_file" in err


@pytest.mark.parametrize("flow", ["store", "activation"])
def test_only_presence_is_split(tmp_path, flow):
    (tmp_path / "footfall.toml").write_text((EXAMPLE / "footfall.toml").read_text() + '[state]\nbackend = "rocksdb"\n')
    process = footfall("run", flow, "--config", str(tmp_path / "footfall.toml"), "--processes", "2")
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert "--processes must be 1" in err


def test_two_processes_of_presence_split_the_lanes_and_end_together(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config = str(folder / "footfall.toml")
    prepared(folder)
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("presence"), prefix)
    producer = Producer({"bootstrap.servers": broker, "log_level": 0})
    subject = subject_tokens(tokens(b"a key for the broker tests", 1))
    sent = 0
    for _, topic, line in moved(folder)[:3_000]:
        if topic != "sensing.position":
            continue
        try:
            record = from_line(TOPICS[topic].record, line)
            record = msgspec.structs.replace(record, subject_id=subject(record.subject_id), site_id="mad-01")
        except Exception:
            continue
        key = key_of(topic, record)
        producer.produce(prefix + topic, encode(ids[topic], record), key.encode(), partition_of(key, PARTITIONS))
        producer.poll(0)
        sent += 1
    producer.flush(20)
    supervisor = footfall("run", "presence", "--config", config, "--processes", "2")
    children = until(supervisor, "supervising")["processes"]
    second = footfall("run", "presence", "--config", config, "--processes", "2")
    _, err = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 1
    assert str(supervisor.pid) in err
    for _ in children:
        until(supervisor, "flowing")
    limit = time.monotonic() + LIMIT_S
    while not (found := told(broker, prefix, "presence.transition")):
        assert time.monotonic() < limit
        time.sleep(0.5)
    assert max(found.values()) == 1
    os.kill(children[1], signal.SIGKILL)
    _, err = supervisor.communicate(timeout=LIMIT_S)
    assert supervisor.returncode == 1
    assert '"process_ended"' in err
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert sorted(path.name for path in (folder / "state").glob("process-*")) == ["process-00", "process-01"]
    again = footfall("run", "presence", "--config", config, "--processes", "2")
    until(again, "flowing")
    until(again, "flowing")
    again.terminate()
    _, err = again.communicate(timeout=LIMIT_S)
    assert again.returncode == 0, err
    found = told(broker, prefix, "presence.transition")
    assert max(found.values()) == 1
    other = footfall("run", "presence", "--config", config)
    _, err = other.communicate(timeout=LIMIT_S)
    assert other.returncode == 1
    assert "fixed for the life of the state" in err
