"""The engine's recovery store: looked at, and cleaned of what never committed, before every start.

Snapshot rows and the frontier that commits them are written in two transactions. A row of an epoch that
never committed survives a resume, and if its key is not touched again in that epoch, the start after next
loads it. So such rows are deleted at every start. The layout is that of Bytewax 0.21.1; a test pins it.
"""

import io
import pickle
import pickletools
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bytewax.recovery import init_db_dir

from operators.state.lock import StateHeld
from operators.state.store import TOGETHER, StateFault
from operators.state.volume import VolumeFault

LAYOUT = {
    "parts": ("created_at", "part_index", "part_count"),
    "exs": ("created_at", "ex_num", "worker_count", "resume_epoch"),
    "fronts": ("created_at", "ex_num", "worker_index", "worker_frontier"),
    "commits": ("created_at", "part_index", "commit_epoch"),
    "snaps": ("created_at", "step_id", "state_key", "snap_epoch", "ser_change"),
}
"""Tables and columns of a part."""
_FIRST_EPOCH = 1
_LOCKED_S = 5.0
_OF_VOLUME = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
}
"""What SQLite says of the volume; of what is in a file it says that it is damaged."""
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
        raise RecoveryFault(f"{where}: a snapshot cannot be read: {TOGETHER}") from error
    if strange:
        raise RecoveryFault(
            f"{where}: a snapshot holds {', '.join(strange)}, which Footfall never writes: somebody changed the"
            f" recovery store. Trust nothing of it, and {TOGETHER}"
        )
    return value


def create(path: Path) -> None:
    """Make an empty recovery store, whole or not at all.

    Raises:
        VolumeFault: the volume does not take it.
    """
    fresh = path.with_name(path.name + ".new")
    if fresh.exists():
        for left in fresh.iterdir():
            left.unlink()
    fresh.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        init_db_dir(fresh, 1)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the engine's own, which is no Exception
            raise
        raise VolumeFault(path, of_engine(error) or error) from error
    fresh.rename(path)


def examine(path: Path) -> Found:
    """Look at a recovery store and change nothing.

    Raises:
        RecoveryFault: parts are missing, damaged, of another layout, or older than the others.
        StateHeld: somebody else has locked it.
        VolumeFault: the volume is full, or fails.
    """
    with _opened(path, "ro") as parts:
        return _found(path, parts)


def clean(path: Path) -> tuple[Found, int]:
    """Delete the snapshots of epochs that never committed; what was found, and how many rows went. Raises as `examine`."""
    with _opened(path, "rw") as parts:
        found = _found(path, parts)
        removed = 0
        for part in parts:
            with part:
                removed += part.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (found.resume,)).rowcount
        return found, removed


def of_engine(error: BaseException) -> str | None:
    """What SQLite has told the engine of its store, out of the words of the engine; None when it was not that."""
    found = re.search(r'SqliteFailure\(Error {[^}]*}, Some\("([^"]*)"\)\)', str(error))
    return found and found[1]


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[list[sqlite3.Connection]]:
    """All parts of a recovery store, open; what SQLite says of them meanwhile is told in our words."""
    files = sorted(path.glob("part-*.sqlite3"))
    if not files:
        raise RecoveryFault(f"{path} holds no part of a recovery store: {TOGETHER}")
    with ExitStack() as held:
        try:
            parts = []
            for file in files:
                uri = f"{file.resolve().as_uri()}?mode={mode}"
                parts.append(held.enter_context(closing(sqlite3.connect(uri, uri=True, timeout=_LOCKED_S))))
                _whole(file, parts[-1])
            yield parts
        except sqlite3.DatabaseError as error:
            raise _fault(path, error) from error


def _fault(path: Path, error: sqlite3.DatabaseError) -> StateFault:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says where in SQLite
    said = f"{error}, {getattr(error, 'sqlite_errorname', 'of no code')}"
    if code in _OF_VOLUME:
        return VolumeFault(path, said)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StateHeld(f"{path} is held by another process: stop that one first ({said})")
    return RecoveryFault(f"{path} is damaged ({said}): {TOGETHER}")


def _whole(file: Path, part: sqlite3.Connection) -> None:
    verdict = part.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise RecoveryFault(f"{file} is damaged ({verdict}): {TOGETHER}")
    for table, columns in LAYOUT.items():
        found = tuple(row[1] for row in part.execute(f"PRAGMA table_info({table})"))
        if found != columns:
            raise RecoveryFault(f"{file}: table {table} must have the columns of Bytewax 0.21.1; got {found}")


def _found(path: Path, parts: list[sqlite3.Connection]) -> Found:
    marks = sorted(row for part in parts for row in part.execute("SELECT part_index, part_count FROM parts"))
    if marks != [(index, len(parts)) for index in range(len(parts))]:
        raise RecoveryFault(f"{path} must hold every part once; it says (part, of) {marks}: {TOGETHER}")
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
                    f" older than the others: {TOGETHER}"
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
    return Found(resume, rows, stale)


def _snaps(parts: list[sqlite3.Connection]) -> Iterator[tuple[str, str, int, bytes | None]]:
    for part in parts:
        with closing(part.execute("SELECT step_id, state_key, snap_epoch, ser_change FROM snaps")) as rows:
            yield from rows
