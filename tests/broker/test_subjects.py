"""`footfall schemas register` against a real registry: plan, check, register, read back; all or nothing."""

import copy
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from operators.connectors.registry import LEVEL, Registry, RegistryAccess, RegistryAway
from operators.connectors.subjects import Incompatible, NotRegistered, apply, ids, ours, plan, subject_of
from schemas import avsc
from schemas.topics import TOPICS
from tests.flow.test_cli import footfall

Change = Callable[[dict[str, Any]], None]
TOPIC = "web.event"


@pytest.fixture
def at(registry: str) -> Registry:
    return Registry(RegistryAccess(url=registry))


@pytest.fixture
def client(registry: str) -> SchemaRegistryClient:
    """The library's own client, beside ours: what it sees is what is there."""
    return SchemaRegistryClient({"url": registry})


def register(url: str, prefix: str, *words: str) -> tuple[int, dict[str, Any], str]:
    ran = footfall("schemas", "register", "--registry", url, "--prefix", prefix, "--json", *words)
    return ran.returncode, orjson.loads(ran.stdout or "{}"), ran.stderr


def mine(client: SchemaRegistryClient, prefix: str) -> list[str]:
    return [subject for subject in client.get_subjects() if subject.startswith(prefix)]


def changed(topic: str, change: Change) -> dict[str, dict[str, Any]]:
    """Our schema of a topic as another release would have it."""
    schema = copy.deepcopy(avsc.schema_of(topic))
    change(schema)
    return {topic: schema}


def optional(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "basket_id", "type": ["null", "string"], "default": None})


def required(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "basket_id", "type": "string"})


def other_type(schema: dict[str, Any]) -> None:
    next(field for field in schema["fields"] if field["name"] == "session_id").update(type="long", default=0)


def test_a_dry_run_says_all_and_registers_nothing(registry: str, client: SchemaRegistryClient, prefix: str) -> None:
    code, answer, _ = register(registry, prefix, "--dry-run")
    assert code == 0
    assert [row["subject"] for row in answer["subjects"]] == [f"{prefix}{topic}-value" for topic in TOPICS]
    assert {row["action"] for row in answer["subjects"]} == {"register"}
    assert answer["registered"] == []
    assert mine(client, prefix) == []


def test_the_second_time_there_is_nothing_to_do(registry: str, client: SchemaRegistryClient, prefix: str) -> None:
    code, first, _ = register(registry, prefix)
    assert code == 0
    assert len(first["registered"]) == len(TOPICS)
    for row in first["subjects"]:
        topic = row["subject"].removeprefix(prefix).removesuffix("-value")
        assert json.loads(client.get_schema(row["id"]).schema_str) == avsc.schema_of(topic)
        assert client.get_compatibility(row["subject"]) == LEVEL
    code, second, _ = register(registry, prefix)
    assert (code, second["registered"]) == (0, [])
    assert [row["id"] for row in second["subjects"]] == [row["id"] for row in first["subjects"]]
    assert {row["version"] for row in second["subjects"]} == {1}


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        (required, "basket_id", "a field without a default may not go"),
        (other_type, "session_id", "the type must stay"),
    ],
)
def test_one_subject_that_fails_keeps_all_from_being_registered(
    registry: str, client: SchemaRegistryClient, prefix: str, change: Change, field: str, rule: str
) -> None:
    """Another release has registered a version that ours cannot live with."""
    subject = subject_of(TOPIC, prefix)
    client.register_schema(subject, Schema(json.dumps(changed(TOPIC, change)[TOPIC]), "AVRO"))
    for words in (["--dry-run"], []):
        code, answer, said = register(registry, prefix, *words)
        assert code == 1
        assert answer["breaks"] == [{"subject": subject, "version": 1, "field": field, "rule": rule}]
        assert f"{subject}, version 1, field {field}: {rule} (FULL_TRANSITIVE)" in said
        assert answer["registered"] == []
    assert mine(client, prefix) == [subject]
    assert client.get_versions(subject) == [1]


def test_what_is_no_avro_is_named(registry: str, client: SchemaRegistryClient, prefix: str) -> None:
    client.register_schema(
        subject_of(TOPIC, prefix),
        Schema('{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}', "JSON"),
    )
    code, answer, _ = register(registry, prefix)
    assert code == 1
    assert answer["breaks"][0]["rule"] == "what is registered must be an Avro record"


def test_a_version_more_is_checked_against_every_version_before(at: Registry, prefix: str) -> None:
    """Version 3 may agree with 2 and break 1: the newest alone is not asked."""
    first, second = ours([TOPIC]), changed(TOPIC, optional)
    apply(at, plan(at, first, prefix), first)
    (entry,) = apply(at, plan(at, second, prefix), second)
    assert entry.version == 2

    def as_number(schema: dict[str, Any]) -> None:
        schema["fields"].append({"name": "basket_id", "type": "long", "default": 0})

    third = changed(TOPIC, as_number)
    with pytest.raises(Incompatible) as refused:
        apply(at, plan(at, third, prefix), third)
    assert [(one.version, one.field) for one in refused.value.breaks] == [(2, "basket_id")]
    assert [one.number for one in at.versions(subject_of(TOPIC, prefix))] == [1, 2]


def test_an_enum_symbol_is_accepted_and_the_registry_agrees(at: Registry, prefix: str) -> None:
    """Registries differ on enum defaults, so one such change is put to the one at hand."""

    def symbol(schema: dict[str, Any]) -> None:
        kind = next(field for field in schema["fields"] if field["name"] == "kind")["type"]
        kind["symbols"].append("GIFT")

    first, second = ours(["pos.receipt"]), changed("pos.receipt", symbol)
    apply(at, plan(at, first, prefix), first)
    (entry,) = apply(at, plan(at, second, prefix), second)
    assert entry.version == 2


def test_the_registry_itself_refuses_what_slips_past_us(
    at: Registry, client: SchemaRegistryClient, prefix: str
) -> None:
    """The level was set before the first version, so a writer who does not ask us is refused as well."""
    first = ours([TOPIC])
    apply(at, plan(at, first, prefix), first)
    text = json.dumps(changed(TOPIC, required)[TOPIC])
    assert not at.agrees(subject_of(TOPIC, prefix), 1, text)
    with pytest.raises(SchemaRegistryError) as refused:
        client.register_schema(subject_of(TOPIC, prefix), Schema(text, "AVRO"))
    assert refused.value.http_status_code == 409


def test_an_older_release_finds_its_own_version_and_adds_none(at: Registry, prefix: str) -> None:
    first, second = ours([TOPIC]), changed(TOPIC, optional)
    (one,) = apply(at, plan(at, first, prefix), first)
    apply(at, plan(at, second, prefix), second)
    (again,) = apply(at, plan(at, first, prefix), first)
    assert (again.version, again.id) == (1, one.id)
    assert ids(at, [TOPIC], prefix) == {TOPIC: one.id}
    assert len(at.versions(subject_of(TOPIC, prefix))) == 2


def test_writing_without_a_registered_schema_names_the_subject(at: Registry, prefix: str) -> None:
    apply(at, plan(at, ours([TOPIC]), prefix), ours([TOPIC]))
    with pytest.raises(NotRegistered) as refused:
        ids(at, [TOPIC, "pos.receipt"], prefix)
    assert f"{prefix}pos.receipt-value" in str(refused.value)
    assert subject_of(TOPIC, prefix) not in str(refused.value)


def test_a_level_that_somebody_chose_stays_unless_asked(
    registry: str, client: SchemaRegistryClient, prefix: str
) -> None:
    """Set, put back and taken away again, by what the registry itself says."""
    subject = subject_of(TOPIC, prefix)
    client.register_schema(subject, Schema(json.dumps(avsc.schema_of(TOPIC)), "AVRO"))
    client.set_compatibility(subject, "BACKWARD")
    code, answer, _ = register(registry, prefix)
    assert (code, subject in answer["levels"]) == (0, False)
    assert client.get_compatibility(subject) == "BACKWARD"
    code, answer, _ = register(registry, prefix, "--set-level")
    assert (code, answer["levels"]) == (0, [subject])
    assert client.get_compatibility(subject) == LEVEL
    reached = Registry(RegistryAccess(url=registry))
    for _ in range(2):
        reached.set_level(subject, None)
        assert reached.level(subject) in {None, "NONE"}


def test_a_registry_that_is_away_is_waited_for_and_then_given_up(tmp_path: Any) -> None:
    (tmp_path / "footfall.toml").write_text('[registry]\nurl = "http://127.0.0.1:1/x"\n[kafka]\nwait = "1s"\n')
    ran = footfall("schemas", "register", "--config", tmp_path / "footfall.toml")
    assert ran.returncode == 1
    assert "the registry does not answer" in ran.stderr
    assert "waiting up to 1 s" in ran.stderr
    with pytest.raises(RegistryAway):
        Registry(RegistryAccess(url="http://127.0.0.1:1/x"), retries=0).versions("x")


def test_without_an_address_it_is_wrong_use() -> None:
    ran = footfall("schemas", "register")
    assert ran.returncode == 2
    assert "url in [registry]" in ran.stderr


def test_a_rule_that_only_the_registry_knows_stops_all_as_well(at: Registry, prefix: str) -> None:
    """A symbol more in an enum without a default: our own rules let it pass, a registry does not."""

    def bare(schema: dict[str, Any], *more: str) -> None:
        kind = next(field for field in schema["fields"] if field["name"] == "kind")
        del kind["type"]["default"]
        kind["type"]["symbols"].extend(more)

    first = changed("pos.receipt", bare)
    apply(at, plan(at, first, prefix), first)
    second = changed("pos.receipt", lambda schema: bare(schema, "GIFT")) | ours([TOPIC])
    planned = plan(at, second, prefix)
    assert [(one.version, one.rule) for one in planned.breaks] == [(1, "the registry finds the schema incompatible")]
    with pytest.raises(Incompatible):
        apply(at, planned, second)
    assert at.versions(subject_of(TOPIC, prefix)) == []
