"""`footfall run FLOW --processes N` as it is met: one process, or a supervisor and its children, any of which is killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Thread

from tests.chaos.shop import LIMIT_S, ROOT, Process

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ORPHANS_S = 60.0
"""Children of a supervisor that is gone drain, or end, within so long."""


def program(changes: str) -> list[str]:
    """What `footfall` is called by; with changes, a program that makes them first."""
    return [sys.executable, "-m", *(["tests.chaos.mutated", changes] if changes else ["flows.cli"])]


@dataclass
class Cluster(Process):
    """All processes of one start; `killed` names what was, `main`, `child` or `supervisor`."""

    flow: str = ""
    processes: int = 1
    killed: str = ""
    _pids: list[int] = field(default_factory=list)

    @classmethod
    def run(cls, flow: str, config: Path, processes: int, changes: str = "") -> "Cluster":
        """Start it, changed (`mutated`) if changes are named."""
        command = [*program(changes), "run", flow, "--config", str(config)]
        command += ["--processes", str(processes)] if processes > 1 else []
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env=ENVIRONMENT)
        one = cls(child, time.monotonic(), flow=flow, processes=processes)
        Thread(target=one._listen, daemon=True).start()
        return one

    @property
    def children(self) -> list[int]:
        """Process ids below the supervisor; none where there is none, or it has not said them yet."""
        told = self.event("supervising")
        return [] if told is None else list(told["processes"])

    @property
    def flows(self) -> int:
        """How many processes have handed on their first batch."""
        return sum(line.get("event") == "flowing" for line in list(self.said))

    def flowing(self) -> bool:
        """Wait until every process flows; False where one ended before."""
        limit = time.monotonic() + LIMIT_S
        while self.flows < self.processes and self.child.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
        return self.flows >= self.processes

    def strike(self, draw: Random) -> bool:
        """SIGKILL to a random process of it; then wait until all are gone. False: it had ended by itself."""
        victims = [self.child.pid, *self.children]
        victim = draw.choice(victims)
        self.killed = "main" if self.processes == 1 else "supervisor" if victim == self.child.pid else "child"
        alive = self.child.poll() is None
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            alive = False
        self.gone()
        return alive

    def gone(self) -> None:
        """Wait for the supervisor to stop the others, and for orphans to end.

        Raises:
            RuntimeError: one of them goes on.
        """
        self.child.wait(LIMIT_S)
        limit = time.monotonic() + ORPHANS_S
        while any(map(_alive, self.children)):
            if time.monotonic() > limit:
                raise RuntimeError(f"orphans go on: {[pid for pid in self.children if _alive(pid)]}")
            time.sleep(0.02)

    def drained(self) -> int:
        """SIGTERM; the exit code when all are gone."""
        self.child.terminate()
        code = self.wait()
        self.gone()
        return code

    def trouble(self) -> list[str]:
        """What processes said of why they stopped, but for peers that miss the one that was killed."""
        told = [line for line in list(self.said) if line.get("event") in {"refused", "stopped"}]
        return [str(line.get("cause")) for line in told]


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
