"""R4 and R16 of `activation` on a broker: a crowd acts while the broker goes away, or the processes are asked to drain."""

import time
from collections import Counter
from random import Random
from typing import Any

from tests.chaos.crowded import Run, Size, looped
from tests.chaos.live import Bench, spread
from tests.chaos.onbroker import Watcher, resumed
from tests.chaos.pacing import STEP
from tests.chaos.shop import DEDUPLICATED

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
