"""The outputs of a flow: what is written and how carefully, what was opened, and where a start reads back from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from operators.connectors.clock import wall
from operators.connectors.dealing import process_of
from operators.connectors.guard import Place, Reach
from operators.connectors.owner import Owner
from operators.connectors.senders import FencedSender
from operators.connectors.tails import OtherOutputs, Output, OutputChanged, TailGone, Tails, TopicsAnew
from schemas.letters import Sealed

Snapshot = tuple[Any, ...]
"""(version, lanes, ((topic, topic id, partitions, ((partition, *reach), ...)), ...)): str and int only.

Version 1 has of each reach the first offset only.
"""
VERSION = 2
_READABLE = frozenset({1, VERSION})
HOUR_US = 3_600_000_000
FENCED = frozenset({"action.command"})
"""What is written in transactions, which shut out a zombie at about 3 ms a batch."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a flow writes, and how carefully.

    Args:
        kafka: settings of any client: where the broker is, and how we are known to it.
        flow: name of the flow; with the lane it names the transactions, for ever.
        schema_ids: schema id by topic; its topics are what is written.
        sealed: seals the payload of a dead letter.
        site_id: the site of the flow, which stands in dead letters of the sink.
        prefix: stands before every topic and transactional id.
        lanes: how many lanes there are, for the life of the state; `mine` are those of this process.
        source_lanes: lanes of the source, where each lane here is a process that writes what it read itself: it
            has the partitions of its lanes. None where `outlets` deals what is written over the lanes, of which
            there are then as many as shards.
        dealt: partitions that the keys of a topic are dealt over, for the life of the state; the topic may have more.
        orphan_after: event time after which an id that was not repeated is given up (µs): the longest stay and
            lateness together.
        settle_s: time after a start before any is: topics may be read again at very different speeds.
        wait_s: how long a broker may be away while this runs.
        start_s: how long a start may wait for it.
        accept_loss: `topic:partition` whose tail may be read from where it now begins; of a topic that was made anew
            all of them.
        owner: whether claims are kept in `footfall.owner`.
    """

    kafka: Mapping[str, Any]
    flow: str
    schema_ids: Mapping[str, int]
    sealed: Sealed
    site_id: str = ""
    prefix: str = ""
    lanes: int = 1
    mine: tuple[int, ...] | None = None
    source_lanes: int | None = None
    dealt: Mapping[str, int] = field(default_factory=dict)
    orphan_after: int = 24 * HOUR_US
    settle_s: float = 3600.0
    wait_s: float = 900.0
    start_s: float = 60.0
    accept_loss: frozenset[str] = frozenset()
    owner: bool = True
    beat: Callable[[], None] = field(default=lambda: None)

    def writer_name(self, lane: int) -> str:
        """Transactional id of a lane, for ever, and the name under which it is claimed."""
        return writers(self.prefix, self.flow) + self.lane_name(lane)

    @property
    def topics(self) -> frozenset[str]:
        """What is written."""
        return frozenset(self.schema_ids)

    @property
    def names(self) -> list[str]:
        """Names of the lanes of all processes, in order."""
        return [self.lane_name(lane) for lane in range(self.lanes)]

    @property
    def alone(self) -> bool:
        """Whether all that a lane writes comes to it in one stream: nobody else deals anything to it."""
        return self.lanes == 1 or self.source_lanes is not None

    def lane_of(self, partition: int) -> int:
        """The lane that writes a partition, of any topic; by the rule by which the source deals out what is read."""
        return process_of(partition, self.source_lanes or self.lanes, self.lanes)

    def lane_name(self, lane: int) -> str:
        """Name of a lane; zero-padded, since the engine sorts names as text."""
        return f"out-{lane:02d}"


def writers(prefix: str, flow: str) -> str:
    """What the transactional ids of a flow begin with."""
    return f"{prefix}{flow}.records."


class Resumed(NamedTuple):
    """What a snapshot says: how far each tail reaches, and the partitions that keys were dealt over by topic."""

    reach: Mapping[Place, Reach]
    partitions: Mapping[str, int]


@dataclass
class Opened:
    """What a process opened: the topics as they stand, and one transactional producer a lane."""

    found: dict[str, Output]
    tails: Tails
    owner: Owner | None
    fenced: dict[int, FencedSender]
    made: Callable[[int], FencedSender]
    acked: dict[int, Callable[[str, int, int], None]]

    def renew(self, lane: int) -> None:
        """A transactional producer of the same name in place of one that is of no more use."""
        self.fenced[lane].abandon()
        self.fenced[lane] = self.made(lane)

    def resumed(self, outputs: Outputs, resume: Snapshot | None) -> Resumed:
        """Read a snapshot, which must be of these topics.

        One that was made anew since is begun as without a snapshot, once a person has accepted that. What it holds is
        read back: a start that is repeated before its first snapshot finds there what it wrote.

        Raises:
            OutputChanged: it is of other lanes, or keys would move.
            TopicsAnew: topics were made anew, and nobody has accepted that.
        """
        if resume is None:
            return Resumed({}, {})
        version, lanes, topics = resume
        if version not in _READABLE or lanes != outputs.lanes:
            raise OtherOutputs(
                f"the snapshot of the sink has version {version} and {lanes} lanes; this program has {VERSION} and"
                f" {outputs.lanes}. Both are fixed for the life of the state"
            )
        reach, counts = {}, {}
        anew: list[str] = []
        for topic, topic_id, partitions, places in topics:
            if topic not in self.found:
                continue
            if self.found[topic].topic_id != topic_id:
                # All of it, whoever writes them: so one command does for every process.
                anew += [f"{topic}:{part}" for part in range(self.found[topic].partitions)]
                continue
            self._keeps(outputs, topic, partitions)
            counts[topic] = partitions
            for part, low, *more in places:
                reach[topic, part] = Reach(low, *more) if more else Reach(low, low, 0)
        if refused := tuple(place for place in anew if place not in outputs.accept_loss):
            names = sorted({outputs.prefix + place.rpartition(":")[0] for place in refused})
            raise TopicsAnew(
                f"{', '.join(names)}: made anew since the last snapshot. What the flow wrote there before is gone and is"
                " not written again",
                refused,
            )
        return Resumed(reach, counts)

    def _keeps(self, outputs: Outputs, topic: str, partitions: int) -> None:
        """Refuse to deal the keys of a topic over another number of partitions than so far."""
        now = self.found[topic].partitions
        if topic in outputs.dealt and now != partitions:
            raise OutputChanged(
                f"{outputs.prefix}{topic}: keys would be dealt over {now} partitions, and were over {partitions}: they"
                f" would move. Set partitions = {partitions} in [topics]; the topic may have more"
            )
        if now < partitions or (now > partitions and not outputs.alone):
            raise OutputChanged(
                f"{outputs.prefix}{topic} has {now} partitions, and had {partitions}: keys would"
                " move. Make a new topic of the old count and copy it"
            )

    def bases(self, outputs: Outputs, places: list[Place], reach: Mapping[Place, Reach]) -> dict[Place, int]:
        """Where the tail of each partition begins: by the snapshot, else with the first record there is.

        What retention has taken of ids that nobody says again is no loss; of what this flow wrote itself it is.

        Raises:
            OutputChanged: the snapshot speaks of more records than there are.
            TailGone: some of the tail is no longer there.
        """
        prefix = outputs.prefix
        bases = {(prefix + topic, part): reach[topic, part].low for topic, part in places if (topic, part) in reach}
        gone: dict[str, str] = {}
        forgotten = wall() - outputs.orphan_after
        for (name, part), low in self.tails.lows(bases).items():
            base, topic = bases[name, part], name[len(prefix) :]
            if base < low:
                _, firm, newest = reach[topic, part]
                told, leftover = f"{topic}:{part}", low <= firm and newest < forgotten
                if not leftover and told not in outputs.accept_loss:
                    gone[told] = f"{told} (read from {base}, it begins at {low})"
                bases[name, part] = low
        if gone:
            raise TailGone(
                f"outputs were kept too short a time to tell what is on them: {', '.join(sorted(gone.values()))}."
                " A replay might write it twice",
                tuple(sorted(gone)),
            )
        unknown = [(prefix + topic, part) for topic, part in places if (topic, part) not in reach]
        bases |= self.tails.lows(unknown)
        for (name, part), end in sorted(self.tails.ends(bases).items()):
            if end < bases[name, part]:
                raise OutputChanged(
                    f"{name} [{part}] ends at {end}, the snapshot knows it up to {bases[name, part]}: records were"
                    " lost on the broker. Restore it, or start with a recovery store of its age"
                )
        return bases
