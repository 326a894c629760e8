"""R4, R5 and R16 of `activation`: a crowd acts while the broker goes away or answers errors, or the flow is asked to drain."""

import time
from collections import Counter
from random import Random
from threading import Event, Thread
from typing import Any

from confluent_kafka import KafkaError

from tests.chaos.crowded import Run, Size, looped
from tests.chaos.live import Bench, spread
from tests.chaos.onbroker import Watcher, resumed
from tests.chaos.pacing import STEP
from tests.chaos.shop import DEDUPLICATED

PRODUCE, FETCH, OFFSETS, COMMIT, INIT, ADD, END = 0, 1, 2, 8, 22, 24, 26
"""Kinds of requests, by their numbers in the protocol; but for where a coordinator is, which the pacing asks as well."""
MOVED = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT)
BUSY = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
PASSING = {
    PRODUCE: (*MOVED, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND),
    FETCH: (*MOVED, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH),
    OFFSETS: MOVED,
    COMMIT: BUSY,
    INIT: BUSY,
    ADD: (*BUSY, KafkaError.CONCURRENT_TRANSACTIONS),
    END: (*BUSY, KafkaError.CONCURRENT_TRANSACTIONS),
}
"""What a cluster answers now and then, while a node of it is moved or slow."""
ENDING = {
    ADD: (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    END: (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.INVALID_TXN_STATE),
}
"""What no client goes on after; asked by writers of commands only."""
QUIET_S = 3.0
DRAIN_S = 5.0
"""A drain takes no longer."""


def r16(bench: Bench, seed: int, *, long: bool, processes: int, people: int | None = None) -> dict[str, Any]:
    """SIGTERM under load."""
    size = Size(people or 4_000, 3, 50) if long else Size(300, 2, 4)
    return looped(bench, "R16", seed, size, processes, drained)


def r4(bench: Bench, seed: int, *, long: bool, processes: int, people: int | None = None) -> dict[str, Any]:
    """The broker is killed and started again and again under one start, and once it is away for long."""
    size = Size(people or 4_000, 3, 20) if long else Size(300, 2, 2)

    def cut(run: Run, draw: Random, **asked: int) -> dict[str, Any]:
        return cut_off(run, draw, away_s=600.0 if long else 20.0, **asked)

    return looped(bench, "R4", seed, size, processes, cut)


def r5(bench: Bench, seed: int, *, long: bool, processes: int, people: int | None = None) -> dict[str, Any]:
    """The broker answers errors, passing ones all the time and now and then one that no client goes on after."""
    size = Size(people or 1_000, 3, 50) if long else Size(150, 2, 3)
    return looped(bench, "R5", seed, size, processes, refused)


class Errors(Thread):
    """Lets a mock cluster answer an error every moment, until ended."""

    def __init__(self, run: Run, draw: Random) -> None:
        super().__init__(daemon=True, name="errors")
        self._control, self._draw, self._over = run.bench.mock.controls(), draw, Event()
        self._quiet = 0.0
        self.said: Counter[str] = Counter()

    def run(self) -> None:
        while not self._over.wait(self._draw.uniform(0.02, 0.3)):
            if time.monotonic() > self._quiet:
                self._say(PASSING, self._draw.choice((1, 1, 1, 5)))

    def end_it(self) -> None:
        """One that no client goes on after; for a while no other error takes its place."""
        self._quiet = time.monotonic() + QUIET_S
        self._say(ENDING, 1)

    def _say(self, kinds: dict[int, tuple[int, ...]], times: int) -> None:
        """One of these errors is the answer to the next requests of its kind."""
        kind = self._draw.choice(sorted(kinds))
        code = self._draw.choice(kinds[kind])
        self._control.fail(kind, [code] * times)
        self.said[KafkaError(code).name()] += times

    def end(self) -> None:
        """Say no more, and take back what nobody has heard yet."""
        self._over.set()
        self.join()
        for kind in PASSING:
            self._control.fail(kind, [])


def refused(run: Run, draw: Random, *, times: int, total: int) -> dict[str, Any]:
    """Errors all the time; the flow goes on, or stops with a reason and is started again."""
    waves, stops = run.waves, Counter[str]()
    errors = Errors(run, Random(draw.random()))
    waves.start()
    errors.start()
    cluster = run.start()
    for number in range(times):
        waves.allow(total * (number + 1) // times)
        while not waves.reached(total * (number + 1) // times - STEP, lambda at=cluster: at.child.poll() is None):
            if waves.failed or cluster.child.poll() is None:
                break
            stops[f"exit code {cluster.child.returncode}: {_short(cluster.trouble())}"] += 1
            cluster.gone()
            run.heard(cluster)
            cluster = run.start()
        errors.end_it()
    cluster.ends_within(10.0)
    errors.end()
    if cluster.child.poll() is None:
        cluster.drained()
    else:
        stops[f"exit code {cluster.child.returncode}: {_short(cluster.trouble())}"] += 1
    run.heard(cluster)
    return {
        "errors": dict(errors.said), "stops": dict(stops), "answered": errors.said.total(),
        "well": all(told.startswith("exit code 1: ") and told[13:] for told in stops),
    }  # fmt: skip


def _short(causes: list[str]) -> str:
    """Why a start ended: what the first process said that knew."""
    return next((cause for cause in causes if "another process that shares" not in cause), "".join(causes[:1]))


def drained(run: Run, draw: Random, *, times: int, total: int) -> dict[str, Any]:
    """Start, let rows come, ask to drain while they do, again and again; nothing is left to be done twice."""
    waves, codes = run.waves, Counter[str]()
    seconds: list[float] = []
    waiting: list[float] = []
    repeated = 0.0
    waves.start()
    for number in range(times):
        waves.allow(total * (number + 1) // times)
        cluster = run.start()
        if cluster.flowing():
            waves.reached(total * number // times - STEP, lambda at=cluster: at.child.poll() is None)
            cluster.ends_within(draw.uniform(0.2, 2.0))
        repeated += sum(cluster.figures(DEDUPLICATED))
        waiting.append(waves.sent - waves.ask())
        began = time.monotonic()
        codes[str(cluster.drained())] += 1
        seconds.append(time.monotonic() - began)
        run.trouble += cluster.trouble()
        run.heard(cluster)
    replayed = repeated + run.log["walked_back"] + run.log["rows_removed"]
    return {
        "drains": times, "codes": dict(codes), "drain_s": spread(seconds), "replayed": replayed,
        "rows_not_durable_at_drain": spread(waiting),
        "well": codes == {"0": times} and max(seconds) < DRAIN_S and not replayed,
    }  # fmt: skip


def cut_off(run: Run, draw: Random, *, times: int, total: int, away_s: float) -> dict[str, Any]:
    """Kill the broker again and again while rows come, once for long; then let one start come to the end of them."""
    waves, kafka = run.waves, run.bench.killable
    outages: list[float] = []
    back: list[float] = []
    waiting: list[float] = []
    waves.start()
    cluster = run.start()
    cluster.flowing()
    watcher = Watcher(cluster)
    watcher.start()
    for number in range(times + 1):
        waves.allow(total * (number + 1) // (times + 1))
        waves.reached(total * number // (times + 1) - STEP, lambda: cluster.child.poll() is None)
        cluster.ends_within(draw.uniform(0.3, 1.5))
        waiting.append(waves.sent - waves.ask())
        began = time.monotonic()
        kafka.kill()
        cluster.ends_within(away_s if number == times // 2 else 0.0)
        kafka.start()
        outages.append(time.monotonic() - began)
        back.append(resumed(cluster))
    waves.reached(total, lambda: cluster.child.poll() is None)
    survived = cluster.child.poll() is None
    watcher.end()
    code = cluster.drained()
    run.trouble += cluster.trouble()
    run.heard(cluster)
    return {
        "broker_kills": times + 1, "longest_outage_s": round(max(outages), 1), "away_s": spread(outages),
        "rows_not_durable_at_kill": spread(waiting), "resumed_s": spread(back), "survived": survived,
        "live": dict(watcher.live), "live_slowest_s": round(watcher.slowest, 3),
        "well": survived and code == 0 and set(watcher.live) == {"200"},
    }  # fmt: skip
