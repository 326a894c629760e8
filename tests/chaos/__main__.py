"""Run rows of the fault table: `python -m tests.chaos R1 --seed 7`; the result of each is one JSON file.

A row may be run in several ways, on files, on the client's mock cluster and on a broker, by several flows: all are, but
`--on` and `--flow` choose. Results go to .cache/chaos, and with `--keep` among those that RELIABILITY.md is written from.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.broker.jars import NotHere
from tests.chaos import crowded, crowdfiles, crowdlive, kills, onbroker, restart, strolled

KEPT = Path(__file__).parent / "results"
PASSING = Path(__file__).resolve().parents[2] / ".cache" / "chaos"
LONG_WINDED = frozenset({"machine", "topics", "by_topic", "tables_left_out"})
PROGRAM = ("flows", "operators", "schemas", "tests/chaos", "tests/broker")


@dataclass(frozen=True)
class Entry:
    """One way to run a row: on files, the mock cluster or a broker, by which flow, in how many processes."""

    row: str
    on: str
    flow: str
    run: Callable[..., dict[str, Any]]
    processes: int | None = None
    """Left out where the flow has one by its nature."""
    short: bool = True


ENTRIES = (
    Entry("R1", "file", "store", kills.r1),
    Entry("R1", "kafka", "store", onbroker.r1),
    Entry("R1", "kafka", "activation", crowded.r1, processes=3),
    Entry("R1", "mock", "activation", crowded.r1, processes=3),
    Entry("R1", "kafka", "presence", strolled.r1, processes=3),
    Entry("R1", "file", "activation", crowdfiles.r1),
    Entry("R2", "file", "store", kills.r2),
    Entry("R2", "file", "activation", crowdfiles.r2),
    Entry("R2", "kafka", "activation", crowded.r2, processes=3),
    Entry("R3", "kafka", "store", onbroker.r3),
    Entry("R4", "kafka", "store", onbroker.r4),
    Entry("R4", "kafka", "activation", crowdlive.r4, processes=3),
    Entry("R5", "mock", "activation", crowdlive.r5, processes=3),
    Entry("R16", "file", "store", kills.r16),
    Entry("R16", "kafka", "store", onbroker.r16),
    Entry("R16", "kafka", "activation", crowdlive.r16, processes=3),
    Entry("R22", "file", "store", kills.mutants),
    Entry("R22", "mock", "activation", crowded.r22, processes=1),
    Entry("R22", "kafka", "store", onbroker.r22),
    Entry("R22", "kafka", "activation", crowded.r22, processes=1),
    Entry("restart", "file", "store", restart.restart, short=False),
)
ROWS = tuple(dict.fromkeys(entry.row for entry in ENTRIES))


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


def _results(
    entries: list[Entry], seed: int, processes: int | None, people: int | None, *, long: bool
) -> Iterator[tuple[Entry, Any]]:
    """Each with its result; those of one cluster share it."""
    for entry in entries:
        if entry.on == "file":
            yield entry, _timed(partial(entry.run, seed, long=long))
    for on in ("mock", "kafka"):
        live = [entry for entry in entries if entry.on == on]
        if not live:
            continue
        with onbroker.bench(seed, long=long, mock=on == "mock") as bench:
            for entry in live:
                several = {} if entry.processes is None else {"processes": processes or entry.processes}
                if people is not None and entry.flow == "activation" and entry.row != "R22":
                    several["people"] = people
                yield entry, _timed(partial(entry.run, bench, seed, long=long, **several))


def _timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result with what it was of: the commit before and after, since a process starts from what lies there then."""
    before, began = _commit(), time.monotonic()
    result = run()
    seconds = round(time.monotonic() - began, 1)
    return {"commit": before, "commit_after": _commit(), "machine": _machine(), "total_seconds": seconds, **result}


def _row(name: str) -> str:
    if name not in {*ROWS, "all"}:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(ROWS)} or all, not {name}")
    return name


def main() -> int:
    ask = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    ask.add_argument("rows", type=_row, nargs="*", help=f"of {', '.join(ROWS)}, or all; short ones of all if left out")
    ask.add_argument("--seed", type=int, default=7)
    ask.add_argument("--on", choices=["file", "mock", "kafka", "all"], default="all")
    ask.add_argument("--flow", choices=["store", "activation", "presence"], help="that one only")
    ask.add_argument("--processes", type=int, help="of activation or presence")
    ask.add_argument("--people", type=int, help="of rows of activation in the long form, for a smaller one")
    ask.add_argument("--long", action="store_true", help="the sizes of the fault table")
    ask.add_argument("--keep", action="store_true", help="keep the results beside this file")
    asked = ask.parse_args()
    folder = KEPT if asked.keep else PASSING
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [
        entry
        for entry in ENTRIES
        if ({"all", entry.row} & set(asked.rows) if asked.rows else entry.short)
        and asked.on in {"all", entry.on}
        and asked.flow in {None, entry.flow}
    ]
    failed = []
    try:
        for entry, result in _results(chosen, asked.seed, asked.processes, asked.people, long=asked.long):
            form = "long" if asked.long else "short"
            told = {
                "row": entry.row,
                "backend": entry.on,
                "flow": entry.flow,
                "seed": asked.seed,
                "form": form,
                **result,
            }
            several = [result["processes"]] if "processes" in result else []
            flow = [] if entry.flow == "store" else [entry.flow]
            parts = [entry.row, entry.on, *flow, *several, asked.seed, *(["long"] if asked.long else [])]
            (folder / f"{'-'.join(map(str, parts))}.json").write_text(json.dumps(told, indent=2) + "\n")
            name = f"{entry.row} of {entry.flow} on {entry.on}"
            verdict = "passed" if result["passed"] else "FAILED"
            print(f"{name}, seed {asked.seed}: {verdict} in {result['total_seconds']} s", file=sys.stderr)
            print(json.dumps({key: value for key, value in told.items() if key not in LONG_WINDED}), flush=True)
            if not result["passed"]:
                failed.append(name)
    except NotHere as missing:
        print(f"skipped on a broker: {missing}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
