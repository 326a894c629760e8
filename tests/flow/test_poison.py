"""A value from the wire may be anything: nothing ends a flow, and what is refused becomes a letter that fits its topic.

Each is framed as it would lie on Kafka and goes through the cores of a live flow, one after the other, with what is sound
between them; the state is committed after each, and what comes out is written as the sink writes it.
"""

import random
from collections import Counter

import msgspec
import pytest

from flows.deployment import EXAMPLE, Deployment
from flows.joining import live_topics
from flows.replay import FLOWS
from operators.connectors.files import published
from operators.connectors.tails import SMALLEST_LIMIT
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas import avsc
from schemas.codec import encode
from schemas.items import Heard, Item, Tick
from schemas.operations import DeadLetter
from schemas.topics import TOPICS
from tests.flow.poison import MOST, SOUND, S, T, batch, plain, rows, rubbish, wire

STORE = ("decode", "admit", "dwell", "occupancy", "stitch", "person", "deliver")
ACTIVATION = ("decode", "admit", "occupancy", "stitch", "person", "deliver")
IDS = {topic: number for number, topic in enumerate(sorted(TOPICS), 1)}


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
    at, sound = T, plain(topic)
    for where, row in rows(topic):
        if (value := wire(IDS[topic], topic, row)) is None:
            continue
        at += 5 * S
        told(flow, topic, where, value, at)
        name = {"event_id": f"sound {at}"} if "event_id" in sound else {}
        again = wire(IDS[topic], topic, {**sound, **name, "event_time": at, "ingest_time": at}) or b""
        told(flow, topic, f" sound, after{where}", again, at)
    for later in range(1, 30):  # probations end, stays are over
        flow.passes(at + later * 60 * S)
    assert flow.reasons


def test_bytes_that_are_no_record_become_letters() -> None:
    flow, draw, at = Flow(STORE), random.Random(7), T
    huge = [b"x" * 1_040_000, b"x" * (1 << 20), b"x" * ((1 << 20) + 1)]
    for topic in SOUND:
        value = wire(IDS[topic], topic, plain(topic)) or b""
        for number, one in enumerate([*rubbish(value, draw), *huge]):
            at += S
            told(flow, topic, f" bytes {number}", one, at, key=(None, b"k", b"k" * 990_000)[number % 3])
    for later in range(1, 30):
        flow.passes(at + later * 60 * S)
    assert {"BAD_FRAMING", "UNKNOWN_SCHEMA", "UNDECODABLE", "OVERSIZE"} <= flow.reasons.keys()
    assert flow.said["ops.dead-letter"] > 10 * len(SOUND)


def test_a_batch_that_counts_past_64_bits_is_refused() -> None:
    flow, topic = Flow(STORE), "sensing.position-batch"
    for number, other in enumerate(({"first_seq": MOST}, {"event_time": MOST}, {"event_time": -MOST})):
        row = msgspec.to_builtins(batch(T, **other), builtin_types=(bytes,))
        told(flow, topic, f" {other}", wire(IDS[topic], topic, row) or b"", T + number * S)
    assert flow.reasons == {"OUT_OF_RANGE": 3}
