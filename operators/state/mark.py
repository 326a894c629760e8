"""What a state directory says of itself, in its file FORMAT: a JSON object, always whole."""

import json
from collections.abc import Mapping
from pathlib import Path

from operators.state.store import StateDamaged

MARK = "FORMAT"
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
        raise StateDamaged(f"{mark} must be JSON; restore the state directory whole") from error
    if not isinstance(found, dict):
        raise StateDamaged(f"{mark} must be a JSON object; restore the state directory whole")
    return found


def put_mark(path: Path, said: Mapping[str, object]) -> None:
    """Write it, whole or not at all."""
    fresh = path / f"{MARK}.new"
    fresh.write_text(json.dumps(said) + "\n")
    fresh.replace(path / MARK)


def is_first(path: Path) -> bool:
    """Whether no flow has come as far as its outputs from here."""
    return not (mark_of(path) or {}).get(JOINED)


def note_joined(path: Path) -> None:
    """Note that one does now."""
    put_mark(path, (mark_of(path) or {}) | {JOINED: True})
