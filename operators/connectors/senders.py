"""Producers that lose nothing in silence: every failure is raised at the next call, and every wait has an end.

Reports of delivery keep raw objects only: a method of an error called while the client holds a fatal one raises
in the wrong place, and the report is lost. For the same reason any exception of a client ends it for good: the
process stops, and the replay makes good what is missing.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from operators.connectors.clock import monotonic
from operators.connectors.owner import Fenced

SLICE_S = 1.0
TRANSACTION_MS = 12_000
"""How long a dead writer's open transaction may hold up readers; a longer pause inside one ends this process."""


class Undelivered(Exception):
    """Records were not acknowledged, and the client says so or says nothing."""


def warm(producer: Producer) -> None:
    """Make a client meet its broker now: its first record would else wait half a second for a timer of its own."""
    with suppress(KafkaException):  # away: the first call that matters will say so
        producer.list_topics(timeout=SLICE_S)


class Outgoing(NamedTuple):
    """A record on its way out: full topic, partition, key, framed value, headers."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Sender:
    """An idempotent producer; `flush` is where an epoch waits for it.

    Args:
        kafka: settings of any client.
        acked: told topic, partition and offset of each acknowledged record, at a later call.
        beat: called at least once a second while it waits.
        limit_s: how long the broker may be away before records are given up and the process stops.
        limits: bytes of the largest record of each of its topics.
        more: further settings of the client.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        *,
        acked: Callable[[str, int, int], None],
        beat: Callable[[], None] = lambda: None,
        limit_s: float,
        limits: Collection[int],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._acked, self._beat, self._limit = acked, beat, limit_s
        self._told: deque[tuple[KafkaError | None, Message]] = deque()
        self._heard: deque[KafkaError] = deque(maxlen=16)
        settings = {
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.max.bytes": max(*limits, 1000),  # the client takes no less
            "batch.size": min(*limits, 262_144),
            "queue.buffering.max.messages": 200_000,
            "error_cb": self._heard.append,
        }
        self._producer = Producer(dict(kafka) | settings | self._times() | dict(more or {}))
        warm(self._producer)

    def _times(self) -> dict[str, Any]:
        return {"delivery.timeout.ms": int(self._limit * 1000)}

    def send(self, out: Outgoing) -> None:
        """Hand over a record; waits while the client's queue is full.

        Raises:
            Undelivered, Fenced: an earlier record was not taken.
        """
        until = monotonic() + self._limit
        while True:
            try:
                with self._fatal():
                    self._producer.produce(
                        out.topic, out.value, out.key, out.partition, on_delivery=self._tell, headers=list(out.headers)
                    )
                break
            except BufferError:
                self._beat()
                self._poll(SLICE_S)
                if monotonic() > until:
                    raise Undelivered("the queue of the client has been full for too long") from None
        self._poll(0)

    def heed(self) -> None:
        """Take note of what was acknowledged, and raise what was not."""
        self._poll(0)

    def flush(self) -> None:
        """Wait until everything is acknowledged, in slices, for no longer than records may wait.

        Raises:
            Undelivered, Fenced: something is not.
        """
        until = monotonic() + self._limit + SLICE_S
        while True:
            with self._fatal():
                left = self._producer.flush(SLICE_S)
            self._settle()
            if not left:
                return
            self._beat()
            if monotonic() > until:
                raise Undelivered(f"{left} records are not acknowledged after {self._limit:.0f} s; is the broker away?")

    def close(self) -> None:
        """Send what is left."""
        self.flush()

    def abandon(self) -> None:
        """Let go as a kill would: what is not sent is not sent."""
        self._producer.purge()

    def _tell(self, error: KafkaError | None, message: Message) -> None:
        self._told.append((error, message))

    def _poll(self, seconds: float) -> None:
        with self._fatal():
            self._producer.poll(seconds)
        self._settle()

    def _settle(self) -> None:
        while self._told:
            error, message = self._told.popleft()
            if error is not None:
                raise self._meaning(error, f"{message.topic()} [{message.partition()}]")
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            self._acked(topic, partition, offset)

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise self._meaning(error.args[0], "the output") from error
        except (SystemError, RuntimeError) as error:  # what the client raises with a fatal error pending
            raise Undelivered(f"the client of the output failed: {type(error).__name__}") from error

    def _meaning(self, error: KafkaError, where: str) -> Exception:
        if error.code() in _FENCED:
            return Fenced(f"{where}: another process has taken this output over; this one stops ({error.name()})")
        grant = _GRANTS.get(error.code(), "")
        return Undelivered(f"{where}: a record was not acknowledged: {error.name()}, {error.str()}{grant}")


class FencedSender(Sender):
    """A producer whose records come in short transactions: a successor shuts it out.

    `begin`, `send` and `commit` once a batch: never for each record, never waiting for a number of them.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        name: str,
        *,
        acked: Callable[[str, int, int], None],
        beat: Callable[[], None] = lambda: None,
        limit_s: float,
        limits: Collection[int],
    ) -> None:
        self.name = name
        more = {"transactional.id": name, "transaction.timeout.ms": TRANSACTION_MS, "linger.ms": 0}
        super().__init__(kafka, acked=acked, beat=beat, limit_s=limit_s, limits=limits, more=more)

    def _times(self) -> dict[str, Any]:
        return {}  # inside a transaction a record waits no longer than the transaction

    def open(self, limit_s: float) -> None:
        """Shut out whoever had this name, and end what it left open.

        Raises:
            Undelivered: not within the limit, or refused.
        """
        self._sliced(lambda: self._producer.init_transactions(SLICE_S), limit_s)

    def begin(self) -> None:
        """Begin a transaction; first waits for a broker that is known to be away, so that none is open meanwhile."""
        self._poll(0)
        if any(error.code() in _AWAY for error in self._heard):
            self._sliced(lambda: self._producer.list_topics(timeout=SLICE_S), self._limit)
            self._heard.clear()
        with self._fatal():
            self._producer.begin_transaction()

    def commit(self) -> None:
        """Commit; what was sent since `begin` is readable when this returns.

        Raises:
            Undelivered, Fenced: the transaction is not committed, and will not be.
        """
        self._sliced(lambda: self._producer.commit_transaction(SLICE_S), self._limit)
        self._poll(0)

    def _sliced(self, call: Callable[[], Any], limit_s: float) -> None:
        until = monotonic() + limit_s
        while True:
            try:
                call()
            except KafkaException as error:
                told = error.args[0]
                if told.fatal() or told.txn_requires_abort() or not (told.retriable() or told.code() in _AWAY):
                    self._settle()  # a record that failed says more than the transaction around it
                    raise self._meaning(told, self.name) from error
                if monotonic() > until:
                    raise Undelivered(f"{self.name}: the broker did not answer in {limit_s:.0f} s") from error
            except (SystemError, RuntimeError) as error:
                raise Undelivered(f"{self.name}: the client failed: {type(error).__name__}") from error
            else:
                return
            self._beat()
            self._settle()


_FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
_GRANTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "; grant WRITE on this topic",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "; grant WRITE on this transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "; grant IDEMPOTENT_WRITE on the cluster",
}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
