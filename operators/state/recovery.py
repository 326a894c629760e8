"""The engine's recovery store: looked at, and cleaned of what never committed, before every start.

Snapshot rows and the frontier that commits them are written in two transactions. A row of an epoch that
never committed survives a resume, and if its key is not touched again in that epoch, the start after next
loads it. So such rows are deleted at every start. The layout is that of Bytewax 0.21.1; a test pins it.
"""

import io
import pickle
import pickletools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bytewax.recovery import init_db_dir

from operators.state.store import StateFault

LAYOUT = {
    "parts": ("created_at", "part_index", "part_count"),
    "exs": ("created_at", "ex_num", "worker_count", "resume_epoch"),
    "fronts": ("created_at", "ex_num", "worker_index", "worker_frontier"),
    "commits": ("created_at", "part_index", "commit_epoch"),
    "snaps": ("created_at", "step_id", "state_key", "snap_epoch", "ser_change"),
}
"""Tables and columns of a part."""
_FIRST_EPOCH = 1
_PLAIN = frozenset(
    [
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "MEMOIZE",
        "PUT",
        "BINPUT",
        "LONG_BINPUT",
        "GET",
        "BINGET",
        "LONG_BINGET",
        "POP",
        "POP_MARK",
        "DUP",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "EMPTY_LIST",
        "LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_DICT",
        "DICT",
        "SETITEM",
        "SETITEMS",
    ]
)
"""Opcodes that build plain values; whatever else a pickle can do is refused."""


class RecoveryFault(StateFault):
    """The recovery store is not whole, not ours, or not to be trusted; the message says what to do."""


@dataclass(frozen=True)
class Row:
    """A snapshot that a resume loads."""

    step_id: str
    key: str
    epoch: int
    value: Any


@dataclass(frozen=True)
class Found:
    """What a recovery store holds: where a resume goes on, what it loads, how many rows are stale."""

    parts: int
    executions: int
    resume: int
    rows: tuple[Row, ...]
    stale: int


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise RecoveryFault(f"a snapshot asks for {module}.{name}")


def plain(pickled: bytes, where: str) -> Any:
    """The value of a snapshot, once its opcodes are known to build nothing but plain values.

    Raises:
        RecoveryFault: it would do more than that, or cannot be read.
    """
    try:
        strange = sorted({opcode.name for opcode, _, _ in pickletools.genops(pickled)} - _PLAIN)
        value = None if strange else _Plain(io.BytesIO(pickled)).load()
    except Exception as error:
        raise RecoveryFault(f"{where}: a snapshot cannot be read; restore state and recovery store together") from error
    if strange:
        raise RecoveryFault(
            f"{where}: a snapshot holds {', '.join(strange)}, which Footfall never writes: somebody changed the"
            " recovery store. Restore state and recovery store together from one backup you trust"
        )
    return value


def create(path: Path, parts: int = 1) -> None:
    """Make an empty recovery store, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    if fresh.exists():
        for left in fresh.iterdir():
            left.unlink()
    fresh.mkdir(parents=True, exist_ok=True, mode=0o700)
    init_db_dir(fresh, parts)
    fresh.rename(path)


def examine(path: Path) -> Found:
    """Look at a recovery store and change nothing.

    Raises:
        RecoveryFault: parts are missing, damaged, of another layout, or older than the others.
    """
    with _opened(path, "ro") as parts:
        return _found(path, parts)


def clean(path: Path) -> tuple[Found, int]:
    """Delete the snapshots of epochs that never committed; what was found, and how many rows went."""
    with _opened(path, "rw") as parts:
        found = _found(path, parts)
        removed = 0
        for part in parts:
            with part:
                removed += part.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (found.resume,)).rowcount
        return found, removed


class _opened:  # noqa: N801 -- reads as a function
    """All parts of a recovery store, open."""

    def __init__(self, path: Path, mode: str) -> None:
        self._path, self._mode = path, mode
        self._parts: list[sqlite3.Connection] = []

    def __enter__(self) -> list[sqlite3.Connection]:
        files = sorted(self._path.glob("part-*.sqlite3"))
        if not files:
            raise RecoveryFault(
                f"{self._path} holds no part of a recovery store: restore state and recovery store together"
            )
        try:
            for file in files:
                uri = f"{file.resolve().as_uri()}?mode={self._mode}"
                self._parts.append(sqlite3.connect(uri, uri=True, timeout=5))
                _whole(file, self._parts[-1])
        except BaseException:
            self.__exit__()
            raise
        return self._parts

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            part.close()


def _whole(file: Path, part: sqlite3.Connection) -> None:
    remedy = "Restore state and recovery store together from one backup"
    try:
        verdict = part.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise RecoveryFault(f"{file} is damaged ({verdict}). {remedy}")
        for table, columns in LAYOUT.items():
            found = tuple(row[1] for row in part.execute(f"PRAGMA table_info({table})"))
            if found != columns:
                raise RecoveryFault(f"{file}: table {table} must have the columns of Bytewax 0.21.1; got {found}")
    except sqlite3.DatabaseError as error:
        raise RecoveryFault(f"{file} is damaged or locked ({error}). {remedy}") from error


def _found(path: Path, parts: list[sqlite3.Connection]) -> Found:
    marks = sorted(row for part in parts for row in part.execute("SELECT part_index, part_count FROM parts"))
    if marks != [(index, len(parts)) for index in range(len(parts))]:
        raise RecoveryFault(
            f"{path} must hold every part once; it says (part, of) {marks}. Bring all parts of one backup back"
        )
    executions = {
        number: (workers, epoch)
        for part in parts
        for number, workers, epoch in part.execute("SELECT ex_num, worker_count, resume_epoch FROM exs")
    }
    resume = _FIRST_EPOCH
    if executions:
        last = max(executions)
        workers, epoch = executions[last]
        front = dict.fromkeys(range(workers), epoch)
        for part in parts:
            asked = part.execute("SELECT worker_index, worker_frontier FROM fronts WHERE ex_num = ?", (last,))
            for worker, at in asked:
                front[worker] = max(front.get(worker, at), at)
        resume = min(front.values())
    for part in parts:
        for index, epoch in part.execute("SELECT part_index, commit_epoch FROM commits"):
            if epoch > resume:
                raise RecoveryFault(
                    f"{path}: part {index} has committed epoch {epoch}, a resume would go on at {resume}: a part is"
                    " older than the others. Bring all parts of one backup back"
                )
    newest: dict[tuple[str, str], Row] = {}
    stale = 0
    for step_id, key, epoch, value in _snaps(parts):
        if epoch >= resume:
            stale += 1
            continue
        where = f"{path}, step {step_id}, key {key}, epoch {epoch}"
        row = Row(step_id, key, epoch, None if value is None else plain(value, where))
        held = newest.get((step_id, key))
        if held is None or held.epoch < epoch:
            newest[step_id, key] = row
    rows = tuple(row for _, row in sorted(newest.items(), key=lambda pair: pair[0]))
    return Found(len(parts), len(executions), resume, rows, stale)


def _snaps(parts: list[sqlite3.Connection]) -> Iterator[tuple[str, str, int, bytes | None]]:
    for part in parts:
        with closing(part.execute("SELECT step_id, state_key, snap_epoch, ser_change FROM snaps")) as rows:
            yield from rows
