"""The outputs as the broker has them, and their tails read to the end that is really the end.

Markers of transactions take offsets and are never delivered, so no count of messages tells the end; only
`PARTITION_EOF` does. Under `read_committed` it comes, early and silently, where the first open transaction
begins. So what was read must reach the uncommitted end, or somebody else is writing.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from operators.connectors.access import PASSING
from operators.connectors.clock import monotonic

CALL_S = 10.0
SLICE_S = 1.0
PROPAGATED_S = 2.0
"""How long a topic that was made a moment ago may stay unheard of."""
SMALLEST_LIMIT = 1_000_000
"""What a client and a broker of default settings both take (bytes)."""
Part = tuple[str, int]
READ_BACK = "footfall-read-back"
"""The consumer group of those who read tails; it commits nothing."""


class OutputChanged(Exception):
    """A topic is missing, or is not the one that the snapshot speaks of."""


class OtherOutputs(OutputChanged):
    """The snapshot speaks of outputs of another number of lanes, or of another layout."""


class OutputsMissing(OutputChanged):
    """Topics that are to be written are not there."""


class TailGone(Exception):
    """Records that a replay may say again are no longer on the topic: they could be written twice.

    `places` is how a person names the partitions, to start all the same.
    """

    def __init__(self, about: str, places: tuple[str, ...] = ()) -> None:
        super().__init__(about)
        self.places = places


class TopicsAnew(TailGone):
    """Topics are not those that were written: deleted, and made again. All their partitions are named at once."""


class Forbidden(Exception):
    """The broker does not let us read; the message names what must be granted."""


class ForeignWriter(Exception):
    """Somebody else has a transaction open on an output."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output topic as it stands on the broker."""

    topic_id: str
    partitions: int
    largest: int
    """Bytes of the largest record it takes."""
    compacted: bool


class Tails:
    """Reads of output topics by full name.

    Args:
        kafka: settings of any client.
        beat: called while it waits.
        limit_s: how long a broker that is away, or just back, is waited for.
    """

    def __init__(
        self, kafka: Mapping[str, Any], *, beat: Callable[[], None] = lambda: None, limit_s: float = 60.0
    ) -> None:
        self.kafka = dict(kafka)
        self._admin, self.beat, self._limit = AdminClient(self.kafka), beat, limit_s

    def outputs(self, names: Iterable[str]) -> dict[str, Output]:
        """The topics as they stand.

        Raises:
            OutputsMissing: names them all.
        """
        asked = sorted(names)
        found: dict[str, Any] = {}
        until = monotonic() + PROPAGATED_S
        while missing := [name for name in asked if name not in found]:
            if monotonic() > until:
                raise OutputsMissing(f"missing topics: {', '.join(missing)}")
            found |= self._described(missing)
        configs = self._configs(asked)
        return {
            name: Output(
                topic_id=str(found[name].topic_id),
                partitions=len(found[name].partitions),
                largest=min(SMALLEST_LIMIT, int(configs[name].get("max.message.bytes", SMALLEST_LIMIT))),
                compacted="compact" in configs[name].get("cleanup.policy", ""),
            )
            for name in asked
        }

    def _described(self, names: list[str]) -> dict[str, Any]:
        """Those of the topics that are there."""
        found = {}
        for name, answer in self._asked(
            lambda: self._admin.describe_topics(TopicCollection(names), request_timeout=CALL_S)
        ).items():
            if not isinstance(answer, KafkaError):
                found[name] = answer
            elif answer.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(answer)
        return found

    def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Settings of topics; empty where we have no right to read them."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, str]] = {}
        for resource, entries in self._asked(
            lambda: self._admin.describe_configs(resources, request_timeout=CALL_S)
        ).items():
            if not isinstance(entries, KafkaError):
                told = {name: entry.value for name, entry in entries.items()}
                found[resource.name] = {name: value for name, value in told.items() if value is not None}
            elif entries.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                found[resource.name] = {}
            else:
                raise KafkaException(entries)
        return found

    def _asked(self, call: Callable[[], Mapping[Any, Future[Any]]]) -> dict[Any, Any]:
        """Answers, or the errors in their place; asks again while the broker is away or not yet itself."""
        until = monotonic() + self._limit
        while True:
            self.beat()
            answers: dict[Any, Any] = {}
            for asked, future in call().items():
                try:
                    while not wait([future], SLICE_S).done:
                        self.beat()
                    answers[asked] = future.result()
                except KafkaException as error:
                    answers[asked] = error.args[0]
            errors = [answer for answer in answers.values() if isinstance(answer, KafkaError)]
            waits = any(error.retriable() or error.code() in _NOT_NOW for error in errors)
            if not waits or monotonic() > until:
                return answers
            self._admin.poll(0.2)
            if any(error.code() in _STALE for error in errors):
                self._admin = AdminClient(self.kafka)  # this one would ask by the leader it knew, for ever

    def ends(self, parts: Iterable[Part]) -> dict[Part, int]:
        """Ends of partitions, whatever is still open in them."""
        return self._offsets(parts, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def lows(self, parts: Iterable[Part]) -> dict[Part, int]:
        """First offsets that the broker still has."""
        return self._offsets(parts, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def _offsets(self, parts: Iterable[Part], spec: OffsetSpec) -> dict[Part, int]:
        asked = {TopicPartition(*part): spec for part in parts}
        if not asked:
            return {}
        level = IsolationLevel.READ_UNCOMMITTED
        found = {}
        for at, answer in self._asked(
            lambda: self._admin.list_offsets(asked, isolation_level=level, request_timeout=CALL_S)
        ).items():
            if isinstance(answer, KafkaError):
                raise KafkaException(answer)
            found[at.topic, at.partition] = answer.offset
        return found

    def read(
        self, bases: Mapping[Part, int], found: Callable[[Message], None], *, patience_s: float
    ) -> dict[Part, int]:
        """Hand over every committed record from `bases` to the uncommitted end; answers the ends.

        Raises:
            ForeignWriter: some partition did not come to its end for `patience_s`.
        """
        reached = dict(bases)
        until = monotonic() + patience_s
        while behind := {part: end for part, end in self.ends(bases).items() if reached[part] < end}:
            if monotonic() > until:
                where = "; ".join(
                    f"{topic} [{part}] is committed up to {reached[topic, part]} of {end}"
                    for (topic, part), end in sorted(behind.items())
                )
                topic, part = min(behind)
                raise ForeignWriter(
                    f"somebody else has a transaction open on an output of ours: {where}. Stop that writer; to name it:"
                    f" kafka-transactions.sh describe-producers --topic {topic} --partition {part}"
                )
            self.beat()
            before = dict(reached)
            self._read(behind, reached, found)
            if reached != before:
                until = monotonic() + patience_s
        return reached

    def _read(self, behind: Mapping[Part, int], reached: dict[Part, int], found: Callable[[Message], None]) -> None:
        """Read each partition to the end that is told now."""
        settings = {
            "group.id": READ_BACK,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 10,  # the end of a partition is told only when a fetch comes back
        }
        consumer = Consumer(self.kafka | settings)
        open_parts = set(behind)
        quiet_until = monotonic() + CALL_S
        try:
            consumer.assign([TopicPartition(*part, reached[part]) for part in sorted(behind)])
            while open_parts and monotonic() < quiet_until:
                first = consumer.poll(SLICE_S)  # `consume` would wait for all of its thousand
                self.beat()
                for message in [first, *consumer.consume(1_000, 0)] if first else ():
                    quiet_until = monotonic() + CALL_S
                    self._take(message, reached, open_parts, found)
        finally:
            consumer.close()

    def _take(
        self, message: Message, reached: dict[Part, int], open_parts: set[Part], found: Callable[[Message], None]
    ) -> None:
        topic, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()
        if error is None:
            assert topic is not None
            assert partition is not None
            assert offset is not None
            found(message)
            reached[topic, partition] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            assert topic is not None
            assert partition is not None
            assert offset is not None
            reached[topic, partition] = max(reached[topic, partition], offset)
            open_parts.discard((topic, partition))
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise TailGone(f"{topic} [{partition}]: the tail went away while it was read: {error.str()}")
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise Forbidden(f"group {READ_BACK}: {error.str()}; grant READ on it")
        elif not error.retriable() and error.code() not in _NOT_NOW:
            raise KafkaException(error)


_STALE = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
}
_NOT_NOW = {
    *PASSING,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._NOENT,  # a partition that has no leader yet
}
"""What a broker that has just come back says for a moment."""
