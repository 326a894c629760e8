"""What a state directory says of itself, in its file FORMAT: a JSON object, always whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from operators.state.store import TOGETHER, StateDamaged
from operators.state.volume import VolumeFault

MARK = "FORMAT"
FORMAT = 1
"""Layout of a state directory; one that says otherwise is not opened."""
JOINED = "joined"
"""Set once a flow has come as far as its outputs from here."""


def mark_of(path: Path) -> dict[str, object] | None:
    """What a directory says of itself; None when it is fresh."""
    mark = path / MARK
    if not mark.exists():
        return None
    try:
        found = json.loads(mark.read_text())
    except ValueError as error:
        raise StateDamaged(f"{mark} must be JSON: {TOGETHER}") from error
    if not isinstance(found, dict):
        raise StateDamaged(f"{mark} must be a JSON object: {TOGETHER}")
    return found


def put_mark(path: Path, said: Mapping[str, object]) -> None:
    """Write it, whole or not at all, loss of power included; what it says already is left as it is.

    Raises:
        VolumeFault: it cannot be written.
    """
    if said == mark_of(path):
        return
    fresh = path / f"{MARK}.new"
    try:
        with fresh.open("w") as file:
            file.write(json.dumps(said) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path / MARK)
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise VolumeFault(path / MARK, error.strerror) from error


def formatted(path: Path) -> None:
    """Mark the state of a flow that lives in files, once: it has neither owner nor starts, and its mark names no flow.

    Raises:
        StateDamaged: it is of another layout, or something else.
    """
    found = mark_of(path)
    if found is None:
        if path.exists() and any(one.name != f"{MARK}.new" for one in path.iterdir()):
            raise StateDamaged(f"{path} is not empty and holds no {MARK} file: it is no state directory")
        path.mkdir(parents=True, exist_ok=True)
        put_mark(path, {"format": FORMAT})
    elif found.get("format") != FORMAT:
        raise StateDamaged(f"the state in {path} has format {found.get('format')}; this program reads format {FORMAT}")


def is_first(path: Path) -> bool:
    """Whether no flow has come as far as its outputs from here."""
    return not (mark_of(path) or {}).get(JOINED)


def note_joined(path: Path) -> None:
    """Note that one does now."""
    put_mark(path, (mark_of(path) or {}) | {JOINED: True})
