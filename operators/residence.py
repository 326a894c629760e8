"""Residence: the persons at home on one shard, and how somebody comes to it or leaves it.

Events come to all shards in one order. Where a change of persons concerns several shards, one of them works on it:
the others send what they keep of those who come to it, and wait for those who go on to them. Until what it waits for
has come a shard lets its events queue, so no event is worked on with half a person. The first of all moves under way
never waits for another, so no shards wait for each other.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from operators.state.store import Rows, Table, Tables
from schemas.items import Batch, Item, Moving, Parcel, Touched
from schemas.parcels import packed, unpacked
from schemas.shards import ALONE, SHARDS

QUEUE, INBOX, OUTBOX, MOVES = 90, 91, 92, 93
"""Numbers of the tables; the cores that work on one person share one store."""


class Persons(Protocol):
    """What works on persons who are all here."""

    def step(self, items: list[Item]) -> list[Item]:
        """Work on items in order."""
        ...

    def give(self, members: Sequence[str]) -> Rows:
        """Hand over all that is kept of identifiers."""
        ...

    def take(self, rows: Rows) -> None:
        """Take over what another shard has handed over."""
        ...


class Returns(Protocol):
    """The way from one shard to another, in the same flow; see `operators/connectors/returns.py`."""

    def send(self, parcel: Parcel) -> None:
        """Put a parcel on its way."""
        ...

    def arrived(self, origin: int) -> Iterable[tuple[int, int]]:
        """Parcels of a shard that have come to stay since the last call: move, and where they went."""
        ...


class Residence:
    """The core of one shard.

    State: beside that of its persons the events that wait, and parcels that came too early or may have to be sent
    again. Time: that of its persons. Guarantee: a parcel that comes twice is taken once; one that a crash lost is
    sent again; every person's events are worked on in the order in which they were dealt.

    Args:
        persons: works on those who are here.
        returns: carries parcels.
        tables: all that is remembered; they know which shard this is.
    """

    def __init__(self, persons: Persons, returns: Returns, tables: Tables) -> None:
        self._persons, self._returns, self._shard = persons, returns, SHARDS.index(tables.shard)
        self._queue: Table[bytes] = tables.table(QUEUE, bytes)
        self._inbox: Table[Parcel] = tables.table(INBOX, Parcel)
        self._outbox: Table[Parcel] = tables.table(OUTBOX, Parcel)
        self._moves: Table[int] = tables.table(MOVES, int)
        self._waiting: deque[str] = deque(key for key, _ in self._queue.items())
        for _, parcel in self._outbox.items():  # noqa: PERF102 -- a table, no dict
            returns.send(parcel)

    def step(self, items: list[Item]) -> list[Item]:
        """Work on what can be worked on, and keep the rest."""
        for seq, to in self._returns.arrived(self._shard):
            self._outbox.put(_place(seq, to), None)
        own: list[Item] = []
        for item in items:
            if isinstance(item, Parcel):
                self._received(item)
            else:
                own.append(item)
        out: list[Item] = []
        if self._waiting:
            self._line_up(own)
            while self._waiting:
                key = self._waiting.popleft()
                done, left = self._work(unpacked((ALONE, self._queued(key))).items)
                out += done
                self._queue.put(key, packed(Batch(left))[1] if left else None)
                if left:
                    self._waiting.appendleft(key)
                    break
        elif own:
            out, left = self._work(own)
            self._line_up(left)
        return out

    def _line_up(self, items: list[Item]) -> None:
        if items:
            key = f"{int(self._waiting[-1]) + 1 if self._waiting else 0:020d}"
            self._queue.put(key, packed(Batch(items))[1])
            self._waiting.append(key)

    def _queued(self, key: str) -> bytes:
        found = self._queue.get(key)
        assert found is not None, "what waits is in the queue"
        return found

    def _received(self, parcel: Parcel) -> None:
        if parcel.seq > self._done("taken"):
            self._inbox.put(_place(parcel.seq, parcel.origin), parcel)

    def _work(self, items: list[Item]) -> tuple[list[Item], list[Item]]:
        """Work on items up to a move that has to wait: what came out, and what is left, that move first."""
        out: list[Item] = []
        run: list[Item] = []
        place = 0
        while place < len(items):
            item = items[place]
            place += 1
            if not isinstance(item, Moving):
                run.append(item)
                continue
            out += self._run(run)
            run = []
            self._give(item)
            if not self._took(item):
                return out, items[place - 1 :]
            if item.at == self._shard:
                run.append(item.linked)
                while place < len(items) and _number(items[place]) == item.number:  # what caused it, and came of it
                    if isinstance(items[place], Moving):  # a tie that ran out and the event that was heard then
                        break
                    run.append(items[place])
                    place += 1
                if item.takes:
                    out += self._run(run)
                    run = []
                    for to, members in item.takes.items():
                        self._send(item.seq, to, members)
        return out + self._run(run), []

    def _run(self, items: list[Item]) -> list[Item]:
        return self._persons.step(items) if items else []

    def _give(self, moving: Moving) -> None:
        """Send who leaves for the shard that works on the change; once, however long this shard then waits."""
        if self._shard in moving.gives and moving.seq > self._done("given"):
            self._send(moving.seq, moving.at, moving.gives[self._shard])
            self._moves.put("given", moving.seq)

    def _took(self, moving: Moving) -> bool:
        """Take in who comes; False while somebody is still on the way."""
        origins = moving.gives if moving.at == self._shard else [moving.at] if self._shard in moving.takes else []
        parcels = {key: self._inbox.get(key) for key in (_place(moving.seq, origin) for origin in origins)}
        if any(parcel is None for parcel in parcels.values()):
            return False
        for key, parcel in parcels.items():
            assert parcel is not None
            self._persons.take(parcel.rows)
            self._inbox.put(key, None)
        self._moves.put("taken", moving.seq)
        return True

    def _send(self, seq: int, to: int, members: Sequence[str]) -> None:
        parcel = Parcel(seq, self._shard, to, self._persons.give(members))
        self._outbox.put(_place(seq, to), parcel)
        self._returns.send(parcel)

    def _done(self, what: str) -> int:
        return self._moves.get(what) or 0


def _place(seq: int, shard: int) -> str:
    return f"{seq:020d} {shard:02d}"


def _number(item: Item) -> int | None:
    return item.event.number if isinstance(item, Touched) else getattr(item, "number", None)
