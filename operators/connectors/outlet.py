"""One lane of the guarded sink: the partitions it owns, from a batch of the flow to their topics."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b

import msgspec
import orjson
from bytewax.outputs import StatefulSinkPartition
from confluent_kafka import Message
from msgspec import msgpack
from msgspec.structs import replace

from operators.connectors.clock import monotonic
from operators.connectors.files import published
from operators.connectors.guard import NOTHING, Guard, Pending, Place
from operators.connectors.outputs import FENCED, VERSION, Opened, Outputs, Resumed, Snapshot
from operators.connectors.owner import Fenced
from operators.connectors.senders import TRANSACTION_MS, FencedSender, Outgoing, Sender, Undelivered
from operators.connectors.tails import SMALLEST_LIMIT
from schemas.codec import BadFraming, Undecodable, encode, head_of
from schemas.items import Batch, Event, Tick
from schemas.keys import key_of, partition_of
from schemas.letters import bare, refused_by_sink
from schemas.operations import DeadLetter
from schemas.topics import REFERENCE, TOPICS
from schemas.types import Record

_OVERHEAD = 512
"""Bytes that a broker counts beside key, value and headers: the batch around a record, rounded up."""
_PATIENCE_S = TRANSACTION_MS / 1000 + 10
"""By then the broker has ended every transaction of ours that nobody else did."""


_ATTEMPTS = 5
STAGED = frozenset({"presence.dwell", "decision.record", "action.command"})
"""Outputs whose latency somebody watches: they carry the wall-clock stamps of their micro-batch."""


VERSIONED = frozenset(
    name for name, topic in TOPICS.items() if topic.compact and "version" in topic.record.__struct_fields__
)
"""Outputs that are read for the last record of a key: a header says its version, and a digest of what it tells."""


class Misrouted(Exception):
    """A record belongs to a lane that is not ours: the flow was cut otherwise than its inputs."""


class Lane(StatefulSinkPartition[Batch, Snapshot]):
    """The partitions of one lane; see the module."""

    def __init__(self, outputs: Outputs, opened: Opened, lane: int, resume: Snapshot | None) -> None:
        self._outputs, self._opened, self._lane = outputs, opened, lane
        self._began = monotonic()
        self._clocks: dict[int, int] = {}
        compacted = frozenset(topic for topic in outputs.topics & VERSIONED if opened.found[topic].compacted)
        self.guard = Guard(compacted, orphan_after=outputs.orphan_after)
        self.written: Counter[str] = Counter()
        self.written_anew: Counter[str] = Counter()
        opened.acked[lane] = self._acked
        resumed = opened.resumed(outputs, resume)
        self._partitions = {topic: opened.found[topic].partitions for topic in outputs.topics}
        # A topic that has grown is written as before: on other partitions its ids would not be found again.
        self._partitions |= {
            topic: count
            for topic, count in resumed.partitions.items()
            if topic in outputs.topics and any(outputs.lane_of(part) == lane for part in range(count))
        }
        self._read_back(resumed)
        self._in_transactions = {outputs.prefix + topic for topic in FENCED}
        wide = outputs.topics - FENCED
        limits = [opened.found[topic].largest for topic in wide] or [SMALLEST_LIMIT]
        self._wide = Sender(outputs.kafka, acked=self._acked, beat=outputs.beat, limit_s=outputs.wait_s, limits=limits)

    def write_batch(self, values: list[Batch]) -> None:
        self._wide.heed()
        fenced: list[Outgoing] = []
        wide: list[Outgoing] = []
        for batch in values:
            for item in batch.items:
                if isinstance(item, Tick):
                    self._heard(item)
            for event in published(batch.items, self._outputs.topics):
                out = self._fresh(event, batch.stamps)
                if out is not None:
                    (fenced if out.topic in self._in_transactions else wide).append(out)
        if self._opened.owner is not None and (fenced or wide):
            self._opened.owner.check_if_stale()
        # Commands first, since somebody is waiting for them; the others travel while they are committed.
        marks = {(out.topic, out.partition): self._next(out) for out in fenced}
        lost = bool(fenced) and self._lost(partial(self._transact, fenced))
        for out in wide:
            self._wide.send(out)
        if fenced and (lost or self._lost(self._commands.commit)):
            self._write_anew(fenced, marks)

    def _heard(self, tick: Tick) -> None:
        """All that deal to this lane must be through: the flow itself, or each of its shards."""
        self._clocks[0 if self._outputs.alone else tick.lane] = tick.clock
        if len(self._clocks) == (1 if self._outputs.alone else self._outputs.lanes):
            self.guard.heard(min(self._clocks.values()))

    def snapshot(self) -> Snapshot:
        """Wait for what is on its way, look whether the outputs are still ours, say where the tails begin."""
        self._wide.flush()
        if self._opened.owner is not None:
            self._opened.owner.check()
        if monotonic() - self._began >= self._outputs.settle_s:
            self.guard.drop_orphans()
        topics = []
        for topic in sorted(self._outputs.topics):
            reach = tuple((part, *self.guard.reach((topic, part))) for part in self._parts(topic))
            topics.append((topic, self._opened.found[topic].topic_id, self._partitions[topic], reach))
        return (VERSION, self._outputs.lanes, tuple(topics))

    def close(self) -> None:
        self._wide.close()

    def abandon(self) -> None:
        """Let go as a kill would."""
        self._wide.abandon()
        if self._lane in self._opened.fenced:
            self._commands.abandon()

    @property
    def _commands(self) -> FencedSender:
        return self._opened.fenced[self._lane]

    def _transact(self, fenced: list[Outgoing]) -> None:
        self._commands.begin()
        for out in fenced:
            self._commands.send(out)

    def _lost(self, call: Callable[[], None]) -> bool:
        """Whether an outage ended the transaction: it cannot go on, and nobody has claimed the outputs since."""
        try:
            call()
        except (Undelivered, Fenced):
            if self._opened.owner is None:
                raise
            self._opened.owner.check()
            return True
        return False

    def _write_anew(self, fenced: list[Outgoing], marks: Mapping[Place, int]) -> None:
        """Write what a lost transaction held, but for what it committed after all: its end may have been unheard.

        A successor claims before it shuts anybody out, so one that this does not see yet will shut this out.
        """
        for _ in range(_ATTEMPTS):
            self._opened.renew(self._lane)
            there = self._ids_since(marks)
            left = [out for out in fenced if _id_of(out.value) not in there]
            self.written_anew.update(out.topic[len(self._outputs.prefix) :] for out in left)
            if not left:
                return
            if not self._lost(partial(self._transact, left)) and not self._lost(self._commands.commit):
                return
        raise Undelivered(f"{self._commands.name}: {_ATTEMPTS} transactions in a row were lost")

    def _ids_since(self, marks: Mapping[Place, int]) -> set[str]:
        found: set[str] = set()
        self._opened.tails.read(marks, lambda message: found.add(_id_of(message.value())), patience_s=_PATIENCE_S)
        return found

    def _next(self, out: Outgoing) -> int:
        return self.guard.next_of((out.topic[len(self._outputs.prefix) :], out.partition))

    def _parts(self, topic: str) -> list[int]:
        return [part for part in range(self._partitions[topic]) if self._outputs.lane_of(part) == self._lane]

    def _fresh(self, event: Event, stamps: Mapping[str, int]) -> Outgoing | None:
        """A derived record as it goes out; None if it is there already."""
        topic, record = event.topic, event.record
        assert isinstance(record, Record), "lean records are never derived"
        if self._spoken_of_elsewhere(record):
            return None
        key = key_of(topic, record)
        place = (topic, self._partition(topic, key))
        if not topic.startswith("ops."):  # those have the times of what was refused or late
            self.guard.moved(record.event_time)
        tells = tells_of(record) if topic in VERSIONED else NOTHING
        if self.guard.seen(place, record.event_id, key.encode(), tells):
            return None
        try:
            value = encode(self._outputs.schema_ids[topic], record)
        except Exception as error:  # whatever the writer stumbles over, the record is at fault
            return self._refused(event, place[1], f"cannot be written in its schema: {type(error).__name__}")
        headers = []
        if topic == "action.command":
            headers.append(("action-id", record.event_id.encode()))
        elif isinstance(record, DeadLetter):
            headers.append(("error.code", record.reason.encode()))
        if tells is not NOTHING:
            headers.append(("version", b"%d.%b" % (tells[0], tells[1].hex().encode())))
        if stamps and topic in STAGED:
            headers.append(("ff-stages", orjson.dumps(stamps)))
        size = len(value) + len(key) + sum(len(name) + len(text) for name, text in headers) + _OVERHEAD
        if size > self._opened.found[topic].largest:
            return self._refused(event, place[1], f"{size} bytes where {self._opened.found[topic].largest} are taken")
        self.guard.remember(topic, record.event_id)
        self.written[topic] += 1
        return Outgoing(self._outputs.prefix + topic, place[1], key.encode(), value, headers)

    def _refused(self, event: Event, partition: int, why: str) -> Outgoing | None:
        letters = "ops.dead-letter"
        record = event.record
        if isinstance(record, DeadLetter) and record != bare(record):  # a small topic takes at least that
            return self._fresh(msgspec.structs.replace(event, record=bare(record)), {})
        if event.topic == letters or letters not in self._outputs.topics:
            raise Misrouted(f"{event.topic}: a record cannot be written, nor its dead letter: {why}")
        self.guard.counts["refused", event.topic] += 1
        return self._fresh(
            refused_by_sink(
                event=event,
                site_id=self._outputs.site_id,
                partition=partition,
                detail=why,
                sealed=self._outputs.sealed,
            ),
            {},
        )

    def _spoken_of_elsewhere(self, record: Record) -> bool:
        """Whether a refusal is for another process to tell: each that reads alone reads reference topics whole."""
        return (
            self._outputs.source_lanes is not None
            and isinstance(record, DeadLetter)
            and record.origin_topic in REFERENCE
            and self._outputs.lane_of(record.origin_partition) != self._lane
        )

    def _partition(self, topic: str, key: str) -> int:
        count = self._partitions[topic]
        chosen = partition_of(key, count)
        if self._outputs.lane_of(chosen) == self._lane:
            return chosen
        ours = self._parts(topic)
        if topic.startswith("ops.") and ours:
            # Nobody joins these by key, and two writers of one partition would read each other's ids back.
            return ours[partition_of(key, len(ours))]
        raise Misrouted(f"{topic}: partition {chosen} of {count} is not of lane {self._lane} of {self._outputs.lanes}")

    def _acked(self, name: str, part: int, offset: int) -> None:
        self.guard.written((name[len(self._outputs.prefix) :], part), offset)

    def _read_back(self, resumed: Resumed) -> None:
        prefix = self._outputs.prefix
        places = [(topic, part) for topic in sorted(self._outputs.topics) for part in self._parts(topic)]
        bases = self._opened.bases(self._outputs, places, resumed.reach)
        for (name, part), end in self._opened.tails.read(bases, self._found, patience_s=_PATIENCE_S).items():
            self.guard.begins((name[len(prefix) :], part), end)

    def _found(self, message: Message) -> None:
        name, part, offset, value = message.topic(), message.partition(), message.offset(), message.value()
        assert name is not None
        assert part is not None
        assert offset is not None
        topic = name[len(self._outputs.prefix) :]
        try:
            event_id, event_time = head_of(value or b"")
        except (BadFraming, Undecodable):  # not ours, so never one of our ids
            self.guard.counts["foreign", topic] += 1
            return
        kind, at_ms = message.timestamp()
        if topic.startswith("ops.") and kind:  # their own time is that of what was refused, which may be any
            event_time = min(event_time, at_ms * 1000)
        tells = _told(message) if topic in VERSIONED else NOTHING
        self.guard.found((topic, part), event_id, Pending(offset, event_time, message.key() or b"", tells))


def _id_of(value: bytes | None) -> str:
    try:
        return head_of(value or b"")[0]
    except (BadFraming, Undecodable):  # not ours
        return ""


def tells_of(record: Record) -> tuple[int, bytes]:
    """Version and digest of a record, but for the times of the event that caused it: they may be another's next time."""
    version: int = record.version  # type: ignore[attr-defined]
    same = replace(record, event_time=0, ingest_time=0)
    return version, blake2b(msgpack.encode(same), digest_size=8).digest()


def _told(message: Message) -> tuple[int, bytes]:
    """What the header of a record says of it; nothing where an earlier program wrote it."""
    said = dict(message.headers() or ()).get("version") or b""
    version, _, digest = (said if isinstance(said, bytes) else said.encode()).partition(b".")
    try:
        return int(version), bytes.fromhex(digest.decode())
    except ValueError:
        return NOTHING
