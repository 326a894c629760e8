"""Surroundings: what was told of a site or a zone, as stock or weather; the newest word by name."""

from operators.state.store import Tables
from schemas.reference import ContextFact

STOCK = "stock."
"""A fact of this name, and the thing, says how many there are: `stock.shoes`."""


class Surroundings:
    """Context facts, by scope and name."""

    def __init__(self, tables: Tables, number: int) -> None:
        self._table = tables.table(number, ContextFact)

    def told(self, record: ContextFact) -> bool:
        """Take a fact in; False for one that is older than what is known."""
        place = f"{record.scope}\0{record.name}"
        before: ContextFact | None = self._table.get(place)
        if before is not None and before.event_time > record.event_time:
            return False
        self._table.put(place, record)
        return True

    def __call__(self, scopes: tuple[str, ...], name: str) -> ContextFact | None:
        """The newest fact of a name, in the first of the scopes that has one."""
        found = (self._table.get(f"{scope}\0{name}") for scope in scopes)
        return next((fact for fact in found if fact is not None), None)
