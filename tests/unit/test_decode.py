"""Decode: identifiers are tokens behind it, and a refusal is a value."""

import io
import json
import struct
from base64 import b64encode
from typing import Any

import fastavro
import orjson
import pytest

from operators.decode import Decode, DecodeRule, consent_epoch
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas import avsc, codec, ids
from schemas.items import DataKey, Event, Heard, Item, Tally
from schemas.keys import partition_of
from schemas.personal import personal
from schemas.pseudonym import EXAMPLE_KEY, tokens
from schemas.sealing import deployment_key, opener, sealer
from schemas.topics import TOPICS

DEPLOYMENT = deployment_key(EXAMPLE_KEY)
SCHEMAS = {1: ("sensing.position", avsc.parsed("sensing.position")), 2: ("web.event", avsc.parsed("web.event"))}


def core(schemas: Any = SCHEMAS, dealt: int | None = None) -> Decode:
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    rule = DecodeRule(
        site_id="mad-01",
        token=tokens(EXAMPLE_KEY, 1),
        sealed=sealer(DEPLOYMENT),
        wrapped=sealer(DEPLOYMENT),
        sealed_under=sealer,
        unwrapped=opener(DEPLOYMENT),
        new_key=lambda: b"k" * 32,
        schemas=schemas,
        dealt=dealt,
    )
    return Decode(rule, Tables(store))


def heard(topic: str, value: bytes | dict[str, object], form: str = "json", offset: int = 3) -> Heard:
    return Heard(0, topic, 0, offset, 5_000_000, value if isinstance(value, bytes) else orjson.dumps(value), form)


def one(topic: str, value: bytes | dict[str, object], form: str = "json") -> Item:
    return next(item for item in core().step([heard(topic, value, form)]) if isinstance(item, Event))


POSITION = {"event_time": 1, "subject_id": "ana-tag", "tech": "UWB", "x_m": 1.5, "y_m": 2, "floor": 0}


def refusal(topic: str, value: bytes | dict[str, object], form: str = "json") -> tuple[str, str]:
    found = one(topic, value, form)
    assert isinstance(found, Event)
    assert found.topic == "ops.dead-letter"
    return found.record.reason, found.record.stage


def test_a_bare_subject_is_a_tag_and_defaults_are_filled() -> None:
    """What a row leaves out means what the contract says."""
    record = one("sensing.position", POSITION).record
    assert record.subject_id == "tag:1:3z2kiuxszjrwxxxf6a7q"
    assert (record.ingest_time, record.site_id, record.source_id) == (1, "mad-01", "file")


def test_a_token_passes_as_it_is() -> None:
    """Rows that were hashed before are not hashed again."""
    token = "tag:1:3z2kiuxszjrwxxxf6a7q"
    assert one("sensing.position", {**POSITION, "subject_id": token}).record.subject_id == token


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"not json", "BAD_SHAPE"),
        ({"event_time": 1}, "BAD_SHAPE"),
        ({**POSITION, "x_m": "east"}, "BAD_SHAPE"),
        ({**POSITION, "subject_id": "loyalty:"}, "BAD_ID"),
        ({**POSITION, "subject_id": ""}, "BAD_ID"),
        (b'{"event_time": 1, "pad": "' + b"x" * (1 << 20) + b'"}', "OVERSIZE"),
    ],
)
def test_a_bad_row_is_a_dead_letter(value: bytes | dict[str, object], reason: str) -> None:
    """With a reason of the closed list, at stage DECODE."""
    assert refusal("sensing.position", value) == (reason, "DECODE")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x00\x00", "BAD_FRAMING"),
        (b"\x01\x00\x00\x00\x01abc", "BAD_FRAMING"),
        (b"\x00\x00\x00\x00\x09abc", "UNKNOWN_SCHEMA"),
        (b"\x00\x00\x00\x00\x02abc", "WRONG_SCHEMA"),
        (b"\x00\x00\x00\x00\x01abc", "UNDECODABLE"),
    ],
)
def test_a_bad_frame_is_a_dead_letter(value: bytes, reason: str) -> None:
    """The wire is looked at before it is believed."""
    assert refusal("sensing.position", value, "wire") == (reason, "DECODE")


def test_both_forms_decode_to_equal_structs() -> None:
    """A line of JSON and an Avro body say the same."""
    record = one("sensing.position", POSITION).record
    assert one("sensing.position", codec.encode(1, record), "wire").record == record


def test_an_unknown_namespace_is_a_bad_id_and_a_placeholder_is_dropped() -> None:
    """The identifier goes, the event stays."""
    assert refusal("web.event", {"event_time": 1, "name": "page", "identifiers": ["visitor:7"]}) == ("BAD_ID", "DECODE")
    kept = one(
        "web.event",
        {"event_time": 1, "name": "page", "identifiers": ["email:noemail@x.com", "cookie:c1", "loyalty:0000"]},
    )
    assert [token.split(":")[0] for token in kept.record.identifiers] == ["cookie"]


@pytest.mark.parametrize(
    "value", ["write to ana@example.com", "+34 600 123 456", "4111 1111 1111 1111", "00:1A:2b:3c:4d:5e", "10.1.2.3"]
)
def test_personal_shapes_in_maps_are_refused_and_withheld(value: str) -> None:
    """A map is no place for an address."""
    found = one("web.event", {"event_time": 1, "name": "page", "properties": {"note": value}}).record
    assert (found.reason, found.payload) == ("PERSONAL_DATUM", None)


@pytest.mark.parametrize("value", ["red", "412.50", "2026-12-05", "12345678", "4111 1111 1111 1112"])
def test_plain_values_are_no_personal_shapes(value: str) -> None:
    """Prices, dates and article numbers pass."""
    assert not personal(value)


def test_a_contact_point_is_sealed_at_the_door() -> None:
    """Its key travels beside it, sealed under the deployment's."""
    row = {"event_time": 1, "identifier": "loyalty:ana-card", "kind": "NAME", "value": "Ana", "verified": True}
    key, event = (item for item in core().step([heard("crm.contact-point", row)]) if not isinstance(item, Tally))
    assert isinstance(key, DataKey)
    assert isinstance(event, Event)
    assert b"Ana" not in event.record.value_sealed
    assert opener(opener(DEPLOYMENT)(key.wrapped))(event.record.value_sealed) == b"Ana"


def test_a_plain_value_on_a_topic_is_refused_and_withheld() -> None:
    """A file is read and gone; on a topic the name would stay, whatever we sealed."""
    schema = avsc.parsed("crm.contact-point")
    schema = {**schema, "fields": [*schema["fields"], {"name": "value", "type": "string"}]}
    row = {
        "event_id": "e", "event_time": 1, "ingest_time": 1, "site_id": "", "source_id": "crm", "verified": True,
        "identifier": "loyalty:ana-card", "kind": "NAME", "value_sealed": b"", "value": "Ana",
    }  # fmt: skip
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, row)
    framed = b"\x00" + (3).to_bytes(4, "big") + body.getvalue()
    one = core({3: ("crm.contact-point", schema)})
    (found,) = (item for item in one.step([heard("crm.contact-point", framed, "wire")]) if not isinstance(item, Tally))
    assert isinstance(found, Event)
    assert (found.record.reason, found.record.payload) == ("PERSONAL_DATUM", None)


def test_a_dead_letter_opens_with_the_deployment_key_and_holds_no_plain_id() -> None:
    """It can be repaired and fed again, by whoever holds the key."""
    line = orjson.dumps({"event_time": 1, "identifiers": ["loyalty:ana-card"]})
    found = one("web.event", line).record
    assert b"ana-card" not in found.payload
    assert opener(DEPLOYMENT)(found.payload) == line


def _batch(**changes: object) -> dict[str, object]:
    columns = {
        "subject_ix": struct.pack("<3H", 0, 1, 0),
        "time_offset_us": struct.pack("<3i", 0, 1000, 2000),
        "x_m": struct.pack("<3f", 1, 2, 3),
        "y_m": struct.pack("<3f", 4, 5, 6),
        "floor": struct.pack("<3f", 0, 0, 1),
        "accuracy_m": struct.pack("<3f", 0.5, float("nan"), 1),
    }
    columns.update(changes)  # type: ignore[arg-type]
    coded = {name: b64encode(value).decode() for name, value in columns.items()}
    return {"event_time": 1_000_000, "count": 3, "first_seq": 7, "tech": "UWB", "subjects": ["a", "b"], **coded}


def test_a_batch_is_its_readings() -> None:
    """The same as one by one, each with its index."""
    readings = [item for item in core().step([heard("sensing.position-batch", _batch())]) if isinstance(item, Event)]
    assert [(r.index, r.record.seq, r.record.event_time, r.record.x_m, r.record.accuracy_m) for r in readings] == [
        (0, 7, 1_000_000, 1.0, 0.5),
        (1, 8, 1_001_000, 2.0, None),
        (2, 9, 1_002_000, 3.0, 1.0),
    ]
    assert readings[0].record.subject_id == readings[2].record.subject_id != readings[1].record.subject_id


def test_a_column_of_another_length_spoils_the_batch() -> None:
    """Nobody can say which reading is which."""
    assert refusal("sensing.position-batch", _batch(x_m=b"\0" * 8)) == ("UNDECODABLE", "DECODE")


def test_every_row_read_is_counted_once() -> None:
    """read = passed on + dead."""
    rows = [heard("sensing.position", POSITION), heard("sensing.position", b"?"), heard("sensing.position", POSITION)]
    tallies = {(item.topic, item.fate): item.count for item in core().step(rows) if isinstance(item, Tally)}
    assert tallies == {("sensing.position", "read"): 3, ("sensing.position", "dead"): 1}


def test_a_tombstone_is_no_message() -> None:
    """Compaction takes a row away that has said before that it goes; on other topics an empty value is refused."""
    found = core().step([heard("crm.customer", b"", "wire")])
    assert [(item.fate, item.count) for item in found if isinstance(item, Tally)] == [("applied", 1), ("read", 1)]
    assert not [item for item in found if isinstance(item, Event)]
    assert refusal("web.event", b"", "wire") == ("BAD_FRAMING", "DECODE")


def test_the_consent_epoch_names_the_content_alone() -> None:
    """Two records that say the same have the same epoch, whenever they came."""
    record = TOPICS["consent.record"].record
    first = record(event_id="1", event_time=1, identifier="loyalty:1:x", language="es")
    second = record(event_id="2", event_time=9, identifier="loyalty:1:x", language="es")
    assert (
        consent_epoch(first) == consent_epoch(second) != consent_epoch(record(event_time=1, identifier="loyalty:1:y"))
    )


@pytest.mark.parametrize(
    ("topic", "row"),
    [
        ("sensing.position", {**POSITION, "subject_id": "\ud800"}),
        ("crm.contact-point", {"event_time": 1, "identifier": "loyalty:a", "kind": "NAME", "value": "\ud800"}),
    ],
)
def test_a_text_that_utf_8_cannot_write_is_of_no_shape(topic: str, row: dict[str, object]) -> None:
    assert refusal(topic, json.dumps(row).encode())[0] == "BAD_SHAPE"


ANA = "tag:1:3z2kiuxszjrwxxxf6a7q"
AT = partition_of(f"mad-01|{ANA}", 4)


def dealt(topic: str, row: dict[str, object], partition: int, key: str | None = None, count: int | None = 4) -> Item:
    """What becomes of a row of a partition where processes share nothing."""
    found = Heard(0, topic, partition, 3, 5_000_000, orjson.dumps(row), key=None if key is None else key.encode())
    items = core(dealt=count).step([found])
    tally = {(item.topic, item.fate): item.count for item in items if isinstance(item, Tally)}
    [event] = [item for item in items if isinstance(item, Event)]
    assert tally[topic, "read"] == 1
    assert tally.get((topic, "dead"), 0) == (event.topic == "ops.dead-letter")
    return event


@pytest.mark.parametrize("partition", [AT, AT + 4])
@pytest.mark.parametrize("key", [None, "another", f"mad-01|{ANA}"])
def test_a_row_in_the_partition_of_its_subject_passes_whatever_key_it_has(key: str | None, partition: int) -> None:
    """Also where the topic has grown: rows of before lie where they lay."""
    assert dealt("sensing.position", POSITION, partition, key).topic == "sensing.position"


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "KEY_MISMATCH"), ("mad-01|tag:ana-tag", "KEY_MISMATCH"), (f"mad-01|{ANA}", "WRONG_PARTITION")],
)
def test_a_row_in_the_partition_of_others_is_refused(key: str | None, reason: str) -> None:
    found = dealt("sensing.position", POSITION, (AT + 1) % 4, key)
    assert isinstance(found, Event)
    assert (found.record.reason, found.record.stage) == (reason, "DECODE")
    assert found.record.event_id == ids.dead("sensing.position", (AT + 1) % 4, 3, "")


def test_where_one_process_reads_all_a_row_may_lie_anywhere() -> None:
    assert dealt("sensing.position", POSITION, (AT + 1) % 4, count=None).topic == "sensing.position"


def test_only_what_is_keyed_by_subject_is_asked_where_it_lies() -> None:
    for partition in range(4):
        row = {
            "event_time": 1,
            "counter_id": "door",
            "interval_start": 1,
            "interval_end": 2,
            "count_in": 1,
            "count_out": 0,
        }
        assert dealt("sensing.count", {**row, "staff_excluded": True}, partition).topic == "sensing.count"


def test_a_stray_of_a_batch_is_refused_alone() -> None:
    heard_ = Heard(
        0, "sensing.position-batch", AT, 3, 5_000_000, orjson.dumps({**_batch(), "subjects": ["ana-tag", "stray-0"]})
    )
    assert partition_of(f"mad-01|{tokens(EXAMPLE_KEY, 1)('tag:stray-0')}", 4) != AT
    items = core(dealt=4).step([heard_])
    events = [item for item in items if isinstance(item, Event)]
    assert [event.topic for event in events].count("ops.dead-letter") == 1
    [letter] = [event.record for event in events if event.topic == "ops.dead-letter"]
    stray = [event.topic for event in events].index("ops.dead-letter")
    assert (letter.reason, letter.stage, letter.index) == ("WRONG_PARTITION", "DECODE", stray)
    assert letter.event_id == ids.dead("sensing.position-batch", AT, 3, stray)
    assert {event.record.subject_id for event in events if event is not events[stray]} == {ANA}
    assert Tally("sensing.position-batch", "dead", 1) in items
