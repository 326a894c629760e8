"""R1 and R2 on a broker at full size: `footfall run activation` under a crowd, killed again and again.

What it decided and did must be what the oracle (`expected`) says, by id; what it remembers must equal what an undisturbed
run over the same rows remembers (`tables`). The run goes on as it gains ground: before each kill all that was let go
before this start must be durable, so a slow machine makes it longer and not wrong.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from random import Random
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.deployment import Deployment
from operators.connectors import subjects
from operators.connectors.registry import Registry as Reached
from operators.connectors.registry import RegistryAccess
from schemas.codec import decode_body, head_of, unframed
from tests.chaos.cluster import ENVIRONMENT, Cluster, program
from tests.chaos.crowd import SECOND, TOPICS, Crowd, deployed
from tests.chaos.expected import Expected, expected
from tests.chaos.live import Bench, draw_of, spread
from tests.chaos.pacing import STEP, Said, Waves
from tests.chaos.shop import LIMIT_S, ROOT
from tests.chaos.tables import LEFT_OUT, differences, remembered

FLOW = "activation"
PARTITIONS = LANES = SHARDS = 8
MOCK_PARTITIONS, MOCK_PEOPLE = 16, 320
"""At least so many, and at most so many people in each: the mock cluster keeps 5 MiB of a partition."""
EPOCH = "250ms"
LONG, SHORT = "2s", "100ms"
"""Epochs of a start and of the one after it, in pairs: much is said and not durable, and said again over many epochs."""
SETTINGS = """\
[site]
id = "mad-01"
[pseudonym]
key_file = ".key"
[campaigns]
stale_after = "400d"
[presence]
reorder = "2s"
[model]
dir = "none"
[kafka]
bootstrap = "{broker}"
[registry]
url = "{registry}"
[topics]
prefix = "{prefix}"
partitions = {partitions}
[state]
backend = "rocksdb"
dir = "state"
[engine]
epoch = "{epoch}"
lanes = {lanes}
{shards}
[metrics]
listen = "127.0.0.1:0"
"""
LEFT = {f"{step}:{table}": why for (step, table), why in LEFT_OUT.items()}


@dataclass
class Run:
    """One run of a flow over what is said, on topics of its own."""

    bench: Bench
    name: str
    said: Said
    processes: int = 1
    mutant: str = ""
    flow: str = FLOW
    topics: tuple[str, ...] = TOPICS
    log: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)
    first_batch: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.bench.folder / self.name
        self.folder.mkdir()
        deployed(self.folder)
        self.config, self.prefix = self.folder / "footfall.toml", f"{self.name}."
        self.settled(EPOCH)
        for words in (["topics", "create", "--apply"], ["schemas", "register"]):
            command = [*program(self.bench.changes), *words, "--config", str(self.config)]
            subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=LIMIT_S)
        ids = subjects.ids(Reached(RegistryAccess(url=self.bench.registry.url)), sorted(self.topics), self.prefix)
        self.waves = Waves(self.said, self.bench.kafka.bootstrap, self.prefix, self.flow, ids, self.partitions)

    def settled(self, epoch: str) -> None:
        """Write the settings of the next start."""
        self.config.write_text(
            SETTINGS.format(
                broker=self.bench.kafka.bootstrap, registry=self.bench.registry.url, prefix=self.prefix, epoch=epoch,
                partitions=self.partitions, lanes=LANES, shards=f"shards = {SHARDS}" if self.flow == FLOW and self.processes > 1 else "",
            )
        )  # fmt: skip

    @property
    def partitions(self) -> int:
        """Of each topic."""
        if not self.bench.changes:
            return PARTITIONS
        people = self.said.people if isinstance(self.said, Crowd) else 0
        return max(MOCK_PARTITIONS, ceil(people / MOCK_PEOPLE))

    @property
    def versions(self) -> dict[str, str]:
        """Of its campaigns."""
        rules = Deployment.load(self.folder, self.config, live=True, complete=False).rules
        return {name: campaign.version for name, campaign in rules.campaigns.items()}

    def start(self) -> Cluster:
        """Its processes."""
        changes = "+".join(filter(None, (self.bench.changes, self.mutant)))
        return Cluster.run(self.flow, self.config, self.processes, changes)

    def heard(self, cluster: Cluster) -> None:
        """Note what a start said of itself, when it has ended."""
        self.log["starts"] += 1
        for line in list(cluster.said):
            if line.get("event") == "start":
                self.log["walked_back"] += line.get("walked_back", 0)
                self.log["rollbacks"] += bool(line.get("walked_back"))
                self.log["rows_removed"] += line.get("rows_removed", 0)
            elif line.get("event") == "flowing":
                self.first_batch.append(line["seconds"])

    def finished(self, limit_s: float, over: Callable[[], bool] = lambda: True) -> dict[str, Any]:
        """One more start, undisturbed, until all is said and durable, and what comes of it is over; then it drains."""
        self.settled(EPOCH)
        self.waves.allow(1 << 40)
        cluster = self.start()
        cluster.flowing()
        while self.waves.is_alive() and cluster.child.poll() is None and cluster.began + limit_s > time.monotonic():
            time.sleep(0.1)
        whole = not self.waves.is_alive() and not self.waves.failed
        while whole and not over() and cluster.child.poll() is None and cluster.began + limit_s > time.monotonic():
            time.sleep(1.0)
        code = cluster.drained()
        self.heard(cluster)
        end = {"all_said_and_durable": whole, "code": code, "feeder_failed": self.waves.failed[:1]}
        return end if whole and code == 0 else end | {"cause": cluster.trouble() or cluster.other[-3:]}

    def dropped(self) -> None:
        """Delete its topics: a small broker bears only so many. The mock cluster deletes none."""
        if self.bench.changes:
            return
        admin = AdminClient({"bootstrap.servers": self.bench.kafka.bootstrap, "log_level": 0})
        mine = [name for name in admin.list_topics(timeout=30).topics if name.startswith(self.prefix)]
        for future in admin.delete_topics(mine, operation_timeout=60).values():
            future.result(90)

    def outputs(self, topics: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
        """Topic and value of every committed record on these topics."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bench.kafka.bootstrap, "group.id": "chaos", "log_level": 0,
                "isolation.level": "read_committed", "enable.partition.eof": True, "enable.auto.commit": False,
                "auto.offset.reset": "error",
            }
        )  # fmt: skip
        left = {(self.prefix + topic, part) for topic in topics for part in range(self.partitions)}
        consumer.assign([TopicPartition(name, part, 0) for name, part in sorted(left)])
        heard = time.monotonic()
        try:
            while left:
                if time.monotonic() > heard + LIMIT_S:
                    raise RuntimeError(f"outputs could not be read to their end: {sorted(left)}")
                for message in consumer.consume(1_000, 0.2):
                    heard, error = time.monotonic(), message.error()
                    if error is None:
                        yield str(message.topic())[len(self.prefix) :], message.value() or b""
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard((str(message.topic()), int(message.partition() or 0)))
        finally:
            consumer.close()

    def compared(self, wanted: Expected) -> dict[str, Any]:
        """What was lost, doubled or invented of actions, and of decisions with their verdicts."""
        actions: Counter[str] = Counter()
        decisions: Counter[str] = Counter()
        verdicts: dict[str, tuple[str, str]] = {}
        for topic, value in self.outputs(("action.command", "decision.record")):
            name, _ = head_of(value)
            if topic == "action.command":
                actions[name] += 1
            else:
                decisions[name] += 1
                candidate = decode_body(topic, unframed(value)[1]).candidates[0]  # type: ignore[union-attr]
                verdicts[name] = candidate.verdict, candidate.reason
        shared = wanted.decisions.keys() & verdicts.keys()
        other = Counter(f"{wanted.decisions[one]} became {verdicts[one]}" for one in shared)
        wrong = {told: count for told, count in other.items() if len(set(told.split(" became "))) > 1}
        return {
            "actions": len(wanted.actions),
            "lost": len(wanted.actions - actions.keys()),
            "doubled": sum(actions.values()) - len(actions),
            "invented": len(actions.keys() - wanted.actions),
            "decisions": {
                "wanted": len(wanted.decisions),
                "lost": len(wanted.decisions.keys() - decisions.keys()),
                "doubled": sum(decisions.values()) - len(decisions),
                "invented": len(decisions.keys() - wanted.decisions.keys()),
                "verdict_differs": sum(wrong.values()),
                "verdicts": dict(sorted(Counter("/".join(one) for one in wanted.decisions.values()).items())),
            },
        }  # fmt: skip


def killed(
    run: Run, draw: Random, *, times: int, total: int, pairs: bool = False, life_s: float = 2.5,
    enough: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """SIGKILL a random process again and again while the waves are said; with `pairs` every second one within 2 s.

    In pairs the first of two lives has long epochs and the second short ones: what the first had said and not made
    durable, the second says again in the course of several epochs, and is killed in the midst of them.
    """
    counts: Counter[str] = Counter()
    waiting: list[float] = []
    waves = run.waves
    if not waves.is_alive():
        waves.start()
    reach = 2 * times if pairs else times
    for number in range(times):
        again = pairs and number % 2 == 1
        if pairs:
            run.settled(SHORT if again else LONG)
        else:
            waves.allow(total * (number + 1) // reach)
        cluster = run.start()
        if not pairs and draw.random() < 0.15:
            cluster.ends_within(draw.uniform(0.2, 2.0))
        elif cluster.flowing():
            if not again:
                waves.reached(total * number // reach - STEP, lambda at=cluster: at.child.poll() is None)
            if pairs and not again:  # read, said, and not durable when it is killed
                waves.allow(total * (number + 2) // reach)
                cluster.ends_within(draw.uniform(0.5, 1.8))
            else:
                cluster.ends_within(draw.uniform(0.0, draw.choice((0.3, 0.3, 1.9)) if again else life_s))
            counts["within_2_s_of_a_resume"] += again
        counts["in_flow"] += cluster.flows == run.processes
        waiting.append(waves.sent - waves.ask())
        if cluster.strike(draw):
            counts["kills"] += 1
            counts[f"of_{cluster.killed}"] += 1
        else:
            run.trouble += cluster.trouble() or [f"exit code {cluster.child.returncode}: {cluster.other[-2:]}"]
        run.heard(cluster)
        if len(run.trouble) > 3 or (number % 2 and enough()):
            break
    return {
        **counts, "rows_not_durable_at_kill": spread(waiting), "durable_at_last_kill": waves.durable,
        "waves_at_last_kill": waves.wave,
    }  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How large a row is run."""

    people: int
    cycles: int
    times: int


def r1(bench: Bench, seed: int, *, long: bool, processes: int, people: int | None = None) -> dict[str, Any]:
    """SIGKILL of a random process at random moments, starts included; a million events, or those of fewer people."""
    size = Size(people or 20_500, 3, 100) if long else Size(300, 2, 5)
    return looped(bench, "R1", seed, size, processes, killed)


def r2(bench: Bench, seed: int, *, long: bool, processes: int, people: int | None = None) -> dict[str, Any]:
    """Double crashes: after each resume, again within two seconds."""
    size = Size(people or 4_000, 3, 100) if long else Size(300, 2, 4)
    return looped(bench, "R2", seed, size, processes, partial(killed, pairs=True))


def r22(bench: Bench, seed: int, *, long: bool, processes: int) -> dict[str, Any]:
    """Double crashes with a naive read-back, until something is doubled."""
    size, name = Size(3_000, 3, 24 if long else 16), "naive-read-back"
    run = Run(bench, f"r22-{processes}", _crowd(seed, size), processes, name)
    topics: Counter[str] = Counter()
    wanted = expected(_counted(run.said, topics), run.versions)

    def doubled() -> bool:
        told = run.compared(wanted)
        return bool(told["doubled"] or told["decisions"]["doubled"])

    told = killed(run, draw_of(seed, "R22"), times=size.times, total=topics.total(), pairs=True, enough=doubled)
    run.waves.end()
    compared = run.compared(wanted)
    run.dropped()
    noticed = bool(compared["doubled"] or compared["decisions"]["doubled"])
    found = {**told, "doubled": compared["doubled"], "decisions_doubled": compared["decisions"]["doubled"]}
    found |= {"lost": 0, "invented": compared["invented"], "noticed": noticed, "trouble": run.trouble[:3]}
    return {"flow": FLOW, "processes": processes, "mutants": {name: found}, "passed": noticed and not run.trouble}


def _crowd(seed: int, size: Size) -> Crowd:
    """Its times begin three hours ago."""
    return Crowd(seed, size.people, size.cycles, start=(int(time.time()) - 3 * 3_600) * SECOND)


def looped(
    bench: Bench, row: str, seed: int, size: Size, processes: int, disturb: Callable[..., dict[str, Any]]
) -> dict[str, Any]:  # fmt: skip
    """The oracle, an undisturbed run, a disturbed one over the same rows, and what they say of each other.

    Args:
        disturb: disturbs a run: called with it, a draw, how often (`times`) and the rows in all (`total`); what it
            finds goes into the result, a `well` of its own among it.
    """
    key = (seed, size.people, size.cycles, processes)
    if key not in bench.calm:
        bench.calm[key] = _undisturbed(bench, _crowd(seed, size), processes, "-".join(map(str, key)))
    calm: Calm = bench.calm[key]
    began = time.monotonic()
    run = Run(bench, f"{row.lower()}-{processes}", calm.crowd, processes)
    total = calm.by_topic.total()
    told = disturb(run, draw_of(seed, f"{row}:{processes}"), times=size.times, total=total)
    end = run.finished(600.0 + total / 200)
    compared = run.compared(calm.wanted)
    seconds = round(time.monotonic() - began, 1)
    run.dropped()
    states = differences(calm.state, remembered(run.folder / "state"))
    ok = (
        told.pop("well", True)
        and _well(compared)
        and end["all_said_and_durable"]
        and end["code"] == 0
        and not run.trouble
    )
    return {
        "flow": FLOW, "processes": processes, "people": size.people, "events": total, "by_topic": dict(calm.by_topic),
        **told, **run.log, "first_batch_s": spread(run.first_batch), "trouble": run.trouble[:3], "end": end, **compared,
        "disturbed_s": seconds, "calm": calm.told, **states, "tables_left_out": LEFT,
        "passed": bool(ok and calm.told["as_expected"] and not states["keys_differ"]),
    }  # fmt: skip


@dataclass
class Calm:
    """An undisturbed run: its rows, what the oracle says of them, what it came to and what it remembers."""

    crowd: Crowd
    by_topic: Counter[str]
    wanted: Expected
    told: dict[str, Any]
    state: dict[Any, Any]


def _undisturbed(bench: Bench, crowd: Crowd, processes: int, name: str) -> Calm:
    began, by_topic = time.monotonic(), Counter[str]()
    run = Run(bench, f"calm-{name}", crowd, processes)
    wanted = expected(_counted(crowd, by_topic), run.versions)
    run.waves.start()
    end = run.finished(600.0 + by_topic.total() / 200)
    compared = run.compared(wanted)
    run.dropped()
    as_expected = _well(compared) and end["all_said_and_durable"] and end["code"] == 0
    told = {"as_expected": as_expected, "seconds": round(time.monotonic() - began, 1)}
    if not as_expected:
        told |= {"end": end, **compared}
    return Calm(crowd, by_topic, wanted, told, remembered(run.folder / "state"))


def _counted(crowd: Any, topics: Counter[str]) -> Iterator[Any]:
    for row in crowd.rows():
        topics[row[1]] += 1
        yield row


def _well(result: dict[str, Any]) -> bool:
    """Actions and decisions are those that must be, each once."""
    wrong = [result[name] for name in ("lost", "doubled", "invented")]
    wrong += [result["decisions"][name] for name in ("lost", "doubled", "invented", "verdict_differs")]
    return bool(result["actions"]) and not any(wrong)
