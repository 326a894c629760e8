"""Activation by several processes that share eight shards: killed, begun again by another number, everything said once."""

import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from flows.deployment import EXAMPLE
from flows.joining import live_topics
from flows.ports import chains, end_ids
from flows.start import LEASH, PEERS
from operators.connectors import subjects
from operators.connectors.registry import Registry, RegistryAccess
from operators.state.home import Home
from schemas.codec import encode
from schemas.keys import key_of, partition_of
from schemas.pseudonym import Tokens, tokens
from schemas.rows import reader
from schemas.topics import TOPICS
from tests.broker.kafka import Kafka
from tests.broker.test_run import LIMIT_S, done, footfall, prepared, told, until

KEY = b"a key for the broker tests"
PARTITIONS = 4
PEOPLE = 60
PURPOSES = ("personalisation", "in_store_location", "linking", "contact")
CAMPAIGN = """
campaign: bought-after-looking
owner: tests
when: {sequence: {of: [{event: {topic: web.event}}, {event: {topic: pos.receipt}}], within: 4h}}
if: {anyone: 'true'}
guard: {consent: [personalisation], caps: {this: 1 per 12h}}
do: [{channel: push, template: offer10, ttl: 10m}]
"""
SETTINGS = """
[site]
id = "mad-01"
[pseudonym]
key_file = ".key"
[campaigns]
stale_after = "2h"
[kafka]
bootstrap = "{broker}"
[registry]
url = "{registry}"
[topics]
prefix = "{prefix}"
partitions = 4
[state]
backend = "rocksdb"
[engine]
epoch = "500ms"
shards = 8
[metrics]
listen = "127.0.0.1:0"
"""


class Crowd:
    """People who look at something with a browser that nobody knows, sign in with it, and buy with their card."""

    def __init__(self, broker: str, registry: str, prefix: str) -> None:
        self._prefix = prefix
        self._ids = subjects.ids(Registry(RegistryAccess(url=registry)), live_topics("activation"), prefix)
        self._producer = Producer({"bootstrap.servers": broker, "log_level": 0, "linger.ms": 5})
        self._token: Tokens = tokens(KEY, 1)
        self._number = 0

    def rows(self, wave: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happens in one wave, to everybody."""
        for n in range(PEOPLE):
            card, browser, login = f"loyalty:card-{n}", f"cookie:browser-{n}", f"login:user-{n}"
            if wave == "known":
                purposes = [{"code": code, "granted": True} for code in PURPOSES]
                yield "consent.record", {"identifier": card, "purposes": purposes, "language": "en"}
                yield (
                    "crm.contact-point",
                    {"identifier": card, "kind": "PUSH", "value_sealed": b"sealed", "verified": True},
                )
                yield "crm.customer", {"identifiers": [card, login]}
            elif wave == "looked":
                yield "web.event", {"name": "page_viewed", "identifiers": [browser]}
            elif wave == "signed in":
                yield "web.event", {"name": "signed_in", "identifiers": [browser, login]}
            else:
                receipt = {"receipt_id": f"{wave}-{n}", "identifiers": [card], "currency": "EUR", "kind": "SALE"}
                yield "pos.receipt", receipt | {"total_minor": 100, "lines": []}

    def feed(self, wave: str) -> None:
        """Put a wave on its topics."""
        for topic, row in self.rows(wave):
            self._number += 1
            at = time.time_ns() // 1000
            named = {
                name: [self._token(one) for one in row[name]] if name == "identifiers" else self._token(row[name])
                for name in ("identifiers", "identifier")
                if name in row
            }
            envelope = {"event_id": f"{topic}-{self._number}", "event_time": at, "ingest_time": at, "source_id": "test"}
            record, _ = reader(TOPICS[topic].record)({**envelope, **row, **named})
            key = key_of(topic, record)
            value = encode(self._ids[topic], record)
            self._producer.produce(self._prefix + topic, value, key.encode(), partition_of(key, PARTITIONS))
        assert self._producer.flush(20) == 0


@pytest.fixture
def shop(tmp_path: Path, broker: str, registry: str, prefix: str) -> Path:
    """A shop with one campaign and eight shards, its topics and schemas prepared."""
    for name in ("templates", "models"):
        shutil.copytree(EXAMPLE / name, tmp_path / name)
    shutil.copy2(EXAMPLE / "venue.geojson", tmp_path)
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "bought-after-looking.yaml").write_text(CAMPAIGN.lstrip())
    (tmp_path / ".key").write_bytes(KEY)
    (tmp_path / ".key").chmod(0o400)
    (tmp_path / "footfall.toml").write_text(SETTINGS.format(broker=broker, registry=registry, prefix=prefix))
    prepared(tmp_path)
    return tmp_path


def counted(broker: str, prefix: str, topic: str, wanted: int) -> int:
    """How many rows a topic comes to hold, each once."""
    limit = time.monotonic() + LIMIT_S
    while len(found := told(broker, prefix, topic, PARTITIONS)) < wanted:
        assert time.monotonic() < limit, f"{topic} holds {len(found)} of {wanted}"
        time.sleep(0.2)
    assert max(found.values()) == 1
    return len(found)


def test_three_processes_are_killed_and_say_everything_once(
    shop: Path, broker: str, registry: str, prefix: str
) -> None:
    """By three, then two, then one, then three: what somebody looked at before she was known counts for her card."""
    config, crowd, draw = str(shop / "footfall.toml"), Crowd(broker, registry, prefix), random.Random(7)
    crowd.feed("known")
    waves = iter(("looked", "signed in", "bought", "bought again"))
    for processes in (3, 2, 1, 3):
        words = ("--processes", str(processes)) if processes > 1 else ()
        run = footfall("run", "activation", "--config", config, *words)
        children = until(run, "supervising")["processes"] if processes > 1 else [run.pid]
        for _ in children:
            until(run, "flowing")
        wave = next(waves)
        crowd.feed(wave)
        if wave == "looked":  # each of them is somebody new
            counted(broker, prefix, "identity.assignment", 3 * PEOPLE)
        elif wave == "signed in":
            counted(broker, prefix, "identity.assignment", 4 * PEOPLE)
        elif wave == "bought":
            counted(broker, prefix, "action.command", PEOPLE)
        if wave != "bought again":
            os.kill(draw.choice(children), signal.SIGKILL)
            run.communicate(timeout=LIMIT_S)
            assert run.returncode
    assert counted(broker, prefix, "decision.record", PEOPLE) == PEOPLE
    limit = time.monotonic() + LIMIT_S
    run.terminate()
    _, err = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 0, err
    assert time.monotonic() < limit
    assert counted(broker, prefix, "action.command", PEOPLE) == PEOPLE
    assert not told(broker, prefix, "ops.dead-letter", PARTITIONS)
    assert orjson.loads(done("doctor", "--config", config, "--json"))["well"]


def test_a_state_that_is_lost_is_missed_and_begun_anew_only_when_told(
    shop: Path, broker: str, registry: str, prefix: str
) -> None:
    """What is on the outputs is not said again: rows that are still there are read from the first on, ids are theirs."""
    config, crowd = str(shop / "footfall.toml"), Crowd(broker, registry, prefix)
    run = footfall("run", "activation", "--config", config)
    until(run, "flowing")
    for wave, topic, rows in (
        ("known", "identity.assignment", 2 * PEOPLE),
        ("looked", "identity.assignment", 3 * PEOPLE),
        ("signed in", "identity.assignment", 4 * PEOPLE),
        ("bought", "action.command", PEOPLE),
    ):
        crowd.feed(wave)
        counted(broker, prefix, topic, rows)
    counted(broker, prefix, "decision.record", PEOPLE)
    before = {topic: told(broker, prefix, topic, PARTITIONS).keys() for topic in ("action.command", "decision.record")}
    run.kill()
    run.communicate(timeout=LIMIT_S)
    shutil.rmtree(shop / "state")
    for words in ((), (), ("--processes", "2")):  # the directory that a refused start has made is no state either
        refused = footfall("run", "activation", "--config", config, *words)
        _, err = refused.communicate(timeout=LIMIT_S)
        assert refused.returncode == 1
        assert f"activation has run before on these topics, it has claimed {prefix}activation.records.out-00" in err
        assert "--from-scratch" in err
    doctor = footfall("doctor", "--config", config, "--json")
    out, _ = doctor.communicate(timeout=LIMIT_S)
    (sick,) = [one for one in orjson.loads(out)["findings"] if not one["well"]]
    assert "has run before" in sick["about"]
    assert "--from-scratch" in sick["remedy"]
    for words, times in ((("--processes", "2", "--from-scratch"), 2), ((), 1), (("--from-scratch",), 1)):
        run = footfall("run", "activation", "--config", config, *words)
        for _ in range(times):
            until(run, "flowing")
        if times == 1 and words:
            crowd.feed("bought again")
            limit = time.monotonic() + LIMIT_S
            while len(told(broker, prefix, "profile.snapshot", PARTITIONS)) < 2 * PEOPLE:  # a version for each receipt
                assert time.monotonic() < limit
                time.sleep(0.2)
        run.terminate()
        _, err = run.communicate(timeout=LIMIT_S)
        assert run.returncode == 0, err
        for topic in ("action.command", "decision.record"):
            found = told(broker, prefix, topic, PARTITIONS)
            assert max(found.values()) == 1
            # of those who have bought again the other receipt may have come first, since lanes catch up at their own pace
            assert found.keys() >= before[topic]
            assert words == ("--from-scratch",) or found.keys() == before[topic]


def test_a_drain_on_a_broker_that_is_away_ends_and_each_process_says_why(
    kafka: Kafka, shop: Path, broker: str, registry: str, prefix: str
) -> None:
    """The claims cannot be read at the close of its last epoch: it waits for a while, and the next start goes on."""
    if broker != kafka.bootstrap:
        pytest.skip("a broker is named, which is not ours to kill")
    config, crowd = str(shop / "footfall.toml"), Crowd(broker, registry, prefix)
    crowd.feed("known")
    run = footfall("run", "activation", "--config", config, "--processes", "2")
    for _ in range(2):
        until(run, "flowing")
    crowd.feed("looked")
    counted(broker, prefix, "identity.assignment", 3 * PEOPLE)
    kafka.kill()
    try:
        run.terminate()
        _, err = run.communicate(timeout=LIMIT_S)
    finally:
        kafka.start()
    assert run.returncode == 1, err
    said = [orjson.loads(line) for line in err.splitlines() if line.startswith("{")]  # the engine says more
    stopped = [line["cause"] for line in said if line["event"] == "stopped"]
    assert stopped
    assert all(cause.startswith("Unfinished: the drain could not be finished") for cause in stopped), stopped
    run = footfall("run", "activation", "--config", config, "--processes", "2")
    for _ in range(2):
        until(run, "flowing")
    crowd.feed("signed in")
    counted(broker, prefix, "identity.assignment", 4 * PEOPLE)
    run.terminate()
    _, err = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 0, err


def test_who_waits_for_one_that_never_comes_ends_with_its_supervisor(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine of the second of three waits for the first without an end, and hears no signal meanwhile."""
    home = Home(shop / "state", "activation", shards=8)
    home.checked(chains("activation", 8), end_ids("activation"), {})
    home.close()
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    places = [one.getsockname() for one in sockets]
    for one in sockets:
        one.close()
    reads, writes = os.pipe()
    monkeypatch.setenv(LEASH, str(reads))
    monkeypatch.setenv(PEERS, " ".join(f"{host}:{port}" for host, port in places))
    config = str(shop / "footfall.toml")
    run = footfall("run", "activation", "--config", config, "--processes", "3", "--process", "1", pass_fds=(reads,))
    os.close(reads)
    limit = time.monotonic() + LIMIT_S
    while True:  # until the engine listens for the third
        try:
            socket.create_connection(places[1], 1.0).close()
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.1)
        else:
            break
    os.close(writes)
    run.communicate(timeout=LIMIT_S)
    assert run.returncode == 0
