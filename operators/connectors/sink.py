"""The guarded sink: every derived record on its topic once, through crashes, replays and zombies.

Ids are functions of the data, so a replay says the same ones again; what is already on the topic is found by
reading its tail back (`tails`) and is not written twice (`guard`). A lane owns fixed partitions: p of every topic
where p % lanes is its number. Lanes are the engine's partitions, so they may move between processes. One lane is
right for one shard; with more, `GuardedSink.routed` deals a batch over them before the output.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import urandom

import msgspec
from bytewax.outputs import FixedPartitionedSink

from operators.connectors.files import published
from operators.connectors.outlet import Lane
from operators.connectors.outputs import Opened, Outputs, Snapshot
from operators.connectors.owner import OWNER, Owner
from operators.connectors.senders import FencedSender
from operators.connectors.tails import Tails
from schemas.items import Batch, Item
from schemas.keys import key_of, partition_of

Keyed = tuple[str, Batch]


class GuardedSink(FixedPartitionedSink[Batch, Snapshot]):
    """Everything a flow says, on its topics; see `Outputs` and the module."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._mine = outputs.mine if outputs.mine is not None else tuple(range(outputs.lanes))
        self._names = [outputs.lane_name(lane) for lane in self._mine]
        self._opened: Opened | None = None
        self.lanes: dict[int, Lane] = {}

    def open(self) -> None:
        """Look at the topics, claim the outputs, and shut out former selves: all lanes at once.

        Raises:
            OutputChanged: a topic is missing.
            Fenced, Undelivered, OwnerUnreadable: the outputs are not to be had.
        """
        if self._opened is not None:
            return
        outputs = self._outputs
        tails = Tails(outputs.kafka, beat=outputs.beat, limit_s=outputs.start_s)
        found = tails.outputs(outputs.prefix + topic for topic in outputs.topics)
        ours = {topic: found[outputs.prefix + topic] for topic in outputs.topics}
        named = {
            lane: f"{outputs.prefix}{outputs.flow}.{outputs.sink}.{outputs.lane_name(lane)}" for lane in self._mine
        }
        owner = None
        if outputs.owner:
            # Before any producer is shut out: whoever finds himself shut out finds the claim, too.
            execution = urandom(8).hex()
            patient = Tails(outputs.kafka, beat=outputs.beat, limit_s=outputs.wait_s)
            owner = Owner(patient, outputs.prefix + OWNER, list(named.values()), execution, limit_s=outputs.start_s)
            owner.claim()
        acked: dict[int, Callable[[str, int, int], None]] = {}
        transactional = outputs.topics & outputs.fenced
        largest = min((ours[topic].largest for topic in transactional), default=0)

        def made(lane: int, wait_s: float = outputs.wait_s) -> FencedSender:
            sender = FencedSender(
                outputs.kafka, named[lane], acked=partial(_told, acked, lane), beat=outputs.beat,
                limit_s=outputs.wait_s, largest=largest,
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

    def list_parts(self) -> list[str]:
        return list(self._names)

    def part_fn(self, item_key: str) -> int:
        """One lane takes everything; of several the key names the one."""
        return 0 if len(self._names) == 1 else self._names.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Snapshot | None) -> Lane:  # noqa: ARG002
        self.open()
        assert self._opened is not None
        lane = self._mine[self._names.index(for_part)]
        self.lanes[lane] = Lane(self._outputs, self._opened, lane, resume_state)
        return self.lanes[lane]

    def routed(self, keyed: Keyed) -> list[Keyed]:
        """Deal a batch over the lanes, by the partition of each record; what is not published goes with the first."""
        self.open()
        assert self._opened is not None
        outputs, (_, batch) = self._outputs, keyed
        dealt: dict[int, list[Item]] = {self._mine[0]: []}
        for item in batch.items:
            lane = self._mine[0]
            for event in published([item], outputs.topics):
                count = self._opened.found[event.topic].partitions
                chosen = partition_of(key_of(event.topic, event.record), count) % outputs.lanes
                lane = chosen if chosen in self._mine or not event.topic.startswith("ops.") else lane
            dealt.setdefault(lane, []).append(item)
        return [(outputs.lane_name(lane), msgspec.structs.replace(batch, items=items)) for lane, items in dealt.items()]


def _told(acked: Mapping[int, Callable[[str, int, int], None]], lane: int, topic: str, part: int, offset: int) -> None:
    acked[lane](topic, part, offset)
