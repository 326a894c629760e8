"""`footfall run` as it is met: prepared, fed, killed, asked for its health, and drained."""

import json
import os
import re
import shlex
import shutil
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
from confluent_kafka.admin import AdminClient, NewPartitions

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


def feed(broker, prefix, ids, rows, partitions=PARTITIONS):
    producer = Producer({"bootstrap.servers": broker, "log_level": 0, "linger.ms": 5})
    sent = Counter()
    for number, (_, topic, line) in enumerate(rows):
        try:
            record = from_line(TOPICS[topic].record, line)
        except Exception:
            continue  # the day has bad rows on purpose
        producer.produce(prefix + topic, encode(ids[topic], record), b"all", number % partitions)
        producer.poll(0)
        sent[topic] += 1
    producer.flush(20)
    return sent


def told(broker, prefix, topic, partitions=PARTITIONS, what=lambda record: record.event_id):
    """Event ids on an output topic, or something else of its records."""
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
        found[what(decode_body(topic, body))] += 1
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
    found = orjson.loads(out)
    assert found["well"]
    assert "all that is to be read next is there: 0 rows" in [one["about"] for one in found["findings"]]


def test_a_copy_of_the_state_that_is_brought_back_says_nothing_twice(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config, state, kept = str(folder / "footfall.toml"), folder / "state", tmp_path / "copy"
    prepared(folder)
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("store"), prefix)
    rows, written = moved(folder)[:4_500], Counter()
    limit = time.monotonic() + 2 * LIMIT_S
    for number in range(3):
        process = footfall("run", "store", "--config", config)
        until(process, "flowing")
        feed(broker, prefix, ids, rows[number * 1_500 : (number + 1) * 1_500])
        before = written.total()
        while written.total() <= before:
            assert time.monotonic() < limit, f"nothing new is said after start {number}"
            written = told(broker, prefix, "presence.transition") + told(broker, prefix, "identity.assignment")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        if number == 0:
            shutil.copytree(state, kept)
        elif number == 1:
            shutil.rmtree(state)
            shutil.copytree(kept, state)
    for topic in ("presence.transition", "identity.assignment"):
        found = told(broker, prefix, topic)
        assert found
        assert max(found.values()) == 1


def test_an_output_that_was_deleted_goes_on_empty_by_the_command_that_is_printed(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config = str(folder / "footfall.toml")
    prepared(folder)
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("store"), prefix)
    rows, lost = moved(folder)[:4_500], ("identity.assignment", "ops.alert")
    words, before = ["run", "store", "--config", config], Counter()
    for number, awaited in enumerate(("identity.assignment", "presence.transition")):
        process = footfall(*words)
        until(process, "flowing")
        feed(broker, prefix, ids, rows[number * 1_500 : (1 + 2 * number) * 1_500])
        limit = time.monotonic() + LIMIT_S
        while not told(broker, prefix, awaited):
            assert time.monotonic() < limit
        if number == 1:
            process.kill()
            process.wait(LIMIT_S)
            break
        process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        before = told(broker, prefix, "identity.assignment")
        admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
        for future in admin.delete_topics([prefix + topic for topic in lost]).values():
            future.result(20)
        done("topics", "create", "--config", config, "--apply")
        refused = footfall(*words)
        cause = until(refused, "stopped")["cause"]
        assert refused.wait(LIMIT_S) == 1
        words = shlex.split(cause.partition("To go on all the same: footfall ")[2])
        lose = [word for topic in lost for part in range(2) for word in ("--accept-loss", f"{topic}:{part}")]
        assert words[-8:] == lose
    process = footfall(*words)  # once more: it was killed, it may be before its first snapshot
    until(process, "flowing")
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert max(told(broker, prefix, "presence.transition").values()) == 1
    assert not told(broker, prefix, "identity.assignment") & before
    process = footfall(*words[:4])
    until(process, "flowing")
    process.terminate()
    assert process.wait(LIMIT_S) == 0


def test_what_is_missing_is_named_with_the_command(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    process = footfall("run", "store", "--config", str(folder / "footfall.toml"))
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert f"{prefix}sensing.position" in err
    assert f"footfall topics create --apply --config {folder / 'footfall.toml'}" in err
    done("topics", "create", "--config", str(folder / "footfall.toml"), "--apply")
    _, err = footfall("run", "store", "--config", str(folder / "footfall.toml")).communicate(timeout=LIMIT_S)
    assert "not registered" in err
    assert f"footfall schemas register --config {folder / 'footfall.toml'}" in err
    starts = json.loads((folder / "state" / "starts.json").read_text())["starts"]
    assert starts == {"first": 1, "drained": 1}, "a start that was refused is no crash"


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


def test_topics_that_grow_between_two_runs_are_read_and_written_on(tmp_path, broker, registry, prefix):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    command = ("run", "store", "--config", str(folder / "footfall.toml"))
    prepared(folder)
    ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("store"), prefix)
    rows = [row for row in moved(folder) if row[1] == "sensing.position"]
    for grown in (False, True):
        if grown:
            admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
            wanted = [
                NewPartitions(prefix + topic, 4) for topic in ("sensing.position", "presence.transition", "ops.late")
            ]
            for made in admin.create_partitions(wanted).values():
                made.result(20)
        process = footfall(*command)
        port = until(process, "listening")["port"]
        some = rows[500:1_000] if grown else rows[:500]
        sent = feed(broker, prefix, ids, some, 4 if grown else PARTITIONS)
        until(process, "flowing")
        limit = time.monotonic() + LIMIT_S
        read = f'footfall_input_events_total{{topic="sensing.position"}} {sent["sensing.position"]}.0'
        while read not in (page := asked(port, "/metrics")[1]):
            assert time.monotonic() < limit, (read, re.findall(r"events_total.*position.*", page))
            time.sleep(0.5)
        process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
    anew = footfall(*command, "--from-scratch")
    _, err = anew.communicate(timeout=LIMIT_S)
    assert anew.returncode == 1
    assert "partitions must be 2; it is 4; set partitions = 4" in err


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
        if sent <= 20:  # once more where it does not belong
            elsewhere = 1 - partition_of(key, PARTITIONS)
            producer.produce(prefix + topic, encode(ids[topic], record), key.encode(), elsewhere)
    producer.produce(prefix + "consent.record", b"no consent", b"k", 0)  # every process reads it
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
    reasons = told(broker, prefix, "ops.dead-letter", what=lambda letter: letter.reason)
    assert (reasons["WRONG_PARTITION"], reasons["BAD_FRAMING"]) == (20, 1)
    other = footfall("run", "presence", "--config", config)
    _, err = other.communicate(timeout=LIMIT_S)
    assert other.returncode == 1
    assert "fixed for the life of the state" in err
