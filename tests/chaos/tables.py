"""What a flow remembers, table by table: read from its state directory when it has ended, and compared.

Left out is what holds a clock or a row's number, and what is drawn at random; where only part of a value does, that part.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from flows.ports import STEPS
from operators.state.rocks import RocksShard

_spelt = msgspec.msgpack.Encoder(order="deterministic").encode
Key = tuple[str, int, bytes]
"""Step, table, key."""
DATA = 0
"""Kind of a value, beside undo and token."""
LEFT_OUT = {
    ("admit", 1): "clocks and lags of sources, heard at the wall clock",
    ("admit", 2): "the watermark of sensors, which follows the wall clock where none is heard",
    ("admit", 4): "rows that wait for that watermark",
    ("admit", 6): "ids heard before, each with its row number; of the last 100,000 of a topic, whichever they are",
    ("person", 93): "numbers of moves between shards, in the order in which links were heard",
    ("person", 45): "since when facts are counted: the wall clock of the first row",
}
SEALED = {("decode", 1), ("deliver", 1)}
"""Values are sealed under keys drawn at random: which keys there are is compared."""
SETS = {("person", 41)}
"""Sets, written in no particular order."""


def databases(state: Path) -> list[Path]:
    """All of a state directory, whatever processes and shards it has."""
    return sorted(found.parent for found in state.rglob("CURRENT") if found.parent.name == "db")


def remembered(state: Path) -> dict[Key, tuple[bytes, ...]]:
    """Values by key, over all shards, in one spelling whatever the order in which a mapping or a set was filled."""
    found: dict[Key, tuple[bytes, ...]] = {}
    for path in databases(state):
        for key, value in _pairs(path):
            found[key] = tuple(sorted((*found.get(key, ()), value)))
    return found


def _pairs(path: Path) -> Iterator[tuple[Key, bytes]]:
    shard = RocksShard(path, read_only=True)
    for number, step in enumerate(STEPS):
        for key, value in shard.scan(bytes([number, DATA])):
            table = (step, key[2])
            if table in LEFT_OUT:
                continue
            if table in SEALED:
                yield (*table, key[3:]), value[:1]
                continue
            read = msgspec.msgpack.decode(value[1:]) if len(value) > 1 else None
            yield (*table, key[3:]), value[:1] + _spelt(sorted(read) if table in SETS else read)


def differences(calm: dict[Key, tuple[bytes, ...]], disturbed: dict[Key, tuple[bytes, ...]]) -> dict[str, Any]:
    """How many keys differ, in which tables, with the first of each."""
    wrong = [key for key in calm.keys() | disturbed.keys() if calm.get(key) != disturbed.get(key)]
    tables = Counter(f"{step}:{table}" for step, table, _ in wrong)
    examples: dict[str, Any] = {}
    for step, table, key in sorted(wrong):
        place = (step, table, key)
        both = (str([_read(one) for one in side.get(place, ())])[:300] for side in (calm, disturbed))
        examples.setdefault(f"{step}:{table}", [key.decode(errors="replace"), *both])
    return {"keys": len(calm), "keys_differ": len(wrong), "tables_differ": dict(tables), "first_of_each": examples}


def _read(value: bytes) -> Any:
    return msgspec.msgpack.decode(value[1:]) if len(value) > 1 else None
