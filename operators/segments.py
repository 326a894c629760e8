"""Segments: who belongs to which, by what she did and by what time does to it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from operators.state.agenda import Agenda
from operators.state.store import Rows, Table, Tables
from schemas import ids
from schemas.derived import SegmentChange
from schemas.items import Event, Person
from schemas.person import DENIED, WITHDRAWN, Cause, Consents, People, usable

STANDINGS, DUES, RULES = 50, 51, 52
"""Table numbers."""
SOURCE = "activation"


class Verdict(Protocol):
    """How a clause came out: TRUE, FALSE or UNKNOWN."""

    @property
    def value(self) -> str:
        """The word."""
        ...


class Clause(Protocol):
    """A compiled condition over named leaves."""

    @property
    def reads(self) -> Sequence[str]:
        """Leaves it reads, `_known` twins by their own name."""
        ...

    @property
    def purposes(self) -> Collection[str]:
        """What those may be used for only with."""
        ...

    def evaluate(self, values: Mapping[str, Any], /) -> Verdict:
        """Ask it; a leaf that is missing or None is unknown."""
        ...


class FactRead(Protocol):
    """How a segment reads one aggregate."""

    @property
    def aggregate(self) -> str:
        """Id in the fact plan."""
        ...

    @property
    def key_leaf(self) -> str | None:
        """The leaf that keys it: a segment has no place, so a fact with a key is unknown to it."""
        ...


class Segment(Protocol):
    """A segment in force."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def version(self) -> str:
        """Hash of its file."""
        ...

    @property
    def enter(self) -> Clause:
        """Who comes in."""
        ...

    @property
    def leave(self) -> Clause | None:
        """Who goes; without it, whoever would not come in."""
        ...

    @property
    def facts(self) -> Mapping[str, FactRead]:
        """The facts it declares: the leaf of each is `facts.<name>`."""
        ...


class Standing(msgspec.Struct, array_like=True):
    """Where an anchor stands.

    `held` are her segments with the version each was entered under, `at` the instant they hold for, `heard`
    the latest ingest time that was seen, `due` when a fact or a consent next changes by itself, `rules` the
    set of segments asked. `resting`: another anchor stands for her since they became one person; what she
    held is kept for the day they are told apart.
    """

    held: dict[str, str] = {}
    at: int = 0
    heard: int = 0
    due: int | None = None
    rules: str = ""
    scores: dict[str, float] = {}
    resting: bool = False


class Rung(msgspec.Struct, frozen=True):
    """A person whose time had come: what changed, and the cause that any further record takes its times from."""

    person: Person
    cause: Cause
    changes: list[Event]


class Segments:
    """The segments of one shard.

    A member comes in when `enter` is TRUE. She goes when `leave` is TRUE, and also when it is UNKNOWN and
    `enter` is not TRUE: what is not known keeps nobody in. Without the purposes of all leaves that a segment
    reads she is no member; members joined by inference bring facts only where `linking` is granted.

    When persons become one, the absorbed anchor leaves its segments (cause MERGE) and the person goes on
    with what either side held: nobody loses a standing by being recognised. When they are told apart, an
    anchor that rested goes on with what it held before.

    Args:
        segments: in force.
        people: the profiles, with the event at hand applied.
        tables: of the step.
        site_id: of records whose cause has none.

    State: a standing by anchor; when each has to be looked at next; the set of segments they were judged by.
    Time: event time; a late event is judged as of the latest instant already judged, never back in time.
    Guarantee: ids are functions of person, segment, kind and event time.
    Cost: benchmarks/micro.
    """

    def __init__(self, segments: Sequence[Segment], people: People, tables: Tables, site_id: str = "") -> None:
        self._segments = sorted(segments, key=lambda one: one.id)
        self._ids = {segment.id for segment in self._segments}
        self._people, self._site = people, site_id
        self._rules = ids.version([[segment.id, segment.version] for segment in self._segments])
        self._needs = {
            one.id: frozenset(one.enter.purposes).union(one.leave.purposes if one.leave else ())
            for one in self._segments
        }
        clauses = [clause for one in self._segments for clause in (one.enter, one.leave) if clause is not None]
        self._leaves = {leaf.removesuffix("_known"): None for clause in clauses for leaf in clause.reads}
        self._scored = any(leaf.startswith("score.") or leaf == "person.ltv" for leaf in self._leaves)
        self._facts = {
            one.id: {
                f"facts.{name}": fact.aggregate
                for name, fact in one.facts.items()
                if fact.key_leaf is None and f"facts.{name}" in self._leaves
            }
            for one in self._segments
        }
        self._aggregates = sorted({name for facts in self._facts.values() for name in facts.values()})
        self._asked = [(name, "") for name in self._aggregates]
        self._standings: Table[Standing] = tables.table(STANDINGS, Standing)
        self._dues = Agenda(tables, DUES)
        self._judged_by: Table[str] = tables.table(RULES, str)
        self._settled: dict[str, tuple[object, ...]] = {}

    def of(self, person: Person) -> list[str]:
        """Her segments, sorted."""
        standing = self._standings.get(person.anchor)
        return [] if standing is None or standing.resting else sorted(standing.held)

    def scores(self, person: Person) -> Mapping[str, float]:
        """The newest scores that her segments were judged by; empty where no segment reads one."""
        standing = self._standings.get(person.anchor)
        return {} if standing is None else standing.scores

    def evaluate(
        self, person: Person, cause: Cause, why: str, scores: Mapping[str, float] | None = None
    ) -> list[Event]:
        """Judge her anew, after an event was applied or her membership changed.

        Args:
            person: as she stands now.
            cause: gives the records their place and times.
            why: EVENT, TIME, MERGE, SPLIT or RULE.
            scores: the newest scores by name (`intent`, `ltv`); without, those of the last time.

        Returns:
            `segment.change` events: what absorbed anchors leave, then changes in order of segment.
        """
        standing = self._standings.get(person.anchor)
        if not self._segments and standing is None:
            return []
        standing = standing or Standing()
        due = standing.due
        told = {} if standing.resting else standing.held
        before = dict(standing.held)
        changes = []
        for member, absorbed in self._absorbed(person):
            changes += [
                self._change(member, segment, version, "LEFT", cause, "MERGE")
                for segment, version in sorted(absorbed.held.items())
            ]
            before = absorbed.held | before
            standing.at, standing.heard = max(standing.at, absorbed.at), max(standing.heard, absorbed.heard)
            self._dues.move(member, absorbed.due, None)
            absorbed.resting, absorbed.due = True, None
            self._standings.put(member, absorbed)
        standing.at = max(standing.at, cause.event_time)
        standing.heard = max(standing.heard, cause.ingest_time)
        if scores is not None and self._scored:
            standing.scores = dict(scores)
        after = self._judge(person, standing, before)
        for segment in sorted(told.keys() ^ after.keys()):
            kind = "ENTERED" if segment in after else "LEFT"
            version = after[segment] if segment in after else told[segment]
            changes.append(self._change(person.anchor, segment, version, kind, cause, why))
        standing.held, standing.rules, standing.resting = after, self._rules, False
        self._standings.put(person.anchor, standing)
        self._dues.move(person.anchor, due, standing.due)
        return changes

    def next_due(self) -> int | None:
        """When a standing next has to be judged because of time alone."""
        first = self._dues.first(self._waits)
        return None if first is None else first[0]

    def ring(self, upto: int, number: int, clock: int) -> list[Rung]:
        """Judge everybody whose time came at or before `upto`, in order of (due, anchor).

        `number` and `clock` are those of the tick.
        """
        rung = []
        while (due := self.next_due()) is not None and due <= upto:
            rung += self._ring(self._dues.pop(), due, number, clock, "TIME")
        return rung

    def settle(self, person: Person, upto: int, number: int, clock: int) -> list[Rung]:
        """Judge one person by what time did to her up to `upto`, before an event of then is applied."""
        rung = []
        while (standing := self._standings.get(person.anchor)) is not None:
            if standing.resting or standing.due is None or standing.due > upto:
                break
            rung += self._ring(person.anchor, standing.due, number, clock, "TIME")
        return rung

    def recheck(self, at: int, number: int, clock: int) -> list[Rung]:
        """After a start with other segments: judge everybody by them as of `at`; later calls do nothing."""
        if self._judged_by.get("") == self._rules:
            return []
        self._judged_by.put("", self._rules)
        outdated = [anchor for anchor, one in self._standings.items() if one.rules != self._rules and not one.resting]
        rung = []
        for anchor in outdated:
            standing = self._standings.get(anchor)
            if standing is not None and standing.rules != self._rules and not standing.resting:
                rung += self._ring(anchor, at, number, clock, "RULE")
        return rung

    def give(self, members: Collection[str]) -> Rows:
        """Hand over the standings of identifiers that move to another shard."""
        for member in members:
            standing = self._standings.get(member)
            if standing is not None:
                self._dues.move(member, standing.due, None)
            self._settled.pop(member, None)
        return self._standings.give(members)

    def take(self, table: int, key: str, stored: bytes) -> bool:
        """Take over the standing of somebody who moved here; False for a table of another core."""
        if table != STANDINGS:
            return False
        standing = self._standings.take(key, stored)
        self._settled.pop(key, None)
        if not standing.resting:
            self._dues.move(key, None, standing.due)
        return True

    def _absorbed(self, person: Person) -> list[tuple[str, Standing]]:
        """Anchors among her members that stood for themselves until now, sorted."""
        found = [(one.identifier, self._standings.get(one.identifier)) for one in person.members]
        return sorted(
            [(member, one) for member, one in found if one and not one.resting and member != person.anchor],
            key=lambda pair: pair[0],
        )

    def _waits(self, due: int, anchor: str) -> bool:
        standing = self._standings.get(anchor)
        return standing is not None and standing.due == due and not standing.resting

    def _ring(self, anchor: str, due: int, number: int, clock: int, why: str) -> list[Rung]:
        person, standing = self._people.person_of(anchor), self._standings.get(anchor)
        if standing is None:
            return []
        if person is None or person.anchor != anchor:
            self._dues.move(anchor, standing.due, None)
            standing.due = None
            self._standings.put(anchor, standing)
            return []
        cause = Cause(number, clock, due, max(due, standing.heard), self._site)
        return [Rung(person, cause, self.evaluate(person, cause, why))]

    def _judge(self, person: Person, standing: Standing, before: Mapping[str, str]) -> dict[str, str]:
        """What she holds as of `standing.at`, having held `before`; also sets when to look again."""
        at = standing.at
        consents = self._people.consents(person, at)
        if consents.of("profiling") in {DENIED, WITHDRAWN}:
            standing.scores = {}
        seen = usable(person, consents)
        facts = {name: self._people.fact(seen, name, "", at) for name in self._aggregates}
        due = self._people.next_change(seen, self._asked, at)
        expiry = self._people.next_change(person, (), at) if seen is not person else due
        standing.due = min(due, expiry) if due is not None and expiry is not None else expiry if due is None else due
        values = {leaf: self._leaf(leaf, seen, standing.scores) for leaf in self._leaves}
        key = (consents, tuple(facts.values()), tuple(values.values()), sorted(before))
        if self._settled.get(person.anchor) == key and before.keys() <= self._ids:
            return dict(before)
        after = dict(before)
        for segment in self._segments:
            values.update((leaf, facts[aggregate]) for leaf, aggregate in self._facts[segment.id].items())
            values["person.segments"] = sorted(after)
            if not self._belongs(segment, segment.id in before, consents, values):
                after.pop(segment.id, None)
            elif segment.id not in before:
                after[segment.id] = segment.version
        for gone in [name for name in after if name not in self._ids]:
            del after[gone]
        if len(self._settled) > 100_000:
            self._settled.clear()
        if after.keys() == before.keys():
            self._settled[person.anchor] = key
        return after

    def _belongs(self, segment: Segment, inside: bool, consents: Consents, values: Mapping[str, Any]) -> bool:
        if not all(consents.granted(purpose) for purpose in self._needs[segment.id]):
            return False
        if inside and segment.leave is not None:
            leave = segment.leave.evaluate(values).value
            if leave != "UNKNOWN":
                return leave == "FALSE"
        return segment.enter.evaluate(values).value == "TRUE"

    def _leaf(self, leaf: str, person: Person, scores: Mapping[str, float]) -> Any:
        """A leaf that is no fact; what segments cannot see is None."""
        if leaf == "person.tier":
            return self._people.tier(person)
        if leaf.startswith("person.traits."):
            return self._people.traits(person).get(leaf.removeprefix("person.traits."))
        if leaf == "person.ltv" or leaf.startswith("score."):
            return scores.get(leaf.rpartition(".")[2])
        if leaf == "identity.state":
            return person.state
        return person.confidence if leaf == "identity.confidence" else None

    def _change(self, anchor: str, segment: str, version: str, kind: str, cause: Cause, why: str) -> Event:
        record = SegmentChange(
            event_id=ids.segment(anchor, segment, kind, cause.event_time),
            event_time=cause.event_time,
            ingest_time=cause.ingest_time,
            site_id=cause.site_id or self._site,
            source_id=SOURCE,
            person_id=anchor,
            segment_id=segment,
            segment_version=version,
            kind=kind,
            cause=why,
        )
        return Event(cause.number, cause.clock, "segment.change", record)
