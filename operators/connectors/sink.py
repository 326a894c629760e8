"""The guarded sink: every derived record on its topic once, through crashes, replays and zombies.

Ids are functions of the data, so a replay says the same ones again; what is already on the topic is found by
reading its tail back (`tails`) and is not written twice (`guard`). On a compacted topic, of which the last record of
a key is what counts, a version that a replay tells otherwise is written anew, with all that follow it. A lane owns fixed partitions: p of every topic
where p % lanes is its number. Lanes are the engine's partitions, so they may move between processes. One lane is
right for one shard; with more, `GuardedSink.outlets` deals a batch over them before the output.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from os import urandom

from bytewax.outputs import FixedPartitionedSink

from operators.connectors.files import published
from operators.connectors.outlet import Lane
from operators.connectors.outputs import FENCED, Opened, Outputs, Snapshot
from operators.connectors.owner import OWNER, Owner, claimed
from operators.connectors.senders import FencedSender
from operators.connectors.tails import Output, OutputChanged, Tails
from operators.connectors.topics import miscounted
from schemas.items import Batch, Item, Tally, Tick
from schemas.keys import key_of, partition_of
from schemas.parcels import Packed, packed
from schemas.shards import SHARDS

SECOND_US = 1_000_000
Keyed = tuple[str, Batch]


class GuardedSink(FixedPartitionedSink[Batch, Snapshot]):
    """Everything a flow says, on its topics; see `Outputs` and the module."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._mine = outputs.mine if outputs.mine is not None else tuple(range(outputs.lanes))
        self._names = [outputs.lane_name(lane) for lane in self._mine]
        self._opened: Opened | None = None
        self._grown: list[str] = []
        self._told: dict[int, int] = {}
        self.lanes: dict[int, Lane] = {}

    def open(self) -> None:
        """Look at the topics, claim the outputs, and shut out former selves: all lanes at once.

        Raises:
            OutputChanged: a topic is missing, or has not enough partitions for each lane to have one.
            Fenced, Undelivered, OwnerUnreadable: the outputs are not to be had.
        """
        if self._opened is not None:
            return
        outputs = self._outputs
        tails = Tails(outputs.kafka, beat=outputs.beat, limit_s=outputs.start_s)
        found = tails.outputs(outputs.prefix + topic for topic in outputs.topics)
        self._grown = [
            str(miscounted(outputs.prefix + topic, outputs.dealt[topic], count))
            for topic in sorted(outputs.topics & outputs.dealt.keys())
            if (count := found[outputs.prefix + topic].partitions) > outputs.dealt[topic]
        ]
        ours = {topic: _dealt(outputs, topic, found[outputs.prefix + topic]) for topic in outputs.topics}
        named = {lane: outputs.writer_name(lane) for lane in self._mine}
        owner = None
        if outputs.owner:
            # Before any producer is shut out: whoever finds himself shut out finds the claim, too.
            execution = urandom(8).hex()
            patient = Tails(outputs.kafka, beat=outputs.beat, limit_s=outputs.wait_s)
            owner = Owner(patient, outputs.prefix + OWNER, list(named.values()), execution, limit_s=outputs.start_s)
            owner.claim()
        acked: dict[int, Callable[[str, int, int], None]] = {}
        transactional = outputs.topics & FENCED
        limits = [ours[topic].largest for topic in transactional]

        def made(lane: int, wait_s: float = outputs.wait_s) -> FencedSender:
            sender = FencedSender(
                outputs.kafka, named[lane], acked=partial(_told, acked, lane), beat=outputs.beat,
                limit_s=outputs.wait_s, limits=limits,
            )  # fmt: skip
            sender.open(wait_s)
            return sender

        fenced: dict[int, FencedSender] = {}
        if transactional:
            with ThreadPoolExecutor(len(self._mine), "init") as pool:
                fenced = dict(
                    zip(self._mine, pool.map(lambda lane: made(lane, outputs.start_s), self._mine), strict=True)
                )
        self._opened = Opened(ours, tails, owner, fenced, made, acked)

    def former(self) -> list[str]:
        """Names of the lanes here that were ever claimed; to be asked before `open` claims them.

        Raises:
            OwnerUnreadable: the broker does not say.
        """
        outputs = self._outputs
        tails = Tails(outputs.kafka, beat=outputs.beat, limit_s=outputs.start_s)
        names = [outputs.writer_name(lane) for lane in self._mine]
        return claimed(tails, outputs.prefix + OWNER, names, limit_s=outputs.start_s)

    def list_parts(self) -> list[str]:
        return list(self._names)

    def part_fn(self, item_key: str) -> int:
        """A lane is named by the key; where the key is a shard's, the one lane here takes everything."""
        names = self._outputs.names
        return names.index(item_key) if item_key in names else 0

    def build_part(self, step_id: str, for_part: str, resume_state: Snapshot | None) -> Lane:  # noqa: ARG002
        self.open()
        assert self._opened is not None
        if resume_state is None and self._outputs.alone and self._grown:
            raise OutputChanged("; ".join(self._grown))
        lane = self._mine[self._names.index(for_part)]
        self.lanes[lane] = Lane(self._outputs, self._opened, lane, resume_state)
        return self.lanes[lane]

    def outlets(self, keyed: Keyed) -> list[tuple[str, Packed]]:
        """Deal a batch of a shard over the lanes of all processes, by the partition of each record.

        What is only counted stays in this process, in the batch of its first lane. How far the shard is every lane is
        told, once a second: behind what the shard said before, since nothing overtakes on the way to a lane.
        """
        self.open()
        assert self._opened is not None
        outputs, (shard, batch) = self._outputs, keyed
        own = self._mine[0]
        dealt: dict[int, list[Item]] = {own: [item for item in batch.items if isinstance(item, Tally)]}
        for tick in (item for item in batch.items if isinstance(item, Tick)):
            number = SHARDS.index(shard)
            lanes: Iterable[int] = [own]
            if tick.clock >= self._told.get(number, 0) + SECOND_US:
                self._told[number], lanes = tick.clock, range(outputs.lanes)
            for lane in lanes:
                dealt.setdefault(lane, []).append(Tick(tick.number, tick.clock, tick.end, number))
        speaks = {own}
        for event in published(batch.items, outputs.topics):
            partitions = self._opened.found[event.topic].partitions
            lane = outputs.lane_of(partition_of(key_of(event.topic, event.record), partitions))
            dealt.setdefault(lane, []).append(event)
            speaks.add(lane)
        names = {lane: outputs.lane_name(lane) for lane in dealt}
        return [
            (names[lane], packed(Batch(items, batch.stamps if lane in speaks else {}, names[lane])))
            for lane, items in dealt.items()
        ]


def _told(acked: Mapping[int, Callable[[str, int, int], None]], lane: int, topic: str, part: int, offset: int) -> None:
    acked[lane](topic, part, offset)


def _dealt(outputs: Outputs, topic: str, found: Output) -> Output:
    """A topic with the partitions that are written."""
    if topic in outputs.dealt:
        return replace(found, partitions=min(found.partitions, outputs.dealt[topic]))
    if topic.startswith("ops.") and outputs.alone and found.partitions < outputs.lanes:
        raise OutputChanged(
            f"{outputs.prefix}{topic} has {found.partitions} partitions where {outputs.lanes} processes each write one of"
            f" their own: kafka-topics.sh --alter --topic {outputs.prefix}{topic} --partitions {outputs.lanes}"
        )
    return found
