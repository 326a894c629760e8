"""Topics as the broker has them: their ids, partitions and offsets, asked at the start and watched from then on.

Only the administrative client is used here, so a thread of its own may ask without the reader's knowledge.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from operators.connectors.access import BrokerAway, BrokerRefused, refuses
from operators.connectors.clock import monotonic

Say = Callable[[str], None]
Place = tuple[str, int]
"""A partition: full name of the topic, number."""
Where = Literal["earliest", "latest"] | int
"""Where to begin: a word, or a time in µs."""

ABSENT = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC})
FORBIDDEN = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
ASK_S = 2.0
"""How long one question may take while the broker's answer is waited for in rounds."""
REMIND_S = 5.0
_AGAIN_S = 0.1
_GRACE_S = 5.0


class Refused(RuntimeError):
    """The source must not go on: what it would read is not what it has read so far, or is not there."""


class OtherLanes(Refused):
    """The state was begun with another number of lanes, or in another layout."""


class TopicsMissing(Refused):
    """Topics that are to be read are not there."""


class RowsGone(Refused):
    """Rows are not there any more; `places` is how a person names the partitions to write them off.

    Args:
        gone: what is wrong, by partition.
    """

    def __init__(self, gone: Mapping[str, str]) -> None:
        alike: dict[str, list[str]] = {}
        for place, about in gone.items():
            alike.setdefault(about, []).append(place)
        super().__init__("; ".join(f"{', '.join(places)}: {about}" for about, places in alike.items()))
        self.gone, self.places = dict(gone), tuple(gone)


@dataclass(frozen=True)
class Shape:
    """A topic: the id it got when it was created, and how many partitions it has."""

    id: str
    partitions: int


@dataclass(frozen=True)
class Seen:
    """One look at the broker; `asked` is the question it answers, `ends` and `lows` are offsets by partition."""

    asked: int
    shapes: dict[str, Shape] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    lows: dict[Place, int] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)


class Cluster:
    """Asks the broker.

    Args:
        client: properties of any client of this broker: its address, and how we are known to it.
        say: is told what a person should know.
    """

    def __init__(self, client: Mapping[str, Any], say: Say) -> None:
        self._address = client.get("bootstrap.servers", "?")
        self._say = say
        self._distrust: tuple[float, str] | None = None
        properties: dict[str, Any] = {**client, "log_level": 0, "error_cb": self._erred}
        self._admin = AdminClient(properties)

    def _erred(self, error: KafkaError) -> None:
        if refuses(error) and self._distrust is None:
            self._distrust = (monotonic(), error.str())

    def shapes(self, topics: Iterable[str], timeout: float = ASK_S) -> tuple[dict[str, Shape], tuple[str, ...]]:
        """The topics there are, and the names of those that are not.

        Raises:
            Refused: the broker lets us not see them.
            KafkaException: it did not answer.
        """
        found, missing = {}, []
        futures = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=timeout)
        for name, future in futures.items():
            try:
                told = future.result()
            except KafkaException as error:
                code = error.args[0].code()
                if code in FORBIDDEN:
                    raise Refused(f"topic {name}: {error.args[0].str()}; grant DESCRIBE and READ on it") from error
                if code not in ABSENT:
                    raise
                missing.append(name)
            else:
                found[name] = Shape(str(told.topic_id), len(told.partitions))
        return found, tuple(missing)

    def offsets(self, places: Iterable[Place], where: Where, timeout: float = ASK_S) -> dict[Place, int]:
        """The offset of each partition at its beginning, its committed end, or a time (the end if none is later)."""
        spec: OffsetSpec = (
            OffsetSpec.for_timestamp(where // 1000)
            if isinstance(where, int)
            else getattr(OffsetSpec, where)()  # untyped there
        )
        asked = {TopicPartition(name, number): spec for name, number in places}
        if not asked:
            return {}
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout
        )
        found = {(place.topic, place.partition): future.result().offset for place, future in futures.items()}
        beyond = [place for place, offset in found.items() if offset < 0]
        return {**found, **self.offsets(beyond, "latest", timeout)} if beyond else found

    def look(self, topics: Iterable[str], asked: int = 0, timeout: float = ASK_S) -> Seen:
        """Everything at once: shapes, and both ends of every partition."""
        shapes, missing = self.shapes(topics, timeout)
        places = [(name, number) for name, shape in shapes.items() for number in range(shape.partitions)]
        lows, ends = self.offsets(places, "earliest", timeout), self.offsets(places, "latest", timeout)
        return Seen(asked, shapes, missing, lows, ends)

    def await_topics(self, topics: Iterable[str], wait_s: float) -> Seen:
        """Wait for the broker, then look; says every few seconds what it waits for.

        Raises:
            BrokerAway: there was no answer within `wait_s`.
            BrokerRefused: it does not let us in.
            TopicsMissing: names them all.
        """
        wanted, began, reminded = sorted(topics), monotonic(), 1.0 - REMIND_S
        while True:
            try:
                seen = self.look(wanted)
            except KafkaException as error:
                reason = error.args[0].str()
            else:
                if seen.missing:
                    names = ", ".join(seen.missing)
                    raise TopicsMissing(f"missing on the broker: {names}")
                return seen
            waited = monotonic() - began
            if self._distrust is not None and monotonic() - self._distrust[0] > min(_GRACE_S, wait_s):
                raise BrokerRefused(f"{self._address}: the broker refuses us; check [kafka]: {self._distrust[1]}")
            if waited >= wait_s:
                raise BrokerAway(f"{self._address}: no broker answers after {waited:.0f} s: {reason}")
            if waited - reminded >= REMIND_S:
                reminded = waited
                self._say(f"waiting for the broker at {self._address}: {reason}")
            time.sleep(_AGAIN_S)


class Watch(threading.Thread):
    """Looks at the broker every minute, and at once when asked to, until it has had an answer.

    Args:
        cluster: whom to ask.
        topics: full names.
        every_s: time between two looks.
    """

    def __init__(self, cluster: Cluster, topics: Iterable[str], every_s: float) -> None:
        super().__init__(name="broker-watch", daemon=True)
        self._cluster, self._topics, self._every_s = cluster, sorted(topics), every_s
        self._wake, self._done = threading.Event(), threading.Event()
        self._seen: SimpleQueue[Seen | Exception] = SimpleQueue()
        self.asked = 0

    def ask(self) -> int:
        """Ask for a look that begins from now on; answers the number it will carry at least."""
        self.asked += 1
        self._wake.set()
        return self.asked

    def take(self) -> Seen | None:
        """What was seen since the last call, if anything.

        Raises:
            Refused: what was seen cannot go on.
        """
        try:
            found = self._seen.get_nowait()
        except Empty:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def run(self) -> None:
        """Look until told to end."""
        wait = self._every_s
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            if self._done.is_set():
                return
            asked = self.asked
            try:
                seen = self._cluster.look(self._topics, asked)
            except KafkaException:
                wait = 0.5  # the reader is told by its own errors; here it is only tried again
            except Refused as error:
                self._seen.put(error)
                wait = self._every_s
            else:
                self._seen.put(seen)
                wait = 1.0 if seen.missing else self._every_s

    def end(self) -> None:
        """End the thread; a question under way is not waited for."""
        self._done.set()
        self._wake.set()
