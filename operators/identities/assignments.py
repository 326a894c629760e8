"""What is published of persons: each identifier's assignment when it changes, and what became of whom.

A consumer that follows the rows alone, or `Linked` alone, has the persons that the forest has.
"""

import msgspec

from operators.identities.evidence import StitchRule
from operators.identities.forest import Forest
from schemas import ids
from schemas.derived import Assignment, Change
from schemas.items import Event, Item, Linked, Person
from schemas.operations import Alert

_KINDS = ("MERGE", "SPLIT", "REANCHOR")


class Cause(msgspec.Struct):
    """What derived rows take their place and times from."""

    number: int
    clock: int
    event_time: int
    ingest_time: int
    site_id: str


class Register:
    """Compares persons as they stand with what was last published of their members.

    Args:
        rule: the version that rows carry, and the site of events without one.
        forest: the identifiers.
    """

    def __init__(self, rule: StitchRule, forest: Forest) -> None:
        self._rule, self._forest = rule, forest

    def publish(self, cause: Cause, out: list[Item]) -> list[Person]:
        """Say how the persons stand that something moved in."""
        persons = self._forest.settle()
        if not persons and not self._forest.crowds:
            return persons
        rows: list[Assignment] = []
        left = self._left(persons)
        changes = self._changes(persons) if left - {""} else []
        moved = [person for person in persons if self._assign(person, left, cause, rows)]
        rows.sort(key=lambda row: self._forest.rank(row.identifier))
        out.extend(Event(cause.number, cause.clock, "identity.assignment", row) for row in rows)
        out.extend(self._change(*change, cause) for change in changes)
        if moved:
            kind = changes[0][0] if changes else "GREW"
            out.append(Linked(cause.number, cause.clock, cause.event_time, kind, tuple(moved)))
        out.extend(self._alarm(crowd, cause) for crowd in self._forest.crowds)
        self._forest.crowds.clear()
        return persons

    def _left(self, persons: list[Person]) -> set[str]:
        """Persons, as published, that somebody is no longer with; an empty one for who was in none."""
        left = set()
        for person in persons:
            for member in person.members:
                node = self._forest.node(member.identifier)
                assert node is not None
                if node.person != person.anchor:
                    left.add(node.person)
        return left

    def _assign(self, person: Person, left: set[str], cause: Cause, rows: list[Assignment]) -> bool:
        """Publish what is new of each member; whether anything of the person is."""
        moved = False
        for member in person.members:
            node = self._forest.node(member.identifier)
            assert node is not None
            moved = moved or node.person in left
            if (node.person, node.root, node.state) != (person.anchor, person.root, person.state):
                node.person, node.root, node.state = person.anchor, person.root, person.state
                node.version += 1
                rows.append(
                    Assignment(
                        event_id=ids.assignment(member.identifier, node.version),
                        event_time=cause.event_time,
                        ingest_time=cause.ingest_time,
                        site_id=cause.site_id or self._rule.site_id,
                        source_id="activation",
                        identifier=member.identifier,
                        person_id=person.anchor,
                        anchor_id=person.anchor,
                        root=person.root,
                        state=person.state,
                        confidence=person.confidence,
                        rule_version=self._rule.version,
                        version=node.version,
                    )
                )
            elif node.inferred == member.inferred:
                continue
            node.inferred, moved = member.inferred, True
            self._forest.keep(member.identifier, node)
        return moved

    def _changes(self, persons: list[Person]) -> list[tuple[str, list[str], list[str], list[str]]]:
        """What became of the persons that had a profile: (kind, before, after, members moved)."""
        fates: dict[str, dict[str, list[str]]] = {}
        known: set[str] = set()
        for person in persons:
            for member in person.members:
                node = self._forest.node(member.identifier)
                assert node is not None
                if node.person:
                    fates.setdefault(node.person, {}).setdefault(person.anchor, []).append(member.identifier)
                    if node.facts:
                        known.add(node.person)
        changes = []
        absorbed: dict[str, list[str]] = {}
        for before in sorted(known, key=self._forest.rank):
            after = fates[before]
            if len(after) > 1:
                moved = [one for anchor, members in after.items() if anchor != before for one in members]
                changes.append(
                    ("SPLIT", [before], sorted(after, key=self._forest.rank), sorted(moved, key=self._forest.rank))
                )
            else:
                absorbed.setdefault(next(iter(after)), []).append(before)
        for anchor, came in absorbed.items():
            moved = sorted((one for old in came if old != anchor for one in fates[old][anchor]), key=self._forest.rank)
            if len(came) > 1:
                changes.append(("MERGE", came, [anchor], moved))
            elif came != [anchor]:
                changes.append(("REANCHOR", came, [anchor], moved))
        changes.sort(key=lambda change: _KINDS.index(change[0]))
        return changes

    def _change(self, kind: str, before: list[str], after: list[str], moved: list[str], cause: Cause) -> Event:
        node = self._forest.node(after[0])
        assert node is not None
        node.changes += 1
        self._forest.keep(after[0], node)
        return Event(
            cause.number,
            cause.clock,
            "identity.change",
            Change(
                event_id=ids.change(kind, *after, node.changes),
                event_time=cause.event_time,
                ingest_time=cause.ingest_time,
                site_id=cause.site_id or self._rule.site_id,
                source_id="activation",
                kind=kind,
                persons_before=before,
                persons_after=after,
                members_moved=moved,
                rule_version=self._rule.version,
            ),
        )

    def _alarm(self, crowd: str, cause: Cause) -> Event:
        """An identifier that came to stand with too many others ties nothing any more: somebody should look."""
        alert = Alert(
            event_id=ids.alert("identity-hub", crowd),
            event_time=cause.event_time,
            ingest_time=cause.ingest_time,
            site_id=self._rule.site_id,
            source_id="activation",
            name="identity-hub",
            severity="WARN",
            stage="stitch",
            cause=crowd,
        )
        return Event(cause.number, cause.clock, "ops.alert", alert)
