"""The outputs of a flow: what is written and how carefully, what was opened, and where a start reads back from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.connectors.guard import Place
from operators.connectors.owner import Owner
from operators.connectors.senders import FencedSender
from operators.connectors.tails import Output, OutputChanged, TailGone, Tails
from schemas.items import Batch
from schemas.letters import Sealed

Snapshot = tuple[Any, ...]
"""(version, lanes, ((topic, topic id, partitions, ((partition, offset), ...)), ...)): str and int only."""
VERSION = 1
HOUR_US = 3_600_000_000
FENCED = frozenset({"action.command"})
"""What is written in transactions unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a flow writes, and how carefully.

    Args:
        kafka: settings of any client: where the broker is, and how we are known to it.
        flow: name of the flow; with `sink` and the lane it names the transactions, for ever.
        schema_ids: schema id by topic; its topics are what is written.
        sealed: seals the payload of a dead letter.
        prefix: stands before every topic and transactional id.
        fenced: topics written in transactions, which shut out a zombie at about 3 ms a batch.
        lanes: how many lanes there are, for the life of the state; `mine` are those of this process.
        horizon_s: how far back tails are read where there is no snapshot; None is all of it.
        orphan_after: event time after which an id that was not repeated is given up (µs): the longest stay and
            lateness together.
        settle_s: time after a start before any is: topics may be read again at very different speeds.
        wait_s: how long a broker may be away while this runs.
        start_s: how long a start may wait for it.
        accept_loss: `topic:partition` whose tail may be read from where it now begins.
        owner: whether claims are kept in `footfall.owner`.
    """

    kafka: Mapping[str, Any]
    flow: str
    schema_ids: Mapping[str, int]
    sealed: Sealed
    prefix: str = ""
    sink: str = "records"
    fenced: frozenset[str] = FENCED
    lanes: int = 1
    mine: tuple[int, ...] | None = None
    horizon_s: float | None = None
    orphan_after: int = 24 * HOUR_US
    settle_s: float = 3600.0
    wait_s: float = 900.0
    start_s: float = 60.0
    accept_loss: frozenset[str] = frozenset()
    owner: bool = True
    beat: Callable[[], None] = field(default=lambda: None)
    observe: Callable[[Batch], None] = field(default=lambda _batch: None)

    def writer_name(self, lane: int) -> str:
        """Transactional id of a lane, for ever."""
        return writers(self.prefix, self.flow, self.sink) + self.lane_name(lane)

    @property
    def topics(self) -> frozenset[str]:
        """What is written."""
        return frozenset(self.schema_ids)

    @property
    def names(self) -> list[str]:
        """Names of the lanes of all processes, in order."""
        return [self.lane_name(lane) for lane in range(self.lanes)]

    def lane_name(self, lane: int) -> str:
        """Name of a lane; zero-padded, since the engine sorts names as text."""
        return f"out-{lane:02d}"


def writers(prefix: str, flow: str, sink: str = "records") -> str:
    """What the transactional ids of a flow begin with."""
    return f"{prefix}{flow}.{sink}."


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

    def bases(self, outputs: Outputs, places: list[Place], resume: Snapshot | None) -> dict[Place, int]:
        """Where the tail of each partition begins: by the snapshot, else by the horizon.

        Raises:
            OutputChanged: the snapshot speaks of other topics, or of more records than there are.
            TailGone: some of the tail is no longer there.
        """
        prefix = outputs.prefix
        known = _checked(outputs, self.found, resume)
        bases = {(prefix + topic, part): known[topic, part] for topic, part in places if (topic, part) in known}
        gone = []
        for (name, part), low in self.tails.lows(bases).items():
            base = bases[name, part]
            if base < low:
                told = f"{name[len(prefix) :]}:{part}"
                if told not in outputs.accept_loss:
                    gone.append(f"{told} (read from {base}, it begins at {low})")
                bases[name, part] = low
        if gone:
            raise TailGone(
                f"outputs were kept too short a time to tell what is on them: {', '.join(sorted(gone))}. A replay might"
                " write it twice; to start all the same: footfall run --accept-loss TOPIC:PARTITION"
            )
        unknown = [(prefix + topic, part) for topic, part in places if (topic, part) not in known]
        bases |= self.tails.since(unknown, outputs.horizon_s)
        for (name, part), end in sorted(self.tails.ends(bases).items()):
            if end < bases[name, part]:
                raise OutputChanged(
                    f"{name} [{part}] ends at {end}, the snapshot knows it up to {bases[name, part]}: records were"
                    " lost on the broker. Restore it, or start with a recovery store of its age"
                )
        return bases


def _checked(outputs: Outputs, found: Mapping[str, Output], resume: Snapshot | None) -> dict[Place, int]:
    """Where each tail begins by the snapshot, which must be of these topics."""
    if resume is None:
        return {}
    version, lanes, topics = resume
    if (version, lanes) != (VERSION, outputs.lanes):
        raise OutputChanged(
            f"the snapshot of the sink has version {version} and {lanes} lanes; this program has {VERSION} and"
            f" {outputs.lanes}. Both are fixed for the life of the state"
        )
    known = {}
    for topic, topic_id, partitions, lows in topics:
        if topic not in found:
            continue
        if found[topic].topic_id != topic_id:
            raise OutputChanged(
                f"{outputs.prefix}{topic} was made anew since the last snapshot: what is on it can no longer be told."
                " Restore it, or start with a new recovery store and state"
            )
        if found[topic].partitions != partitions:
            raise OutputChanged(
                f"{outputs.prefix}{topic} has {found[topic].partitions} partitions, and had {partitions}: keys would"
                " move. Make a new topic of the old count and copy it"
            )
        known.update({(topic, part): low for part, low in lows})
    return known
