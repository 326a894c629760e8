"""A simulated shop as a live source: rows as the wall clock reaches them, and ticks between."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from operators.connectors.clock import monotonic, wall
from operators.connectors.files import SHARD, Keyed
from operators.connectors.merge import STEP
from schemas.items import Batch, Heard, Item, Tick

POLL_S = 0.005
MOST = 2_000
Rows = list[tuple[str, dict[str, Any]]]


class _Shop(StatefulSourcePartition[Keyed, int]):
    def __init__(self, live: "LiveSource") -> None:
        self._live, self._number, self._tick = live, 0, 0
        self._offsets: dict[str, int] = {}
        self._waiting: list[Item] | None = None
        self._began: float | None = None

    def next_batch(self) -> list[Keyed]:
        if self._waiting is None:
            self._waiting = self._items(self._live.due(0.0), self._live.now(0.0))
        elif not self._waiting:
            now = monotonic()
            if self._began is None:  # the shop opens when its past has been taken in
                self._began = now
                self._live.opened(now)
            elapsed = now - self._began
            if self._live.seconds is not None and elapsed >= self._live.seconds:
                raise StopIteration
            self._waiting = self._items(self._live.due(elapsed), self._live.now(elapsed))
        batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        return [(SHARD, Batch(batch, {"heard": wall()}))] if batch else []

    def _items(self, rows: Rows, now: int) -> list[Item]:
        """Rows at the clock they were heard at, each after the tick its time brings, then the tick of now."""
        found: list[Item] = []
        for topic, row in rows:
            clock = row["ingest_time"]
            self._advance(clock, found)
            offset = self._offsets.get(topic, 0)
            self._offsets[topic] = offset + 1
            found.append(Heard(self._number, topic, 0, offset, clock, row.pop("_raw", None) or orjson.dumps(row)))
            self._number += 1
        self._advance(now, found)
        return found

    def _advance(self, clock: int, found: list[Item]) -> None:
        if clock // STEP > self._tick:
            self._tick = clock // STEP
            found.append(Tick(self._number - 1, self._tick * STEP))

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=0 if self._waiting else POLL_S)

    def snapshot(self) -> int:
        return self._number


class LiveSource(FixedPartitionedSource[Keyed, int]):
    """Polls a shop by the wall clock.

    Args:
        due: rows heard up to so many seconds after the start, and not returned yet.
        now: the shop's clock (µs) at so many seconds after the start.
        seconds: when to end; None never.
        opened: is told the monotonic time of the start.
    """

    def __init__(
        self,
        due: Callable[[float], Rows],
        now: Callable[[float], int],
        *,
        seconds: float | None,
        opened: Callable[[float], None],
    ) -> None:
        self.due, self.now, self.seconds, self.opened = due, now, seconds, opened

    def list_parts(self) -> list[str]:
        return ["shop"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Shop:  # noqa: ARG002
        return _Shop(self)


class _Hand(StatelessSinkPartition[tuple[str, Batch]]):
    def __init__(self, take: Callable[[Batch], None]) -> None:
        self._take = take

    def write_batch(self, items: list[tuple[str, Batch]]) -> None:
        for _, batch in items:
            self._take(batch)


class HandSink(DynamicSink[tuple[str, Batch]]):
    """Hands every micro-batch to a function: a picture keeps nothing that a crash could lose."""

    def __init__(self, take: Callable[[Batch], None]) -> None:
        self._take = take

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Hand:  # noqa: ARG002
        return _Hand(self._take)
