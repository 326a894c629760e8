"""Which versions of which tables a state may hold: noted in its mark, compared before a program reads any of it.

A value says its own version, but only when it is read: found there, a state that a newer program has written would
stop an older one in mid-run, after epochs of its own. So the mark names every table with the versions ever written
to it since the state was begun, and a start that cannot read them all is refused.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from operators.state.store import TOGETHER, StateDamaged, UnknownVersion

Reads = Mapping[str, Mapping[int, tuple[int, ...]]]
"""Versions that a program reads, by step id and number of the table; the last one is written."""
Noted = dict[str, dict[int, list[int]]]
"""Versions that a state may hold, by step id and number of the table."""
KEY = "tables"
"""Where they stand in the mark."""
_UNNAMED = 1
"""Version of every table of a state that was begun before marks named them."""


def noted(mark: Mapping[str, Any], reads: Reads, *, present: bool) -> Noted:
    """What the mark is to say from now on, if this program may read the state.

    A table that is no more written to stays declared as long as states may hold it: one that nobody declares was
    written by a newer program.

    Args:
        mark: as it is.
        reads: what this program declares.
        present: whether there is any state; what the mark of none says is forgotten.

    Raises:
        UnknownVersion: names the table and what to do.
        StateDamaged: the mark cannot be understood.
    """
    found: Noted = {}
    if present and KEY in mark:
        try:
            found = msgspec.convert(mark[KEY], Noted, str_keys=True)
        except msgspec.ValidationError as error:
            raise StateDamaged(f"the mark must name versions by step and table: {error}") from error
    elif present:
        found = {step: {table: [_UNNAMED] for table in tables} for step, tables in reads.items()}
    for step, tables in found.items():
        for table, versions in tables.items():
            _compared(step, table, versions, reads.get(step, {}).get(table, ()))
    for step, declared in reads.items():
        kept = found.setdefault(step, {})
        for table, known in declared.items():
            kept[table] = sorted({*kept.get(table, ()), known[-1]})
    return found


def _compared(step: str, table: int, versions: list[int], known: tuple[int, ...]) -> None:
    strange = sorted(set(versions) - set(known))
    if not strange:
        return
    told = f"version {' and '.join(map(str, known))}" if known else "no such table"
    if not known or strange[-1] > known[-1]:
        raise UnknownVersion(
            f"table {table} of {step} in the state has values of version {strange[-1]}, this program reads {told}: run"
            f" the newer program that wrote them, or go back to before it ran: {TOGETHER}"
        )
    raise UnknownVersion(
        f"table {table} of {step} in the state may have values of version {strange[0]}, this program reads {told}: run"
        f" a program that reads version {strange[0]}"
    )
