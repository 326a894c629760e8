"""What went wrong or came late, kept whole."""

from typing import Annotated

from schemas.types import Blob, Double, Flag, Instant, Int, Long, Record, Text, symbols

Stage = Annotated[str, symbols("Stage", "DECODE ADMIT OPERATE SINK")]
Severity = Annotated[str, symbols("Severity", "INFO WARN PAGE")]
RefusalReason = Annotated[
    str,
    symbols(
        "RefusalReason",
        "OVERSIZE BAD_FRAMING UNKNOWN_SCHEMA WRONG_SCHEMA UNDECODABLE BAD_SHAPE BAD_ID KEY_MISMATCH"
        " WRONG_PARTITION PERSONAL_DATUM REFUSED_CATEGORY NOT_FINITE OUT_OF_RANGE UNKNOWN_PLACE OFF_FLOOR"
        " CLOCK_QUARANTINE FUTURE_TIME TOO_OLD IMPOSSIBLE_SPEED OVER_RATE POISON SINK_REFUSED",
    ),
]


class DeadLetter(Record, frozen=True, kw_only=True):
    """A refused message, where it stood and why; its payload is sealed."""

    origin_topic: Text
    origin_partition: Int
    origin_offset: Long
    index: Int | None = None
    origin_key: Blob | None = None
    schema_id: Int | None = None
    stage: Stage
    reason: RefusalReason
    detail: Text
    payload: Blob | None = None
    payload_size: Int
    payload_sha256: Blob
    attempts: Int
    count: Long
    last_offset: Long | None = None
    version: Text


class Late(Record, frozen=True, kw_only=True):
    """A record that came behind the watermark: kept, never acted on."""

    origin_topic: Text
    origin_partition: Int
    origin_offset: Long
    subject_id: Text | None = None
    late_by_us: Long
    watermark: Instant
    payload: Blob


class Alert(Record, frozen=True, kw_only=True):
    """Something that a person should know of."""

    name: Text
    severity: Severity
    stage: Text
    cause: Text
    value: Double | None = None
    limit: Double | None = None
    cleared: Flag = False
