"""State in memory: what tests, replays and the demo keep, with the same epochs as on disk."""

from collections.abc import Iterator, Mapping

from operators.state.epochs import EpochStore, Medium


class Memory:
    """What outlives a store object: committed values, undo and token. Hand it to the next store to resume."""

    def __init__(self) -> None:
        self._held: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        return self._held.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Values in the order of the keys."""
        return [self._held.get(key) for key in keys]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs under a prefix in byte order, as they stand at the call."""
        return iter(sorted(pair for pair in self._held.items() if pair[0].startswith(prefix)))

    def write(self, changes: Mapping[bytes, bytes | None], *, sync: bool) -> None:  # noqa: ARG002
        """Put all of it; None deletes."""
        for key, value in changes.items():
            if value is None:
                self._held.pop(key, None)
            else:
                self._held[key] = value


class MemoryStore(EpochStore):
    """A `Store` over a `Memory`, its own when none is given.

    Args:
        memory: what an earlier store has committed; several steps may share one.
        step: number of the step.
        of_execution: name of this process start.
        max_dirty: keys that may wait for the commit.
    """

    def __init__(
        self,
        memory: Memory | None = None,
        *,
        step: int = 0,
        of_execution: bytes | None = None,
        max_dirty: int = 1 << 20,
    ) -> None:
        super().__init__(step, of_execution=of_execution, max_dirty=max_dirty, max_bytes=1 << 40)
        self.memory = Memory() if memory is None else memory

    def attach(self, shard: str) -> Medium:  # noqa: ARG002
        """One memory serves one shard."""
        return self.memory
