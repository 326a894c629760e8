"""Who owns an output: the newest claim in a small compacted topic, whose offset is its generation.

A producer without transactions cannot be fenced by the broker: stopped and woken after its successor wrote, it
goes on, and no call fails. So whoever starts writes a claim, and looks again before it writes after a pause and
at every close of an epoch: a newer claim on its outputs stops it. The broker numbers the claims, so two that
start at once still have an order. What a woken process had already handed to its client goes out all the same:
the claim bounds the overlap to that, it does not forbid it; transactions do, where they are used.
"""

from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from operators.connectors.clock import monotonic
from operators.connectors.tails import ForeignWriter, TailGone, Tails

OWNER = "footfall.owner"
"""One partition, compacted: key = output, value = who claims it."""
SLICE_S = 1.0
FRESH_S = 1.0
"""A claim that was looked at within this time need not be looked at before a write."""


class Fenced(Exception):
    """Another process has taken the outputs over: this one must stop."""


class OwnerUnreadable(Exception):
    """The claims cannot be written or read."""


class Owner:
    """The claims of one process on some outputs.

    Args:
        tails: reads topics; never over the connection of a waiting consumer, behind which a question of 1 ms
            would stand for half a second.
        topic: the topic of claims, with its prefix.
        outputs: names of what is claimed.
        execution: who claims.
        limit_s: how long it waits for the broker.
    """

    def __init__(
        self,
        tails: Tails,
        topic: str,
        outputs: list[str],
        execution: str,
        *,
        limit_s: float = 60.0,
    ) -> None:
        self._tails, self._topic, self._limit = tails, topic, limit_s
        self._outputs = {output.encode() for output in outputs}
        self._execution = execution.encode()
        self._claims: dict[bytes, int] = {}
        self._looked = 0.0
        self._next = 0

    @property
    def generation(self) -> int:
        """Offset of the oldest claim of this process."""
        return min(self._claims.values(), default=-1)

    def claim(self) -> None:
        """Claim every output; whoever had it before will see it."""
        heard: list[tuple[KafkaError | None, Message]] = []
        settings = {"acks": "all", "enable.idempotence": True, "delivery.timeout.ms": int(self._limit * 1000)}
        producer = Producer(self._tails.kafka | settings)
        with suppress(KafkaException):  # the client would else find its broker by a timer of half a second
            producer.list_topics(timeout=SLICE_S)
        for output in sorted(self._outputs):
            producer.produce(self._topic, self._execution, output, 0, on_delivery=lambda *told: heard.append(told))
        until = monotonic() + self._limit + SLICE_S
        while producer.flush(SLICE_S) and monotonic() < until:
            self._tails.beat()
        if len(heard) < len(self._outputs) or any(error is not None for error, _ in heard):
            why = next((str(error) for error, _ in heard if error is not None), "no answer")
            raise OwnerUnreadable(
                f"{self._topic}: the claim on the outputs must be written: {why}; is the topic there?"
            )
        for _, message in heard:
            key, offset = message.key(), message.offset()
            assert key is not None
            assert offset is not None
            self._claims[key] = offset
        self._next = self.generation
        self.check()

    def check_if_stale(self) -> None:
        """Look again if nobody has for a while: this process may have been stopped and woken since."""
        if monotonic() - self._looked > FRESH_S:
            self.check()

    def check(self) -> None:
        """Read the claims to their end.

        Raises:
            Fenced: one on our outputs is newer than ours.
            OwnerUnreadable: they cannot be read within the limit, or ours is gone.
        """
        began, part = monotonic(), (self._topic, 0)
        try:
            self._next = self._tails.read({part: self._next}, self._look_at, patience_s=self._limit)[part]
        except (KafkaException, ForeignWriter, TailGone) as error:
            raise OwnerUnreadable(
                f"{self._topic}: the claims must be read at every close of an epoch: {error}"
            ) from error
        if self._next <= max(self._claims.values()):
            raise OwnerUnreadable(f"{self._topic}: our claim is gone; was the topic made anew while this runs?")
        self._looked = began

    def _look_at(self, message: Message) -> None:
        offset, key = message.offset(), message.key()
        assert offset is not None
        if key in self._claims and offset > self._claims[key]:
            raise Fenced(
                f"another process has claimed {key.decode()} (generation {offset}, ours is {self._claims[key]});"
                " this one stops. Start it again only where no other runs on the same outputs"
            )
