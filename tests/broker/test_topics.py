"""`footfall topics create` against a real broker: says what is missing, makes it once, alters nothing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from flows.doctor import doctor
from operators.connectors.owner import OWNER
from operators.state.home import Home
from operators.state.rocks import RocksStore
from schemas.topics import TOPICS
from tests.broker.kafka import Kafka
from tests.flow.test_cli import footfall

Create = Callable[..., tuple[int, dict, str]]


@pytest.fixture
def admin(broker: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker, "log_level": 0})


@pytest.fixture
def create(broker: str, prefix: str, tmp_path: Path) -> Create:
    """Run the command on topics of this test's own prefix."""

    def run(*words: str, partitions: int = 3, bootstrap: str = broker) -> tuple[int, dict, str]:
        config = tmp_path / "footfall.toml"
        config.write_text(f'[topics]\nprefix = "{prefix}"\npartitions = {partitions}\n[kafka]\nwait = "2s"\n')
        ran = footfall("topics", "create", "--bootstrap", bootstrap, "--config", config, "--json", "--insecure", *words)
        return ran.returncode, orjson.loads(ran.stdout or "{}"), ran.stderr

    return run


def partitions(admin: AdminClient, prefix: str) -> dict[str, int]:
    found = admin.list_topics(timeout=10).topics
    return {name.removeprefix(prefix): len(one.partitions) for name, one in found.items() if name.startswith(prefix)}


def test_a_dry_run_names_every_topic_and_makes_none(create: Create, admin: AdminClient, prefix: str) -> None:
    code, answer, said = create("--dry-run")
    assert code == 0
    assert [one["topic"] for one in answer["missing"]] == [f"{prefix}{name}" for name in [*TOPICS, OWNER]]
    assert answer["made"] == []
    assert f"{prefix}presence.dwell: missing; 3 partitions" in said
    assert partitions(admin, prefix) == {}


def test_what_is_made_stands_as_the_table_says_and_is_made_once(
    create: Create, admin: AdminClient, prefix: str
) -> None:
    code, answer, _ = create("--apply")
    assert code == 0
    assert sorted(answer["made"]) == sorted(f"{prefix}{name}" for name in [*TOPICS, OWNER])
    assert partitions(admin, prefix) == dict.fromkeys(TOPICS, 3) | {OWNER: 1}

    resources = [ConfigResource(ResourceType.TOPIC, f"{prefix}{name}") for name in TOPICS]
    for resource, answered in admin.describe_configs(resources).items():
        topic, config = TOPICS[resource.name.removeprefix(prefix)], answered.result(10)
        policies = {name for name, has in (("compact", topic.compact), ("delete", topic.hours is not None)) if has}
        assert set(config["cleanup.policy"].value.split(",")) == policies
        if topic.hours is not None:
            assert int(config["retention.ms"].value) == topic.hours * 3_600_000

    code, answer, _ = create("--apply")
    assert (code, answer["made"], answer["missing"], answer["differs"]) == (0, [], [], [])
    assert len(answer["there"]) == len(TOPICS) + 1


def test_another_count_of_partitions_is_said_and_nothing_is_made(
    create: Create, admin: AdminClient, prefix: str
) -> None:
    """A topic joined by key with others must have as many partitions; one that nothing is joined with may differ."""
    made = admin.create_topics([NewTopic(f"{prefix}sensing.position", 5, config={"retention.ms": "86400000"})])
    made[f"{prefix}sensing.position"].result(10)
    compact = {"cleanup.policy": "compact"}
    admin.create_topics([NewTopic(f"{prefix}venue.zone", 1, config=compact)])[f"{prefix}venue.zone"].result(10)
    for words in (["--dry-run"], ["--apply"]):
        code, answer, said = create(*words)
        assert code == 1
        assert answer["differs"] == [
            {
                "topic": f"{prefix}sensing.position",
                "setting": "partitions",
                "wanted": "3",
                "found": "5",
                "remedy": answer["differs"][0]["remedy"],
            }
        ]
        assert f"{prefix}sensing.position: partitions must be 3; it is 5; set partitions = 5 in [topics]" in said
        assert answer["made"] == []
    assert partitions(admin, prefix) == {"sensing.position": 5, "venue.zone": 1}


def test_what_is_missing_is_made_beside_a_topic_that_has_grown(create: Create, admin: AdminClient, prefix: str) -> None:
    create("--apply")
    grown, gone = f"{prefix}web.event", f"{prefix}action.outcome"
    admin.create_partitions([NewPartitions(grown, 6)])[grown].result(10)
    admin.delete_topics([gone])[gone].result(10)
    code, answer, said = create("--apply")
    assert (code, answer["made"], [one["topic"] for one in answer["differs"]]) == (0, [gone], [grown])
    assert f"warning: {grown} has grown from 3 to 6 partitions; leave partitions in [topics] as it is" in said
    assert partitions(admin, prefix)["action.outcome"] == 3


def test_a_changed_setting_of_partitions_is_refused_after_the_fact(create: Create) -> None:
    create("--apply")
    code, answer, _ = create("--apply", partitions=4)
    assert code == 1
    assert {one["setting"] for one in answer["differs"]} == {"partitions"}
    assert len(answer["differs"]) == sum(topic.key in "SIP" for topic in TOPICS.values())


def test_a_policy_that_would_lose_or_keep_too_much_is_named_with_its_command(
    create: Create, admin: AdminClient, prefix: str, broker: str
) -> None:
    create("--apply")
    changes = {"consent.record": ("cleanup.policy", "delete"), "sensing.position": ("retention.ms", "-1")}
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            f"{prefix}{topic}",
            incremental_configs=[ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)],
        )
        for topic, (name, value) in changes.items()
    ]
    for answered in admin.incremental_alter_configs(resources).values():
        answered.result(10)
    code, answer, said = create("--apply")
    assert code == 1
    assert {(one["topic"].removeprefix(prefix), one["setting"]) for one in answer["differs"]} == {
        (topic, name) for topic, (name, _) in changes.items()
    }
    assert (
        f"kafka-configs.sh --bootstrap-server {broker} --alter --entity-type topics --entity-name {prefix}consent.record"
        in said
    )


def test_a_broker_that_is_away_is_waited_for_and_then_given_up(create: Create) -> None:
    code, _, said = create("--apply", bootstrap="127.0.0.1:1")
    assert code == 1
    assert "127.0.0.1:1: the broker does not answer" in said


def test_a_broker_that_comes_in_time_is_used(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Started before its broker, as after a power cut."""
    config = tmp_path / "footfall.toml"
    config.write_text(f'[topics]\nprefix = "{prefix}"\n[kafka]\nbootstrap = "{kafka.bootstrap}"\nwait = "60s"\n')
    command = [sys.executable, "-m", "flows.cli", "topics", "create", "--config", str(config), "--dry-run"]
    kafka.kill()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        first = waiting.stderr.readline()
        kafka.start()
        rest = waiting.stderr.read()
    assert "Connection refused" in first
    assert "waiting up to 60 s" in first
    assert f"{len(TOPICS) + 1} missing" in rest
    assert waiting.returncode == 0


@pytest.mark.parametrize("words", [[], ["--apply", "--dry-run"]])
def test_one_of_dry_run_and_apply_must_be_said(words: list[str]) -> None:
    ran = footfall("topics", "create", "--bootstrap", "127.0.0.1:1", *words)
    assert ran.returncode == 2
    assert "one of --dry-run and --apply" in ran.stderr


def test_the_doctor_judges_topics_that_grew_by_whether_there_is_state(
    create: Create, broker: str, prefix: str, tmp_path: Path
) -> None:
    """A start that was refused has made the directory; the next one is a first one all the same."""
    create("--apply", partitions=4)
    config = tmp_path / "footfall.toml"
    config.write_text(f'[topics]\nprefix = "{prefix}"\npartitions = 3\n[kafka]\nbootstrap = "{broker}"\n')
    Home(tmp_path / "state", "store").close()
    found = {one.what: one for one in doctor("store", config, insecure=True)}["topics"]
    assert found.word == "WRONG"
    assert f"{prefix}sensing.position: partitions must be 3; it is 4" in found.about
    store = RocksStore(tmp_path / "state", 0)
    store.open("0")
    store.close()
    assert {one.what: one for one in doctor("store", config, insecure=True)}["topics"].word != "WRONG"
