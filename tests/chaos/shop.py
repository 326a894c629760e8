"""The shop that is killed: a simulated day, the settings of a run, its processes, and what they left behind."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import orjson

from flows.ports import STEPS
from flows.simulate import write_directory
from operators.state.rocks import RocksShard

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0
DEDUPLICATED = 'footfall_outputs_total{outcome="deduplicated"'
"""Metric of the outputs that a replay said again and that were found on their topic."""
SEALED = {("decode", 1), ("deliver", 1)}
"""Tables whose values are sealed under keys drawn at random: only which keys there are can be compared."""
SETS = {("person", 41)}
"""Tables of sets: written in no particular order."""
SETTINGS = """
[site]
id = "mad-01"

[pseudonym]
key_file = ".key"

[state]
backend = "rocksdb"
dir = "{state}"

[engine]
epoch = "{epoch}"

[metrics]
listen = "127.0.0.1:0"
"""


def day(folder: Path, *, seed: int, minutes: int) -> Path:
    """A simulated day with a key of its own."""
    write_directory(folder, seed=seed, minutes=minutes)
    (folder / ".key").write_text("a key for the kill loop")
    (folder / ".key").chmod(0o600)
    return folder


def settled(folder: Path, state: Path, *, epoch: str, more: str = "") -> None:
    """Write the settings of the next run."""
    (folder / "footfall.toml").write_text(SETTINGS.format(state=state, epoch=epoch) + more)


@dataclass
class Process:
    """A worker that runs, with the lines it said."""

    child: "subprocess.Popen[bytes]"
    began: float
    dies: bool = False
    said: list[dict[str, Any]] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        source: Path,
        out: Path,
        *,
        flow: str = "store",
        pause_ms: float = 0.0,
        rows: int = 64,
        mutant: str | None = None,
        die: str | None = None,
    ) -> "Process":
        command = [sys.executable, "-m", "tests.chaos.worker", "--in", str(source), "--out", str(out)]
        command += ["--flow", flow, "--pause-ms", str(pause_ms), "--rows", str(rows)]
        command += ["--mutant", mutant] if mutant else []
        command += ["--die", die] if die else []
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        process = cls(child, time.monotonic(), dies=die is not None)
        Thread(target=process._listen, daemon=True).start()
        return process

    def _listen(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            try:
                self.said.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                self.other.append(line.decode(errors="replace").rstrip())

    def event(self, name: str) -> dict[str, Any] | None:
        return next((line for line in self.said if line.get("event") == name), None)

    def until(self, name: str) -> dict[str, Any] | None:
        """Wait for an event; None when the process ended without it."""
        limit = time.monotonic() + LIMIT_S
        while (found := self.event(name)) is None:
            if self.child.poll() is not None or time.monotonic() > limit:
                return self.event(name)
            time.sleep(0.002)
        return found

    def answers(self, path: str) -> list[tuple[int, str]]:
        """What the health server of each of its processes answers."""
        return [_asked(line["port"], path) for line in list(self.said) if line.get("event") == "listening"]

    def figures(self, name: str) -> list[float]:
        """A metric, of each process and by its labels; nothing where there is none yet. First labels may be given."""
        lines = [line for _, page in self.answers("/metrics") for line in page.splitlines()]
        return [
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{", f"{name},"))
        ]

    def ends_within(self, seconds: float) -> None:
        """Wait so long, or until it has ended."""
        limit = time.monotonic() + seconds
        while self.child.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)

    def kill(self) -> int:
        self.child.send_signal(signal.SIGKILL)
        return self.wait()

    def wait(self, limit_s: float = LIMIT_S) -> int:
        return self.child.wait(limit_s)

    @property
    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return round(int(found[1]) / 1024, 1) if found else 0.0


def _asked(port: int, path: str, seconds: float = 5.0) -> tuple[int, str]:
    """What a health server answers; 0 where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def outputs(out: Path) -> dict[str, bytes]:
    """Every file that a run wrote."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.jsonl"))}


def actions(out: Path) -> list[str]:
    """Ids of the actions in the order in which they went out."""
    path = out / "action.command.jsonl"
    return [orjson.loads(line)["event_id"] for line in path.read_bytes().splitlines()] if path.exists() else []


def pairs(state: Path, step: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Table, key and value of everything a step holds."""
    shard = RocksShard(state / "0" / "db", read_only=True)
    for key, value in shard.scan(bytes([STEPS.index(step), 0])):
        yield key[2], key[3:], value


def memory(state: Path) -> dict[tuple[str, int, bytes], Any]:
    """All that a flow remembers, comparable between runs."""
    found: dict[tuple[str, int, bytes], Any] = {}
    for step in STEPS:
        for table, key, value in pairs(state, step):
            known = (step, table) not in SEALED and len(value) > 1
            read = msgspec.msgpack.decode(value[1:]) if known else None
            found[step, table, key] = (value[0], sorted(read) if (step, table) in SETS else read)
    return found
