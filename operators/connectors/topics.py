"""Topics on a broker against the table of topics: what is missing, what differs, and making what is missing.

What exists is never altered: a partition more moves keys, a policy changed under a running flow loses rows.
Whoever wants that is told the command, and decides.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import sleep
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from operators.connectors.access import ANSWER_S, CALL_S, Admin
from operators.connectors.clock import monotonic
from operators.connectors.cluster import ABSENT
from operators.connectors.owner import OWNER
from operators.connectors.rights import COMPARED, Lacking, NoRight, allowed
from schemas.topics import TOPICS

_TOLD_S, _AGAIN_S = 10.0, 0.1
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
JOINED = frozenset("SIP")
"""Keys whose topics are read side by side: a key must lie in the same partition of each."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One topic as it should stand on the broker."""

    name: str
    partitions: int
    config: Mapping[str, str]
    joined: bool = False
    """Read side by side with others: the count of partitions must be exactly this."""
    replication: int | None = None
    """Copies that a new topic gets; None as many as the broker gives."""
    operations: frozenset[str] = COMPARED
    """What we must be allowed to do with it."""

    @property
    def policy(self) -> frozenset[str]:
        """Cleanup policies."""
        return frozenset(self.config["cleanup.policy"].split(","))


@dataclass(frozen=True, slots=True)
class Found:
    """One topic as it stands on the broker; `told` is whether the broker said what is ours to do with it."""

    partitions: int
    config: Mapping[str, str]
    told: bool = True


@dataclass(frozen=True, slots=True)
class Differs:
    """Something about a topic that must not be so; `remedy` is for a person to run or to decide."""

    topic: str
    setting: str
    wanted: str
    found: str
    remedy: str

    @property
    def grown(self) -> bool:
        """Whether it has more partitions than are set: what that means hangs on the state of who reads or writes it."""
        return self.setting == "partitions" and int(self.found) > int(self.wanted)

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} must be {self.wanted}; it is {self.found}; {self.remedy}"


def miscounted(topic: str, wanted: int, found: int) -> Differs:
    """A topic with another count of partitions than its keys are to be dealt over, for whoever has not used it yet."""
    remedy = (
        f"set partitions = {found} in [topics] if all topics keyed alike have as many; else make it anew with {wanted}"
        " and copy it: a partition more would move keys"
    )
    return Differs(topic, "partitions", str(wanted), str(found), remedy)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there, what is missing, what differs, and what only a person should know of; all that was found."""

    there: tuple[Wanted, ...]
    missing: tuple[Wanted, ...]
    differs: tuple[Differs, ...]
    warnings: tuple[str, ...] = ()
    found: Mapping[str, Found] = field(default_factory=dict)

    @property
    def barring(self) -> tuple[Differs, ...]:
        """What forbids making the rest: all that differs, but for topics that have grown since the others were made."""
        begun = any(one.joined or one.name.endswith(OWNER) for one in self.there)
        return tuple(one for one in self.differs if not (begun and one.grown))

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "there": [one.name for one in self.there],
            "missing": [
                {"topic": one.name, "partitions": one.partitions, "replication": one.replication,
                 "config": dict(one.config)}
                for one in self.missing
            ],
            "differs": [
                {"topic": one.topic, "setting": one.setting, "wanted": one.wanted, "found": one.found,
                 "remedy": one.remedy}
                for one in self.differs
            ],
            "warnings": list(self.warnings),
        }  # fmt: skip


class NotMade(Exception):
    """The broker did not make a topic; the message names it."""


def copied(topics: Iterable[Wanted], replication: int | None, min_insync: int | None) -> list[Wanted]:
    """The same topics with as many copies, and as many of them in step before a write counts; None: as the broker says."""
    more = {} if min_insync is None else {"min.insync.replicas": str(min_insync)}
    return [replace(one, replication=replication, config={**one.config, **more}) for one in topics]


def wanted(
    prefix: str,
    partitions: int,
    topics: Iterable[str] = tuple(TOPICS),
    operations: Mapping[str, frozenset[str]] | None = None,
) -> list[Wanted]:
    """Topics as they should be, in the order of the table; `operations` by topic, where more than comparing is done."""
    found = []
    for name in sorted(topics, key=list(TOPICS).index):
        topic = TOPICS[name]
        policies = (["compact"] if topic.compact else []) + (["delete"] if topic.hours is not None else [])
        config = {"cleanup.policy": ",".join(policies)}
        if topic.hours is not None:
            config["retention.ms"] = str(topic.hours * _HOUR_MS)
        may = (operations or {}).get(name, COMPARED)
        found.append(Wanted(f"{prefix}{name}", partitions, config, topic.key in JOINED, operations=may))
    return found


def claims(prefix: str, operations: frozenset[str] = COMPARED) -> Wanted:
    """The topic of those who own an output: no contract between programs, so it is not in the table."""
    return Wanted(f"{prefix}{OWNER}", 1, {"cleanup.policy": "compact"}, operations=operations)


def compare(topics: Iterable[Wanted], found: Mapping[str, Found], bootstrap: str, outputs: Container[str] = ()) -> Plan:
    """Compare what should be with what is; of `outputs`, which are read back, a start wants the last day.

    A shorter retention than the table's is fine: it is the most that may be kept, not the least. Topics keyed by
    neither subject, identifier nor person are joined with nothing, so any count of partitions will do there.
    """
    there, missing, differs, warnings = [], [], [], []
    for one in topics:
        if one.name not in found:
            missing.append(one)
            continue
        differences = _differences(one, found[one.name], bootstrap)
        differs.extend(differences)
        if not differences:
            there.append(one)
        kept = int(found[one.name].config.get("retention.ms", "-1"))
        if one.name in outputs and "delete" in one.policy and 0 < kept < _DAY_MS:
            warnings.append(
                f"{one.name}: retention.ms is {kept}, less than a day: a start that comes later than that after a crash"
                " cannot tell what was said already, and refuses"
            )
    return Plan(tuple(there), tuple(missing), tuple(differs), tuple(warnings), found)


def _differences(one: Wanted, found: Found, bootstrap: str) -> list[Differs]:
    answers = []
    if one.joined and found.partitions != one.partitions:
        other = miscounted(one.name, one.partitions, found.partitions)
        if other.grown:
            other = replace(other, remedy=f"{other.remedy}. A flow that has run on it before goes on as it is")
        answers.append(other)

    def alter(name: str, value: str) -> str:
        return (
            f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics --entity-name {one.name} "
            f"--add-config {name}={f'[{value}]' if ',' in value else value}"
        )

    policy = found.config.get("cleanup.policy", "")
    if frozenset(part.strip() for part in policy.split(",")) != one.policy:
        value = one.config["cleanup.policy"]
        answers.append(Differs(one.name, "cleanup.policy", value, policy, alter("cleanup.policy", value)))
    if "retention.ms" in one.config:
        most, kept = int(one.config["retention.ms"]), int(found.config.get("retention.ms", "-1"))
        if not 0 < kept <= most:
            answers.append(
                Differs(one.name, "retention.ms", f"at most {most}", str(kept), alter("retention.ms", str(most)))
            )
    return answers


def plan(admin: Admin, topics: Iterable[Wanted], bootstrap: str, outputs: Container[str] = ()) -> Plan:
    """Ask the broker and compare; changes nothing.

    Raises:
        NoRight: some operation on some topic is not ours; a topic that is hidden from us is not called missing.
        BrokerAway, BrokerRefused: with what was said.
    """
    topics = list(topics)
    found, lacking = _ask(admin, topics)
    if lacking:
        raise NoRight(admin.access, lacking)
    return compare(topics, found, bootstrap, outputs)


def apply(admin: Admin, planned: Plan) -> list[str]:
    """Make what is missing; answers the names made. A topic that somebody else made meanwhile is left as it is.

    A broker says that a topic is made before it tells of it: that is waited for, so that a start that follows finds it.

    Raises:
        NotMade: a topic differs, or the broker refuses one for good.
        BrokerAway, BrokerRefused: with what was said.
    """
    if planned.barring:
        raise NotMade("nothing was made, because a topic differs: " + "; ".join(map(str, planned.barring)))
    if not planned.missing:
        return []
    new = [
        NewTopic(one.name, one.partitions, -1 if one.replication is None else one.replication, config=dict(one.config))
        for one in planned.missing
    ]
    made = []
    with admin.client() as client:
        answers = client.create_topics(new, operation_timeout=CALL_S, request_timeout=3 * CALL_S)
        for name, answer in answers.items():
            try:
                answer.result(2 * CALL_S + ANSWER_S)
                made.append(name)
            except KafkaException as error:
                code = error.args[0].code()
                if code in _NEVER:
                    raise NotMade(f"{name}: the broker does not make it: {error.args[0].str()}") from error
                if code != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
    until = monotonic() + _TOLD_S
    while not _tells(admin, planned.missing) and monotonic() < until:
        sleep(_AGAIN_S)
    return made


def _tells(admin: Admin, topics: Sequence[Wanted]) -> bool:
    """Whether the broker tells of all of them, were it that we may not see them."""
    with admin.client() as client:
        found, denied = _described(client, topics)
    return len({**found, **denied}) == len(topics)


_NEVER = {
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_EXCEPTION,
}


def _ask(admin: Admin, topics: list[Wanted]) -> tuple[dict[str, Found], list[Lacking]]:
    """Topics that are there, and what we may not do with them."""
    found = {}
    with admin.client() as client:
        described, denied = _described(client, topics)
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in {**described, **denied}]
        answers = client.describe_configs(resources, request_timeout=CALL_S) if resources else {}
        for resource, answer in answers.items():
            name = resource.name
            try:
                config = {key: entry.value for key, entry in answer.result(ANSWER_S).items()}
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    denied[name] = denied.get(name, frozenset()) | {"DESCRIBE_CONFIGS"}
                elif code not in ABSENT:
                    raise
                continue
            if name in described:
                told = described[name]
                found[name] = Found(len(told.partitions), config, allowed(told) is not None)
    return found, [Lacking("topic", name, tuple(sorted(operations))) for name, operations in denied.items()]


def _described(client: AdminClient, topics: Sequence[Wanted]) -> tuple[dict[str, Any], dict[str, frozenset[str]]]:
    """What is there and shown to us, and what we may not do, by name; whether configs are shown is seen by asking."""
    found: dict[str, Any] = {}
    denied: dict[str, frozenset[str]] = {}
    if not topics:
        return found, denied
    answers = client.describe_topics(
        TopicCollection([one.name for one in topics]), include_authorized_operations=True, request_timeout=CALL_S
    )
    for one in topics:
        ours: frozenset[str] | None = frozenset()
        try:
            found[one.name] = answers[one.name].result(ANSWER_S)
            ours = allowed(found[one.name])
        except KafkaException as error:
            code = error.args[0].code()
            if code in ABSENT:
                continue
            if code != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
        if missing := one.operations - {"DESCRIBE_CONFIGS"} - (one.operations if ours is None else ours):
            denied[one.name] = missing
    return found, denied
