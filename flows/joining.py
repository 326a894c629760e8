"""Joining a live flow to its broker and registry: wait for them, check what they hold, make source and sink."""

import time
from collections.abc import Callable
from typing import Any

from flows import ports
from flows.causes import Log
from flows.deployment import Deployment
from flows.replay import FLOWS
from flows.run import Drained, Joined, Start
from flows.settings import Settings
from operators.connectors import rights, subjects, topics
from operators.connectors.access import Admin, BrokerAway
from operators.connectors.clock import monotonic
from operators.connectors.outputs import Outputs
from operators.connectors.reading import SourceRule
from operators.connectors.registry import Registry, RegistryAway
from operators.connectors.returns import Returns
from operators.connectors.sink import GuardedSink
from operators.connectors.source import KafkaSource, losses
from operators.connectors.writers import Schemas
from operators.pulse import Pulse
from schemas.items import Heard
from schemas.sealing import deployment_key, sealer
from schemas.topics import REFERENCE, TOPICS

_SLICE_S = 2.0
_SHARED_S = 0.001
"""A process that waits longer for its broker keeps what others have for it waiting, too."""
_CALL_S = 2.0
"""A look-up in the midst of a flow holds it up: short."""


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


def awaited(wait: Callable[[float, Callable[[str], None]], None], limit_s: float, pulse: Pulse, log: Log) -> None:
    """Wait in slices, so that the heart beats and a drain is heard.

    Raises:
        BrokerAway, RegistryAway: not within the limit.
        Drained: somebody asked.
    """
    until, said = monotonic() + limit_s, False
    while True:
        pulse.beat()
        if pulse.stop.is_set():
            raise Drained
        try:
            wait(min(_SLICE_S, limit_s), lambda _text: None)
        except (BrokerAway, RegistryAway) as away:
            if monotonic() >= until:
                raise
            if not said:
                log.warning("waiting", cause=str(away), seconds=limit_s)
                said = True
        else:
            return


def kafka(start: Start, deployment: Deployment, pulse: Pulse, log: Log) -> Joined:
    """Join a flow to the broker and the registry of its settings.

    Raises:
        BrokerAway, RegistryAway: not there within `[kafka] wait`.
        BrokerRefused, NoRight, RegistryRefused, NotPrepared, NotRegistered: with what to change.
    """
    settings, flow = deployment.settings, FLOWS[start.flow]
    prefix, limit_s = settings.topics.prefix, settings.kafka.wait.us / 1e6
    access = ports.broker(settings, start.base, insecure=start.insecure)
    admin = Admin(access)
    awaited(admin.wait, limit_s, pulse, log)
    reached = ports.registry(settings, start.base)
    awaited(Registry(reached, call_s=_CALL_S, retries=0).wait, limit_s, pulse, log)
    reads = live_topics(start.flow)
    planned = topics.plan(admin, wanted_topics(settings, start.flow), access.bootstrap)
    pulse.beat()
    if lacking := lacks(planned, str(start.config)):
        raise NotPrepared(lacking)
    registry = Registry(reached)
    schema_ids = subjects.ids(registry, sorted(flow.writes), prefix)
    pulse.beat()
    schemas = Schemas(Registry(reached, call_s=_CALL_S, retries=0), prefix)
    schemas.load(reads)
    pulse.beat()
    count, own = start.processes, start.process or 0
    shards = ports.shards_of(settings, start.flow)
    lanes = settings.engine.lanes if shards == 1 else shards
    block_s = settings.engine.max_block.us / 1e6
    source = KafkaSource(
        SourceRule(
            flow=start.flow,
            client=access.config(),
            topics=reads,
            reference=REFERENCE & frozenset(reads),
            prefix=prefix,
            lanes=lanes,
            site_id=deployment.site_id,
            own=None if count == 1 else tuple(range(own, lanes, count)),
            keyed=shards > 1,
            start=settings.start,
            together=frozenset(topic for topic in reads if TOPICS[topic].key == "S"),
            accept_loss=losses(list(start.accept_loss)),
            max_block_s=block_s if shards == 1 else min(block_s, _SHARED_S),
            wait_s=limit_s,
        ),
        stop=pulse.stop,
        say=lambda text: log.warning("source", about=text),
    )
    sink = GuardedSink(
        Outputs(
            kafka=access.config(),
            flow=start.flow,
            schema_ids=schema_ids,
            sealed=sealer(deployment_key(deployment.key)),
            prefix=prefix,
            lanes=count if shards == 1 else shards,
            mine=(own,) if shards == 1 else tuple(range(own, shards, count)),
            start_s=limit_s,
            accept_loss=frozenset(start.accept_loss),
            beat=pulse.beat,
        )
    )
    return Joined(
        deployment=deployment.heard_from(schemas),
        source=source,
        sink=sink,
        lag=lambda: dict(source.counters.lag),
        age=lambda: dict(source.counters.age),
        counts=lambda: _counted(sink),
        answered=lambda: schemas.answered,
        unknown=lambda: schemas.unknown,
        prepare=lambda found: _resolved(found, schemas, pulse, log),
        returns=None if shards == 1 else Returns(tuple(range(own, shards, count)), stop=pulse.stop),
        outlets=sink.outlets,
    )


def lacks(planned: topics.Plan, config: str) -> str:
    """What stands between a flow and its topics, in words; empty when nothing does."""
    told = [str(one) for one in planned.differs]
    if planned.missing:
        names = ", ".join(one.name for one in planned.missing)
        told.append(f"missing topics: {names}; run  footfall topics create --config {config} --apply")
    return "; ".join(told)


def _counted(sink: GuardedSink) -> dict[tuple[str, str], int]:
    """What the guards of all lanes counted, by what and topic."""
    found: dict[tuple[str, str], int] = {}
    for lane in sink.lanes.values():
        for name, count in lane.guard.counts.items():
            found[name] = found.get(name, 0) + count
    return found


def _resolved(found: list[Any], schemas: Schemas, pulse: Pulse, log: Log) -> None:
    """Wait until the writers' schemas of a batch are known: a registry that is away stops nothing for good."""
    values = [
        item.value for _, batch in found for item in batch.items if isinstance(item, Heard) and item.form == "wire"
    ]
    said = False
    while True:
        try:
            schemas.resolve(values)
        except RegistryAway as away:
            if pulse.stop.is_set():
                raise
            if not said:
                log.warning("waiting", cause=str(away))
                said = True
            pulse.beat()
            time.sleep(0.25)
        else:
            return
