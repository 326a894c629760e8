"""A table whose values belong to somebody: found, and handed over, by owner."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from operators.state.store import Rows, Table

T = TypeVar("T")


class Owned(Generic[T]):
    """A table with an index of owners, which is rebuilt when it is opened.

    Args:
        table: the values by key.
        owner: whom a value belongs to; the same for the life of a value.
    """

    def __init__(self, table: Table[T], owner: Callable[[T], str]) -> None:
        self._table, self._owner = table, owner
        self._keys: dict[str, dict[str, None]] = {}
        for key, value in table.items():
            self._keys.setdefault(owner(value), {})[key] = None

    def get(self, key: str) -> T | None:
        """The value, or None."""
        return self._table.get(key)

    def items(self) -> Iterator[tuple[str, T]]:
        """All values, in byte order of their keys."""
        return self._table.items()

    def put(self, key: str, value: T) -> None:
        """Keep a value."""
        self._table.put(key, value)
        self._keys.setdefault(self._owner(value), {})[key] = None

    def drop(self, key: str) -> None:
        """Forget a value; one that is not there is forgotten already."""
        value = self._table.get(key)
        if value is None:
            return
        self._table.put(key, None)
        owner = self._owner(value)
        keys = self._keys[owner]
        del keys[key]
        if not keys:
            del self._keys[owner]

    def of(self, owners: Iterable[str]) -> list[str]:
        """Keys of what belongs to them, oldest first by owner."""
        return [key for owner in owners for key in self._keys.get(owner, ())]

    def give(self, owners: Iterable[str]) -> Rows:
        """Hand over what belongs to them: (table, key, stored value); it is here no more."""
        found: Rows = []
        for key in self.of(owners):
            stored = self._table.stored(key)
            if stored is not None:
                found.append((self._table.number, key, stored))
            self.drop(key)
        return found

    def take(self, key: str, stored: bytes) -> T:
        """Take over a value that another shard has handed over."""
        value = self._table.read(stored)
        self.put(key, value)
        return value
