"""What a flow remembers, table by table: read from its state directory when it has ended, and compared.

Left out is what holds a clock or a row's number, and what is drawn at random; where only part of a value does, that part.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from flows.ports import STEPS
from operators.state.rocks import RocksShard

Key = tuple[str, int, bytes]
"""Step, table, key."""
DATA = 0
"""Kind of a value, beside undo and token."""
LEFT_OUT = {
    ("admit", 1): "clocks and lags of sources, heard at the wall clock",
    ("admit", 2): "the watermark of sensors, which follows the wall clock where none is heard",
    ("admit", 4): "rows that wait for that watermark",
    ("admit", 6): "ids heard before, each with its row number; of the last 100,000 of a topic, whichever they are",
    ("person", 45): "since when facts are counted: the wall clock of the first row",
}
SEALED = {("decode", 1), ("deliver", 1)}
"""Values are sealed under keys drawn at random: which keys there are is compared."""
SETS = {("person", 41)}
"""Sets, written in no particular order."""


def databases(state: Path) -> list[Path]:
    """All of a state directory, whatever processes and shards it has."""
    return sorted(found.parent for found in state.rglob("CURRENT") if found.parent.name == "db")


def remembered(state: Path, parts: dict[tuple[str, int], Callable[[Any], Any]] | None = None) -> dict[Key, Any]:
    """Decoded values by key, over all shards; equal values of one key in several shards count as many times.

    Args:
        state: the directory.
        parts: what of a value to compare, by step and table, where not all of it.
    """
    found: dict[Key, Any] = {}
    for path in databases(state):
        for key, value in _pairs(path, parts or {}):
            if key in found:
                found[key] = (*found[key], value) if isinstance(found[key], tuple) else (found[key], value)
            else:
                found[key] = value
    return found


def _pairs(path: Path, parts: dict[tuple[str, int], Callable[[Any], Any]]) -> Iterator[tuple[Key, Any]]:
    shard = RocksShard(path, read_only=True)
    for number, step in enumerate(STEPS):
        for key, value in shard.scan(bytes([number, DATA])):
            table = (step, key[2])
            if table in LEFT_OUT:
                continue
            if table in SEALED:
                yield (*table, key[3:]), value[0]
                continue
            read = msgspec.msgpack.decode(value[1:]) if len(value) > 1 else None
            read = parts[table](read) if table in parts else read
            yield (*table, key[3:]), [value[0], sorted(read) if table in SETS else read]


def differences(calm: dict[Key, Any], disturbed: dict[Key, Any]) -> dict[str, Any]:
    """How many keys differ, in which tables, with the first of each."""
    wrong = [key for key in calm.keys() | disturbed.keys() if calm.get(key) != disturbed.get(key)]
    tables = Counter(f"{step}:{table}" for step, table, _ in wrong)
    examples: dict[str, Any] = {}
    for step, table, key in sorted(wrong):
        place = (step, table, key)
        examples.setdefault(
            f"{step}:{table}",
            [key.decode(errors="replace"), str(calm.get(place))[:200], str(disturbed.get(place))[:200]],
        )
    return {"keys": len(calm), "keys_differ": len(wrong), "tables_differ": dict(tables), "first_of_each": examples}
