"""Joining a live flow to its broker and registry: wait for them, check what they hold, make source and sink."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from time import sleep
from typing import TypeVar

from flows import ports
from flows.carried import Carried, Reach
from flows.causes import Log
from flows.deployment import Deployment
from flows.replay import FLOWS
from flows.run import Drained, Join, Joined
from flows.settings import Settings, WrongUse
from flows.start import TOPICS_MADE, Start
from operators.connectors import rights, subjects, topics
from operators.connectors.access import Access, Admin, BrokerAway
from operators.connectors.clock import monotonic
from operators.connectors.dealing import process_of
from operators.connectors.outputs import Outputs
from operators.connectors.reading import SourceRule
from operators.connectors.registry import Registry, RegistryAccess, RegistryAway
from operators.connectors.returns import Returns
from operators.connectors.sink import GuardedSink
from operators.connectors.source import KafkaSource, losses
from operators.connectors.writers import LookupsSpent, Schemas
from operators.pulse import Pulse
from schemas.items import Heard, Item
from schemas.sealing import deployment_key, sealer
from schemas.topics import REFERENCE, TOPICS

_SLICE_S = 2.0
_SHARED_S = 0.001
"""A process that waits longer for its broker keeps what others have for it waiting, too."""
_CALL_S = 2.0
"""A look-up in the midst of a flow holds it up: short."""
_AGAIN_S = 0.25
_ROUND_S = 60.0
"""What is asked at once may take so long without a heartbeat."""
Answer = TypeVar("Answer")


class NotPrepared(Exception):
    """Broker or registry lack something; the message names each thing and the command that makes it."""


def live_topics(flow: str) -> tuple[str, ...]:
    """What a live flow reads: not its own outputs, not the venue, which is a file here, not what was refused."""
    named = FLOWS[flow]
    return tuple(
        sorted(topic for topic in named.reads - named.writes if not topic.startswith(("venue.", "ops.", "privacy.")))
    )


def wanted_topics(settings: Settings, flow: str) -> list[topics.Wanted]:
    """The topics of a live flow as they should stand, and what it must be allowed to do with each."""
    prefix, reads, writes = settings.topics.prefix, live_topics(flow), FLOWS[flow].writes
    operations = dict.fromkeys(reads, rights.READ) | dict.fromkeys(writes, rights.WRITTEN)
    found = topics.wanted(prefix, settings.topics.partitions, operations, operations)
    return [*found, topics.claims(prefix, rights.WRITTEN)]


def answered(ask: Callable[[], Answer], limit_s: float, pulse: Pulse, log: Log) -> Answer:
    """Ask until somebody answers; in between the heart beats and a drain is heard.

    Raises:
        BrokerAway, RegistryAway: not within the limit.
        Drained: somebody asked for it.
    """
    until, said = monotonic() + limit_s, False
    while not pulse.stop.is_set():
        pulse.beat(silent=_ROUND_S)
        try:
            return ask()
        except (BrokerAway, RegistryAway) as away:
            if monotonic() >= until:
                raise
            if not said:
                log.warning("waiting", cause=str(away), seconds=limit_s)
                said = True
        finally:
            pulse.beat()
        sleep(_AGAIN_S)  # a signal is heard on this thread: in `stop.wait` its handler would wait for us
    raise Drained


def kafka(start: Start, settings: Settings) -> Join:
    """How to join a flow to the broker and the registry of its settings; neither is asked anything yet.

    Raises:
        WrongUse: with what to change.
    """
    _known(start, settings.topics.prefix)
    try:
        access = ports.broker(settings, start.base, insecure=start.insecure)
        reached = ports.registry(settings, start.base, insecure=start.insecure)
    except WrongUse as error:
        raise WrongUse(f"{start.config}: {error}") from error
    return partial(_joined, start, access, reached)


def _known(start: Start, prefix: str) -> None:
    """Refuse to write off rows of a topic that the flow has nothing to do with."""
    own = {*live_topics(start.flow), *FLOWS[start.flow].writes}
    for named in start.accept_loss:
        topic, _, number = named.rpartition(":")
        if topic in own:
            continue
        near = topic.removeprefix(prefix)
        if near not in own:
            from rapidfuzz import process  # here: who names the right ones needs it nowhere

            near = process.extractOne(topic, sorted(own))[0]
        raise WrongUse(
            f"--accept-loss must name a topic that {start.flow} reads or writes, without prefix; got {topic}. Did you"
            f" mean {near}:{number}?"
        )


def _joined(
    start: Start, access: Access, reached: RegistryAccess, deployment: Deployment, pulse: Pulse, log: Log
) -> Joined:
    """Join a flow to its broker and registry.

    Raises:
        BrokerAway, RegistryAway: not there within `[kafka] wait`.
        BrokerRefused, NoRight, RegistryRefused, NotPrepared, NotRegistered: with what to change.
    """
    settings, flow = deployment.settings, FLOWS[start.flow]
    prefix, limit_s = settings.topics.prefix, settings.kafka.wait.us / 1e6
    admin = Admin(access)
    brief = Registry(reached, call_s=_CALL_S, retries=0)

    def told(ask: Callable[[], Answer]) -> Answer:
        return answered(ask, limit_s, pulse, log)

    for wait in (admin.wait, brief.wait):  # in slices, between which a drain is heard
        told(partial(wait, min(_SLICE_S, limit_s), lambda _text: None))
    reads = live_topics(start.flow)
    planned = told(partial(topics.plan, admin, wanted_topics(settings, start.flow), access.bootstrap))
    if lacking := lacks(planned, start):
        raise NotPrepared(lacking)
    schema_ids = told(partial(subjects.ids, Registry(reached), sorted(flow.writes), prefix))
    schemas = Schemas(brief, prefix)
    for topic in reads:  # one by one: what was told stays, however often the rest must be asked for
        told(partial(schemas.load, [topic]))
    count, own = start.processes, start.process or 0
    shards = ports.shards_of(settings, start.flow)
    source = KafkaSource(
        reading(start, settings, access, deployment.site_id),
        stop=pulse.stop,
        say=lambda text: log.warning("source", about=text),
        prepare=lambda items: resolved(items, schemas, pulse, log),
    )
    reach = Reach(source.counters, pulse.waits)
    sink = GuardedSink(
        Outputs(
            kafka=access.config(),
            flow=start.flow,
            schema_ids=schema_ids,
            sealed=sealer(deployment_key(deployment.key)),
            site_id=deployment.site_id,
            prefix=prefix,
            lanes=count if shards == 1 else shards,
            mine=(own,) if shards == 1 else tuple(range(own, shards, count)),
            source_lanes=settings.engine.lanes if shards == 1 else None,
            dealt=_dealt(settings, start.flow),
            start_s=limit_s,
            accept_loss=frozenset(start.accept_loss),
            beat=reach.waits,
        )
    )
    return Joined(
        deployment=deployment.heard_from(schemas, settings.topics.partitions if count > 1 and shards == 1 else None),
        source=source,
        sink=sink,
        looked_up=(Carried(source.counters, reach, lambda: _counted(sink)),),
        answered=lambda: schemas.answered,
        unknown=lambda: schemas.unknown,
        returns=None if shards == 1 else Returns(tuple(range(own, shards, count)), stop=pulse.stop),
        outlets=sink.outlets,
        former=sink.former,
    )


def reading(start: Start, settings: Settings, access: Access, site_id: str = "") -> SourceRule:
    """What a process of a flow reads, and how."""
    reads, count, own = live_topics(start.flow), start.processes, start.process or 0
    shards = ports.shards_of(settings, start.flow)
    lanes = settings.engine.lanes if shards == 1 else shards
    block_s = settings.engine.max_block.us / 1e6
    return SourceRule(
        flow=start.flow,
        client=access.config(),
        topics=reads,
        reference=REFERENCE & frozenset(reads),
        prefix=settings.topics.prefix,
        lanes=lanes,
        site_id=site_id,
        own=None if count == 1 else tuple(lane for lane in range(lanes) if process_of(lane, lanes, count) == own),
        keyed=shards > 1,
        start=settings.start,
        processes=count if shards == 1 else 1,
        dealt=_dealt(settings, start.flow),
        together=frozenset() if shards == 1 else frozenset(topic for topic in reads if TOPICS[topic].key == "S"),
        accept_loss=losses(list(start.accept_loss)),
        max_block_s=block_s if shards == 1 else min(block_s, _SHARED_S),
        wait_s=settings.kafka.wait.us / 1e6,
    )


def _dealt(settings: Settings, flow: str) -> dict[str, int]:
    """Partitions that the keys of its topics are dealt over, of those that are joined by key."""
    own = {*live_topics(flow), *FLOWS[flow].writes}
    return {topic: settings.topics.partitions for topic in own if TOPICS[topic].key in topics.JOINED}


def lacks(planned: topics.Plan, start: Start, *, first: bool = False) -> str:
    """What stands between a flow and its topics, in words; empty when nothing does.

    Of a topic that has grown source and sink judge, who know their state; a `first` start has none.
    """
    told = [str(one) for one in planned.differs if first or not one.grown]
    if planned.missing:
        names = ", ".join(one.name for one in planned.missing)
        told.append(f"missing topics: {names}; run  {start.beside(*TOPICS_MADE)}")
    return "; ".join(told)


def _counted(sink: GuardedSink) -> dict[tuple[str, str], int]:
    """What became of the outputs of all lanes, by outcome and topic."""
    found: Counter[tuple[str, str]] = Counter()
    for lane in list(sink.lanes.values()):
        for (outcome, topic), count in dict(lane.guard.counts).items():
            found["deduplicated" if outcome == "suppressed" else outcome, topic] += count
        for topic, count in dict(lane.written).items():
            found["written", topic] += count
        for topic, count in dict(lane.written_anew).items():
            found["written_anew", topic] += count
    return found


def resolved(items: list[Item], schemas: Schemas, pulse: Pulse, log: Log) -> bool:
    """Wait until the writers' schemas of what was heard are known: a registry that is away stops nothing for good.

    False where a drain was asked for meanwhile.
    """
    values = [item.value for item in items if isinstance(item, Heard) and item.form == "wire"]
    said = False
    while True:
        try:
            schemas.resolve(values)
        except (RegistryAway, LookupsSpent) as wait:
            if not said:
                log.warning("waiting", cause=str(wait))
                said = True
            pulse.beat()
            sleep(_AGAIN_S)  # as in `answered`
            if pulse.stop.is_set():
                return False
        else:
            return True
