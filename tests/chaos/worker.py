"""One process of a flow from files, as `footfall run` starts it: the one that is killed.

    python -m tests.chaos.worker --in DIR --out DIR [--flow store] [--pause-ms 2] [--rows 64] [--mutant NAME]

A mutant is a bug put back. None of them may pass the kill loop, or the built states of the recovery tests.
"""

import argparse
import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from flows.causes import Log
from flows.deployment import Deployment
from flows.replay import FLOWS, merged
from flows.run import Joined, run
from flows.start import Start
from operators.connectors.files import LineSink, RowSource, _Rows
from operators.engine import Shard
from operators.pulse import Pulse
from operators.state import epochs, home


class _Slow(_Rows):
    """Rows at a bounded rate, so that a kill finds the run under way."""

    pause = 0.0

    def next_batch(self) -> Any:
        time.sleep(self.pause)
        return super().next_batch()


class SlowSource(RowSource):
    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Rows:
        part = _Slow(self._merge, self._size, self._progress, resume_state)
        part.pause = self.pause
        return part

    pause = 0.0


def _token_ignored() -> None:
    """Opens wherever the store stands."""
    way_back = epochs.EpochStore._way_back

    def ignored(self: Any, shard: str) -> Any:
        stored = self._opened().get(self._key(2))
        self._target = None if stored is None else epochs._token_of(stored)
        return way_back(self, shard)

    epochs.EpochStore._way_back = ignored  # type: ignore[method-assign]


def _no_execution() -> None:
    """Tokens that only count."""
    epochs.execution = lambda: b""  # type: ignore[assignment]


def _no_check() -> None:
    """Stale snapshots stay."""
    home.clean = lambda path: (home.examine(path), 0)  # type: ignore[assignment]


def _forgetful() -> None:
    """Changes are committed and never undone."""
    epochs.EpochStore._walk_back = lambda self, parts, back: self._opened().write(  # type: ignore[method-assign]
        {self._key(2): epochs._encode(back) if back[2] else None}, sync=False
    )


MUTANTS = {
    "token-ignored": _token_ignored,
    "no-execution": _no_execution,
    "no-check": _no_check,
    "forgetful": _forgetful,
}


def _dies(where: str) -> None:
    """Kill this process at the n-th time that a place is reached: `after-commit:12`."""
    place, _, number = where.partition(":")
    left = [int(number)]

    def reached() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    kind, name = PLACES[place]
    real = getattr(kind, name)

    def wrapped(self: Any, *args: Any, **named: Any) -> Any:
        if place.startswith("before"):
            reached()
        answer = real(self, *args, **named)
        if place.startswith("after"):
            reached()
        return answer

    setattr(kind, name, wrapped)


PLACES = {
    "before-commit": (epochs.EpochStore, "commit"),
    "after-commit": (epochs.EpochStore, "commit"),
    "before-batch": (Shard, "on_batch"),
    "before-walk-back": (epochs.EpochStore, "_walk_back"),
    "after-walk-back": (epochs.EpochStore, "_walk_back"),
}


def main() -> int:
    ask = argparse.ArgumentParser()
    ask.add_argument("--in", dest="source", type=Path, required=True)
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--flow", default="store")
    ask.add_argument("--pause-ms", type=float, default=0.0)
    ask.add_argument("--rows", type=int, default=64)
    ask.add_argument("--mutant", choices=sorted(MUTANTS))
    ask.add_argument("--die", help="place:n, such as after-commit:12")
    asked = ask.parse_args()
    gc.freeze()  # as the command does with what it has imported
    if asked.die:
        _dies(asked.die)
    if asked.mutant:
        MUTANTS[asked.mutant]()

    def join(deployment: Deployment, pulse: Pulse, log: Log) -> Joined:
        flow = FLOWS[asked.flow]
        merge, _, schemas = merged(asked.source, "ingest", flow.reads, known_venue=True)
        source = SlowSource(merge, size=asked.rows)
        source.pause = asked.pause_ms / 1e3
        asked.out.mkdir(parents=True, exist_ok=True)
        return Joined(deployment=deployment.heard_from(schemas), source=source, sink=LineSink(asked.out, flow.writes))

    return run(Start(flow=asked.flow, config=asked.source / "footfall.toml"), lambda _start, _settings: join)


if __name__ == "__main__":
    sys.exit(main())
