"""Run rows of the fault table: `python -m tests.chaos R1 --seed 7`; the result of each is one JSON file.

A row that is there on files and on a broker is run on both; `--on` chooses. Results go to .cache/chaos, and with
`--keep` among those that RELIABILITY.md is written from.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.broker.jars import NotHere
from tests.chaos import kills, onbroker, restart

KEPT = Path(__file__).parent / "results"
PASSING = Path(__file__).resolve().parents[2] / ".cache" / "chaos"
FILE = {"R1": kills.r1, "R2": kills.r2, "R16": kills.r16, "R22": kills.mutants, "restart": restart.restart}
PROGRAM = ("flows", "operators", "schemas", "tests/chaos", "tests/broker")
SHORT = ("R1", "R2", "R3", "R4", "R16", "R22")
ROWS = sorted({*FILE, *onbroker.ROWS})


def _machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}


def _commit() -> str:
    """Where the program stands; a + behind it says that files of it differ."""
    told = [
        subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno", "--", *PROGRAM])
    ]
    return told[0] + "+" * bool(told[1])


def _results(rows: list[str], on: str, seed: int, *, long: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Row, backend and result of each; those of a broker share one broker and one day."""
    for row in rows:
        if row in FILE and on != "kafka":
            yield row, "file", _timed(lambda row=row: FILE[row](seed, long=long))
    if on == "file" or not any(row in onbroker.ROWS for row in rows):
        return
    with onbroker.bench(seed, long=long) as bench:
        for row in rows:
            if row in onbroker.ROWS:
                yield row, "kafka", _timed(lambda row=row: onbroker.ROWS[row](bench, seed, long=long))


def _timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result with what it was of: the commit before and after, since a process starts from what lies there then."""
    before, began = _commit(), time.monotonic()
    result = run()
    seconds = round(time.monotonic() - began, 1)
    return {"commit": before, "commit_after": _commit(), "machine": _machine(), "total_seconds": seconds, **result}


def main() -> int:
    ask = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    ask.add_argument("row", choices=[*ROWS, "short", "all"], nargs="?", default="short")
    ask.add_argument("--seed", type=int, default=7)
    ask.add_argument("--on", choices=["file", "kafka", "both"], default="both")
    ask.add_argument("--long", action="store_true", help="the sizes of the fault table")
    ask.add_argument("--keep", action="store_true", help="keep the results beside this file")
    asked = ask.parse_args()
    folder = KEPT if asked.keep else PASSING
    folder.mkdir(parents=True, exist_ok=True)
    rows = list({"short": SHORT, "all": tuple(ROWS)}.get(asked.row, (asked.row,)))
    failed = []
    try:
        for row, on, result in _results(rows, asked.on, asked.seed, long=asked.long):
            told = {
                "row": row,
                "backend": on,
                "seed": asked.seed,
                "form": "long" if asked.long else "short",
                **result,
            }
            name = f"{row}-{on}-{asked.seed}{'-long' if asked.long else ''}.json"
            (folder / name).write_text(json.dumps(told, indent=2) + "\n")
            verdict = "passed" if result["passed"] else "FAILED"
            print(f"{row} on {on}, seed {asked.seed}: {verdict}", file=sys.stderr)
            print(json.dumps({key: value for key, value in told.items() if key not in {"machine", "topics"}}))
            if not result["passed"]:
                failed.append(f"{row} on {on}")
    except NotHere as missing:
        print(f"skipped on a broker: {missing}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
