"""The names of shards: even over workers by the engine's own hash, and never another."""

import hashlib
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.testing import TestingSink, TestingSource, cluster_main

from schemas.shards import SHARDS, shard_of

_MASK = (1 << 64) - 1


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (64 - by))) & _MASK


def siphash13(data: bytes) -> int:
    """SipHash-1-3 with a zero key: what the engine routes by."""
    v0, v1, v2, v3 = 0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573

    def compress() -> None:
        nonlocal v0, v1, v2, v3
        v0 = (v0 + v1) & _MASK
        v1 = _rotated(v1, 13) ^ v0
        v0 = _rotated(v0, 32)
        v2 = (v2 + v3) & _MASK
        v3 = _rotated(v3, 16) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = _rotated(v3, 21) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = _rotated(v1, 17) ^ v2
        v2 = _rotated(v2, 32)

    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v3 ^= word
        compress()
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(3):
        compress()
    return v0 ^ v1 ^ v2 ^ v3


def test_shards_fall_evenly_on_every_count_of_workers() -> None:
    for number, name in enumerate(SHARDS):
        assert siphash13(name.encode() + b"\xff") % 840 == number


class _Where(StatefulBatchLogic[str, tuple[str, str], int]):
    def __init__(self, worker: str) -> None:
        self._worker = worker

    def on_batch(self, values: list[str]) -> tuple[list[tuple[str, str]], bool]:
        return [(value, self._worker) for value in values], False

    def snapshot(self) -> int:
        return 0


@pytest.mark.parametrize("workers", [2, 3])
def test_the_engine_sends_them_where_we_think(workers: int) -> None:
    """By its own routing: keys of one worker come out together, since worker threads name themselves."""
    import threading

    out: list[tuple[str, tuple[str, str]]] = []
    flow = Dataflow("where")
    names = op.input("names", flow, TestingSource(list(SHARDS), batch_size=8))
    keyed = op.map("keyed", names, lambda name: (name, name))
    where = op.stateful_batch("step", keyed, lambda _resume: _Where(str(threading.get_ident())))
    op.output("out", where, TestingSink(out))
    cluster_main(flow, [], 0, worker_count_per_proc=workers, epoch_interval=timedelta(seconds=1))
    together: dict[str, set[int]] = {}
    for name, (_, worker) in out:
        together.setdefault(worker, set()).add(SHARDS.index(name) % workers)
    assert len(together) == workers
    assert all(len(found) == 1 for found in together.values())


def test_names_and_homes_are_those_that_state_was_written_under() -> None:
    digest = hashlib.blake2b("\n".join(SHARDS).encode(), digest_size=8).hexdigest()
    homes = [shard_of(name, 8) for name in ("loyalty:1:a", "loyalty:1:b", "tag:1:c", "cookie:1:d")]
    assert (digest, homes) == ("5df17ec15c8aff28", [4, 6, 0, 4])
