"""Decode: what was heard becomes a record whose identifiers are tokens, or a dead letter with a reason.

Nothing behind this step sees a raw identifier or a plain name: both end here.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from operators.state.store import Table, Tables
from schemas import ids
from schemas.codec import LARGEST_ID, BadFraming, Undecodable, decode_datum, unframed
from schemas.items import DataKey, Event, Heard, Item, Tally
from schemas.keys import key_of, partition_of
from schemas.letters import LARGEST_KEY, Sealed, dead_letter, letter
from schemas.personal import personal
from schemas.pseudonym import NAMESPACES, BadIdentifier, Tokens, namespace_of, subject_tokens
from schemas.reference import Consent
from schemas.rows import LARGEST_ARRAY, LARGEST_STRING, LARGEST_VALUE, BadShape, Oversize, instant, loads, reader
from schemas.sensing import Position, PositionBatch
from schemas.topics import TOPICS
from schemas.types import AnyRecord

LARGEST_BASE = 1 << 62
MOST_IDENTIFIERS = 8
_ENVELOPE = frozenset({"event_id", "event_time", "ingest_time", "site_id", "source_id", "seq"})
_BLOCKED = re.compile(r"[0-]*|-1|null|none|anonymous|invalid|(test|noemail)@.*", re.IGNORECASE)


@dataclass
class Refusal(Exception):
    """A message that ends here; `reason` is of the closed list, `detail` holds no value of it."""

    reason: str
    detail: str


@dataclass(frozen=True)
class DecodeRule:
    """What decoding needs to know of its deployment.

    `schemas` maps a framed schema id to (topic, parsed writer's schema). `new_key` draws a data key of 32
    bytes; it is the only thing here that is no function of the input, and no output depends on it.
    `dealt` is set where processes share nothing: the partitions over which subjects are dealt to them. A row that
    lies in the partition of others is refused there: what followed from it would be theirs to say.
    """

    site_id: str
    token: Tokens
    sealed: Sealed
    wrapped: Sealed
    sealed_under: Callable[[bytes], Sealed]
    unwrapped: Sealed
    new_key: Callable[[], bytes]
    schemas: Mapping[int, tuple[str, dict[str, Any]]]
    dealt: int | None = None


class Decode:
    """Turn what was heard into events with hashed identifiers, or dead letters; the core of one shard.

    State: one wrapped data key for each identifier that has contact points; it ends with an erasure.
    Time: none. Guarantee: a replay gives the same events. Errors: every reason of stage DECODE.
    Cost: `benchmarks/throughput.py`.
    """

    def __init__(self, rule: DecodeRule, tables: Tables) -> None:
        self._rule = rule
        self._subject = subject_tokens(rule.token)
        self._keys: Table[bytes] = tables.table(1, bytes)
        self._records = {name: reader(topic.record) for name, topic in TOPICS.items()}
        self._tally: Counter[tuple[str, str]] = Counter()

    def step(self, items: list[Item]) -> list[Item]:
        """Decode what was heard; everything else passes. Tallies stand at the end."""
        out: list[Item] = []
        for item in items:
            if isinstance(item, Heard):
                out.extend(self._message(item))
            else:
                out.append(item)
        out.extend(Tally(topic, fate, count) for (topic, fate), count in sorted(self._tally.items()))
        self._tally.clear()
        return out

    def _message(self, heard: Heard) -> Iterator[Item]:
        if not heard.value and heard.form == "wire" and TOPICS[heard.topic].compact:
            # a tombstone: what it takes away has said so itself, by a record with `deleted` or `withdrawn`
            self._tally[heard.topic, "read"] += 1
            self._tally[heard.topic, "applied"] += 1
            return
        row: dict[str, Any] = {}
        try:
            row = self._row(heard)
            record = self._record(heard, row)
            if isinstance(record, PositionBatch):
                readings = self._readings(heard, record)
            elif self._strays(heard.topic, record, heard.partition):
                raise _misplaced(heard, record)
        except Refusal as refusal:
            self._tally[heard.topic, "read"] += 1
            yield self._refused(heard, row, None, refusal)
            return
        if isinstance(record, PositionBatch):
            self._tally[heard.topic, "read"] += len(readings)
            yield from readings if self._rule.dealt is None else map(self._in_its_batch, readings)
            return
        self._tally[heard.topic, "read"] += 1
        if heard.topic == "crm.contact-point":
            wrapped = self._keys.get(record.identifier)  # type: ignore[union-attr]
            if wrapped is not None:
                yield DataKey(heard.number, heard.clock, record.identifier, wrapped)  # type: ignore[union-attr]
        yield Event(heard.number, heard.clock, heard.topic, record, heard.partition, heard.offset, raw=heard.value)

    def _strays(self, topic: str, record: AnyRecord, partition: int) -> bool:
        """Whether the key of a record leads to another partition than the one it was read from."""
        dealt = self._rule.dealt
        return (
            dealt is not None
            and topic in _DEALT
            and partition_of(key_of(topic, record), dealt) != partition % dealt  # it may have grown
        )

    def _in_its_batch(self, event: Event) -> Event:
        """A reading, or its dead letter where its subject belongs into a batch of another partition."""
        if not self._strays("sensing.position", event.record, event.partition):
            return event
        self._tally[event.topic, "dead"] += 1
        detail = "a batch must hold subjects of its own partition only"
        return dead_letter(
            event=event,
            site_id=self._rule.site_id,
            stage="DECODE",
            reason="WRONG_PARTITION",
            detail=detail,
            sealed=self._rule.sealed,
        )

    def _row(self, heard: Heard) -> dict[str, Any]:
        if len(heard.value) > LARGEST_VALUE:
            raise Refusal("OVERSIZE", "a value must hold at most 1 MiB")
        if heard.key is not None and len(heard.key) > LARGEST_KEY:
            raise Refusal("OVERSIZE", "a key must hold at most 256 bytes")
        try:
            if heard.form == "json":
                return loads(heard.value)
            schema_id, body = unframed(heard.value)
            if schema_id not in self._rule.schemas:
                raise Refusal("UNKNOWN_SCHEMA", f"schema id {schema_id} must be one that is registered")
            topic, schema = self._rule.schemas[schema_id]
            if topic != heard.topic:
                raise Refusal("WRONG_SCHEMA", f"schema id {schema_id} must be one of this topic")
            return decode_datum(schema, body)
        except BadFraming as error:
            raise Refusal("BAD_FRAMING", str(error)) from None
        except Undecodable as error:
            raise Refusal("UNDECODABLE", str(error)) from None
        except BadShape as error:
            raise Refusal("BAD_SHAPE", str(error)) from None
        except Oversize as error:
            raise Refusal("OVERSIZE", str(error)) from None

    def _record(self, heard: Heard, row: dict[str, Any]) -> AnyRecord:
        for name in _MAPS[heard.topic]:
            values = row.get(name)
            if isinstance(values, dict) and any(map(personal, values.values())):
                raise Refusal("PERSONAL_DATUM", f"no value of {name} may look like an address or a number of a person")
        try:
            if heard.topic == "crm.contact-point" and heard.form == "wire" and row.get("value") is not None:
                raise Refusal("PERSONAL_DATUM", "value may stand in a file only; on a topic it must come sealed")
            self._seal_contact(heard.topic, row)
            self._complete(heard, row)
            self._hash(heard.topic, row)
            record, unknown = self._records[heard.topic](row)
        except BadShape as error:
            raise Refusal("BAD_SHAPE", str(error)) from None
        except Oversize as error:
            raise Refusal("OVERSIZE", str(error)) from None
        except BadIdentifier as error:
            raise Refusal("BAD_ID", str(error)) from None
        except UnicodeEncodeError:
            raise Refusal("BAD_SHAPE", "a text must be one that UTF-8 can write") from None
        if unknown:
            self._tally[heard.topic, "unknown_field"] += unknown
        if isinstance(record, Consent) and not record.epoch:
            record = msgspec.structs.replace(record, epoch=consent_epoch(record))
        return record  # type: ignore[no-any-return]

    def _complete(self, heard: Heard, row: dict[str, Any]) -> None:
        """Fill in what a field left out means here."""
        if not row.get("ingest_time"):
            row["ingest_time"] = row.get("event_time")
        if row.get("site_id") is None:
            row["site_id"] = self._rule.site_id
        if row.get("source_id") is None:
            row["source_id"] = "file"
        if heard.topic in _NAMED and not row.get("event_id"):
            row["event_id"] = ids.row(heard.topic, heard.offset)

    def _hash(self, topic: str, row: dict[str, Any]) -> None:
        """Put tokens in place of raw identifiers."""
        for name in _SINGLE[topic]:
            found = row.get(name)
            if isinstance(found, str):
                if len(found) > LARGEST_STRING:
                    raise Oversize(f"{name}: a string must hold at most 8 KiB")
                row[name] = self._subject(found) if name == "subject_id" else self._rule.token(found)
        for name in _SEVERAL[topic]:
            many = row.get(name)
            if isinstance(many, list) and all(isinstance(one, str) for one in many):
                if len(many) > LARGEST_ARRAY:
                    raise Oversize("an array must hold at most 10,000 items")
                row[name] = self._allowed(many) if name == "identifiers" else [self._subject(one) for one in many]

    def _allowed(self, found: list[str]) -> list[str]:
        """Tokens without placeholders, each once, at most 8 of them by priority."""
        kept: dict[str, None] = {}
        for raw in found:
            if _BLOCKED.fullmatch(raw.partition(":")[2].strip()):
                self._tally["", "blocked_identifier"] += 1
            else:
                kept[self._rule.token(raw)] = None
        if len(kept) <= MOST_IDENTIFIERS:
            return list(kept)
        return sorted(kept, key=lambda token: NAMESPACES[namespace_of(token)])[:MOST_IDENTIFIERS]

    def _seal_contact(self, topic: str, row: dict[str, Any]) -> None:
        if topic != "crm.contact-point" or row.get("value") is None:
            return
        value, identifier = row.pop("value"), row.get("identifier")
        if not isinstance(value, str) or not isinstance(identifier, str):
            raise BadShape("value and identifier: a text was expected")
        token = self._rule.token(identifier)
        wrapped = self._keys.get(token)
        if wrapped is None:
            wrapped = self._rule.wrapped(self._rule.new_key())
            self._keys.put(token, wrapped)
        sealed = self._rule.sealed_under(self._rule.unwrapped(wrapped))
        row["value_sealed"] = b64encode(sealed(value.encode())).decode()

    def _readings(self, heard: Heard, batch: PositionBatch) -> list[Event]:
        columns = [("subject_ix", "<u2", True), ("time_offset_us", "<i4", True)]
        columns += [(name, "<f4", name in {"x_m", "y_m", "floor"}) for name in _COLUMNS]
        values: dict[str, list[Any]] = {}
        for name, kind, required in columns:
            column: bytes = getattr(batch, name)
            wanted = batch.count * np.dtype(kind).itemsize
            if len(column) != wanted and (required or column):
                raise Refusal("UNDECODABLE", f"column {name} must hold {wanted} bytes; got {len(column)}")
            if column or required:
                values[name] = np.frombuffer(column, kind).tolist()
        if not 0 <= batch.count <= 10_000:
            raise Refusal("OVERSIZE", "a batch must hold at most 10,000 readings")
        if max(abs(batch.event_time), abs(batch.first_seq or 0)) > LARGEST_BASE:
            raise Refusal("OUT_OF_RANGE", "event_time and first_seq must leave room for what is counted from them")
        if any(ix >= len(batch.subjects) for ix in values["subject_ix"]):
            raise Refusal("BAD_SHAPE", "subject_ix must name a subject of the batch")

        def optional(name: str, index: int) -> float | None:
            value = values[name][index] if name in values else None
            return None if value is None or value != value else value  # noqa: PLR0124 - NaN stands for null

        return [
            Event(
                heard.number,
                heard.clock,
                heard.topic,
                Position(
                    event_time=batch.event_time + values["time_offset_us"][i],
                    ingest_time=batch.ingest_time,
                    site_id=batch.site_id,
                    source_id=batch.source_id,
                    seq=None if batch.first_seq is None else batch.first_seq + i,
                    subject_id=batch.subjects[values["subject_ix"][i]],
                    tech=batch.tech,
                    x_m=values["x_m"][i],
                    y_m=values["y_m"][i],
                    z_m=optional("z_m", i),
                    floor=values["floor"][i],
                    accuracy_m=optional("accuracy_m", i),
                    speed_mps=optional("speed_mps", i),
                ),
                heard.partition,
                heard.offset,
                i,
            )
            for i in range(batch.count)
        ]

    def _refused(self, heard: Heard, row: dict[str, Any], index: int | None, refusal: Refusal) -> Event:
        self._tally[heard.topic, "dead"] += 1
        event_time, ingest_time = (_readable(row.get(name)) for name in ("event_time", "ingest_time"))
        found = letter(
            topic=heard.topic,
            partition=heard.partition,
            offset=heard.offset,
            index=index,
            event_time=heard.clock if event_time is None else event_time,
            ingest_time=heard.clock if ingest_time is None else ingest_time,
            site_id="" if row.get("site_id") == "" else self._rule.site_id,  # any other may be anything
            stage="DECODE",
            reason=refusal.reason,
            detail=refusal.detail,
            payload=heard.value,
            sealed=self._rule.sealed,
            key=heard.key,
            schema_id=_schema_id(heard),
        )
        return Event(heard.number, heard.clock, "ops.dead-letter", found)


def _fields(*names: str) -> dict[str, tuple[str, ...]]:
    """Which of these fields each topic's record has."""
    return {
        name: tuple(field for field in names if field in topic.record.__struct_fields__)
        for name, topic in TOPICS.items()
    }


def _misplaced(heard: Heard, record: AnyRecord) -> Refusal:
    if heard.key == key_of(heard.topic, record).encode():
        return Refusal("WRONG_PARTITION", "a row must lie in the partition that murmur2 gives its key")
    return Refusal("KEY_MISMATCH", "the key must be that of the record: its site, |, and the token of its subject")


_DEALT = frozenset(name for name, topic in TOPICS.items() if topic.key == "S")
_NAMED = frozenset(name for name, fields in _fields("event_id").items() if fields)
_SINGLE = _fields("identifier", "from_id", "to_id", "subject_id")
_SEVERAL = _fields("identifiers", "subjects")
_MAPS = _fields("properties", "traits", "params")
_COLUMNS = ("x_m", "y_m", "floor", "accuracy_m", "z_m", "speed_mps")


def _schema_id(heard: Heard) -> int | None:
    """The id that a frame names; what has no frame, or names what no registry gives, has none."""
    if heard.form != "wire":
        return None
    try:
        found, _ = unframed(heard.value)
    except BadFraming:
        return None
    return found if found <= LARGEST_ID else None


def _readable(value: Any) -> int | None:
    try:
        return None if value is None else instant(value)
    except BadShape:
        return None


def consent_epoch(record: Consent) -> str:
    """First 12 hex digits over the record after hashing, without envelope and epoch."""
    fields = msgspec.to_builtins(record)
    return ids.version({name: value for name, value in fields.items() if name not in _ENVELOPE | {"epoch"}})
