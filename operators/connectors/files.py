"""Files as source and sink of a flow: a replay directory in, one file a topic out."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from operators.connectors.merge import Merge, Progress
from schemas.codec import write_file
from schemas.items import Batch, Event, Item, Tally, Touched
from schemas.rows import from_line, to_line
from schemas.texts import Delivered, delivered_line
from schemas.topics import TOPICS

FATES = ("read", "applied", "duplicate", "late", "dead")
SHARD = "0"
DELIVERED = "delivered"
Keyed = tuple[str, Batch]


class _Rows(StatefulSourcePartition[Keyed, int]):
    def __init__(self, merge: Merge, size: int, progress: Progress, resume: int | None) -> None:
        self._merge, self._size, self._progress = merge, size, progress
        self._next = resume or 0

    def next_batch(self) -> list[Keyed]:
        total = len(self._merge)
        if self._next > total:
            raise StopIteration
        items: list[Item]
        if self._next == total:
            items, self._next = [self._merge.end()], total + 1
        else:
            items = self._merge.items(self._next, self._size)
            self._next = min(self._next + self._size, total)
        self._progress(min(self._next, total), total)
        return [(SHARD, Batch(items))]

    def snapshot(self) -> int:
        return self._next


class RowSource(FixedPartitionedSource[Keyed, int]):
    """Merged rows in micro-batches of `size`; its state is the number of the next row."""

    def __init__(self, merge: Merge, *, size: int = 512, progress: Progress = lambda _done, _total: None) -> None:
        self._merge, self._size, self._progress = merge, size, progress

    def list_parts(self) -> list[str]:
        return ["rows"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Rows:  # noqa: ARG002
        return _Rows(self._merge, self._size, self._progress, resume_state)


def published(items: list[Item], topics: frozenset[str]) -> list[Event]:
    """The derived events of a batch that go out, in order; an event of the input is never one."""
    found = []
    for item in items:
        event = item.event if isinstance(item, Touched) else item
        if isinstance(event, Event) and event.offset < 0 and event.topic in topics:
            found.append(event)
    return found


class _Lines(StatefulSinkPartition[Batch, dict[str, Any]]):
    """Appends lines; its snapshot holds the length of every file, and resuming cuts them to it."""

    def __init__(
        self, folder: Path, topics: frozenset[str], *, deliver: bool, done: Callable[..., None], resume: Any
    ) -> None:
        self._topics, self._deliver, self._done = topics, deliver, done
        self._files: dict[str, BinaryIO] = {}
        kept: dict[str, int] = resume["lengths"] if resume else {}
        self._rows: Counter[str] = Counter(resume["rows"] if resume else {})
        self._fates: Counter[tuple[str, str]] = Counter(
            {tuple(name.split(" ")): count for name, count in resume["fates"].items()} if resume else {}
        )
        for topic in sorted(topics) + ([DELIVERED] if deliver else []):
            file = (folder / f"{topic}.jsonl").open("r+b" if resume else "w+b")
            file.truncate(kept.get(topic, 0))
            file.seek(0, 2)
            self._files[topic] = file

    def write_batch(self, values: list[Batch]) -> None:
        for batch in values:
            for event in published(batch.items, self._topics):
                self._files[event.topic].write(to_line(event.record))
                self._rows[event.topic] += 1
            for item in batch.items:
                if isinstance(item, Tally):
                    self._fates[item.topic, item.fate] += item.count
                elif self._deliver and isinstance(item, Delivered):
                    self._files[DELIVERED].write(delivered_line(item))

    def snapshot(self) -> dict[str, Any]:
        for file in self._files.values():
            file.flush()
        return {
            "lengths": {topic: file.tell() for topic, file in self._files.items()},
            "rows": dict(self._rows),
            "fates": {" ".join(pair): count for pair, count in self._fates.items()},
        }

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._done(self._rows, self._fates)


class LineSink(FixedPartitionedSink[Batch, dict[str, Any]]):
    """One `.jsonl` file a topic, empty ones too, in order of (row number, emission)."""

    def __init__(self, folder: Path, topics: frozenset[str], *, deliver: bool = False) -> None:
        self._folder, self._topics, self._deliver = folder, topics, deliver
        self.rows: Counter[str] = Counter()
        self.fates: Counter[tuple[str, str]] = Counter()

    def list_parts(self) -> list[str]:
        return ["files"]

    def part_fn(self, item_key: str) -> int:  # noqa: ARG002
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> _Lines:  # noqa: ARG002
        return _Lines(self._folder, self._topics, deliver=self._deliver, done=self._finished, resume=resume_state)

    def _finished(self, rows: Counter[str], fates: Counter[tuple[str, str]]) -> None:
        self.rows, self.fates = rows, fates

    def counts(self, topics: list[str]) -> dict[str, dict[str, int]]:
        """Fates of the rows of each input topic: read = applied + duplicate + late + dead."""
        return {topic: {fate: self.fates[topic, fate] for fate in FATES} for topic in topics}

    def as_avro(self) -> None:
        """Turn every written file of lines into an Avro file of the same rows."""
        for topic in sorted(self._topics):
            lines = self._folder / f"{topic}.jsonl"
            record = TOPICS[topic].record
            with lines.open("rb") as file:
                write_file(self._folder / f"{topic}.avro", topic, (from_line(record, line) for line in file))
            lines.unlink()

    def digests(self) -> dict[str, str]:
        """sha256 of every file that stands in the folder, by name."""
        names = sorted(path.name for path in self._folder.iterdir() if path.suffix in {".jsonl", ".avro"})
        found = {}
        for name in names:
            with (self._folder / name).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found
