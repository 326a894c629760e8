"""The `Store` protocol, and typed tables above it.

A core keeps everything it must remember in tables; a table keeps live structs while an epoch is open and
writes each changed one as versioned bytes when the epoch closes. Nothing is pickled.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import msgspec

Token = tuple[str, bytes, int]
"""(shard, execution, n): n counts the commits of one chain; execution is drawn once a process start."""
Rows = list[tuple[int, str, bytes]]
"""What one shard hands over to another: table, key, value as it is stored."""


class Store(Protocol):
    """Bytes by key for one step of one shard, moved on in epochs.

    `claim` names the token to open at and does no I/O; `open` is called once, with the first batch, walks
    back to that token and raises StateBehind, StateAhead or StateForked when it cannot. `put(key, None)`
    deletes. `scan` yields keys in byte order and sees what was put since the last commit. `commit` makes
    all puts since the last one durable under a new token, or returns the old one when there was none.
    """

    def claim(self, token: Token | None) -> None:
        """Name the token to open at; None is a fresh start. No I/O."""
        ...

    def open(self, shard: str) -> None:
        """Open at the claimed token, walking back to it where needed."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        ...

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Values in the order of the keys."""
        ...

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set a value in the open epoch; None deletes."""
        ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs under a prefix, in byte order of their keys."""
        ...

    def commit(self) -> Token:
        """Close the epoch."""
        ...

    def close(self) -> None:
        """Let go of the medium."""
        ...


TOGETHER = (
    "restore state and recovery store together: all of [state] dir, from one copy that was made while no process ran"
)
"""The one way back to a state that was lost."""


class StateFault(Exception):
    """State and token do not belong together; the message names the shard and the remedy."""


class StateBehind(StateFault):
    """The store is older than the token: state was lost."""


class StateAhead(StateFault):
    """The store is newer than the token, and the undo does not reach back."""


class StateForked(StateFault):
    """The store and the token share a number and not their history."""


class StateDamaged(StateFault):
    """The bytes on disk cannot be read, written or opened."""


class UnknownVersion(StateFault):
    """A stored value was written by a program that this one does not know."""


T = TypeVar("T")


class Table(Generic[T]):
    """One kind of value under text keys, as live objects.

    A value taken from a table may be changed in place; `put` says that it was. An untouched value leaves
    the cache at a commit once the table holds more than `kept` of them.

    Args:
        number: the table's number in its step; never used again once retired.
        kind: what is kept: a msgspec struct with `array_like=True`, or a plain type msgspec can encode.
        version: version of `kind` that is written, 1..255; the one before is still read through `upgrade`.
    """

    def __init__(
        self,
        store: Store,
        number: int,
        kind: Any,
        *,
        version: int = 1,
        upgrade: Callable[[bytes], T] | None = None,
        kept: int = 100_000,
    ) -> None:
        self.number = number
        self._store, self._prefix, self._kept = store, bytes([number]), kept
        self._version, self._upgrade = version, upgrade
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._live: dict[str, T | None] = {}
        self._dirty: dict[str, None] = {}

    @property
    def reads(self) -> tuple[int, ...]:
        """Versions of a stored value that are read; the last one is written."""
        return (self._version,) if self._upgrade is None else (self._version - 1, self._version)

    def get(self, key: str) -> T | None:
        """The live value, or None."""
        if key in self._live:
            return self._live[key]
        stored = self._store.get(self._prefix + key.encode())
        value = None if stored is None else self.read(stored)
        self._live[key] = value
        return value

    def put(self, key: str, value: T | None) -> None:
        """Keep `value`; None deletes."""
        self._live[key] = value
        self._dirty[key] = None

    def items(self) -> Iterator[tuple[str, T]]:
        """All values, in byte order of their keys, as they stand now."""
        found: dict[str, T] = {}
        for key, stored in self._store.scan(self._prefix):
            name = key[1:].decode()
            if name not in self._live:
                found[name] = self.read(stored)
        found.update({name: value for name, value in self._live.items() if value is not None})
        yield from sorted(found.items(), key=lambda pair: pair[0].encode())

    def stored(self, key: str) -> bytes | None:
        """A value as it is stored, or None."""
        value = self.get(key)
        return None if value is None else bytes([self._version]) + self._encode(value)

    def give(self, keys: Iterable[str]) -> Rows:
        """Hand values over to another shard: (table, key, stored value); they are here no more."""
        found: Rows = []
        for key in keys:
            stored = self.stored(key)
            if stored is not None:
                found.append((self.number, key, stored))
                self.put(key, None)
        return found

    def take(self, key: str, stored: bytes) -> T:
        """Take over a value that another shard has handed over."""
        value = self.read(stored)
        self.put(key, value)
        return value

    def flush(self) -> None:
        """Write what changed to the store; called right before it commits."""
        head = bytes([self._version])
        for key in self._dirty:
            value = self._live[key]
            self._store.put(self._prefix + key.encode(), None if value is None else head + self._encode(value))
        self._dirty.clear()
        if len(self._live) > self._kept:
            self._live.clear()

    def read(self, stored: bytes) -> T:
        """A value from how it is stored.

        Raises:
            UnknownVersion: another program wrote it.
        """
        if stored[0] == self._version:
            value: T = self._decode(stored[1:])
            return value
        if self._upgrade is not None and stored[0] == self._version - 1:
            return self._upgrade(stored[1:])
        raise UnknownVersion(f"a value of version {stored[0]} in the state must be of version {self._version}")


class Tables:
    """The tables of one step on one shard, over one store; flushed and committed together.

    `declared` names every table by its number, with the versions that are read; the last one is written.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.shard = store, ""
        self.declared: dict[int, tuple[int, ...]] = {}
        self._tables: list[Table[Any]] = []

    def open(self, shard: str) -> None:
        """Open the store for a shard, at the token it has claimed."""
        self.store.open(shard)
        self.shard = shard

    def table(self, number: int, kind: Any, **options: Any) -> Table[Any]:
        """Open table `number`; see Table."""
        table: Table[Any] = Table(self.store, number, kind, **options)
        self._tables.append(table)
        self.declare(number, table.reads)
        return table

    def declare(self, number: int, reads: tuple[int, ...]) -> None:
        """Say that table `number` is kept here, and in which versions it is read."""
        self.declared[number] = reads

    def commit(self) -> Token:
        """Write every changed value and close the epoch."""
        for table in self._tables:
            table.flush()
        return self.store.commit()
