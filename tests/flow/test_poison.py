"""A value from the wire may be anything: every field of every topic at its extremes, and bytes that are no record.

Each is framed as it would lie on Kafka and goes through the cores of a live flow, one after the other, with what is sound
between them; the state is committed after each, and what comes out is written as the sink writes it.
"""

import gzip
import io
import random
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import fastavro
import msgspec
import numpy as np
import pytest

from flows.deployment import EXAMPLE, Deployment
from flows.joining import live_topics
from flows.replay import FLOWS
from operators.connectors.files import published
from operators.connectors.tails import SMALLEST_LIMIT
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas import avsc
from schemas.codec import encode, framed
from schemas.derived import DwellReached, Outcome, Transition, Visit
from schemas.items import Heard, Item, Tick
from schemas.operations import DeadLetter
from schemas.people import ContactPoint, Customer, Receipt, ReceiptLine, WebEvent, WebItem
from schemas.pseudonym import EXAMPLE_KEY, tokens
from schemas.reference import Consent, ContextFact, Link, Purpose, Release, Threshold
from schemas.sensing import PeopleCount, Position, PositionBatch, Scan, SourceStatus
from schemas.topics import TOPICS
from schemas.types import AnyRecord

T = 1_796_486_400_000_000
S = 1_000_000
MOST = (1 << 63) - 1
INTS = (MOST, -MOST - 1, 4 * 10**18, -4 * 10**18, 253_402_300_799 * S, 1 << 53, (1 << 31) - 1, 0, -1)
FLOATS = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 0.0, -1.0)
TEXTS = ("", "\0", "a|b|c", "x" * 8192, "x" * 8193, "😀" * 100, "0x" * 40)
STORE = ("decode", "admit", "dwell", "occupancy", "stitch", "person", "deliver")
ACTIVATION = ("decode", "admit", "occupancy", "stitch", "person", "deliver")
TOKEN = tokens(EXAMPLE_KEY, 1)
CARD, TAG = TOKEN("loyalty:ana-card"), TOKEN("tag:ana-tag")
IDS = {topic: number for number, topic in enumerate(sorted(TOPICS), 1)}


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


def wire(topic: str, row: dict[str, Any]) -> bytes | None:
    """A value as it lies on Kafka; None where its type has no room for it."""
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, avsc.parsed(topic), row)
    except (ValueError, OverflowError, TypeError, struct.error):
        return None
    return framed(IDS[topic], out.getvalue())


class Flow:
    """The cores of a live flow over state in memory, committed after each step; what comes out is written."""

    def __init__(self, steps: tuple[str, ...]) -> None:
        known = {number: (topic, avsc.parsed(topic)) for topic, number in IDS.items()}
        shop = Deployment.load(EXAMPLE, None, live=True, complete=False).heard_from(known)
        self._steps = []
        for name in steps:
            store = MemoryStore()
            store.claim(None)
            tables = Tables(store)
            tables.open("0")
            self._steps.append((getattr(shop, name)(tables), tables))
        self._number, self._writes = 0, FLOWS["store" if steps == STORE else "activation"].writes
        self.said: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def heard(self, topic: str, value: bytes, at: int, key: bytes | None = None) -> None:
        """A value of a topic."""
        self._number += 1
        self._step(
            [Tick(self._number, at), Heard(self._number, topic, 0, self._number, at, value, form="wire", key=key)]
        )

    def passes(self, at: int) -> None:
        """The clock comes to here."""
        self._step([Tick(self._number, at)])

    def _step(self, items: list[Item]) -> None:
        for core, _ in self._steps:
            items = core.step(items)
        for event in published(items, self._writes):
            size = len(encode(1, event.record))
            assert size < SMALLEST_LIMIT - 1_000, f"{event.topic}: {size} bytes"
            self.said[event.topic] += 1
            if isinstance(event.record, DeadLetter):
                self.reasons[event.record.reason] += 1
        for _, tables in self._steps:
            tables.commit()


def told(flow: Flow, topic: str, where: str, value: bytes, at: int, key: bytes | None = None) -> None:
    """Hear it; what fails says which it was."""
    try:
        flow.heard(topic, value, at, key)
        flow.passes(at + S)
    except Exception as error:
        raise AssertionError(f"{topic}{where}: {type(error).__name__}: {error}") from error


def test_every_topic_that_a_flow_reads_is_twisted() -> None:
    assert SOUND.keys() == {*live_topics("store"), *live_topics("activation")}


@pytest.mark.parametrize("topic", sorted(SOUND))
def test_any_value_of_any_field_ends_nothing(topic: str) -> None:
    flow = Flow(ACTIVATION if topic.startswith("presence.") else STORE)
    at, cases = T, 0
    row = msgspec.to_builtins(SOUND[topic], builtin_types=(bytes,))
    pairs = [{"event_time": a, "ingest_time": b} for a in INTS[:4] for b in (*INTS[:4], T)]
    every = [*twisted(row), *((f" {pair}", row | pair) for pair in pairs)]
    for where, other in every:
        at += 5 * S
        source = "a source of many" if cases % 2 else f"source {cases}"  # one that is known, one that is not
        mine = {"event_id": f"poison {cases}", "source_id": source}
        fresh = {name: one for name, one in mine.items() if name in row and other.get(name) == row[name]}
        value = wire(topic, other | fresh)
        if value is None:
            continue
        cases += 1
        told(flow, topic, where, value, at)
        sound = row | {name: f"sound {cases}" for name in ("event_id",) if name in row}
        told(
            flow, topic, f" sound, after{where}", wire(topic, sound | {"event_time": at, "ingest_time": at}) or b"", at
        )
    for later in range(1, 30):  # probations end, stays are over
        flow.passes(at + later * 60 * S)
    assert cases > 20
    assert flow.reasons


def test_bytes_that_are_no_record_become_letters() -> None:
    flow, draw = Flow(STORE), random.Random(7)
    sound = {topic: wire(topic, msgspec.to_builtins(SOUND[topic], builtin_types=(bytes,))) or b"" for topic in SOUND}
    at = T
    for topic, value in sound.items():
        whole = [
            gzip.compress(value), "«Señor»".encode(), b"\0\x80\0\0\0\0", b"\0\xff\xff\xff\xff", b"\0", b"\1\2\3\4\5\6",
            b'{"event_time": 1}', b"x" * 1_040_000, b"x" * (1 << 20), b"x" * ((1 << 20) + 1), value[:5], value[:-1], value + value,
        ]  # fmt: skip
        for number in range(60):
            bent = bytearray(value)
            for _ in range(draw.randint(1, 4)):
                bent[draw.randrange(5, len(bent))] = draw.randrange(256)
            whole.append(bytes(bent[: draw.randint(5, len(bent))]) if number % 3 == 0 else bytes(bent))
        for number, one in enumerate(whole):
            at += S
            told(flow, topic, f" bytes {number}", one, at, key=(None, b"k", b"k" * 990_000)[number % 3])
    for later in range(1, 30):
        flow.passes(at + later * 60 * S)
    assert {"BAD_FRAMING", "UNKNOWN_SCHEMA", "UNDECODABLE", "OVERSIZE"} <= flow.reasons.keys()
    assert flow.said["ops.dead-letter"] > 10 * len(SOUND)


def test_a_batch_that_counts_past_64_bits_is_refused() -> None:
    flow = Flow(STORE)
    for number, other in enumerate(({"first_seq": MOST}, {"event_time": MOST}, {"event_time": -MOST})):
        row = msgspec.to_builtins(batch(T, **other), builtin_types=(bytes,))
        told(flow, "sensing.position-batch", f" {other}", wire("sensing.position-batch", row) or b"", T + number * S)
    assert flow.reasons == {"OUT_OF_RANGE": 3}
