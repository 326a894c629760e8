"""Where the scenarios and recordings beside the project lie, and how a replay is run in a test."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from flows.replay import Options, replay

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared(*parts: str) -> Path:
    """A path beside the project; skips the test with a reason where it is not there."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not beside the project")
    return path


def rows(folder: Path, topic: str) -> list[dict[str, Any]]:
    """Rows of a topic of a replay."""
    return [orjson.loads(line) for line in (folder / f"{topic}.jsonl").read_bytes().splitlines()]


def run(source: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Replay a directory."""
    return replay(Options(source=source, out=out, **options))
