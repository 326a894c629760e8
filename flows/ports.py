"""Ports: what a flow reads from and writes to. The only place that opens connectors and state."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bytewax.inputs import Source
from bytewax.outputs import Sink

from flows.settings import Settings, WrongUse
from operators.connectors.clock import wall
from operators.state.memory import Memory, MemoryStore
from operators.state.rocks import RocksStore
from operators.state.store import Store
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION

STEPS = ("decode", "admit", "dwell", "occupancy", "stitch", "person", "deliver")
"""Numbers of steps in the state, by place; never reordered, only added to."""


@dataclass(frozen=True)
class Ports:
    """Source and sink of micro-batches, the stores of the steps, and the stamp clock."""

    topics: Source[Any]
    records: Sink[Any]
    opened: Callable[[str], Callable[[], Store]]
    stamp: Callable[[], int] = wall


def key_of(settings: Settings, base: Path, *, required: bool) -> tuple[bytes, int, bool]:
    """Pseudonym key, its version, and whether it is the published example."""
    named = settings.pseudonym.key_file
    if named is None:
        if required:
            raise WrongUse("[pseudonym] key_file must name a key; the example key is for demos and replays only")
        return EXAMPLE_KEY, EXAMPLE_VERSION, True
    path = base / named
    try:
        key = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise WrongUse(f"{path}: the pseudonym key must be readable; {error.strerror}") from error
    if not 0 < len(key) <= 64:
        raise WrongUse(f"{path}: the pseudonym key must hold 1 to 64 bytes; got {len(key)}")
    return key, settings.pseudonym.key_version, False


def stores(
    settings: Settings, base: Path, memories: dict[str, Memory] | None = None
) -> Callable[[str], Callable[[], Store]]:
    """Stores by step, in memory (kept in `memories` for a resume) or in RocksDB under `[state] dir`."""
    held = {} if memories is None else memories

    def of(step: str) -> Callable[[], Store]:
        number = STEPS.index(step)
        if settings.state.backend == "rocksdb":
            return lambda: RocksStore(base / settings.state.dir, number, sync=settings.state.sync)
        return lambda: MemoryStore(held.setdefault(step, Memory()), step=number)

    return of
