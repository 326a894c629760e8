"""Keys of records and the partitions they fall in: one hash for every client, whoever wrote it.

Keys route and are never parsed back. The partition is worked out here and set by who produces: librdkafka's
own default hash disagrees with Java's, and a join of two topics would break without a word.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from schemas.topics import TOPICS
from schemas.types import AnyRecord

_SEED = 0x9747B28C
_M = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Kafka's hash of a key, as Java's signed 32-bit integer.

    >>> murmur2(b"user-2")
    -324981792
    """
    length = len(key)
    digest = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * _M & _WORD
        word = (word ^ word >> 24) * _M & _WORD
        digest = (digest * _M & _WORD) ^ word
    if whole < length:
        digest = (digest ^ int.from_bytes(key[whole:], "little")) * _M & _WORD
    digest = (digest ^ digest >> 13) * _M & _WORD
    digest ^= digest >> 15
    return digest - (1 << 32) if digest >> 31 else digest


@lru_cache(1 << 16)
def _hash(key: str) -> int:
    return murmur2(key.encode()) & 0x7FFFFFFF


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, as a Java producer would choose it."""
    return _hash(key) % partitions


def _subject(record: Any) -> str:
    return f"{record.site_id}|{record.subject_id}"


def _first(record: Any) -> str:
    """An event of a person nobody knows yet is keyed by its source: it has no order to keep with anything."""
    return record.identifiers[0] if record.identifiers else f"{record.site_id}|{record.source_id}"


def _source(record: Any) -> str:
    return f"{record.site_id}|{record.source_id}"


_KEYS: dict[str, Callable[[Any], str]] = {
    "sensing.position": _subject,
    "sensing.position-batch": lambda record: record.site_id,
    "sensing.count": lambda record: f"{record.site_id}|{record.counter_id}",
    "sensing.scan": _subject,
    "sensing.status": _source,
    "web.event": _first,
    "pos.receipt": lambda record: (
        record.identifiers[0] if record.identifiers else f"{record.site_id}|{record.receipt_id}"
    ),
    "crm.customer": _first,
    "crm.contact-point": lambda record: record.identifier,
    "venue.site": lambda record: record.site_id,
    "venue.zone": lambda record: f"{record.site_id}|{record.zone_id}",
    "venue.device": lambda record: f"{record.site_id}|{record.device_id}",
    "context.fact": lambda record: f"{record.scope}|{record.name}",
    "control.release": lambda record: f"{record.kind}|{record.name}",
    "control.threshold": lambda record: f"{record.site_id}|{record.zone_id}",
    "consent.record": lambda record: record.identifier,
    "identity.link": lambda record: record.from_id,
    "identity.assignment": lambda record: record.identifier,
    "identity.change": lambda record: (record.persons_after or record.persons_before or [record.event_id])[0],
    "presence.transition": _subject,
    "presence.dwell": _subject,
    "presence.visit": _subject,
    "profile.snapshot": lambda record: record.person_id,
    "segment.change": lambda record: record.person_id,
    "decision.score": lambda record: record.person_id,
    "decision.record": lambda record: record.anchor_id,
    "action.command": lambda record: record.anchor_id or f"{record.site_id}|{record.target_id}",
    "action.outcome": lambda record: record.action_id,
    "ops.dead-letter": lambda record: f"{record.origin_topic}|{record.origin_partition}",
    "ops.late": lambda record: (
        _subject(record) if record.subject_id else f"{record.origin_topic}|{record.origin_partition}"
    ),
    "ops.alert": _source,
}


def key_of(topic: str, record: AnyRecord) -> str:
    """The key of a record on its topic; two records that must keep their order have one key."""
    return _KEYS[topic](record)


assert _KEYS.keys() == TOPICS.keys(), "every topic has its key"
