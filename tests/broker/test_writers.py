"""Writers' schemas looked up as ids come by: known, unknown, and a registry that is away are three things."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from operators.connectors.registry import Registry, RegistryAccess, RegistryAway
from operators.connectors.subjects import apply, ids, ours, plan, subject_of
from operators.connectors.writers import BACK_OFF_S, REMEMBERED_S, LookupsSpent, Schemas
from operators.decode import Decode, DecodeRule
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas import avsc
from schemas.codec import decode_datum, encode_body, framed
from schemas.items import Event, Heard
from schemas.people import WebEvent
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from schemas.sealing import KEY_BYTES, deployment_key, opener, sealer
from tests.broker.registry import Registry as Service
from tests.broker.skipping import or_skipped

TOPIC = "web.event"
NOBODY = 2_000_000_000
EVENT = WebEvent(
    event_time=1,
    ingest_time=1,
    site_id="s",
    source_id="w",
    name="product_viewed",
    session_id="x",
    client_created=1,
    client_sent=1,
)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def at(registry: str) -> Registry:
    return Registry(RegistryAccess(url=registry), call_s=2.0, retries=0)


def decode(schemas: Schemas) -> Decode:
    """The first step of a flow, over these schemas."""
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    own = deployment_key(EXAMPLE_KEY)
    rule = DecodeRule(
        site_id="mad-01",
        token=tokens(EXAMPLE_KEY, EXAMPLE_VERSION),
        sealed=sealer(own),
        wrapped=sealer(own),
        sealed_under=sealer,
        unwrapped=opener(own),
        new_key=lambda: b"k" * KEY_BYTES,
        schemas=schemas,
    )
    return Decode(rule, Tables(store))


def registered(at: Registry, prefix: str) -> int:
    apply(at, plan(at, ours([TOPIC]), prefix), ours([TOPIC]))
    return ids(at, [TOPIC], prefix)[TOPIC]


def test_an_id_is_looked_up_once(at: Registry, prefix: str) -> None:
    number = registered(at, prefix)
    schemas = Schemas(at, prefix)
    assert number in schemas
    topic, schema = schemas[number]
    assert topic == TOPIC
    assert decode_datum(schema, encode_body(TOPIC, EVENT))["name"] == "product_viewed"
    assert (schemas.lookups, len(schemas)) == (1, 1)


def test_loaded_versions_need_no_look_up(at: Registry, prefix: str) -> None:
    number = registered(at, prefix)
    schemas = Schemas(at, prefix)
    schemas.load([TOPIC])
    assert number in schemas
    assert schemas.lookups == 0


def test_an_unknown_id_is_remembered_for_a_minute(at: Registry, prefix: str) -> None:
    clock = Hand()
    schemas = Schemas(at, prefix, clock)
    for _ in range(100):
        schemas.resolve([framed(NOBODY, b"")])
        assert NOBODY not in schemas
    assert (schemas.lookups, schemas.unknown) == (1, 1)
    clock.now += REMEMBERED_S
    assert NOBODY not in schemas, "what a batch was let in with holds until its end"
    assert schemas.lookups == 1
    schemas.resolve([framed(NOBODY, b"")])
    assert schemas.lookups == 2


def test_a_storm_of_bad_ids_costs_five_look_ups_and_one_a_second(at: Registry, prefix: str) -> None:
    clock = Hand()
    schemas = Schemas(at, prefix, clock)
    waited = 0
    for number in range(50):
        try:
            schemas.resolve([framed(NOBODY + number, b"")])
        except LookupsSpent:
            waited += 1
    assert (schemas.lookups, waited) == (5, 45)
    clock.now += 2.0
    for number in range(45, 50):
        try:
            schemas.resolve([framed(NOBODY + number, b"")])
        except LookupsSpent:
            waited += 1
    assert (schemas.lookups, waited) == (7, 48)


def test_a_known_id_flows_while_look_ups_are_spent(at: Registry, prefix: str) -> None:
    number = registered(at, prefix)
    schemas = Schemas(at, prefix, Hand())
    schemas.load([TOPIC])
    for bad in range(10):
        try:
            schemas.resolve([framed(NOBODY + bad, b"")])
        except LookupsSpent:
            break
    schemas.resolve([framed(number, b"")])
    assert number in schemas


def test_the_id_of_somebody_elses_subject_is_no_topic_of_ours(at: Registry, registry: str, prefix: str) -> None:
    client = SchemaRegistryClient({"url": registry})
    foreign = {"type": "record", "name": "Foreign", "namespace": prefix.strip(".").replace("-", "_"), "fields": []}
    number = client.register_schema(f"{prefix}theirs", Schema(json.dumps(foreign), "AVRO"))
    topic, _ = Schemas(at, prefix)[number]
    assert topic == f"{prefix}theirs"


def test_the_same_schema_under_two_prefixes_is_each_ones_own(at: Registry, prefix: str) -> None:
    number = registered(at, prefix)
    assert registered(at, f"other-{prefix}") == number
    assert Schemas(at, f"other-{prefix}")[number][0] == TOPIC


def test_decode_reads_an_older_writer_through_the_registry(at: Registry, registry: str, prefix: str) -> None:
    """A writer one release ahead: a field that we do not know, by an id that comes by for the first time."""
    number = registered(at, prefix)
    newer: dict[str, Any] = copy.deepcopy(avsc.schema_of(TOPIC))
    newer["fields"].append({"name": "basket_id", "type": ["null", "string"], "default": None})
    client = SchemaRegistryClient({"url": registry})
    ahead = client.register_schema(subject_of(TOPIC, prefix), Schema(json.dumps(newer), "AVRO"))
    body = encode_body(TOPIC, EVENT)
    core = decode(Schemas(at, prefix))
    heard = [
        Heard(0, TOPIC, 0, 0, 1, framed(number, body), form="wire"),
        Heard(1, TOPIC, 0, 1, 1, framed(ahead, body + b"\x02\x06abc"), form="wire"),
        Heard(2, TOPIC, 0, 2, 1, framed(NOBODY, body), form="wire"),
        Heard(3, "pos.receipt", 0, 0, 1, framed(number, body), form="wire"),
    ]
    events = [item for item in core.step(list(heard)) if isinstance(item, Event)]
    assert [event.topic for event in events] == [TOPIC, TOPIC, "ops.dead-letter", "ops.dead-letter"]
    assert [event.record.reason for event in events[2:]] == ["UNKNOWN_SCHEMA", "WRONG_SCHEMA"]


def test_away_is_not_unknown(tmp_path: Path, prefix: str) -> None:
    """What is known flows on; what is not waits, and is asked again some seconds later."""
    service = or_skipped(Service, tmp_path)
    clock = Hand()
    with service:
        at = Registry(RegistryAccess(url=service.url), call_s=1.0, retries=0)
        number = registered(at, prefix)
        schemas = Schemas(at, prefix, clock)
        schemas.load([TOPIC])
        service.kill()
        schemas.resolve([framed(number, b"")])
        assert number in schemas
        for _ in range(20):
            with pytest.raises(RegistryAway):
                schemas.resolve([framed(NOBODY, b"")])
        assert schemas.lookups == 1, "a registry that was away is left alone for a while"
        assert schemas.away
        service.start()
        clock.now += BACK_OFF_S
        schemas.resolve([framed(NOBODY, b"")])
        assert NOBODY not in schemas
        assert not schemas.away
        assert schemas.unknown == 1
