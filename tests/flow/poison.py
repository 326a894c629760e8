"""Every field of every topic that a flow reads, at the extremes of its type, and bytes that are no record at all."""

import gzip
import io
import random
import struct
from collections.abc import Iterator
from typing import Any

import fastavro
import msgspec
import numpy as np

from schemas import avsc
from schemas.codec import framed
from schemas.derived import DwellReached, Outcome, Transition, Visit
from schemas.people import ContactPoint, Customer, Receipt, ReceiptLine, WebEvent, WebItem
from schemas.pseudonym import EXAMPLE_KEY, tokens
from schemas.reference import Consent, ContextFact, Link, Purpose, Release, Threshold
from schemas.sensing import PeopleCount, Position, PositionBatch, Scan, SourceStatus
from schemas.types import AnyRecord

T = 1_796_486_400_000_000
S = 1_000_000
MOST = (1 << 63) - 1
INTS = (MOST, -MOST - 1, 4 * 10**18, -4 * 10**18, 253_402_300_799 * S, 1 << 53, (1 << 31) - 1, 0, -1)
FLOATS = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 0.0, -1.0)
TEXTS = ("", "\0", "a|b|c", "x" * 8192, "x" * 8193, "😀" * 100, "0x" * 40)
TOKEN = tokens(EXAMPLE_KEY, 1)
CARD, TAG = TOKEN("loyalty:ana-card"), TOKEN("tag:ana-tag")


def envelope(name: str, at: int = T, source_id: str = "poison") -> dict[str, Any]:
    return {"event_id": name, "event_time": at, "ingest_time": at, "site_id": "mad-01", "source_id": source_id}


def lean(at: int, source_id: str = "uwb", seq: int = 1) -> Position:
    return Position(
        event_time=at, ingest_time=at, site_id="mad-01", source_id=source_id, seq=seq, subject_id=TAG, tech="UWB",
        x_m=12.0, y_m=8.0, z_m=1.0, floor=0.0, accuracy_m=0.3, speed_mps=0.5,
    )  # fmt: skip


def batch(at: int, **other: Any) -> PositionBatch:
    column = {name: np.full(2, 8.0, "<f4").tobytes() for name in ("x_m", "y_m")}
    return PositionBatch(**{
        **envelope("batch", at, "gateway"), "first_seq": 5, "tech": "UWB", "count": 2, "subjects": [TAG],
        "subject_ix": bytes(4), "time_offset_us": np.array([0, 100_000], "<i4").tobytes(), "floor": bytes(8), **column, **other,
    })  # fmt: skip


STAY = {"visit_id": "visit", "subject_id": TAG, "zone_id": "offers", "zone_revision": 0}
SOUND: dict[str, AnyRecord] = {
    "sensing.position": lean(T),
    "sensing.position-batch": batch(T),
    "sensing.count": PeopleCount(
        **envelope("count"), counter_id="door-1", zone_id="offers", interval_start=T - S, interval_end=T, count_in=1, count_out=1,
        occupancy=3,
    ),
    "sensing.scan": Scan(**envelope("scan"), subject_id=TAG, device_id="screen-7", medium="QR", nfc_counter=1, identifiers=[CARD]),
    "sensing.status": SourceStatus(
        **envelope("status"), state="UP", watermark=T, clock_offset_us=0, delay_p50_us=1, delay_p99_us=2, heartbeat_us=S, sent=1,
    ),
    "web.event": WebEvent(
        **envelope("web"), name="product_added", identifiers=[CARD], session_id="s", client_created=T, client_sent=T,
        category="shoes", items=[WebItem(sku="a", category="shoes", quantity_milli=1000, price_minor=5)], properties={"a": "b"},
    ),
    "pos.receipt": Receipt(
        **envelope("receipt"), receipt_id="r", kind="SALE", identifiers=[CARD], currency="EUR", total_minor=300,
        lines=[ReceiptLine(sku="a", category="shoes", kind="SALE", quantity_milli=1000, line_total_minor=100)] * 3,
    ),
    "crm.customer": Customer(
        **envelope("customer"), identifiers=[CARD], tier="gold", since=T, birth_year=1980, region="x", traits={"size": "40"},
    ),
    "crm.contact-point": ContactPoint(**envelope("contact"), identifier=CARD, kind="NAME", value_sealed=b"sealed", verified=True),
    "context.fact": ContextFact(**envelope("fact"), scope="mad-01", name="weather.rain", value="1", valid_until=T + S),
    "control.release": Release(
        **envelope("release"), kind="CAMPAIGNS", name="offers-premium-dwell", version="x", effective_at=T, state="ACTIVE",
    ),
    "control.threshold": Threshold(**envelope("threshold"), zone_id="offers", dwell_us=[45 * S], effective_at=T),
    "consent.record": Consent(
        **envelope("consent"), identifier=CARD, purposes=[Purpose(code="linking", granted=True, channels=["PUSH"])], valid_until=T + S,
    ),
    "identity.link": Link(
        **envelope("link"), from_id=TAG, to_id=CARD, method="QR_PAIR", confidence=1.0, valid_from=T, valid_to=T + S,
    ),
    "action.outcome": Outcome(
        **envelope("outcome"), action_id="a", channel="PUSH", status="SENT", reason="NONE", attempt=0, latency_us=1,
    ),
    "presence.transition": Transition(**envelope("transition"), **STAY, kind="ENTER", at=T, reason="CROSSED", tech="UWB"),
    "presence.dwell": DwellReached(
        **envelope("dwell"), **STAY, threshold_us=45 * S, entered_at=T - 45 * S, reached_at=T, fired_at=T, last_fix_at=T,
        fix_count=9, quality=1.0,
    ),
    "presence.visit": Visit(
        **envelope("visit"), **STAY, entered_at=T - 60 * S, left_at=T, dwell_us=60 * S, observed_us=60 * S, fix_count=9,
        gap_count=0, max_gap_us=0, enter_reason="CROSSED", exit_reason="LEFT", fired_us=[45 * S], tech="UWB", revision=0,
    ),
}  # fmt: skip


def twisted(value: Any) -> Iterator[tuple[str, Any]]:
    """What it could be in place of what it is, and where."""
    match value:
        case bool():
            yield "", not value
        case int():
            yield from ((f"={one}", one) for one in INTS)
        case float():
            yield from ((f"={one}", one) for one in FLOATS)
        case str():
            yield from ((f"={one[:8]!r} of {len(one)}", one) for one in TEXTS)
        case list():
            yield " none", []
            yield " many", value[:1] * 10_001
            yield from ((f"[]{where}", [other] * len(value)) for where, other in twisted(value[0]))
        case dict():
            for name, part in value.items():
                yield from ((f".{name}{where}", value | {name: other}) for where, other in twisted(part))
        case bytes():
            yield " empty", b""
            yield " longer", value + b"\xff" * 7


def wire(schema_id: int, topic: str, row: dict[str, Any]) -> bytes | None:
    """A value as it lies on Kafka; None where its type has no room for it."""
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, avsc.parsed(topic), row)
    except (ValueError, OverflowError, TypeError, struct.error):
        return None
    return framed(schema_id, out.getvalue())


def plain(topic: str) -> dict[str, Any]:
    """A sound row of a topic."""
    row: dict[str, Any] = msgspec.to_builtins(SOUND[topic], builtin_types=(bytes,))
    return row


def rows(topic: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a topic with one thing wrong, and what; sources and ids are new ones unless they are what is wrong."""
    row = plain(topic)
    pairs = [{"event_time": a, "ingest_time": b} for a in INTS[:4] for b in (*INTS[:4], T)]
    every = [*twisted(row), *((f" {pair}", row | pair) for pair in pairs)]
    for number, (where, other) in enumerate(every):
        source = "a source of many" if number % 2 else f"source {number}"  # one that is known, one that is not
        mine = {"event_id": f"poison {number}", "source_id": source}
        yield where, other | {name: one for name, one in mine.items() if name in row and other[name] == row[name]}


def rubbish(value: bytes, draw: random.Random) -> Iterator[bytes]:
    """Bytes that are no record, and a sound value with bits turned or an end cut off."""
    yield from (
        gzip.compress(value), "«Señor»".encode(), b"\0\x80\0\0\0\0", b"\0\xff\xff\xff\xff", b"\0", b"\1\2\3\4\5\6",
        b'{"event_time": 1}', value[:5], value[:-1], value + value,
    )  # fmt: skip
    for number in range(60):
        bent = bytearray(value)
        for _ in range(draw.randint(1, 4)):
            bent[draw.randrange(5, len(bent))] = draw.randrange(256)
        yield bytes(bent[: draw.randint(5, len(bent))]) if number % 3 == 0 else bytes(bent)
