"""Run one row of the fault table: `python -m tests.chaos R1 --seed 7`; the result is one JSON file."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos import kills, restart

RESULTS = Path(__file__).parent / "results"
SHORT = ("R1", "R2", "R16", "R22")
ROWS = {"R1": kills.r1, "R2": kills.r2, "R16": kills.r16, "R22": kills.mutants, "restart": restart.restart}


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
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def main() -> int:
    ask = argparse.ArgumentParser(prog="python -m tests.chaos")
    ask.add_argument("row", choices=[*ROWS, "short", "all"], nargs="?", default="short")
    ask.add_argument("--seed", type=int, default=7)
    ask.add_argument("--long", action="store_true", help="the sizes of the fault table")
    asked = ask.parse_args()
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for row in {"short": SHORT, "all": tuple(ROWS)}.get(asked.row, (asked.row,)):
        began = time.monotonic()
        result = ROWS[row](asked.seed, long=asked.long)
        told = {
            "row": row,
            "backend": "file",
            "seed": asked.seed,
            "form": "long" if asked.long else "short",
            "commit": _commit(),
            "machine": _machine(),
            "total_seconds": round(time.monotonic() - began, 1),
            **result,
        }
        name = f"{row}-file-{asked.seed}{'-long' if asked.long else ''}.json"
        (RESULTS / name).write_text(json.dumps(told, indent=2) + "\n")
        print(f"{row} seed {asked.seed}: {'passed' if result['passed'] else 'FAILED'}", file=sys.stderr)
        print(json.dumps({key: value for key, value in told.items() if key != "machine"}))
        if not result["passed"]:
            failed.append(row)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
