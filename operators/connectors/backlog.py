"""A backlog is not silence: rows that waited on the broker are handed out in the order in which they came.

While a partition is behind, what others have after its next row waits: else the watermark would run ahead of
the partition that happens to be read last, and all of it would be late. Nothing here knows Kafka.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Any

FRESH_MS = 500
"""A row heard this long after it was appended was not waiting."""
SLICE_MS = 50
"""Keyed lanes hand out in turn; what they hand out in one round came within so long."""
GIVE_UP_S = 10.0
"""A partition that is said to have more and delivers nothing for so long is no longer waited for."""


@dataclass(eq=False)
class Part:
    """One partition being read.

    `next` is the offset after the last row that was handed on, `read` after the last that was fetched; `end`
    is where the broker last said it ended. `queue` holds (append time in ms, message). `target` is where it
    ended when the flow started, or when the broker was back. Times are of the broker's append, ms.
    """

    topic: str
    name: str
    partition: int
    lane: int
    rank: int
    id: str
    next: int
    target: int
    reference: bool = False
    read: int = 0
    end: int = -1
    at_end: bool = False
    last_ms: int = 0
    queue: "deque[tuple[int, Any]]" = field(default_factory=deque)
    held: int = 0
    paused: bool = False
    waited_since: float | None = None
    given_up: bool = False

    def __post_init__(self) -> None:
        self.read = self.next

    def heard(self, at_ms: int, offset: int, message: Any, size: int) -> None:
        """A row was fetched."""
        self.queue.append((at_ms, message))
        self.read, self.last_ms = offset + 1, at_ms
        self.held += size
        self.at_end = self.given_up = False
        self.waited_since = None

    def ended(self, offset: int) -> None:
        """The broker has no more; what stands between the last row and `offset` is no row."""
        self.end = self.read = offset
        self.at_end, self.given_up, self.waited_since = True, False, None
        self.settle()

    def told_end(self, end: int) -> None:
        """The broker is back, and ends there: what came meanwhile is still to be heard."""
        self.target, self.at_end = end, self.read >= end

    def settle(self) -> None:
        """All that was fetched has been handed on: markers at the end are behind us too."""
        if not self.queue and self.end > self.next:
            self.next = self.end

    def unread(self, high: int) -> bool:
        """Whether the broker may have more than was fetched; `high` is the newest end known, negative if none."""
        return not self.at_end and (self.read < self.target or not 0 <= high <= self.read)

    def reached(self) -> bool:
        """Whether all that was there at the start has been handed on."""
        return not self.queue and (self.at_end or self.read >= self.target)


def behind(part: Part, high: int, now_ms: int) -> bool:
    """Whether rows that have waited are still to come of a partition."""
    if part.queue:
        return part.queue[0][0] < now_ms - FRESH_MS
    return part.last_ms < now_ms - FRESH_MS and not part.given_up and part.unread(high)


def release(
    parts: list[Part], blockers: list[Part], most: int, owes: Callable[[Part], bool], *, apart: bool
) -> list[tuple[Part, Any]]:
    """Take the rows that may go now, oldest first.

    Args:
        parts: those that hold rows.
        blockers: those that are behind and hold none: nothing newer than their last row may go.
        most: how many rows at most.
        owes: whether a partition whose last row was taken is behind: nothing newer may go then either.
        apart: whether each lane hands on its own rows: then those of one lane, or such as came within a moment.
    """
    limit = min((part.last_ms for part in blockers), default=None)
    heap = [(part.queue[0][0], part.rank, part.name, part.partition, part) for part in parts if part.queue]
    heapify(heap)
    out: list[tuple[Part, Any]] = []
    first, alone = 0, None
    while heap and len(out) < most:
        at, rank, name, number, part = heap[0]
        if limit is not None and at > limit:
            break
        if not out:
            first, alone = at, part.lane
        elif apart:
            alone = alone if part.lane == alone else None
            if alone is None and at - first > SLICE_MS:
                break
        out.append((part, part.queue.popleft()[1]))
        if part.queue:
            heapreplace(heap, (part.queue[0][0], rank, name, number, part))
        else:
            heappop(heap)
            if owes(part):
                limit = at if limit is None else min(limit, at)
    return out
