"""Dead letters: what was refused, where it stood, and why; the payload sealed."""

import hashlib
from collections.abc import Callable

import msgspec

from schemas import ids
from schemas.items import Event
from schemas.operations import DeadLetter
from schemas.rows import to_line
from schemas.types import AnyRecord

Sealed = Callable[[bytes], bytes]
VERSION = "1"
LARGEST_PAYLOAD = 64 << 10
"""What is kept of a payload that is cut (bytes)."""
WHOLE_PAYLOAD = 900_000
"""A payload up to this size is kept whole: it fits a topic of default settings, sealed and with its envelope."""
LARGEST_KEY = 256
WITHHELD = frozenset({"PERSONAL_DATUM", "REFUSED_CATEGORY"})
CLEAR_TOPICS = frozenset(
    {
        "sensing.count",
        "sensing.status",
        "venue.site",
        "venue.zone",
        "venue.device",
        "context.fact",
        "control.release",
        "control.threshold",
    }
)
"""Topics that cannot carry an identifier: their dead letters keep the payload in clear."""


def payload_of(event: Event) -> bytes:
    """The message as it came, or, once it has waited in a buffer, its record after hashing as a row."""
    return event.raw or to_line(event.record)


def letter(
    *,
    topic: str,
    partition: int,
    offset: int,
    index: int | None,
    event_time: int,
    ingest_time: int,
    site_id: str,
    stage: str,
    reason: str,
    detail: str,
    payload: bytes,
    sealed: Sealed,
    key: bytes | None = None,
    schema_id: int | None = None,
) -> DeadLetter:
    """Write the letter of one refused message.

    No field but `payload` and `origin_key` may hold a value of the message: `site_id` is one that we know, `detail`
    is ours. `payload` is sealed where the topic can carry an identifier, cut at 64 KiB for OVERSIZE and where a letter
    of all of it would fit no topic, and left out for the reasons that withhold it; `payload_sha256` is that of the
    bytes as they would be kept. A key is cut at 256 bytes.
    """
    cut = payload[:LARGEST_PAYLOAD] if reason == "OVERSIZE" or len(payload) > WHOLE_PAYLOAD else payload
    key = None if key is None else key[:LARGEST_KEY]
    kept = cut if topic in CLEAR_TOPICS else sealed(cut)
    return DeadLetter(
        event_id=ids.dead(topic, partition, offset, "" if index is None else index),
        event_time=event_time,
        ingest_time=max(event_time, ingest_time),
        site_id=site_id,
        source_id="decode",
        origin_topic=topic,
        origin_partition=partition,
        origin_offset=offset,
        index=index,
        origin_key=None if key is None else (key if topic in CLEAR_TOPICS else sealed(key)),
        schema_id=schema_id,
        stage=stage,
        reason=reason,
        detail=detail[:256],
        payload=None if reason in WITHHELD else kept,
        payload_size=len(payload),
        payload_sha256=hashlib.sha256(kept).digest(),
        attempts=1,
        count=1,
        version=VERSION,
    )


def dead_letter(*, event: Event, site_id: str, stage: str, reason: str, detail: str, sealed: Sealed) -> Event:
    """Refuse a decoded event: the letter stands where the event stood. `site_id` is one that we know."""
    record: AnyRecord = event.record
    found = letter(
        topic=event.topic,
        partition=event.partition,
        offset=event.offset,
        index=event.index,
        event_time=record.event_time,
        ingest_time=record.ingest_time,
        site_id=site_id,
        stage=stage,
        reason=reason,
        detail=detail,
        payload=payload_of(event),
        sealed=sealed,
    )
    return Event(event.number, event.clock, "ops.dead-letter", found)


def bare(found: DeadLetter) -> DeadLetter:
    """A letter without what it quotes: what is left fits any topic, and its digest still names the payload."""
    return msgspec.structs.replace(found, payload=None, origin_key=None, schema_id=None)


def refused_by_sink(*, event: Event, site_id: str, partition: int, detail: str, sealed: Sealed) -> Event:
    """The letter of a derived record that its topic does not take: it has no offset, so its own id names it."""
    payload = to_line(event.record)
    whole = msgspec.structs.replace(event, partition=partition, raw=payload[:LARGEST_PAYLOAD])
    found = dead_letter(event=whole, site_id=site_id, stage="SINK", reason="SINK_REFUSED", detail=detail, sealed=sealed)
    named = ids.dead(event.topic, partition, event.offset, getattr(event.record, "event_id", ""))
    letter = msgspec.structs.replace(found.record, event_id=named, payload_size=len(payload))
    return msgspec.structs.replace(found, record=letter)
