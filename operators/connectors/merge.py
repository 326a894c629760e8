"""The rows of a directory in the order in which they were heard.

All topics are merged by ingest time (or by event time, an ideal run), ties by the topic's rank, its name and
the row's number. Files stay on disk: kept in memory are 40 bytes a row.
"""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.codec import framed, read_file
from schemas.items import Heard, Item, Tick
from schemas.rows import BadShape, Oversize, instant, loads
from schemas.topics import TOPICS

STEP = 100_000
"""The clock of a replay steps on multiples of 100 ms."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rows:
    """The rows of one file: their times, and how to fetch one by its number."""

    topic: str
    clocks: "np.ndarray[Any, np.dtype[np.int64]]"
    fetch: Callable[[int], bytes]
    form: str


def _clock(row: dict[str, Any] | None, order: str) -> int | None:
    """When a row was heard, or None where it says no readable time."""
    if row is None:
        return None
    names = ("event_time",) if order == "event" else ("ingest_time", "event_time")
    for name in names:
        if row.get(name):
            try:
                return instant(row[name])
            except BadShape:
                return None
    return None


def _filled(clocks: list[int | None]) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """A row without a readable time stands at that of the row before it; the first ones at the first known."""
    known = next((clock for clock in clocks if clock is not None), 0)
    filled = []
    for clock in clocks:
        known = known if clock is None else clock
        filled.append(known)
    return np.array(filled, np.int64)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        return loads(line)
    except (BadShape, Oversize):
        return None


def json_rows(path: Path, order: str) -> Rows:
    """Rows of a `.jsonl` file; empty lines are no rows."""
    topic = path.name.removesuffix(".jsonl")
    if path.stat().st_size == 0:
        return Rows(topic, np.array([], np.int64), lambda _: b"", "json")
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    starts, ends, clocks = [], [], []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end]
        if line.strip():
            starts.append(at)
            ends.append(end)
            clocks.append(_clock(_parsed(line), order))
        at = end + 1
    first, last = np.array(starts, np.int64), np.array(ends, np.int64)
    return Rows(topic, _filled(clocks), lambda row: data[first[row] : last[row]], "json")


def avro_rows(path: Path, order: str, schema_id: int, schemas: dict[int, tuple[str, dict[str, Any]]]) -> Rows:
    """Rows of an `.avro` file, framed with `schema_id`, under which its writer's schema is put in `schemas`."""
    topic = path.name.removesuffix(".avro")
    schema, rows = read_file(path)
    schemas[schema_id] = (topic, schema)
    values, clocks = [], []
    for body, datum in rows:
        values.append(framed(schema_id, body))
        clocks.append(_clock(datum, order))
    return Rows(topic, _filled(clocks), values.__getitem__, "wire")


class Merge:
    """The merged rows of several files; `items(start)` yields them from a row number on, ticks between them."""

    def __init__(self, files: list[Rows]) -> None:
        self._files = sorted(files, key=lambda rows: (TOPICS[rows.topic].rank, rows.topic))
        lengths = [len(rows.clocks) for rows in self._files]
        clocks = np.concatenate([rows.clocks for rows in self._files] or [np.array([], np.int64)])
        files_of = np.repeat(np.arange(len(self._files), dtype=np.int32), lengths)
        rows_of = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths] or [np.array([], np.int64)])
        order = np.lexsort((rows_of, files_of, clocks))
        self._clocks, self._file_of, self._row_of = clocks[order], files_of[order], rows_of[order]

    def __len__(self) -> int:
        return len(self._clocks)

    def items(self, start: int, count: int) -> list[Item]:
        """Up to `count` rows from row `start` on, each after the tick that its time brings; then the end.

        The end tick stands alone, after the last row, at that row's time.
        """
        stop = min(start + count, len(self))
        found: list[Item] = []
        before = int(self._clocks[start - 1]) // STEP if start else None
        for number in range(start, stop):
            clock = int(self._clocks[number])
            if before is None or clock // STEP > before:
                found.append(Tick(number - 1, clock // STEP * STEP))
                before = clock // STEP
            rows, row = self._files[self._file_of[number]], int(self._row_of[number])
            found.append(Heard(number, rows.topic, 0, row, clock, rows.fetch(row), rows.form))
        return found

    def end(self) -> Tick:
        """The end of the replay, at the time of the last row."""
        return Tick(len(self), int(self._clocks[-1]) if len(self) else 0, end=True)


def batches(merge: Merge, size: int, start: int = 0) -> Iterator[tuple[int, list[Item]]]:
    """Micro-batches of `size` rows with the number of the row after each; the last one is the end."""
    while start < len(merge):
        items = merge.items(start, size)
        start = min(start + size, len(merge))
        yield start, items
    yield len(merge) + 1, [merge.end()]
