"""The contract with every sensor, till and receiver."""

import random
from io import BytesIO

import fastavro
import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avsc, check, codec, rows
from schemas.topics import TOPICS
from schemas.types import AnyRecord

FORBIDDEN = {
    "name_of_person", "first_name", "last_name", "email", "phone", "street", "address", "card_number", "birth_date",
    "mac", "ip", "face", "image", "photo", "template", "emotion",
}  # fmt: skip
BYTES_ALLOWED = {
    "subject_ix", "time_offset_us", "x_m", "y_m", "z_m", "floor", "accuracy_m", "speed_mps", "signature",
    "value_sealed", "payload", "payload_sha256", "origin_key",
}  # fmt: skip


def _fields(schema: object) -> list[tuple[str, object]]:
    if isinstance(schema, dict):
        found = [(field["name"], field["type"]) for field in schema.get("fields", [])]
        inner = [one for field in schema.get("fields", []) for one in _fields(field["type"])]
        return found + inner + _fields(schema.get("items")) + _fields(schema.get("values"))
    if isinstance(schema, list):
        return [one for part in schema for one in _fields(part)]
    return []


def _record(topic: str, seed: int) -> AnyRecord:
    datum = check.sample(avsc.parsed(topic), random.Random(seed), {})
    return rows.reader(TOPICS[topic].record)(datum)[0]


def test_structs_files_releases_and_corpus_agree() -> None:
    """What is committed is what the program speaks."""
    assert check.faults() == []


@pytest.mark.parametrize("topic", TOPICS)
@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_decoding_undoes_encoding(topic: str, seed: int) -> None:
    """decode(encode(x)) = x, as Avro and as a line of JSON."""
    record = _record(topic, seed)
    assert codec.decode_body(topic, codec.encode_body(topic, record)) == record
    assert rows.from_line(type(record), rows.to_line(record)) == record


@pytest.mark.parametrize("topic", TOPICS)
def test_no_field_can_hold_a_personal_datum(topic: str) -> None:
    """No forbidden name, and bytes only where the short list allows them."""
    for name, kind in _fields(avsc.schema_of(topic)):
        assert name not in FORBIDDEN, f"{topic}.{name}"
        if kind == "bytes" or (isinstance(kind, list) and "bytes" in kind):
            assert name in BYTES_ALLOWED, f"{topic}.{name}"


@pytest.mark.parametrize("topic", ["sensing.position", "consent.record", "decision.record"])
def test_bytes_behind_a_record_are_refused(topic: str) -> None:
    """fastavro ignores them; we do not."""
    body = codec.encode_body(topic, _record(topic, 1))
    with pytest.raises(codec.Undecodable):
        codec.decode_datum(avsc.parsed(topic), body + b"\0")


def test_an_index_below_zero_is_refused() -> None:
    """fastavro takes it as counting from the end and picks the last branch."""
    schema = fastavro.parse_schema(
        {
            "type": "record",
            "name": "R",
            "fields": [{"name": "a", "type": ["null", "string"]}, {"name": "b", "type": "long"}],
        }
    )
    good = BytesIO()
    fastavro.schemaless_writer(good, schema, {"a": "xy", "b": 7})
    assert good.getvalue()[0] == 2
    bad = b"\x01" + good.getvalue()[1:]
    assert fastavro.schemaless_reader(BytesIO(bad), schema)["a"] == "xy"
    with pytest.raises(codec.Undecodable):
        codec.decode_datum(schema, bad)


def test_a_damaged_body_is_refused_or_reads_as_another_record_but_never_crashes() -> None:
    """Truncations are all caught; flips are caught or decode cleanly."""
    draw = random.Random(5)
    caught = 0
    for seed in range(40):
        body = codec.encode_body("pos.receipt", _record("pos.receipt", seed))
        for cut in {draw.randrange(len(body)) for _ in range(10)}:
            with pytest.raises(codec.Undecodable):
                codec.decode_datum(avsc.parsed("pos.receipt"), body[:cut])
        at, bit = draw.randrange(len(body)), draw.randrange(8)
        flipped = body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]
        try:
            codec.decode_datum(avsc.parsed("pos.receipt"), flipped)
        except codec.Undecodable:
            caught += 1
    assert caught > 0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s["fields"].append({"name": "new", "type": "long"}), "a new field must have a default"),
        (lambda s: s["fields"].append({"name": "new", "type": "long", "default": 0}), None),
        (lambda s: s["fields"].pop(next(i for i, f in enumerate(s["fields"]) if f["name"] == "x_m")), "may not go"),
        (lambda s: s["fields"].pop(next(i for i, f in enumerate(s["fields"]) if f["name"] == "z_m")), None),
        (lambda s: next(f for f in s["fields"] if f["name"] == "tech")["type"]["symbols"].append("ULTRASOUND"), None),
        (
            lambda s: next(f for f in s["fields"] if f["name"] == "tech")["type"]["symbols"].reverse(),
            "only be appended",
        ),
        (lambda s: next(f for f in s["fields"] if f["name"] == "x_m").update(type="double"), "the type must stay"),
    ],
)
def test_evolution_is_full_transitive(change: object, fault: str | None) -> None:
    """Stores upgrade at different times, so neither readers nor writers can go first."""
    old = orjson.loads(avsc.text("sensing.position"))
    new = orjson.loads(avsc.text("sensing.position"))
    change(new)  # type: ignore[operator]
    found = check.incompatible(old, new)
    assert (found == []) if fault is None else any(fault in one for one in found)


def test_a_new_symbol_reads_as_unknown() -> None:
    """An older reader meets a newer writer."""
    row = {"event_time": 1, "subject_id": "tag:1", "tech": "ULTRASOUND", "x_m": 1, "y_m": 2, "floor": 0}
    assert rows.reader(TOPICS["sensing.position"].record)(row)[0].tech == "UNKNOWN"


def test_floats_are_single_and_print_their_shortest_decimal() -> None:
    """What was written with three digits comes back with three digits."""
    row = {"event_time": 1, "subject_id": "tag:1", "x_m": 0.9955555582046509, "y_m": 0.1, "floor": 0}
    line = rows.to_line(rows.reader(TOPICS["sensing.position"].record)(row)[0])
    assert b'"x_m":0.9955556,"y_m":0.1,' in line


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (b"nonsense", rows.BadShape),
        (b"[1]", rows.BadShape),
        (b'{"event_time": "yesterday"}', rows.BadShape),
        (b'{"event_time": 1, "subject_id": "t", "y_m": 1, "floor": 0}', rows.BadShape),
        (b'{"event_time": 1, "subject_id": 5, "x_m": 1, "y_m": 1, "floor": 0}', rows.BadShape),
        (b'{"event_time": true, "subject_id": "t", "x_m": 1, "y_m": 1, "floor": 0}', rows.BadShape),
        (b'{"event_time": 1, "subject_id": "' + b"t" * 9000 + b'", "x_m": 1, "y_m": 1, "floor": 0}', rows.Oversize),
    ],
)
def test_a_row_of_another_shape_is_refused(row: bytes, error: type[Exception]) -> None:
    """With its field, never with its value."""
    with pytest.raises(error):
        rows.from_line(TOPICS["sensing.position"].record, row)


def test_every_record_is_frozen_and_has_its_envelope_in_front() -> None:
    """No nested header, the same names everywhere."""
    for topic in TOPICS.values():
        names = topic.record.__struct_fields__
        assert names[:5] in {
            ("event_id", "event_time", "ingest_time", "site_id", "source_id"),
            ("event_time", "ingest_time", "site_id", "source_id", "seq"),
        }
        assert issubclass(topic.record, msgspec.Struct)
