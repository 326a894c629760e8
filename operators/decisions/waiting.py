"""What decide remembers: open stays, decisions that may be taken again, absences that have not rung yet."""

from collections.abc import Collection, Iterable, Iterator

import msgspec

from operators.decisions.occasion import Occasion, Value
from operators.state.owned import Owned
from operators.state.store import Rows, Tables

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
        self.stays: Owned[Stay] = Owned(tables.table(STAYS, Stay), lambda stay: stay.member)
        self.undecided: Owned[Undecided] = Owned(tables.table(UNDECIDED, Undecided), lambda one: one.occasion.member)
        self.absences: Owned[Absence] = Owned(tables.table(ABSENCES, Absence), lambda one: one.occasion.member)
        self._wanting: dict[str, dict[str, None]] = {}
        for key, undecided in self.undecided.items():
            self._wants(key, undecided)

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

    def leave(self, stay: Stay) -> None:
        """A stay ends: what is undecided of it goes, but for what a quiet hour holds."""
        for key in stay.undecided:
            undecided = self.undecided.get(key)
            if undecided is not None and undecided.held_until is None:
                self._forget(key, undecided)
        self.stays.drop(stay.visit_id)

    def open_stays(self, members: Iterable[str]) -> list[Stay]:
        """Open stays of a person, by when they began."""
        found = map(self.stays.get, self.stays.of(members))
        return sorted((stay for stay in found if stay is not None), key=lambda stay: (stay.entered_at, stay.visit_id))

    def keep(self, key: str, undecided: Undecided) -> None:
        """Remember a trigger that may be decided again."""
        self.undecided.put(key, undecided)
        self._wants(key, undecided)
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

    def give(self, members: Collection[str]) -> Rows:
        """Hand over what waits of identifiers that move to another shard."""
        for key in self.undecided.of(members):
            undecided = self.undecided.get(key)
            assert undecided is not None
            self._wants_no_more(key, undecided)
        return [*self.stays.give(members), *self.undecided.give(members), *self.absences.give(members)]

    def take(self, table: int, key: str, stored: bytes) -> tuple[int, str, str] | None:
        """Take over what waits of somebody who moved here; its timer, where it has one."""
        if table == STAYS:
            self.stays.take(key, stored)
            return None
        if table == ABSENCES:
            return self.absences.take(key, stored).due, "absence", key
        undecided = self.undecided.take(key, stored)
        self._wants(key, undecided)
        return None if undecided.held_until is None else (undecided.held_until, "hold", key)

    def _wants(self, key: str, undecided: Undecided) -> None:
        for of in undecided.stock:
            self._wanting.setdefault(of, {})[key] = None

    def _wants_no_more(self, key: str, undecided: Undecided) -> None:
        for of in undecided.stock:
            wanting = self._wanting.get(of, {})
            wanting.pop(key, None)
            if not wanting:
                self._wanting.pop(of, None)

    def _forget(self, key: str, undecided: Undecided) -> None:
        self.undecided.drop(key)
        self._wants_no_more(key, undecided)
