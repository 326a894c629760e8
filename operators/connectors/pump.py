"""The only consumer of a process: what it fetches, the lanes hand on.

A sweep is one round over the lanes. It begins when every lane has given away what it held, with one wait for
the broker that ends at the first message, at the next step of the clock, or after `max_block_s`.
"""

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from operators.connectors.access import PASSING, refuses
from operators.connectors.backlog import GIVE_UP_S, Part, behind, release
from operators.connectors.clock import monotonic, wall
from operators.connectors.cluster import ABSENT, FORBIDDEN, Cluster, Place, Refused, Say, Seen, Watch
from operators.connectors.hands import Hands
from operators.connectors.merge import STEP
from operators.connectors.placing import Placing
from operators.connectors.reading import FORMAT, Counters, SourceRule, State, group_of
from schemas.items import Heard, Item

AWAY = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE})
HELD_BYTES = 4 << 20
HELD_ROWS = 10_000
CALM_S = 1.5
"""A broker that is back hears from all its clients within so long: producers that waited, and we."""
CLOSING_S = 0.001
"""How long to wait for messages at a time while some lanes have closed their epoch and others have not."""
OVER_S = 5.0
"""Errors of a kind that come no more for so long are over: the client tries again every second."""
_READER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "fetch.min.bytes": 1,
    "fetch.wait.max.ms": 100,  # how soon the end of a partition is known; no latency hangs on it
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 4096,
    "socket.timeout.ms": 10_000,
    "reconnect.backoff.max.ms": 1_000,
    "log_level": 0,
}


class Pump:
    """Reads for all lanes of a process.

    Ticks stand for "every row up to there has been heard", so none is sent while rows are known to wait, while
    the broker is away, or before the reference topics have been read.

    Args:
        rule: what is read, and how.
        counters: kept up to date.
        say: is told what a person should know.
    """

    def __init__(self, rule: SourceRule, counters: Counters, say: Say) -> None:
        self._rule, self.counters, self._say = rule, counters, say
        names = {rule.prefix + topic: topic for topic in rule.topics}
        self._cluster = Cluster(rule.client, say)
        self._first = self._cluster.await_topics(names, rule.wait_s)
        self._placing = Placing(rule, counters, say, lambda parts, at: self._cluster.offsets(parts, at, rule.wait_s))
        self._placing.fits(self._first)
        self._watch = Watch(self._cluster, names, rule.refresh_s)
        self._consumer = Consumer(
            {
                **_READER,
                **rule.client,
                "group.id": group_of(rule.flow),
                "error_cb": self._erred,
                "on_commit": self._on_commit,
            }
        )
        self._parts: dict[Place, Part] = {}
        self._stirred: dict[Part, None] = {}  # those of which more is to be handed on, or may be
        self._placed = self._swept = self._live = False
        self.over = False
        """Rows were given back, and what comes after them must not be handed on."""
        self._hands = Hands(rule.lanes, len(rule.lanes_here), keyed=rule.keyed)
        self._round: set[int] = set()
        self._held = 0
        self._clock = self._told = self._second = 0
        self._durable: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}
        self._question: int | None = None  # asked when the broker went away, and not answered yet
        self._calm: float | None = None  # when a broker that is back may be asked what it has
        self._absent: float | None = None  # since when each look has missed a topic
        self._hindered: dict[Place | None, tuple[float, float, str]] = {}  # since when, when last, and by what

    # -- the lanes' side

    def resume(self, lane: int, state: State | None) -> None:
        """Take a lane's snapshot, before the first `take`."""
        self._placing.resume(lane, state)
        self._hands.add(lane)

    def take(self, lane: int) -> tuple[list[Item], int]:
        """What a lane hands on now, and the wall clock (µs) at which it was heard.

        Raises:
            Refused: reading on would be wrong.
        """
        self._hands.called(lane)
        if lane in self._round:
            self._round.clear()
        if not self._round and self._hands.empty():
            if self._hands.together():
                self._sweep()
            elif self._placed:
                self._poll(CLOSING_S)
        self._round.add(lane)
        return self._hands.take(lane, self._clock, self.counters.messages), self._clock

    def give_back(self, items: list[Item]) -> None:
        """Take back the rows of the last `take`, which are not handed on after all: the next start reads them."""
        self.over = True
        for item in reversed(items):
            if isinstance(item, Heard):
                self._parts[self._rule.prefix + item.topic, item.partition].next = item.offset
                self._hands.counter -= 1
                self.counters.messages[item.topic] -= 1

    def snapshot(self, lane: int) -> State:
        """Where a lane stands at the end of an epoch: after what was handed on, not after what was fetched.

        Before the first sweep it stands where it stood: a place behind rows that are gone would be kept, and the loss
        not told.
        """
        self._hands.closed(lane)
        if not self._swept and (resumed := self._placing.resumed(lane)) is not None:
            return resumed
        self._place()
        mine = sorted(
            (part for part in self._parts.values() if part.lane == lane), key=lambda p: (p.topic, p.partition)
        )
        places = tuple((part.topic, part.partition, part.next, part.id) for part in mine)
        return (FORMAT, self._rule.lanes, self._hands.counter, places)

    def durable(self, state: State) -> None:
        """A lane's snapshot is known to be durable; its offsets may be told to outside tools."""
        self.counters.epochs += 1
        for topic, partition, offset, _ in state[3]:
            self._durable[self._rule.prefix + topic, partition] = offset

    def close(self, lane: int) -> None:
        """A lane has ended; the last one closes the consumer."""
        if self._hands.drop(lane):
            self._watch.end()
            self._consumer.close()

    # -- a sweep

    def _place(self) -> None:
        """Put every partition at its offset, and begin with the reference topics."""
        if self._placed:
            return
        self._placed = True
        self._parts = self._placing.parts(self._first)
        self._stirred = dict.fromkeys(part for part in self._parts.values() if part.reference)
        self._hands.counter = self._placing.number
        self._watch.start()
        self._consumer.assign(self._places(reference=True))

    def _places(self, *, reference: bool) -> list[TopicPartition]:
        parts = [part for part in self._parts.values() if part.reference is reference]
        return [TopicPartition(part.name, part.partition, part.next) for part in parts]

    def _sweep(self) -> None:
        self._place()
        self._swept = True
        while (seen := self._watch.take()) is not None:
            self._look(seen)
        self._bear()
        if self._calm is not None and monotonic() > self._calm:
            self._calm, self.counters.away, self._question = None, False, self._watch.ask()
            self._say("the broker is back")
        self._commit()
        if not self._live and all(part.reached() for part in self._parts.values() if part.reference):
            self._live = self.counters.reference_read = True
            self._hands.opened()
            self._stirred = dict.fromkeys(self._parts.values())
            self._consumer.incremental_assign(self._places(reference=False))
        now = wall()
        self._measure(now)
        if (self._held or now // STEP != self._told) and self._due(now):
            return
        self._poll(self._wait(now))
        self._due(wall())

    def _wait(self, now: int) -> float:
        """How long to wait for a message: not past the next step of the clock, which moves all timers."""
        return min(self._rule.max_block_s, (STEP - now % STEP) / 1e6)

    def _due(self, now: int) -> bool:
        """Move the clock, and hand the rows that may go to the lanes; whether there was any."""
        self._clock, now_ms = now, now // 1000
        self._stirred = stirred = {part: None for part in self._stirred if part.queue or not part.at_end}
        late = [part for part in stirred if self._behind(part, now_ms)]
        self.counters.caught_up = caught_up = self._live and not late and self._question is None
        if caught_up and now // STEP != self._told:
            self._told = now // STEP
            self._hands.tick(self._told * STEP)
        if not self._held:
            return False
        holding = [part for part in stirred if part.queue]
        blockers = [part for part in late if not part.queue]
        rows = release(
            holding,
            blockers,
            self._rule.max_batch,
            lambda part: bool(late) and self._behind(part, now_ms),
            apart=self._rule.keyed,
        )
        for part, message in rows:
            part.held -= len(message)
        self._hands.give(rows)
        self._held -= len(rows)
        for part in holding:
            if part.paused and part.held < HELD_BYTES // 2 and len(part.queue) < HELD_ROWS // 2:
                part.paused = False
                self._consumer.resume([TopicPartition(part.name, part.partition)])
        return bool(rows)

    def _behind(self, part: Part, now_ms: int) -> bool:
        """Whether rows that have waited are still to come of a partition, and may be waited for."""
        if not self._live:
            return not part.reached()
        if part.queue or part.at_end:
            return behind(part, -1, now_ms)
        if not behind(part, self._high(part), now_ms):
            part.waited_since = None
            return False
        if self._question is not None:
            part.waited_since = None
        elif part.waited_since is None:
            part.waited_since = monotonic()
        elif monotonic() - part.waited_since > GIVE_UP_S:
            part.given_up = True
            self._say(f"{part.topic}:{part.partition} has more and delivers nothing; the others go on without it")
            return False
        return True

    def _high(self, part: Part) -> int:
        found = self._consumer.get_watermark_offsets(TopicPartition(part.name, part.partition), cached=True)
        return -1 if found is None else int(found[1])

    def _measure(self, now: int) -> None:
        if now // 1_000_000 == self._second:
            return
        self._second = now // 1_000_000
        self.counters.measured_at = monotonic()
        for part in self._parts.values():
            high = part.end if part.at_end else max(self._high(part), part.end)
            self.counters.lag[part.topic, part.partition] = max(0, high - part.next)
            self.counters.age[part.topic, part.partition] = now / 1e6 - part.queue[0][0] / 1e3 if part.queue else 0.0

    def _commit(self) -> None:
        """Tell outside tools how far we are; nobody reads it back here."""
        if not self._durable:
            return
        moved = {place: offset for place, offset in self._durable.items() if self._committed.get(place) != offset}
        self._durable.clear()
        if moved:
            offsets = [TopicPartition(name, number, offset) for (name, number), offset in moved.items()]
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
                self._committed.update(moved)
            except KafkaException:
                self.counters.commit_failures += 1

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """What was not taken is told again: a partition that says nothing more would show rows as unread for ever."""
        failed = [told for told in offsets if error is not None or told.error is not None]
        self.counters.commit_failures += bool(failed)
        for told in failed:
            self._committed.pop((told.topic, told.partition), None)

    # -- the broker's side

    def _poll(self, wait_s: float) -> None:
        """Fetch what is there, after waiting for the first message at most."""
        head = self._consumer.poll(wait_s)
        if head is None:
            return
        now_ms = wall() // 1000
        for message in (head, *self._consumer.consume(self._rule.max_batch - 1, 0)):
            if message.error() is not None:
                self._refused(message)
                continue
            part = self._parts[message.topic(), message.partition()]  # type: ignore[index]
            if self._hindered:
                self._hindered.pop((part.name, part.partition), None)
            self._stirred[part] = None
            kind, at_ms = message.timestamp()
            part.heard(min(at_ms, now_ms) if kind else now_ms, message.offset(), message, len(message))  # type: ignore[arg-type]
            self._held += 1
            if not part.paused and (part.held > HELD_BYTES or len(part.queue) > HELD_ROWS):
                part.paused = True
                self._consumer.pause([TopicPartition(part.name, part.partition)])

    def _refused(self, message: Message) -> None:
        """A message that is none: the end of a partition, or an error."""
        error: KafkaError = message.error()  # type: ignore[assignment]
        code = error.code()
        part = self._parts.get((message.topic(), message.partition()))  # type: ignore[arg-type]
        if code == KafkaError._PARTITION_EOF and part is not None:
            part.ended(message.offset())  # type: ignore[arg-type]
            self._hindered.pop((part.name, part.partition), None)
        elif code == KafkaError._AUTO_OFFSET_RESET and part is not None:
            place = (part.name, part.partition)
            self._placing.same([part], self._cluster.shapes([part.name])[0])  # the reset may be heard of first
            low = self._cluster.offsets([place], "earliest")[place]
            end = self._cluster.offsets([place], "latest")[place]
            part.read = self._placing.out_of_range(part, part.read, low, end)
            if not part.queue:
                part.next = part.read
            self._consumer.incremental_unassign([TopicPartition(*place)])
            self._consumer.incremental_assign([TopicPartition(*place, part.read)])
        elif code in PASSING and part is not None:
            self._hinders((part.name, part.partition), error)
        elif code in AWAY or code in ABSENT or refuses(error) or error.retriable():
            self._erred(error)
        elif code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise Refused(f"group {group_of(self._rule.flow)}: {error.str()}; grant READ on it")
        else:
            grant = "; grant READ on it" if code in FORBIDDEN else ""
            raise Refused(f"{message.topic()}:{message.partition()}: {error.str()}{grant}")

    def _erred(self, error: KafkaError) -> None:
        """An error of no message: the broker is away, or knows a topic no more, or does not trust us."""
        code = error.code()
        if refuses(error):
            self._hinders(None, error)
        if code in AWAY:
            if code == KafkaError._ALL_BROKERS_DOWN:
                if not self.counters.away:
                    self._say(f"the broker is away: {error.str()}; going on when it is back")
                self.counters.away, self._calm, self._absent = True, None, None
            self._question = self._watch.ask()
        elif code in ABSENT:
            self._watch.ask()  # it is missing when a look says so: this is said once, and taken back by nobody

    def _hinders(self, place: Place | None, error: KafkaError) -> None:
        """An error that may pass: of one partition, until a row or the end of it is heard, or of all."""
        now = monotonic()
        since, _, _ = self._hindered.get(place, (now, now, ""))
        self._hindered[place] = since, now, error.str()

    def _bear(self) -> None:
        """Stop when a broker that does not let us read has not thought better of it."""
        now = monotonic()
        self._hindered = {place: told for place, told in self._hindered.items() if now - told[1] <= OVER_S}
        for since, _, text in self._hindered.values():
            if now - since > self._rule.bound_s:
                raise self._borne(text)

    def _borne(self, text: str) -> Refused:
        return Refused(f"the broker has not let us read for {self._rule.bound_s:.0f} s: {text}")

    def _look(self, seen: Seen) -> None:
        """Learn from a look at the broker: gone, made again, grown, back."""
        self._absent = (self._absent or monotonic()) if seen.missing else None
        if self._absent is not None and monotonic() - self._absent > self._rule.bound_s:
            raise self._borne(f"missing on it: {', '.join(seen.missing)}")
        self._placing.same(self._parts.values(), seen.shapes)
        self._placing.fits(seen)
        for part in self._placing.new(seen, self._parts):
            self._parts[part.name, part.partition] = part
            if part.reference or self._live:
                self._stirred[part] = None
                self._consumer.incremental_assign([TopicPartition(part.name, part.partition, part.next)])
        if self._question is not None and seen.asked >= self._question:
            if self.counters.away:
                self._calm = self._calm or monotonic() + CALM_S
                return
            self._question = None
            for part in self._parts.values():
                part.told_end(seen.ends.get((part.name, part.partition), part.read))
            self._stirred = dict.fromkeys(part for part in self._parts.values() if self._live or part.reference)
