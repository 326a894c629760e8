"""A store that moves in epochs: values, undo and token go to the medium together, and it can walk back.

The engine's snapshots hold a token and nothing else. After a crash the engine says which token is committed;
the store undoes whatever it did past it, and the source replays from there. What is written is the same on
every medium, so memory and RocksDB differ in nothing that a core could notice.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import Protocol

import msgspec

from operators.state.store import TOGETHER, StateAhead, StateBehind, StateFault, StateForked, Token

REACH = 8
"""How many commits back a store can walk."""
_DATA, _UNDO, _TOKEN = 0, 1, 2
_Undo = tuple[Token, list[tuple[bytes, bytes | None]]]
_encode = msgspec.msgpack.Encoder().encode
_token_of = msgspec.msgpack.Decoder(Token).decode
_undo_of = msgspec.msgpack.Decoder(_Undo).decode


@cache
def execution() -> bytes:
    """Eight bytes that name this start of the process.

    A counter alone is used again after a walk back, so a stale token of a dead process could equal the
    new number, and an epoch would be applied twice.
    """
    return os.urandom(8)


class Medium(Protocol):
    """Where the bytes lie: one ordered space for all steps of a shard."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        ...

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Values in the order of the keys."""
        ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs under a prefix in byte order, as they stood at the call; raises when it cannot read all."""
        ...

    def write(self, changes: Mapping[bytes, bytes | None], *, sync: bool) -> None:
        """Put all of it or nothing; None deletes."""
        ...


class EpochStore(ABC):
    """One chain of epochs: one step on one shard. See `Store`.

    Args:
        step: number of the step in its flow; the first byte of every key.
        of_execution: name of this process start; drawn once when left out.
        max_dirty: keys that may wait for the commit; past them the rest is written inside the epoch, with
            undo of its own and without a token, so the close of the epoch stays short.
        max_bytes: the same in bytes.
        sync: whether a commit outlives a power cut.
    """

    def __init__(
        self,
        step: int,
        *,
        of_execution: bytes | None = None,
        max_dirty: int = 1_024,
        max_bytes: int = 4 << 20,
        sync: bool = True,
    ) -> None:
        self._step, self._execution = step, of_execution
        self._max_dirty, self._max_bytes, self._sync = max_dirty, max_bytes, sync
        self._medium: Medium | None = None
        self._target: Token | None = None
        self._token: Token = ("", b"", 0)
        self._part = self._bytes = self._changed = 0
        self.dirty = 0  # keys that the last epoch changed; a metric
        self._parts: dict[int, int] = {}
        self._overlay: dict[bytes, bytes | None] = {}
        self._below: dict[bytes, bytes | None] = {}

    @abstractmethod
    def attach(self, shard: str) -> Medium:
        """Open the medium of a shard."""

    def claim(self, token: Token | None) -> None:
        """Name the token to open at; no I/O."""
        self._medium, self._target = None, token
        self._part = self._bytes = 0
        self._overlay, self._below = {}, {}

    def open(self, shard: str) -> None:
        """Open the medium and walk back to the claimed token; the whole path is known before the first change."""
        self._attach(shard)
        path, now, _ = self._way_back(shard)
        for parts, back in path:
            self._walk_back(parts, back)
        self._token = now
        self._parts = {
            number: sum(1 for _ in self._stored_undo(number))
            for number in range(max(now[2] - REACH, 0) + 1, now[2] + 1)
        }

    def stands(self, shard: str) -> tuple[int, int]:
        """The commit the medium stands at, and how many commits `open` would walk back; changes nothing.

        Raises what `open` would. The medium stays open until the next claim.
        """
        self._attach(shard)
        path, now, at = self._way_back(shard)
        return at, at - now[2] if path else 0

    def _attach(self, shard: str) -> None:
        if self._medium is not None:
            raise StateFault(f"the state of shard {shard}, step {self._step} must be opened once after each claim")
        self._medium = self.attach(shard)

    def _way_back(self, shard: str) -> tuple[list[tuple[dict[bytes, _Undo], Token]], Token, int]:
        """What to undo, the token that this leads to, and the commit the medium stands at."""
        stored = self._opened().get(self._key(_TOKEN))
        now: Token = _token_of(stored) if stored is not None else (shard, b"", 0)
        target = self._target or (shard, b"", 0)
        where = f"shard {shard}, step {self._step}"
        stands = now[2]
        path: list[tuple[dict[bytes, _Undo], Token]] = []
        unfinished = self._undo_of(now[2] + 1)
        if unfinished:  # parts written inside an epoch that never closed
            path.append((unfinished, now))
        while now != target:
            if now[2] < target[2]:
                raise StateBehind(
                    f"the state of {where} stands at commit {stands}, the recovery store at {target[2]}: state was"
                    f" lost: {TOGETHER}"
                )
            if now[2] == target[2]:
                raise StateForked(
                    f"the state of {where} and the recovery store both stand at commit {now[2]}, of different"
                    f" histories: {TOGETHER}"
                )
            parts = self._undo_of(now[2])
            if not parts:
                raise StateAhead(
                    f"the state of {where} stands at commit {stands}, the recovery store at {target[2]}, further back"
                    f" than the undo reaches ({REACH} commits): {TOGETHER}"
                )
            now = next(iter(parts.values()))[0]
            path.append((parts, now))
        return path, now, stands

    def get(self, key: bytes) -> bytes | None:
        """The value now: what was put, else what lies below."""
        if key in self._overlay:
            return self._overlay[key]
        if key in self._below:
            return self._below[key]
        value = self._opened().get(self._key(_DATA, key))
        self._prime(key, value)
        return value

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Values in the order of the keys."""
        asked = list(keys)
        self._read_below([key for key in asked if key not in self._overlay])
        return [self._overlay[key] if key in self._overlay else self._below[key] for key in asked]

    def put(self, key: bytes, value: bytes | None) -> None:
        """Change a value; None deletes."""
        self._opened()
        self._overlay[key] = value
        self._bytes += len(key) + len(value or b"")
        if len(self._overlay) >= self._max_dirty or self._bytes >= self._max_bytes:
            self._write(self._undo())
            self._part += 1

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs under a prefix in byte order, as they stand at the call."""
        put = sorted((pair for pair in self._overlay.items() if pair[0].startswith(prefix)), reverse=True)
        head = self._key(_DATA)
        return _merged(self._opened().scan(head + prefix), len(head), put)

    def commit(self) -> Token:
        """Write what changed, its undo and the new token in one piece; the old token when nothing did."""
        if not self._overlay and not self._part:
            self.dirty = 0
            return self._token
        shard, _, number = self._token
        new: Token = (shard, self._execution or execution(), number + 1)
        rest = self._undo() if self._overlay else {}
        self._parts[new[2]] = self._part + len(rest)
        old = new[2] - REACH
        dropped = dict.fromkeys((self._undo_key(old, part) for part in range(self._parts.pop(old, 0))), None)
        self._write({**rest, **dropped, self._key(_TOKEN): _encode(new)}, sync=self._sync)
        self._token, self._part = new, 0
        self.dirty, self._changed = self._changed, 0
        return new

    def close(self) -> None:
        """Let go of the medium; what was not committed is gone."""
        self.claim(self._token)

    def _opened(self) -> Medium:
        if self._medium is None:
            raise StateFault(f"the state of step {self._step} must be opened before it is used")
        return self._medium

    def _key(self, kind: int, rest: bytes = b"") -> bytes:
        return bytes((self._step, kind)) + rest

    def _undo_key(self, number: int, part: int) -> bytes:
        return self._key(_UNDO, number.to_bytes(8, "big") + part.to_bytes(4, "big"))

    def _undo_of(self, number: int) -> dict[bytes, _Undo]:
        """Undo parts of a commit by their keys, oldest first."""
        return {key: _undo_of(value) for key, value in self._stored_undo(number)}

    def _stored_undo(self, number: int) -> Iterator[tuple[bytes, bytes]]:
        """The same as they are stored."""
        for part in count():
            key = self._undo_key(number, part)
            if (value := self._opened().get(key)) is None:
                return
            yield key, value

    def _walk_back(self, parts: dict[bytes, _Undo], back: Token) -> None:
        changes: dict[bytes, bytes | None] = dict.fromkeys(parts, None)
        for _, images in reversed(parts.values()):  # newest first: an older part knows the older value
            changes.update({self._key(_DATA, key): before for key, before in images})
        changes[self._key(_TOKEN)] = _encode(back) if back[2] else None
        self._opened().write(changes, sync=self._sync)

    def _undo(self) -> dict[bytes, bytes | None]:
        """The part that takes the overlay back to what lies below it."""
        self._read_below(self._overlay)
        images = [(key, self._below[key]) for key in self._overlay]
        return {self._undo_key(self._token[2] + 1, self._part): _encode((self._token, images))}

    def _write(self, beside: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
        head = self._key(_DATA)
        self._opened().write({**{head + key: value for key, value in self._overlay.items()}, **beside}, sync=sync)
        self._changed += len(self._overlay)
        if len(self._below) > 4 * self._max_dirty:
            self._below = {}
        else:
            self._below.update(self._overlay)
        self._overlay, self._bytes = {}, 0

    def _read_below(self, keys: Iterable[bytes]) -> None:
        if len(self._below) > 4 * self._max_dirty:
            self._below = {}
        unknown = [key for key in keys if key not in self._below]
        if unknown:
            found = self._opened().get_many([self._key(_DATA, key) for key in unknown])
            self._below.update(zip(unknown, found, strict=True))

    def _prime(self, key: bytes, value: bytes | None) -> None:
        """Remember what lies below: the undo of a key that is changed next then needs no second read."""
        if len(self._below) > 4 * self._max_dirty:
            self._below = {}
        self._below[key] = value


def _merged(
    below: Iterator[tuple[bytes, bytes]], cut: int, put: list[tuple[bytes, bytes | None]]
) -> Iterator[tuple[bytes, bytes]]:
    """What lies below, under what was put; `put` is consumed from its end."""
    for stored, value in below:
        key = stored[cut:]
        while put and put[-1][0] < key:
            early, fresh = put.pop()
            if fresh is not None:
                yield early, fresh
        if put and put[-1][0] == key:
            _, over = put.pop()
            if over is not None:
                yield key, over
        else:
            yield key, value
    while put:
        late, fresh = put.pop()
        if fresh is not None:
            yield late, fresh
