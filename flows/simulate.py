"""`footfall simulate`: a seeded shop as rows, and as a replay directory.

No clock is read: the same seed gives the same bytes, on every supported Python.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy2, copytree
from typing import Any

import orjson

from flows.afternoon import EXAMPLE, Simulation
from flows.cast import Row
from flows.sensors import SECOND
from schemas.topics import TOPICS


def simulate(seed: int, minutes: float | None, *, example: Path = EXAMPLE, faults: bool = True) -> Iterator[Row]:
    """Rows of a simulated Saturday from 17:00 on, history first, by ingest time; None goes on for ever."""
    return Simulation(seed, example=example, faults=faults).rows(minutes)


def write_directory(
    out: Path,
    seed: int,
    minutes: float,
    *,
    example: Path = EXAMPLE,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write a replay directory: the simulated topics, and the example's venue, settings and rules.

    Args:
        out: made if it is not there; files of topics in it are written anew.
        seed: draws everything.
        minutes: how much of the afternoon.
        example: where venue, settings, campaigns, segments and templates are copied from.
        progress: told now and then how many simulated seconds of how many are written.

    Returns:
        Rows written by topic.
    """
    simulation = Simulation(seed, example=example)
    return write_rows(out, simulation.rows(minutes), example, simulation.start, minutes, progress)


def write_rows(
    out: Path,
    rows: Iterator[Row],
    example: Path,
    start: int,
    minutes: float,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write rows as a replay directory beside a copy of the example; see write_directory."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.jsonl"):
        if old.stem in TOPICS:
            old.unlink()
    copy_example(example, out)
    written: dict[str, int] = {}
    whole = int(minutes * 60)
    files: dict[str, Any] = {}
    try:
        for number, (topic, row) in enumerate(rows):
            if topic not in files:
                files[topic] = (out / f"{topic}.jsonl").open("wb")
            files[topic].write(orjson.dumps(row) + b"\n")
            written[topic] = written.get(topic, 0) + 1
            if progress is not None and number % 2000 == 0:
                progress(min(whole, max(0, (row["ingest_time"] - start) // SECOND)), whole)
    finally:
        for file in files.values():
            file.close()
    if progress is not None:
        progress(whole, whole)
    return dict(sorted(written.items()))


def copy_example(example: Path, out: Path) -> None:
    """Copy venue, settings, campaigns, segments and templates."""
    for name in ("venue.geojson", "footfall.toml"):
        if (example / name).exists():
            copy2(example / name, out / name)
    for name in ("campaigns", "segments", "templates"):
        if (example / name).exists():
            copytree(example / name, out / name, dirs_exist_ok=True)
