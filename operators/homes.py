"""Homes: which shard works on whom. What is about a person goes to hers, what all must know goes to every one.

A person is at home on the shard of her anchor. When persons merge, part or get another anchor, somebody may have to
move; every shard concerned is told so at the same place of the one order that all events have.
"""

from collections.abc import Sequence

from operators.state.store import Table, Tables
from schemas.derived import Assignment, Outcome
from schemas.items import Event, Item, Linked, Moving, Occupied, Opened, Tick, Touched
from schemas.reference import Consent, ContextFact, Device, Release, Site, Zone
from schemas.sensing import SourceStatus
from schemas.shards import shard_of

HOMES, COUNTS, SOURCES = 1, 2, 3
"""Numbers of the tables."""
_FOR_ALL = (ContextFact, Zone, Device, Site, Release, SourceStatus, Outcome)
"""Records that every shard takes in: they are of no person, or of one whom only her own shard knows."""
Dealt = list[list[Item]]
"""Items by shard, in order."""


class Homes:
    """The core of the one shard that deals to the others.

    State: the home of every identifier that may have left something there; how many moves there were; sources of
    consents. Guarantee: whatever a shard is sent, it is sent in the order of the items here, so a person's events
    come in order and two moves come in the same order everywhere.

    Args:
        shards: how many there are, for the life of the state.
        tables: all that is remembered.
    """

    def __init__(self, shards: int, tables: Tables) -> None:
        self._shards = shards
        self._homes: Table[int] = tables.table(HOMES, int)
        self._counts: Table[int] = tables.table(COUNTS, int)
        self._sources: Table[bool] = tables.table(SOURCES, bool)

    def deal(self, items: Sequence[Item]) -> Dealt:
        """Items for each shard, in order; what is only published goes with the event that caused it."""
        dealt: Dealt = [[] for _ in range(self._shards)]
        homes = _homes(items, self._shards)
        for place, item in enumerate(items):
            if isinstance(item, Touched):
                self._touched(item, homes[place], dealt)
            elif isinstance(item, Linked):
                self._linked(item, homes[place], dealt)
            elif isinstance(item, Tick | Opened | Occupied) or (
                isinstance(item, Event) and isinstance(item.record, _FOR_ALL)
            ):
                for each in dealt:
                    each.append(item)
            elif isinstance(item, Event) and isinstance(item.record, Assignment):
                # By identifier, not by home: of a compacted topic the last row must be the newest, whoever waits.
                dealt[shard_of(item.record.identifier, self._shards)].append(item)
            else:
                dealt[homes[place]].append(item)
        return dealt

    def _touched(self, touched: Touched, home: int, dealt: Dealt) -> None:
        record = touched.event.record
        if isinstance(record, Consent) and not self._sources.get(record.source_id):
            self._sources.put(record.source_id, True)
            for shard, each in enumerate(dealt):
                if shard != home:
                    each.append(touched.event)
        known = {touched.member, touched.person.anchor}
        if any(self._homes.get(identifier) not in {None, home} for identifier in known):
            # Other rules since the last start may put somebody elsewhere without any news of her.
            event = touched.event
            self._linked(Linked(event.number, event.clock, record.event_time, "GREW", (touched.person,)), home, dealt)
        for identifier in known:
            if self._homes.get(identifier) is None:
                self._homes.put(identifier, home)
        dealt[home].append(touched)

    def _linked(self, linked: Linked, home: int, dealt: Dealt) -> None:
        came: dict[int, list[str]] = {}
        goes: dict[int, list[str]] = {}
        for person in linked.persons:
            to = shard_of(person.anchor, self._shards)
            for member in person.members:
                before = self._homes.get(member.identifier)
                if before is not None:
                    came.setdefault(before, []).append(member.identifier)
                goes.setdefault(to, []).append(member.identifier)
                if before != to:
                    self._homes.put(member.identifier, to)
        gives = {shard: tuple(found) for shard, found in sorted(came.items()) if shard != home}
        takes = {shard: tuple(found) for shard, found in sorted(goes.items()) if shard != home}
        if not gives and not takes:
            dealt[home].append(linked)
            return
        seq = (self._counts.get("moves") or 0) + 1
        self._counts.put("moves", seq)
        moving = Moving(seq, linked, home, gives, takes)
        for shard in sorted({home, *gives, *takes}):
            dealt[shard].append(moving)


def _homes(items: Sequence[Item], shards: int) -> list[int]:
    """For each item the home of the person whose event its number is of; what is of nobody goes to the first shard."""
    homes = [0] * len(items)
    number, home = None, 0
    for place in range(len(items) - 1, -1, -1):  # what an event changed stands before it
        item = items[place]
        if isinstance(item, Touched):
            number, home = item.event.number, shard_of(item.person.anchor, shards)
        elif isinstance(item, Linked) and item.number != number:
            number, home = item.number, shard_of(item.persons[0].anchor, shards)
        elif getattr(item, "number", None) != number:
            continue
        homes[place] = home
    return homes
