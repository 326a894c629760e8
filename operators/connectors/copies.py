"""Copies of topics over a cluster's brokers: how many a new topic gets, and what too few of them cost."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from operators.connectors.access import ANSWER_S, CALL_S, Admin
from operators.connectors.topics import Plan, Wanted

_COPIES, _INSYNC = "default.replication.factor", "min.insync.replicas"


@dataclass(frozen=True, slots=True)
class Copies:
    """How a cluster copies: its brokers, what a topic gets that names nothing, and what topics have that are there.

    `default` and `insync` are None where the broker does not let us see its settings.
    """

    brokers: int
    default: int | None
    insync: int | None
    held: Mapping[str, int]

    def of(self, wanted: Wanted) -> int | None:
        """Copies that a topic would get; None where that is not known."""
        return self.default if wanted.replication is None else wanted.replication

    def said(self, wanted: Wanted) -> str:
        """Copies and least copies in step that a topic would get, for a person."""
        least = wanted.config.get(_INSYNC)
        return f"replication {_shown(wanted.replication, self.default)}, {_INSYNC} {_shown(least, self.insync)}"


def _shown(given: int | str | None, default: int | None) -> str:
    if given is not None:
        return str(given)
    return f"{default} by the broker's default" if default is not None else "by the broker's default"


def copies(admin: Admin, topics: Iterable[Wanted]) -> Copies:
    """Ask the broker; changes nothing.

    Raises:
        BrokerAway, BrokerRefused: with what was said.
    """
    with admin.client() as client:
        listed = client.list_topics(timeout=CALL_S)
        default, insync = _defaults(client, min(listed.brokers))
    held = {
        one.name: min(len(part.replicas) for part in listed.topics[one.name].partitions.values())
        for one in topics
        if one.name in listed.topics and listed.topics[one.name].partitions
    }
    return Copies(len(listed.brokers), default, insync, held)


def _defaults(client: AdminClient, broker: int) -> tuple[int | None, int | None]:
    """What a broker gives a topic that names nothing. To see that takes a right which creating topics does not."""
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    try:
        found = client.describe_configs([resource], request_timeout=CALL_S)[resource].result(ANSWER_S)
    except KafkaException:
        return None, None
    copies, insync = (found[name].value if name in found else None for name in (_COPIES, _INSYNC))
    return int(copies) if copies else None, int(insync) if insync else None


def scarce(planned: Plan, found: Copies) -> Iterator[str]:
    """What a person should know of copies before topics are made, and of those that are there."""
    several = found.brokers > 1
    alone = [one.name for one in planned.missing if found.of(one) == 1]
    if alone and several:
        yield (
            f"replication would be 1 of {len(alone)} topics on a cluster of {found.brokers} brokers: who loses a broker"
            " loses their rows; set replication in [topics]"
        )
    thin = sorted(name for name, copies in found.held.items() if copies == 1)
    if thin and several:
        yield (
            f"replication is 1 on a cluster of {found.brokers} brokers: who loses a broker loses rows of"
            f" {', '.join(thin)}; kafka-reassign-partitions.sh gives them more"
        )
    one_ack = sorted(
        name for name, one in planned.found.items() if one.config.get(_INSYNC) == "1" and found.held.get(name, 1) > 1
    )
    if one_ack and several:
        yield f"{_INSYNC} is 1, so rows that one broker alone has taken may be lost with it: {', '.join(one_ack)}"
    most = max((one.replication or 0 for one in planned.missing), default=0)
    if most > found.brokers:
        yield f"replication = {most} in [topics] takes {most} brokers; the cluster has {found.brokers}"
    for one in planned.missing:
        least, given = int(one.config.get(_INSYNC, 0)) or found.insync, found.of(one)
        if least and given and least > given:
            yield f"{_INSYNC} {least} with replication {given}: nothing could be written; set both in [topics]"
            return
