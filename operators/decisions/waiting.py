"""What decide remembers: open stays, decisions that may be taken again, absences that have not rung yet."""

from collections.abc import Iterable, Iterator

import msgspec

from operators.decisions.occasion import Occasion, Value
from operators.state.store import Table, Tables

STAYS, UNDECIDED, ABSENCES = 70, 71, 72
"""Numbers of the tables; the cores that work on one person share one store."""


class Stay(msgspec.Struct, array_like=True):
    """An open stay. `root` and `state` say who its subject was when last looked at.

    `anchor` is the person's when the stay was first decided on, and stays with it, so that a merge in
    mid-stay changes no id; `fired` are the campaigns that have acted on it; `undecided` the triggers of it
    that may be decided again.
    """

    visit_id: str
    member: str
    site_id: str
    zone_id: str
    entered_at: int
    root: str
    state: str
    known: bool
    anchor: str = ""
    about: dict[str, Value] = {}
    fired: list[str] = []
    undecided: list[str] = []


class Undecided(msgspec.Struct, array_like=True):
    """A trigger that may be decided again: how often it was, and what may bring it back.

    `held_until` is the end of a quiet hour; `stock` the things whose stock stood in the way; `open` says
    that nothing has fired, so that a consent or a link may change the answer too.
    """

    occasion: Occasion
    anchor: str
    attempt: int
    open: bool
    held_until: int | None = None
    stock: list[str] = []
    fired: list[str] = []


class Absence(msgspec.Struct, array_like=True):
    """Something is to have happened by `due`; `since` is when the wait began."""

    due: int
    since: int
    occasion: Occasion


class Waiting:
    """The tables, and the indexes over them that are rebuilt when they are opened."""

    def __init__(self, tables: Tables) -> None:
        self.stays: Table[Stay] = tables.table(STAYS, Stay)
        self.undecided: Table[Undecided] = tables.table(UNDECIDED, Undecided)
        self.absences: Table[Absence] = tables.table(ABSENCES, Absence)
        self._open: dict[str, dict[str, None]] = {}
        self._wanting: dict[str, dict[str, None]] = {}
        for visit_id, stay in self.stays.items():
            self._open.setdefault(stay.member, {})[visit_id] = None
        for key, undecided in self.undecided.items():
            for of in undecided.stock:
                self._wanting.setdefault(of, {})[key] = None

    def due(self) -> Iterator[tuple[int, str, str]]:
        """Every timer there is: when, its kind, its key."""
        for key, undecided in self.undecided.items():
            if undecided.held_until is not None:
                yield undecided.held_until, "hold", key
        for key, absence in self.absences.items():
            yield absence.due, "absence", key

    def enter(self, stay: Stay) -> None:
        """A stay begins."""
        self.stays.put(stay.visit_id, stay)
        self._open.setdefault(stay.member, {})[stay.visit_id] = None

    def leave(self, stay: Stay) -> None:
        """A stay ends: what is undecided of it goes, but for what a quiet hour holds."""
        for key in stay.undecided:
            undecided = self.undecided.get(key)
            if undecided is not None and undecided.held_until is None:
                self._forget(key, undecided)
        self.stays.put(stay.visit_id, None)
        visits = self._open.get(stay.member, {})
        visits.pop(stay.visit_id, None)
        if not visits:
            self._open.pop(stay.member, None)

    def open_stays(self, members: Iterable[str]) -> list[Stay]:
        """Open stays of a person, by when they began."""
        found = [self.stays.get(visit_id) for member in members for visit_id in self._open.get(member, ())]
        return sorted((stay for stay in found if stay is not None), key=lambda stay: (stay.entered_at, stay.visit_id))

    def keep(self, key: str, undecided: Undecided) -> None:
        """Remember a trigger that may be decided again."""
        self.undecided.put(key, undecided)
        for of in undecided.stock:
            self._wanting.setdefault(of, {})[key] = None
        stay = self.stays.get(undecided.occasion.visit_id or "")
        if stay is not None and key not in stay.undecided:
            stay.undecided.append(key)
            self.stays.put(stay.visit_id, stay)

    def drop(self, key: str, undecided: Undecided) -> None:
        """Forget one: it has fired, or never will."""
        self._forget(key, undecided)
        stay = self.stays.get(undecided.occasion.visit_id or "")
        if stay is not None and key in stay.undecided:
            stay.undecided.remove(key)
            self.stays.put(stay.visit_id, stay)

    def wanting(self, of: str) -> list[str]:
        """Triggers for which the stock of a thing was missing or unknown, in order."""
        return sorted(self._wanting.get(of, ()))

    def _forget(self, key: str, undecided: Undecided) -> None:
        self.undecided.put(key, None)
        for of in undecided.stock:
            wanting = self._wanting.get(of, {})
            wanting.pop(key, None)
            if not wanting:
                self._wanting.pop(of, None)
