"""Rights: what a broker must let us do, whether it does, and the command that grants it. Asking changes nothing.

A broker hides what we may not DESCRIBE, and tells of what we may, when asked, which operations are ours. Of
transactional ids it tells nothing without a transaction, so those are not asked about here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from time import sleep
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from operators.connectors.access import ANSWER_S, CALL_S, Access, Admin, BrokerRefused
from operators.connectors.clock import monotonic

_AGAIN_S = 0.2
Kind = Literal["topic", "group"]
COMPARED = frozenset({"DESCRIBE", "DESCRIBE_CONFIGS"})
"""Operations that comparing a topic takes."""
READ = COMPARED | {"READ"}
WRITTEN = READ | {"WRITE"}
"""Operations on what a flow reads, and on what it writes: the tail of that is read back, and so are the claims."""
GROUP = frozenset({"DESCRIBE", "READ"})


@dataclass(frozen=True, slots=True)
class Lacking:
    """Operations on one topic or group that the broker does not let us do, in order."""

    kind: Kind
    name: str
    operations: tuple[str, ...]


class NoRight(BrokerRefused):
    """The broker does not let us do what we must; the message names each operation and resource, and the command."""

    def __init__(self, access: Access, lacking: Iterable[Lacking]) -> None:
        said, commands = [], []
        ranked = sorted(lacking, key=lambda one: (one.kind, one.operations, one.name))
        for (kind, operations), ones in groupby(ranked, lambda one: (one.kind, one.operations)):
            names = [one.name for one in ones]
            said.append(f"{' and '.join(operations)} on {kind} {', '.join(names)}")
            told = [f"--operation {one.title().replace('_', '')}" for one in operations]
            told += [f"--{kind} {name}" for name in names]
            commands.append(f"kafka-acls.sh --bootstrap-server {access.bootstrap} --add --allow-principal"
                            f" {access.principal} {' '.join(told)}")  # fmt: skip
        super().__init__(f"{access.bootstrap}: we have no right to {'; to '.join(said)}; grant: {'; '.join(commands)}")


def allowed(described: Any) -> frozenset[str] | None:
    """Names of the operations that an answer says are ours; None where it says nothing of them."""
    told = described.authorized_operations
    return None if told is None else frozenset(one.name for one in told)


def of_groups(admin: Admin, names: Iterable[str]) -> tuple[list[Lacking], list[str]]:
    """Rights on consumer groups: what is lacking, and the names of those that the broker says nothing about.

    Raises:
        BrokerAway, BrokerRefused: with what was said.
    """
    lacking: list[Lacking] = []
    silent: list[str] = []
    left, until = list(names), monotonic() + CALL_S
    while True:
        with admin.client() as client:
            left = _asked(client, left, lacking, silent)
        if not left or monotonic() > until:
            return lacking, silent + left
        sleep(_AGAIN_S)


def _asked(client: AdminClient, names: list[str], lacking: list[Lacking], silent: list[str]) -> list[str]:
    """Ask once; answers those to ask again. A broker that never had a group makes room for them first."""
    again = []
    answers = client.describe_consumer_groups(names, include_authorized_operations=True, request_timeout=CALL_S)
    for name, answer in answers.items():
        try:
            ours = allowed(answer.result(ANSWER_S))
        except KafkaException as error:
            code = error.args[0].code()
            if code in _NOT_NOW:
                again.append(name)
                continue
            if code != KafkaError.GROUP_AUTHORIZATION_FAILED:
                raise
            ours = frozenset()
        if ours is None:
            silent.append(name)
        elif missing := GROUP - ours:
            lacking.append(Lacking("group", name, tuple(sorted(missing))))
    return again


_NOT_NOW = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
