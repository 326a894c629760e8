"""Timers in order of time, kept in the store: a start reads the nearest ones, not everybody's."""

from collections.abc import Callable
from heapq import heappop, heappush

from operators.state.store import Tables

CHUNK = 1_024
"""How many are read at once."""
_WIDTH = 20
_VERSION = 1
"""Of the keys: there are no values to say it."""


class Agenda:
    """When each name is due next; at most one time a name.

    Args:
        tables: whose store keeps it.
        number: number of the table; never used again once retired.
    """

    def __init__(self, tables: Tables, number: int) -> None:
        self._store, self._prefix = tables.store, bytes([number])
        tables.declare(number, (_VERSION,))
        self._near: list[tuple[int, str]] = []
        self._upto: int | None = -1
        """All entries before this time are in `_near`; None: all there are."""

    def move(self, name: str, old: int | None, new: int | None) -> None:
        """A name is due at `new` where it was at `old`."""
        if old == new:
            return
        if old is not None:
            self._store.put(self._key(old, name), None)
        if new is not None:
            self._store.put(self._key(new, name), b"\x01")
            if self._upto is None or new < self._upto:
                heappush(self._near, (new, name))

    def first(self, waits: Callable[[int, str], bool]) -> tuple[int, str] | None:
        """The nearest time and its name, by order of both; `waits` says whether an entry still holds."""
        while True:
            while self._near and not waits(*self._near[0]):
                heappop(self._near)
            if self._near or self._upto is None:
                return self._near[0] if self._near else None
            self._read(waits)

    def pop(self) -> str:
        """Take the entry that `first` answered off the agenda."""
        due, name = heappop(self._near)
        self._store.put(self._key(due, name), None)
        return name

    def _read(self, waits: Callable[[int, str], bool]) -> None:
        """Read the next chunk, and all that are due at the time of its last."""
        stale = []
        found: list[tuple[int, str]] = []
        self._upto = None
        for key, _ in self._store.scan(self._prefix):
            due, name = int(key[1 : 1 + _WIDTH]), key[1 + _WIDTH :].decode()
            if not waits(due, name):
                stale.append(key)
            elif len(found) >= CHUNK and due != found[-1][0]:
                self._upto = due
                break
            else:
                found.append((due, name))
        for key in stale:
            self._store.put(key, None)
        self._near = found  # in order of the store, so a heap already

    def _key(self, due: int, name: str) -> bytes:
        return self._prefix + b"%0*d" % (_WIDTH, due) + name.encode()
