"""Ids as functions of the data: a replay repeats them, it never makes new ones."""

import hashlib
from base64 import b32encode
from functools import partial
from uuid import UUID, uuid5

import orjson

NAMESPACE = UUID("fa1bf327-f02d-5a26-9415-91bb868d486a")
"""UUIDv5 of the URL namespace and `footfall`."""


def of(kind: str, *parts: object) -> str:
    """UUIDv5 of the parts joined by NUL; instants and durations as decimal microseconds.

    >>> of("visit", "mad-01", "tag:1:3z2kiuxszjrwxxxf6a7q", "offers", 1796486422600000)
    '096c71f6-cbd0-54f4-b8d3-9d8a2b85bcae'
    """
    return str(uuid5(NAMESPACE, "\0".join((kind, *map(str, parts)))))


visit = partial(of, "visit")
transition = partial(of, "transition")
dwell = partial(of, "dwell")
visit_record = partial(of, "visit-record")
decision = partial(of, "decision")
score = partial(of, "score")
late = partial(of, "late")
assignment = partial(of, "assignment")
snapshot = partial(of, "snapshot")
segment = partial(of, "segment")
change = partial(of, "change")
outcome = partial(of, "outcome")
dead = partial(of, "dead")
row = partial(of, "row")
alert = partial(of, "alert")


def action(campaign: str, version: str, anchor: str, visit_or_trigger: str, step: int) -> str:
    """Name the one effect of a campaign's step on a person in a stay.

    >>> action("offers-premium-dwell", "0123456789ab", "loyalty:1:x", "096c71f6-cbd0-54f4-b8d3-9d8a2b85bcae", 0)
    'f2j6mv3z55pgdkxdygo4u3rzxgx4of3a'
    """
    joined = "\0".join(("action", campaign, version, anchor, visit_or_trigger, str(step)))
    return b32encode(hashlib.blake2b(joined.encode(), digest_size=20).digest()).decode().lower()


def version(document: object, *attachments: bytes) -> str:
    """Version of a document: 12 hex digits over its JSON (keys sorted, no spaces) and what it names."""
    digest = hashlib.blake2b(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))
    for attachment in attachments:
        digest.update(attachment)
    return digest.hexdigest()[:12]
