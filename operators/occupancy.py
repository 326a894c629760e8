"""Occupancy: who is in a zone from now on."""

from bisect import bisect_left, insort

from operators.state.store import Tables
from schemas.derived import Transition
from schemas.items import Event, Item, Occupied


class Occupancy:
    """The core: each transition, followed by the zone as it stands after it.

    State: one entry per subject and zone between ENTER and EXIT of a visit.
    Time: none; order of transitions.
    Guarantee: an exit ends only the visit it names, so one told twice changes nothing.

    Args:
        tables: all that is remembered.
    """

    def __init__(self, tables: Tables) -> None:
        self._visits = tables.table(1, str)
        self._inside: dict[tuple[str, str], list[str]] = {}
        for key in dict(self._visits.items()):
            site_id, zone_id, subject = key.split("\0")
            self._inside.setdefault((site_id, zone_id), []).append(subject)

    def step(self, items: list[Item]) -> list[Item]:
        """Follow each transition with the count and the subjects of its zone, sorted."""
        out: list[Item] = []
        for item in items:
            out.append(item)
            if isinstance(item, Event) and isinstance(item.record, Transition):
                out.append(self._after(item, item.record))
        return out

    def _after(self, event: Event, told: Transition) -> Occupied:
        inside = self._inside.setdefault((told.site_id, told.zone_id), [])
        key = f"{told.site_id}\0{told.zone_id}\0{told.subject_id}"
        visit = self._visits.get(key)
        if told.kind == "ENTER":
            if visit is None:
                insort(inside, told.subject_id)
            self._visits.put(key, told.visit_id)
        elif visit == told.visit_id:
            del inside[bisect_left(inside, told.subject_id)]
            self._visits.put(key, None)
        return Occupied(event.number, event.clock, told.site_id, told.zone_id, len(inside), tuple(inside))
