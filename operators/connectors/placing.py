"""Where each partition is read from: resumed strictly, or placed once at a concrete offset; in doubt refused."""

from collections.abc import Callable, Iterable, Mapping

from operators.connectors.backlog import Part
from operators.connectors.cluster import OtherLanes, Place, Refused, RowsGone, Say, Seen, Shape
from operators.connectors.dealing import stays
from operators.connectors.reading import FORMAT, Counters, Loss, SourceRule, State
from operators.connectors.topics import miscounted
from schemas.topics import TOPICS

LAST_RANK = 99
At = Callable[[list[Place], int], Mapping[Place, int]]


class Placing:
    """Makes the partitions of the lanes that are here.

    Args:
        rule: what is read.
        counters: told of new partitions and of losses.
        say: is told what a person should know.
        at: asks at which offset each partition has the time (µs) where a first start begins.
    """

    def __init__(self, rule: SourceRule, counters: Counters, say: Say, at: At) -> None:
        self._rule, self._counters, self._say, self._at = rule, counters, say, at
        self._states: dict[int, State | None] = {}
        self.names = {rule.prefix + topic: topic for topic in rule.topics}

    @property
    def number(self) -> int:
        """How many rows were handed on by the time of the snapshots, by the lane that counted furthest."""
        return max((state[2] for state in self._states.values() if state is not None), default=0)

    def resume(self, lane: int, state: State | None) -> None:
        """Take a lane's snapshot, or none.

        Raises:
            OtherLanes: it is of another layout or number of lanes.
        """
        if state is not None and (state[0] != FORMAT or state[1] != self._rule.lanes):
            raise OtherLanes(
                f"lane {lane}: its snapshot must be of layout {FORMAT} with {self._rule.lanes} lanes, got {state[0]} "
                f"with {state[1]}: the number of lanes is fixed for the life of the state"
            )
        self._states[lane] = state

    def resumed(self, lane: int) -> State | None:
        """The snapshot that a lane was given."""
        return self._states[lane]

    def fits(self, seen: Seen) -> None:
        """Refuse topics that have grown where keys would go to other processes, or to lanes apart from each other."""
        for topic, count, dealt in self._grown(seen):
            whole = topic in self._rule.reference  # every process reads all of it
            if not (whole or stays(count, dealt, self._rule.lanes, self._rule.processes)):
                raise Refused(
                    f"{topic} has {count} partitions, and its keys are dealt over {dealt} to {self._rule.processes}"
                    f" processes: subjects would go to processes that know nothing of them. Copy it into a new topic of"
                    f" {dealt} partitions and start with --accept-loss {topic}:PARTITION for each of them, or begin"
                    f" anew with partitions = {count} in [topics]"
                )
        counts = {
            topic: seen.shapes[name].partitions
            for name, topic in self.names.items()
            if topic in self._rule.together and name in seen.shapes
        }
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{topic} {count}" for topic, count in sorted(counts.items()))
            raise Refused(f"topics that are read together must have equally many partitions: {told}")

    def parts(self, seen: Seen) -> dict[Place, Part]:
        """Every partition of the lanes that are here, at its offset; of a topic that nobody has read, at the start.

        Raises:
            RowsGone: of all partitions whose stored offset does not mean any more what it meant.
            Refused: partitions, or a topic of the right count, are not there.
        """
        stored = {
            (topic, partition): (offset, topic_id)
            for state in self._states.values()
            if state is not None
            for topic, partition, offset, topic_id in state[3]
        }
        known = {topic for topic, _ in stored}
        fresh = {topic for topic in self.names.values() if self._fresh(topic, known)}
        self._first(seen, fresh)
        for topic in sorted(known - set(self.names.values())):
            self._say(f"topic {topic} is no longer read; its place is forgotten")
        found: dict[Place, Part] = {}
        gone: dict[str, str] = {}
        for name, number in sorted(seen.lows):
            part = self._part(name, number, seen)
            if part is None:
                continue
            found[name, number] = part
            if (place := (part.topic, number)) in stored:
                try:
                    self._put(part, self._checked(part, *stored.pop(place), seen))
                except RowsGone as error:
                    gone |= error.gone
            elif part.topic not in fresh:
                self._join(part, seen)
        if gone:
            raise RowsGone(gone)
        if missing := [f"{topic}:{number}" for topic, number in sorted(stored) if topic in self.names.values()]:
            raise Refused(f"partitions that were read must still be there; missing: {', '.join(missing)}")
        self._begin({place: part for place, part in found.items() if part.topic in fresh and not part.reference}, seen)
        return found

    def _fresh(self, topic: str, known: set[str]) -> bool:
        """Whether nobody has read of a topic; `known` are those of which the lanes here have read.

        A process to which none of the partitions that a topic began with belongs cannot know. It takes it for one
        that was read elsewhere and has grown: then no row is skipped.
        """
        if topic in known:
            return False
        began_with = range(self._rule.dealt.get(topic, 1))
        return not any(self._states.values()) or any(self._lane(topic, number) is not None for number in began_with)

    def _begin(self, parts: dict[Place, Part], seen: Seen) -> None:
        """Put partitions that nobody has read where a first start begins."""
        start = self._rule.start
        if start == "earliest" or not parts:
            return
        offsets = seen.ends if start == "latest" else self._at(list(parts), start)
        for place, part in parts.items():
            self._put(part, offsets[place])

    def _first(self, seen: Seen, fresh: set[str]) -> None:
        """A topic that nobody has read must have as many partitions as are set: what is not meant ends here."""
        for topic, count, dealt in self._grown(seen):
            if topic in fresh:
                raise Refused(str(miscounted(topic, dealt, count)))

    def _grown(self, seen: Seen) -> list[tuple[str, int, int]]:
        """Topics that have more partitions than their keys are dealt over: topic, partitions, dealt."""
        found = [
            (topic, seen.shapes[name].partitions, self._rule.dealt[topic])
            for name, topic in sorted(self.names.items())
            if name in seen.shapes and topic in self._rule.dealt
        ]
        return [(topic, count, dealt) for topic, count, dealt in found if count > dealt]

    def new(self, seen: Seen, known: dict[Place, Part]) -> list[Part]:
        """Partitions that nobody knew, each at its first row."""
        found = []
        for name, number in sorted(set(seen.lows) - set(known)):
            part = self._part(name, number, seen)
            if part is not None:
                self._join(part, seen)
                found.append(part)
        return found

    def _part(self, name: str, number: int, seen: Seen) -> Part | None:
        """A partition at its first row; None if it is another process's."""
        topic = self.names[name]
        lane = self._lane(topic, number)
        if lane is None:
            return None
        low, end = seen.lows[name, number], seen.ends[name, number]
        rank = TOPICS[topic].rank if topic in TOPICS else LAST_RANK
        return Part(topic, name, number, lane, rank, seen.shapes[name].id, low, end, topic in self._rule.reference)

    def _lane(self, topic: str, number: int) -> int | None:
        """The lane of a partition, if it is here."""
        lane = number % self._rule.lanes
        if lane in self._states:
            return lane
        if topic in self._rule.reference and not self._rule.keyed:
            return min(self._states)  # a process that nobody tells anything reads reference topics whole
        return None

    def _join(self, part: Part, seen: Seen) -> None:
        """Nobody has read of a new partition: it is read from its first row on, wherever others began."""
        self._put(part, seen.lows[part.name, part.partition])
        self._counters.new_partitions += 1
        self._say(
            f"{part.topic} has a new partition {part.partition}, read from offset {part.next} by lane {part.lane}; "
            "keys have moved: the order of a subject breaks once"
        )

    @staticmethod
    def _put(part: Part, offset: int) -> None:
        part.next = part.read = offset

    def _checked(self, part: Part, offset: int, topic_id: str, seen: Seen) -> int:
        """A stored offset, if it still means what it meant."""
        low, end = seen.lows[part.name, part.partition], seen.ends[part.name, part.partition]
        if topic_id != part.id:
            if (part.topic, part.partition) not in self._rule.accept_loss:
                raise self._made_again(part, topic_id, seen.shapes[part.name], self._rule.accept_loss)
            return self._lose(part, offset, low, made_again=True)
        return offset if low <= offset <= end else self.out_of_range(part, offset, low, end)

    def same(self, parts: Iterable[Part], shapes: Mapping[str, Shape]) -> None:
        """Look whether topics that are being read are still the ones that were placed.

        Raises:
            RowsGone: some are not.
        """
        gone: dict[str, str] = {}
        for part in parts:
            shape = shapes.get(part.name)
            if shape is not None and shape.id != part.id:
                gone |= self._made_again(part, part.id, shape).gone
        if gone:
            raise RowsGone(gone)

    @staticmethod
    def _made_again(part: Part, old: str, shape: Shape, accepted: frozenset[Place] = frozenset()) -> RowsGone:
        """The topic is not the one that was read: that goes for all its partitions, whoever reads them."""
        about = (
            f"the topic was deleted and made again (id {old} then, {shape.id} now), a stored offset means nothing in it"
        )
        own = {(part.topic, number) for number in range(shape.partitions)} | {(part.topic, part.partition)}
        return RowsGone({f"{topic}:{number}": about for topic, number in sorted(own - accepted)})

    def out_of_range(self, part: Part, wanted: int, low: int, end: int) -> int:
        """Where to go on when the wanted offset is not there and a person has written the loss off.

        Raises:
            RowsGone: nobody has.
        """
        if (part.topic, part.partition) in self._rule.accept_loss:
            return self._lose(part, wanted, low if wanted < low else end)
        about = f"offset {wanted} is wanted, the broker has {low} to {end}: rows are gone"
        raise RowsGone({f"{part.topic}:{part.partition}": about})

    def _lose(self, part: Part, wanted: int, to: int, *, made_again: bool = False) -> int:
        self._counters.lost.append(Loss(part.topic, part.partition, wanted, to, part.lane, part.id, made_again))
        self._say(f"{part.topic}:{part.partition}: loss accepted; offset {wanted} was wanted, going on at {to}")
        return to
