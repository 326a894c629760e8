"""Where each partition is read from: resumed strictly, or placed once at a concrete offset; in doubt refused."""

from collections.abc import Iterable, Mapping

from operators.connectors.backlog import Part
from operators.connectors.cluster import OtherLanes, Place, Refused, RowsGone, Say, Seen, Shape
from operators.connectors.dealing import stays
from operators.connectors.reading import FORMAT, Counters, Loss, SourceRule, State
from schemas.topics import TOPICS

LAST_RANK = 99


class Placing:
    """Makes the partitions of the lanes that are here.

    Args:
        rule: what is read.
        begin: offsets of a first start, by partition; one that is missing starts at its first row.
        counters: told of new partitions and of losses.
        say: is told what a person should know.
    """

    def __init__(self, rule: SourceRule, begin: dict[Place, int], counters: Counters, say: Say) -> None:
        self._rule, self._begin, self._counters, self._say = rule, begin, counters, say
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
        """Every partition of the lanes that are here, at its offset.

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
        self._first(seen, known)
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
            elif part.topic in known:
                self._join(part, seen)
        if gone:
            raise RowsGone(gone)
        if missing := [f"{topic}:{number}" for topic, number in sorted(stored) if topic in self.names.values()]:
            raise Refused(f"partitions that were read must still be there; missing: {', '.join(missing)}")
        return found

    def _first(self, seen: Seen, known: set[str]) -> None:
        """A topic that nobody has read must have as many partitions as are set: what is not meant ends here."""
        for topic, count, dealt in self._grown(seen):
            if topic not in known:
                raise Refused(
                    f"{topic}: partitions must be {dealt}; it is {count}; set partitions = {count} in [topics] if all"
                    " topics keyed alike have as many; else make it anew"
                )

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
        """A partition where a first start begins; None if it is another process's."""
        topic = self.names[name]
        reference = topic in self._rule.reference
        lane = number % self._rule.lanes
        if lane not in self._states:
            if not reference or self._rule.keyed:
                return None
            lane = min(self._states)  # a process that nobody tells anything reads reference topics whole
        low, end = seen.lows[name, number], seen.ends[name, number]
        begin = low if reference else self._begin.get((name, number), low)
        rank = TOPICS[topic].rank if topic in TOPICS else LAST_RANK
        return Part(topic, name, number, lane, rank, seen.shapes[name].id, begin, end, reference)

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
