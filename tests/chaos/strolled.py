"""R1 for `presence` in several processes that split the lanes: any of them, or their supervisor, is killed.

All readings are on the broker before: a sensor that is held up would else let the clock run ahead of it.
"""

import time
from collections import Counter
from typing import Any

from schemas.codec import head_of
from tests.chaos.crowd import SECOND
from tests.chaos.crowded import Run, killed
from tests.chaos.live import Bench, draw_of, spread
from tests.chaos.strollers import OUTPUTS, TOPICS, Strollers

FLOW = "presence"


def r1(bench: Bench, seed: int, *, long: bool, processes: int) -> dict[str, Any]:
    """SIGKILL of a random process at random moments, starts included."""
    people, kills, life_s = (4_500, 100, 0.8) if long else (300, 4, 0.8)
    return _looped(bench, seed, people=people, kills=kills, processes=processes, life_s=life_s)


def _looped(bench: Bench, seed: int, *, people: int, kills: int, processes: int, life_s: float) -> dict[str, Any]:
    """What must be, by construction, and what a disturbed run says."""
    strollers = Strollers(seed, people, start=(int(time.time()) - 2 * 3_600) * SECOND)
    run = Run(bench, f"r1-{FLOW}", strollers, processes, flow=FLOW, topics=TOPICS)
    wanted = strollers.expected()
    run.waves.stamped = True
    run.waves.allow(1 << 40)
    run.waves.start()
    run.waves.all_said.wait()
    total = run.waves.sent
    began = time.monotonic()
    told = killed(run, draw_of(seed, "R1:presence"), times=kills, total=total, life_s=life_s)
    exits = len(wanted["presence.visit"])

    def over() -> bool:
        return sum(1 for _ in run.outputs(("presence.visit",))) >= exits

    end = run.finished(300.0 + total / 1_000, over)
    found: dict[str, Counter[str]] = {topic: Counter() for topic in OUTPUTS}
    for topic, value in run.outputs(OUTPUTS):
        found[topic][head_of(value)[0]] += 1
    run.dropped()
    topics = {
        topic: {
            "wanted": len(wanted[topic]),
            "lost": len(wanted[topic] - got.keys()),
            "doubled": got.total() - len(got),
            "invented": len(got.keys() - wanted[topic]),
        }
        for topic, got in found.items()
    }
    sums = {name: sum(row[name] for row in topics.values()) for name in ("wanted", "lost", "doubled", "invented")}
    well = not (sums["lost"] or sums["doubled"] or sums["invented"] or run.trouble)
    return {
        "flow": FLOW, "processes": processes, "people": people, "events": total, **told, **run.log,
        "first_batch_s": spread(run.first_batch), "trouble": run.trouble[:3], "end": end, **sums, "topics": topics,
        "disturbed_s": round(time.monotonic() - began, 1),
        "passed": well and end["all_said_and_durable"] and end["code"] == 0,
    }  # fmt: skip
