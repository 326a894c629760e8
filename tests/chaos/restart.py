"""The restart gate: a million profiles in the state, SIGKILL, start: how long until the first batch.

Our modules are compiled beforehand, as pip compiles what it installs.
"""

import compileall
import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import Options, Rdict, WriteBatch

from flows.ports import FLOW_STEPS, STEPS
from tests.chaos.shop import ROOT, Process, day, pairs, settled

PERSONAL = ("stitch", "person")
"""Steps that keep something a person."""
STANDINGS, DUES = 50, 51
"""Tables of where a person stands in segments, and of the times at which to look again."""
FAR = 2_000_000_000_000_000
"""A time that the day does not reach (µs)."""
GATE_S = 1.0


def planted(state: Path, people: int) -> dict[str, int]:
    """Copy what the flow keeps of one real identifier under as many made-up names; answers keys by step."""
    found = {step: _of_one(state, step) for step in PERSONAL}
    db = Rdict(str(state / "0" / "db"), Options(raw_mode=True))
    counts = dict.fromkeys(PERSONAL, 0)
    for first in range(0, people, 10_000):
        batch = WriteBatch(raw_mode=True)
        for number in range(first, min(first + 10_000, people)):
            name = f"tag:1:{number:020d}".encode()
            for step, rows in found.items():
                for table, value in rows:
                    mine = _due(value, FAR + number) if (step, table) == ("person", STANDINGS) else value
                    batch.put(bytes([STEPS.index(step), 0, table]) + name, mine)
                    counts[step] += 1
            due = b"%020d" % (FAR + number)
            batch.put(bytes([STEPS.index("person"), 0, DUES]) + due + name, b"\x01")
        db.write(batch)
    db.flush()
    db.close()
    return counts


def _due(standing: bytes, at: int) -> bytes:
    """The same standing, to be looked at again at another time."""
    fields = msgspec.msgpack.decode(standing[1:])
    fields[3] = at
    return standing[:1] + msgspec.msgpack.encode(fields)


def _of_one(state: Path, step: str) -> list[tuple[int, bytes]]:
    """The longest value of each table that is keyed by an identifier alone."""
    longest: dict[int, bytes] = {}
    for table, key, value in pairs(state, step):
        of_one = key.startswith((b"tag:", b"loyalty:")) and b" " not in key
        if of_one and len(value) > len(longest.get(table, b"")):
            longest[table] = value
    return sorted(longest.items())


def restart(seed: int, *, long: bool) -> dict[str, Any]:
    """Plant, start, kill, start again; the best and the worst of the starts after a kill."""
    people, rounds = 1_000_000, 10 if long else 5
    for package in ("schemas", "operators", "flows", "tests/chaos"):
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, state, out = day(folder / "day", seed=seed, minutes=4), folder / "state", folder / "out"
        settled(source, state, epoch="200ms")
        begun = Process.start(source, out, pause_ms=10)
        begun.until("flowing")
        time.sleep(2)
        begun.child.terminate()
        begun.wait()
        began = time.monotonic()
        counts = planted(state, people)
        planting = time.monotonic() - began
        seconds, processor, rss, from_outside = [], [], [], []
        for _ in range(rounds):
            process = Process.start(source, out, pause_ms=50)
            said = process.until("flowing")
            from_outside.append(time.monotonic() - process.began)
            if said is None:
                return {"passed": False, "said": process.said[-2:], "other": process.other[-2:]}
            time.sleep(0.7)
            rss.append(process.rss_mib)
            seconds.append(said["seconds"])
            processor.append(said["processor_s"])
            process.kill()
        with sqlite3.connect(state / "recovery" / "part-0.sqlite3") as part:
            resume = max(epoch for (epoch,) in part.execute("SELECT worker_frontier FROM fronts"))
            asked = part.execute(
                "SELECT COUNT(DISTINCT step_id || ' ' || state_key) FROM snaps WHERE snap_epoch < ?", (resume,)
            )
            rows = asked.fetchone()[0]
        size = sum(path.stat().st_size for path in (state / "0" / "db").iterdir())
    steps = len(FLOW_STEPS["store"])
    after = sorted(seconds[1:])
    return {
        "profiles": people,
        "keys": counts,
        "state_mib": round(size / 2**20, 1),
        "planting_s": round(planting, 1),
        "starts_after_a_kill": len(after),
        "first_batch_s": {"best": after[0], "median": after[len(after) // 2], "worst": after[-1]},
        "processor_s": sorted(processor[1:]),
        "load": os.getloadavg()[0],
        "seen_from_outside_s": [round(one, 3) for one in from_outside],
        "rss_mib": max(rss),
        "recovery_rows": rows,
        "recovery_rows_wanted": steps * 1 + 2,
        "gate_s": GATE_S,
        "passed": after[len(after) // 2] < GATE_S and rows == steps + 2,
    }
