"""R1, R2 and R16 on files: a process of the store flow is killed, or asked to drain, until its day is over.

What it wrote and what it remembers must equal that of one undisturbed run, to the byte.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.shop import LIMIT_S, Process, actions, day, memory, outputs, settled

EPOCH = "200ms"
LONGEST_S = 1_800.0
"""What an undisturbed run may take."""


class Loop:
    """An undisturbed run, and one that is disturbed at seeded moments.

    Args:
        folder: where runs go.
        source: the rows, and the rules they are judged by.
        seed: draws the moments.
        flow: whose process is disturbed.
        more: settings.
    """

    def __init__(self, folder: Path, source: Path, *, seed: int, flow: str = "store", more: str = "") -> None:
        self._folder, self._draw, self._source = folder, random.Random(seed), source
        self._flow, self._more = flow, more
        self.events = sum(len(path.read_bytes().splitlines()) for path in self._source.glob("*.jsonl"))
        self.settled("whole")
        calm = Process.start(self._source, folder / "whole", flow=flow)
        if calm.wait(LONGEST_S):
            raise RuntimeError(f"the undisturbed run must end well; said {calm.said[-1:]} {calm.other[-3:]}")

    def settled(self, name: str) -> Path:
        """Write the settings of a run; answers where its state goes."""
        state = self._folder / f"{name}-state"
        settled(self._source, state, epoch=EPOCH, more=self._more)
        return state

    def disturbed(
        self, name: str, rounds: int, disturb: Any, *, pause_ms: float, place: Any, mutant: str | None = None
    ) -> dict[str, Any]:
        """Run again, with up to `rounds` disturbances; `disturb` kills or drains and answers facts to count.

        It is given the process, a draw, and what waits until a share of the outputs stands: disturbances are spread
        over the rows.
        """
        out, state = self._folder / name, self.settled(name)
        began, counts, slowest = time.monotonic(), Counter[str](), Counter[str]()
        refused, written = None, 0.0
        for number in range(rounds + 1):
            last = number == rounds
            die = None if last else place(self._draw)
            pause = 0.0 if last else pause_ms
            written = self._share(out) if last else written
            process = Process.start(self._source, out, flow=self._flow, pause_ms=pause, mutant=mutant, die=die)
            if not last:
                gained = partial(self._gained, process, out, number / rounds)
                for what, how_much in disturb(process, self._draw, gained).items():
                    counts[what] += how_much
                    slowest[what] = max(slowest[what], how_much)
            code = process.wait(LONGEST_S if last else LIMIT_S)
            start = process.event("start") or {}
            counts["starts"] += 1
            counts["walked_back"] += start.get("walked_back", 0)
            counts["rows_removed"] += start.get("rows_removed", 0)
            said = process.event("refused") or process.event("stopped")
            if said is not None or code not in {0, -9}:
                refused = {"code": code, "cause": (said or {}).get("cause", process.other[-1:])}
                break
        return self._compared(out, state) | {
            **{key: round(value, 3) for key, value in counts.items()},
            "slowest_drain_s": round(slowest["drain_s"], 3),
            "seconds": round(time.monotonic() - began, 1),
            "written_at_last": round(written, 3),
            "refused": refused,
        }

    def _gained(self, process: Process, out: Path, share: float) -> None:
        """Wait until that share of the outputs stands there."""
        limit = time.monotonic() + LONGEST_S
        while process.child.poll() is None and self._share(out) < share and time.monotonic() < limit:
            time.sleep(0.02)

    def _share(self, out: Path) -> float:
        """How much of what the undisturbed run wrote stands there."""
        return _written(out) / max(1, _written(self._folder / "whole"))

    def _compared(self, out: Path, state: Path) -> dict[str, Any]:
        wanted, got = actions(self._folder / "whole"), actions(out)
        whole, files = outputs(self._folder / "whole"), outputs(out)
        try:
            before, after = memory(self._folder / "whole-state"), memory(state)
        except Exception as error:
            before, after = {}, {("unreadable", 0, b""): str(error)}
        different = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        return {
            "actions": len(wanted),
            "lost": len(set(wanted) - set(got)),
            "doubled": len(got) - len(set(got)),
            "invented": len(set(got) - set(wanted)),
            "files": len(whole),
            "files_differ": sorted(name for name in whole.keys() | files.keys() if whole.get(name) != files.get(name)),
            "keys": len(before),
            "keys_differ": len(different),
            "tables_differ": sorted({f"{step}:{table}" for step, table, _ in different}),
        }


def _written(out: Path) -> int:
    """Bytes of a run's outputs so far."""
    return sum(path.stat().st_size for path in out.glob("*.jsonl"))


def well(result: dict[str, Any]) -> bool:
    """Nothing lost, doubled, changed or refused."""
    numbers = ("lost", "doubled", "invented", "keys_differ")
    return not (any(result[name] for name in numbers) or result["files_differ"] or result["refused"])


def no_place(_draw: random.Random) -> str | None:
    """Killed from outside only."""
    return None


def some_place(draw: random.Random) -> str | None:
    """Half of the kills come from inside: around a commit, before a batch, in the midst of a walk back."""
    kind = draw.random()
    if kind < 0.3:
        return f"after-commit:{draw.randint(1, 30)}"
    if kind < 0.4:
        return f"before-commit:{draw.randint(1, 30)}"
    if kind < 0.5:
        return f"before-batch:{draw.randint(1, 300)}"
    if kind < 0.6:
        return f"{draw.choice(['before', 'after'])}-walk-back:{draw.randint(1, 7)}"
    return None


def at_random(process: Process, draw: random.Random, gained: Callable[[], None]) -> dict[str, float]:
    """SIGKILL at any time, imports and recovery included."""
    if not process.dies and draw.random() < 0.2:
        time.sleep(draw.uniform(0.1, 1.5))
    else:
        process.until("flowing")
        gained()
        process.ends_within(4 if process.dies else draw.uniform(0.0, 1.5))
    killed = process.kill() == -9
    return {"kills": killed, "kills_in_flow": killed and process.event("flowing") is not None}


def right_after(process: Process, draw: random.Random, gained: Callable[[], None]) -> dict[str, float]:
    """SIGKILL less than half a second after a resume, or, now and then, after some ground was gained."""
    process.until("flowing")
    if far := draw.random() < 0.3:
        gained()
    process.ends_within(2 if process.dies else draw.uniform(0.0, 0.45))
    return {"kills": process.kill() == -9, "right_after_a_resume": not far}


def drained(process: Process, draw: random.Random, gained: Callable[[], None]) -> dict[str, float]:
    """SIGTERM under load."""
    process.until("flowing")
    gained()
    time.sleep(draw.uniform(0.0, 0.6))
    began = time.monotonic()
    process.child.terminate()
    code = process.wait()
    return {"drains": 1, "drains_ended_well": code == 0, "drain_s": time.monotonic() - began}


def r1(seed: int, *, long: bool) -> dict[str, Any]:
    """Kills at random moments."""
    rounds, minutes = (100, 30) if long else (8, 3)
    return _looped(seed, at_random, rounds=rounds, minutes=minutes, place=some_place)


def r2(seed: int, *, long: bool) -> dict[str, Any]:
    """Kills again and again, right after each resume."""
    rounds, minutes = (100, 30) if long else (8, 3)
    return _looped(seed, right_after, rounds=rounds, minutes=minutes, place=some_place)


def r16(seed: int, *, long: bool) -> dict[str, Any]:
    """Drains under load."""
    result = _looped(seed, drained, rounds=50 if long else 5, minutes=30 if long else 3, place=no_place)
    result["replayed"] = result["walked_back"] + result["rows_removed"]
    result["passed"] = (
        result["passed"]
        and result["drains"] == result["drains_ended_well"]
        and not result["replayed"]
        and result["slowest_drain_s"] < 5
    )
    return result


def _looped(seed: int, disturb: Any, *, rounds: int, minutes: int, place: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(Path(folder), day(Path(folder) / "day", seed=seed, minutes=minutes), seed=seed)
        result = loop.disturbed("disturbed", rounds, disturb, pause_ms=10, place=place)
    return {"events": loop.events, **result, "passed": well(result)}


def after_commit(draw: random.Random) -> str | None:
    """The state is ahead of the recovery store after every such kill."""
    return f"after-commit:{draw.randint(8, 20)}"


def mutants(seed: int, *, long: bool) -> dict[str, Any]:
    """Bugs put back, each of which the kill loop must notice."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(Path(folder), day(Path(folder) / "day", seed=seed, minutes=2), seed=seed)
        for name in ("token-ignored", "forgetful"):
            result = loop.disturbed(name, 12 if long else 4, right_after, pause_ms=6, place=after_commit, mutant=name)
            found[name] = result | {"noticed": not well(result)}
    return {"mutants": found, "passed": all(one["noticed"] for one in found.values())}
