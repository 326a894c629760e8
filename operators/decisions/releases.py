"""Releases: campaigns paused or retired by a record, from an event time on."""

from bisect import bisect_right, insort

from operators.state.store import Tables
from schemas.reference import Release

ALL = "campaigns"
"""The name under which a release means the whole set."""


class Releases:
    """What releases of kind CAMPAIGNS say of each name, by when they take effect."""

    def __init__(self, tables: Tables, number: int) -> None:
        self._table = tables.table(number, list[tuple[int, str]])

    def put(self, release: Release) -> None:
        """Take a release in; others than of campaigns are not ours."""
        if release.kind != "CAMPAIGNS":
            return
        states = self._table.get(release.name) or []
        entry = (release.effective_at, release.state)
        if entry not in states:
            insort(states, entry)
            self._table.put(release.name, states)

    def state(self, campaign: str, at: int) -> str:
        """ACTIVE, PAUSED or RETIRED at an instant; the whole set's word counts as well as the campaign's."""
        found = {self._at(campaign, at), self._at(ALL, at)}
        return next((state for state in ("RETIRED", "PAUSED") if state in found), "ACTIVE")

    def _at(self, name: str, at: int) -> str:
        states = self._table.get(name) or []
        place = bisect_right(states, at, key=lambda entry: entry[0])
        return states[place - 1][1] if place else "ACTIVE"
