"""How long after an outage of its broker a decision takes no longer than before (R4 of the fault table).

The processes of `broker`, open loop: web events are sent when they are due, the broker is killed in the midst of them
and started again, and the observer notes the latency of each decision by the second in which its event was due. What
was due while the broker was away is as late as it was away; asked is when that is over.
"""

import subprocess
import time
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from benchmarks.broker import loop_topic, part, worker
from benchmarks.results import result, say

WARM_UP_S, BEFORE_S, AFTER_S = 10.0, 30.0, 75.0
WINDOW_S = 10
"""As long as an epoch, so that each window holds the close of one."""
AS_BEFORE = 1.5
"""Back is when p99 of every window from there on is at most so many times that of before."""
BAR_S = 60.0


def p99(by_second: dict[int, list[int]], since: int, until: int) -> float:
    """Of the decisions whose events were due in these seconds, in ms; 0 where there were none."""
    found = [took for second in range(since, until) for took in by_second.get(second, ())]
    return round(quantiles(found, n=100)[-1] / 1e3, 2) if len(found) > 1 else 0.0


def back(by_second: dict[int, list[int]], since: int, until: int, bar_ms: float) -> int | None:
    """The first second from which on no window is above the bar, seconds from `since`; None if that never comes.

    >>> slow, quick = [9_000, 9_000], [1_000, 1_000]
    >>> back({0: slow, 1: quick, **{n: quick for n in range(2, 30)}}, 0, 30, 5.0)
    1
    >>> back({n: slow for n in range(30)}, 0, 30, 5.0)
    """
    found = None
    for second in reversed(range(since, until - WINDOW_S + 1)):
        if p99(by_second, second, second + WINDOW_S) > bar_ms:
            break
        found = second - since
    return found


def outage(command: str, rate: int) -> dict[str, Any]:
    """Kill the broker once and start it again; answers the result."""
    from tests.broker.kafka import Kafka
    from tests.broker.registry import Registry

    whole = WARM_UP_S + BEFORE_S + AFTER_S
    with (
        TemporaryDirectory() as folder,
        Kafka(Path(folder) / "kafka", fast=True) as kafka,
        Registry(Path(folder) / "registry") as registry,
        worker(Path(folder), kafka, registry) as pipeline,
    ):
        loop_topic(kafka.bootstrap)
        watching = part(
            "benchmarks.broker", "observe", "--broker", kafka.bootstrap, "--seconds", whole + 5, "--warm-up", WARM_UP_S,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert watching.stdout is not None
        watching.stdout.readline()
        sending = part(
            "benchmarks.broker", "generate", "--broker", kafka.bootstrap, "--registry", registry.url, "--rate", rate,
            "--seconds", whole, stdout=subprocess.PIPE,
        )  # fmt: skip
        time.sleep(WARM_UP_S + BEFORE_S)
        killed = int(time.time())
        kafka.kill()
        kafka.start()
        answered = int(time.time())
        sent = orjson.loads(sending.communicate()[0])
        seen = orjson.loads(watching.communicate()[0])
        survived = pipeline.poll() is None
    by_second = dict(seen["by_second"])
    before = p99(by_second, killed - int(BEFORE_S) + 2, killed - 1)
    last = max(by_second)
    found = back(by_second, answered, last, AS_BEFORE * before)
    webs = sum(map(len, by_second.values()))
    say(f"p99 {before} ms before; broker away {answered - killed} s; as before {found} s after it answered")
    return result(
        f"outage-broker-{rate}",
        title=f"broker away at {rate:,} events/s",
        command=command,
        offered_per_s=rate,
        events=sent["sent"],
        decisions=webs,
        generator_late_ms=sent["late"],
        p99_before_ms=before,
        away_s=answered - killed,
        back_after_s=found,
        bar_s=BAR_S,
        survived=survived,
        held=survived and found is not None and found < BAR_S,
        p99_by_second_ms=[(second - answered, p99(by_second, second, second + 1)) for second in sorted(by_second)],
    )
