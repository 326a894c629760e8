"""Occupancy: who is in a zone from now on."""

from collections import Counter

from operators.state.store import Tables
from schemas.derived import Transition
from schemas.items import Event, Item, Occupied


class Occupancy:
    """The core: each transition, followed by what it makes of the zone.

    State: one entry per subject and zone between ENTER and EXIT of a visit.
    Time: none; order of transitions.
    Guarantee: an exit ends only the visit it names, so one told twice changes nothing.

    Args:
        tables: all that is remembered.
    """

    def __init__(self, tables: Tables) -> None:
        self._visits = tables.table(1, str)
        self._inside: Counter[tuple[str, str]] = Counter()
        for key in dict(self._visits.items()):
            site_id, zone_id, _ = key.split("\0")
            self._inside[site_id, zone_id] += 1

    def step(self, items: list[Item]) -> list[Item]:
        """Follow each transition with the count of its zone, and whether its subject is in it."""
        out: list[Item] = []
        for item in items:
            out.append(item)
            if isinstance(item, Event) and isinstance(item.record, Transition):
                out.append(self._after(item, item.record))
        return out

    def _after(self, event: Event, told: Transition) -> Occupied:
        zone = told.site_id, told.zone_id
        key = f"{told.site_id}\0{told.zone_id}\0{told.subject_id}"
        visit = self._visits.get(key)
        if told.kind == "ENTER":
            self._inside[zone] += visit is None
            visit = told.visit_id
            self._visits.put(key, visit)
        elif visit == told.visit_id:
            self._inside[zone] -= 1
            visit = None
            self._visits.put(key, None)
        count, inside = self._inside[zone], visit is not None
        return Occupied(event.number, event.clock, told.site_id, told.zone_id, count, told.subject_id, inside)
