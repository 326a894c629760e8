"""R1, R3, R4 and R16 on a real broker: `footfall run store` is killed, stopped, cut off, and asked to drain.

The whole day is on the broker before: were it said at a rate, a feeder that is held up would let the clock run ahead of the
sensors, and what a sensor says while its broker is away is a matter of its own buffer.
"""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from tests.chaos.live import Bench, Footfall, Shop, draw_of, finished, spread, well
from tests.chaos.shop import DEDUPLICATED, Process

SHORT_MINUTES, LONG_MINUTES = 3.0, 20.0
LIFE_S = 1.2
"""What a process flows at most where it is disturbed again and again."""
WOKEN_S = 40.0


class Log:
    """What the starts of a run said of themselves."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(starts=0, walked_back=0, rows_removed=0)
        self.first_batch: list[float] = []
        self.refused: list[str] = []

    def heard(self, process: Footfall) -> None:
        """Take in a process that has ended, or is about to."""
        start, flowing = process.event("start") or {}, process.event("flowing")
        self.counts["starts"] += 1
        self.counts["rollbacks"] += bool(start.get("walked_back"))
        self.counts["walked_back"] += start.get("walked_back", 0)
        self.counts["rows_removed"] += start.get("rows_removed", 0)
        if flowing is not None:
            self.first_batch.append(flowing["seconds"])

    def told(self) -> dict[str, Any]:
        """For the result."""
        return {**self.counts, "first_batch_s": spread(self.first_batch), "refused": self.refused}


def r1(bench: Bench, seed: int, *, long: bool) -> dict[str, Any]:
    """SIGKILL at random moments, starts included."""
    return _killed(Shop(bench, "r1"), seed, rounds=100 if long else 6)


def r22(bench: Bench, seed: int, *, long: bool) -> dict[str, Any]:
    """The engine's own sink in place of ours: the loop of R1 must notice."""
    found = {name: _killed(Shop(bench, name), seed, rounds=4, mutant=name) for name in ("stock-sink",)}
    return {"mutants": found, "passed": all(not one["passed"] and not one["refused"] for one in found.values())}


def _killed(shop: Shop, seed: int, *, rounds: int, mutant: str | None = None) -> dict[str, Any]:
    draw, log = draw_of(seed, "R1"), Log()
    feeder = shop.feed()
    in_flow, suppressed = 0, 0.0
    waiting: list[float] = []
    for number in range(rounds):
        process = shop.start(mutant=mutant)
        if draw.random() < 0.2:
            process.ends_within(draw.uniform(0.2, 2.0))
        else:
            process.until("flowing")
            shop.gained((number - 1) / rounds, process)
            process.ends_within(draw.uniform(0.0, LIFE_S))
        if process.event("flowing") is not None:
            in_flow += 1
            suppressed += process.figure(DEDUPLICATED, 0.0)
        if process.kill() != -signal.SIGKILL:
            log.refused.append(process.cause())
        waiting.append(shop.waiting())
        log.heard(process)
    end = finished(shop, feeder, mutant=mutant)
    compared = shop.compared()
    return {
        "kills": rounds, "kills_in_flow": in_flow, "rows_not_durable_at_kill": spread(waiting), "outputs_not_written_twice": round(suppressed + end["suppressed"]),
        **compared, **log.told(), "end": end,
        "passed": well(compared) and not log.refused and end["code"] == 0,
    }  # fmt: skip


def r16(bench: Bench, seed: int, *, long: bool) -> dict[str, Any]:
    """SIGTERM under load."""
    rounds, draw, log = 50 if long else 5, draw_of(seed, "R16"), Log()
    shop = Shop(bench, "r16")
    feeder = shop.feed()
    waiting: list[float] = []
    drains: list[float] = []
    codes: Counter[str] = Counter()
    repeated = 0.0
    for number in range(rounds):
        process = shop.start()
        process.until("flowing")
        shop.gained((number - 1) / rounds, process)
        process.ends_within(draw.uniform(0.2, LIFE_S))
        repeated += process.figure(DEDUPLICATED, 0.0)
        began = time.monotonic()
        process.child.terminate()
        codes[str(process.wait())] += 1
        drains.append(time.monotonic() - began)
        waiting.append(shop.waiting())
        log.heard(process)
    end = finished(shop, feeder)
    compared = shop.compared()
    replayed = log.counts["walked_back"] + log.counts["rows_removed"] + repeated
    passed = well(compared) and codes == {"0": rounds} and max(drains) < 5 and not replayed and end["code"] == 0
    return {
        "drains": rounds, "codes": dict(codes), "rows_left_by_drain": spread(waiting), "drain_s": spread(drains), "replayed": replayed,
        **compared, **log.told(), "end": end, "passed": passed,
    }  # fmt: skip


def r3(bench: Bench, seed: int, *, long: bool) -> dict[str, Any]:
    """A process is stopped, a second one starts on a copy of its state, the first is woken."""
    rounds, draw, log = 20 if long else 2, draw_of(seed, "R3"), Log()
    shop = Shop(bench, "r3")
    feeder = shop.feed()
    config, state = shop.config, shop.state
    old = shop.start(config)
    zombies = []
    held = ""
    for number in range(rounds):
        old.until("flowing")
        old.ends_within(draw.uniform(0.2, LIFE_S))
        old.child.send_signal(signal.SIGSTOP)
        if number == 0:
            second = shop.start(config)
            second.wait()
            held = second.cause()
        copy = bench.folder / f"r3-state-{number}"
        shutil.copytree(state, copy)
        config, state = shop.configured(f"r3-{number}", copy), copy
        new = shop.start(config)
        new.until("flowing")
        new.ends_within(draw.uniform(0.2, LIFE_S))
        if long and number % 5 == 4:
            new.ends_within(15)  # longer than a transaction may stay open
        woken = time.monotonic()
        old.child.send_signal(signal.SIGCONT)
        old.ends_within(WOKEN_S)
        ended = old.child.poll()
        zombies.append({"code": ended, "seconds": round(time.monotonic() - woken, 3), "cause": old.cause()})
        if ended is None:
            old.kill()
        log.heard(old)
        old = new
    old.child.terminate()
    drained = old.wait()
    log.heard(old)
    end = finished(shop, feeder, config)
    compared = shop.compared()
    commands = compared["topics"]["action.command"]
    fenced = all(one["code"] == 1 and "another process" in one["cause"] for one in zombies)
    return {
        "zombies": rounds, "fenced": sum(one["code"] == 1 for one in zombies),
        "until_it_ended_s": spread([one["seconds"] for one in zombies]), "each": zombies,
        "same_directory_refused": "is held by process" in held, **compared,
        "doubled_wide": compared["doubled"] - commands["doubled"], **log.told(), "end": end,
        "passed": fenced and drained == 0 and end["code"] == 0 and "is held by process" in held
        and not (compared["lost"] or compared["invented"] or commands["doubled"]) and bool(compared["actions"]),
    }  # fmt: skip


class Watcher(Thread):
    """Asks a process for its health, all the time."""

    def __init__(self, process: Process) -> None:
        super().__init__(daemon=True)
        self._process, self._over = process, Event()
        self.live: Counter[str] = Counter()
        self.slowest = 0.0

    def run(self) -> None:
        while not self._over.wait(0.5):
            began = time.monotonic()
            self.live.update(str(status) for status, _ in self._process.answers("/live"))
            self.slowest = max(self.slowest, time.monotonic() - began)

    def end(self) -> None:
        """Ask no more."""
        self._over.set()
        self.join()


def r4(bench: Bench, seed: int, *, long: bool, outage_s: float | None = None) -> dict[str, Any]:
    """The broker is killed and started again and again under one process, and once it is away for long."""
    rounds, draw, log = 20 if long else 2, draw_of(seed, "R4"), Log()
    away = outage_s if outage_s is not None else 600.0 if long else 20.0
    shop = Shop(bench, "r4")
    feeder = shop.feed()
    process = shop.start()
    process.until("flowing")
    watcher = Watcher(process)
    watcher.start()
    outages, back = [], []
    middle = rounds // 2
    waiting: list[float] = []
    for number in range(rounds + 1):
        process.ends_within(draw.uniform(0.3, 1.0))
        waiting.append(shop.waiting())
        began = time.monotonic()
        bench.killable.kill()
        process.ends_within(away if number == middle else 0.0)
        bench.killable.start()
        outages.append(time.monotonic() - began)
        back.append(resumed(process))
    survived = process.child.poll() is None
    caught = process.caught_up(feeder, calm_s=6.0)
    watcher.end()
    process.child.terminate()
    code = process.wait()
    log.heard(process)
    compared = shop.compared()
    return {
        "broker_kills": rounds + 1, "longest_outage_s": round(max(outages), 1), "away_s": spread(outages),
        "rows_waiting_at_kill": waiting, "resumed_s": spread(back), "survived": survived,
        "live": dict(watcher.live), "live_slowest_s": round(watcher.slowest, 3), "caught_up": caught, "code": code,
        "cause": process.cause() if code else "", **compared, **log.told(),
        "passed": well(compared) and survived and caught and code == 0 and set(watcher.live) == {"200"},
    }  # fmt: skip


def resumed(process: Process) -> float:
    """Seconds from the broker's first answer to the next epoch that is durable in each process."""
    began = time.monotonic()
    while process.child.poll() is None and time.monotonic() - began < 60:
        ages = process.figures("footfall_epoch_age_seconds")
        if ages and max(ages) < min(2.0, time.monotonic() - began + 0.6):
            break
        time.sleep(0.05)
    return time.monotonic() - began


@contextmanager
def bench(seed: int, *, long: bool, mock: bool = False) -> Iterator[Bench]:
    """A broker or a mock of one, a registry, and a day of the store for the rows that want one."""
    with Bench.open(seed=seed, minutes=LONG_MINUTES if long else SHORT_MINUTES, mock=mock) as one:
        yield one
