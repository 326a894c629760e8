"""State in RocksDB: one database a shard, opened once a process and shared by all steps of the shard.

A scan ends in silence at a damaged block, and only the status of its iterator tells: every scan here asks.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from operators.state.epochs import EpochStore, Medium
from operators.state.lock import StateHeld
from operators.state.store import TOGETHER, StateDamaged, StateFault
from operators.state.volume import VolumeFault, refuses

_BLOCK_CACHE = 256 << 20
_MEMTABLES = 64 << 20
_LOGS_KEPT = 5


@cache
def _block_cache() -> Cache:
    """One for all shards of the process."""
    return Cache(_BLOCK_CACHE)


@cache
def _memtables() -> WriteBufferManager:
    """One bound on unflushed writes for all shards of the process."""
    return WriteBufferManager(_MEMTABLES, False)


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_block_cache())
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_manager(_memtables())
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())  # what it loses, the token tells
    options.set_keep_log_file_num(_LOGS_KEPT)
    return options


class RocksShard:
    """The database of one shard, shared by those who opened it."""

    _open: dict[Path, "RocksShard"] = {}
    _gate = Lock()

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path, self._users = path, 0
        try:
            if read_only:
                self._db = Rdict(str(path), _options(), access_type=AccessType.read_only(False))
                return
            path.mkdir(parents=True, exist_ok=True)
            self._db = Rdict(str(path), _options())
        except Exception as error:  # RocksDB has no errors of its own here
            raise self._fault("opened", error) from error

    @classmethod
    def shared(cls, path: Path) -> "RocksShard":
        """Open a database, or join those of this process that have it open."""
        path = path.resolve()
        with cls._gate:
            shard = cls._open.get(path)
            if shard is None:
                shard = cls._open[path] = cls(path)
            shard._users += 1
            return shard

    def release(self) -> None:
        """Close the database when nobody else of this process uses it."""
        with self._gate:
            self._users -= 1
            if not self._users:
                del self._open[self._path]
                with suppress(Exception):  # after a write that failed: what was committed is in the log already
                    self._db.close()

    @classmethod
    def measured(cls) -> dict[str, tuple[int, int]]:
        """Estimated keys, and bytes on disk and in memory, of every database this process has open, by its shard."""
        with cls._gate:  # nobody closes one meanwhile
            return {path.parent.name: shard._figures() for path, shard in cls._open.items()}

    def _figures(self) -> tuple[int, int]:
        keys, disk, memory = (
            self._db.property_int_value(f"rocksdb.{name}") or 0
            for name in ("estimate-num-keys", "live-sst-files-size", "cur-size-all-mem-tables")
        )
        return keys, disk + memory

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._fault("read", error) from error
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Values in the order of the keys."""
        asked: list[Any] = list(keys)
        try:
            values: Any = self._db.get(asked)
        except Exception as error:
            raise self._fault("read", error) from error
        return list(values)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs under a prefix in byte order, as they stand at the call; raises when it cannot read all."""
        bounds = ReadOptions()
        above = _above(prefix)
        if above is not None:
            bounds.set_iterate_upper_bound(above)
        cursor = self._db.iter(bounds)  # sees the database as it is now, whatever is written meanwhile
        cursor.seek(prefix)

        def pairs(_held: ReadOptions = bounds) -> Iterator[tuple[bytes, bytes]]:  # the bound lives as long as it
            while cursor.valid():
                yield cursor.key(), cursor.value()
                cursor.next()
            try:
                cursor.status()
            except Exception as error:
                raise self._fault("scanned", error) from error

        return pairs()

    def write(self, changes: Mapping[bytes, bytes | None], *, sync: bool) -> None:
        """Put all of it or nothing; None deletes."""
        batch = WriteBatch(raw_mode=True)
        put: Callable[[bytes, bytes], None] = batch.put
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                put(key, value)
        options = WriteOptions()
        options.sync = sync
        try:
            self._db.write(batch, options)
        except Exception as error:
            raise self._fault("written", error) from error

    def _fault(self, done: str, error: Exception) -> StateFault:
        text = str(error)
        if refuses(text):
            return VolumeFault(self._path, text)
        if "lock hold" in text or "LOCK" in text:
            return StateHeld(f"the state in {self._path} is held by another process: stop that one first ({text})")
        return StateDamaged(f"the state in {self._path} cannot be {done}: {text}: {TOGETHER}")


class RocksStore(EpochStore):
    """A `Store` of one step in the RocksDB of its shard, `path/<shard>/db`.

    Args:
        path: the state directory of the flow.
        step: number of the step; never used again once retired.
        of_execution: name of this process start.
        max_dirty: keys that may wait for the commit.
        sync: whether a commit outlives a power cut.
        read_only: look and change nothing, beside a process that may have the database open.
    """

    def __init__(
        self,
        path: str | Path,
        step: int,
        *,
        of_execution: bytes | None = None,
        max_dirty: int = 1_024,
        sync: bool = True,
        read_only: bool = False,
    ) -> None:
        super().__init__(step, of_execution=of_execution, max_dirty=max_dirty, sync=sync)
        self._path, self._read_only = Path(path), read_only
        self._shard: RocksShard | None = None

    def attach(self, shard: str) -> Medium:
        """Open the shard's database, or join the other steps that have."""
        if self._read_only:
            return RocksShard(self._path / shard / "db", read_only=True)
        self._shard = RocksShard.shared(self._path / shard / "db")
        return self._shard

    def claim(self, token: tuple[str, bytes, int] | None) -> None:
        """Name the token to open at; lets go of what an earlier claim had open."""
        if self._shard is not None:
            self._shard.release()
            self._shard = None
        super().claim(token)


def _above(prefix: bytes) -> bytes | None:
    """The least key above all that start with the prefix; None when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
