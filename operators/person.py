"""The person step: profile, score, segments and decisions of one event after the other, by a single writer.

An event is applied before anything is evaluated, so that an attribute and a trigger in one event cannot race,
and no trigger sees yesterday's membership.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from operators.decide import Decide
from operators.profile import Profiles
from operators.score import Scored, Scores
from operators.segments import Rung, Segments
from operators.state.store import Rows
from schemas.derived import Decision, DwellReached, Outcome, SegmentChange
from schemas.items import Event, Item, Linked, Occupied, Person, Tick, Touched
from schemas.person import Cause

STEP_US = 100_000
"""The clock of a source steps on multiples of this between two rows."""
_STRUCTURE = {"MERGE": "MERGE", "SPLIT": "SPLIT", "REANCHOR": "MERGE"}


class PersonStep:
    """Composes the cores that work on one person.

    Args:
        profiles: who somebody is.
        segments: where she belongs.
        scores: how likely a purchase is; None where no score is ever asked for.
        decide: what should happen.
    """

    def __init__(self, profiles: Profiles, segments: Segments, scores: Scores | None, decide: Decide) -> None:
        self._profiles, self._segments, self._scores, self._decide = profiles, segments, scores, decide
        self._segments_read_score = scores is not None and decide.segments_read_score
        self._linked: list[Linked] = []

    def step(self, items: list[Item]) -> list[Item]:
        """Work on items in order; everything passes on, what is derived stands right behind its cause."""
        end = next((item for item in items if isinstance(item, Tick) and item.end), None)
        out: list[Item] = []
        for place, item in enumerate(items):
            if self._linked and _number(item) not in {None, self._linked[-1].number}:
                out += self._settle()
            if end is None:
                out += self._catch_up(item)
            if isinstance(item, Touched):
                out.append(item)
                out += self._touched(item, end)
            elif isinstance(item, Linked):
                out.append(item)
                out += self._link(item, _ingest(item, items[place + 1 :]))
            elif isinstance(item, Tick):
                out += self._tick(item)
                out.append(item)
            elif isinstance(item, Occupied):
                self._decide.occupied(item)
                out.append(item)
            elif isinstance(item, Event):
                out.append(item)
                out += self._event(item)
            else:
                out.append(item)
        return out + self._settle()

    def give(self, members: Collection[str]) -> Rows:
        """Hand over all that is kept of identifiers that move to another shard; nothing of them stays."""
        scores = [] if self._scores is None else self._scores.give(members)
        return [*self._profiles.give(members), *self._segments.give(members), *scores, *self._decide.give(members)]

    def take(self, rows: Rows) -> None:
        """Take over rows of somebody who moved here.

        Raises:
            ValueError: a table that this program does not have.
        """
        for table, key, stored in rows:
            taken = self._profiles.take(table, key, stored) or self._segments.take(table, key, stored)
            taken = taken or (self._scores is not None and self._scores.take(table, key, stored))
            if not (taken or self._decide.take(table, key, stored)):
                raise ValueError(f"a row of table {table} must be of a core of this step")

    def _touched(self, touched: Touched, end: Tick | None) -> list[Item]:
        event = touched.event
        person, record, cause = touched.person, event.record, Cause.of(event)
        out = self._rung(self._segments.settle(person, record.event_time, event.number, event.clock))
        changed = self._profiles.apply(touched)
        if not changed.new:
            return out
        if self._scores is not None:
            self._scores.observe(touched)
        scored = self._score(touched)
        changes: list[Event] = []
        if changed.anything or scored is not None:
            values = None if scored is None else {"intent": scored.value}
            changes = self._segments.evaluate(person, cause, "EVENT", values)
        told = [] if scored is None else [scored.event]
        out += [*told, *changes, *self._snapshots(person, cause)]
        if not _beyond(event, end):
            out += self._decided(self._decide.consider(touched), person, cause, told)
        for change in _own(changes):
            out += self._decided(self._decide.segment_changed(change, person, person.anchor), person, cause)
        if isinstance(record, Outcome):
            self._outcome(record)
        return out

    def _link(self, linked: Linked, ingest_time: int) -> list[Item]:
        self._profiles.link(linked)
        self._decide.linked(linked)
        self._linked.append(linked)
        why = _STRUCTURE.get(linked.kind)
        if why is None:
            return []
        cause = Cause(linked.number, linked.clock, linked.event_time, ingest_time)
        out: list[Item] = []
        for person in linked.persons:
            changes = self._segments.evaluate(person, cause, why)
            out += changes
            for change in _own(changes):
                out += self._decided(self._decide.segment_changed(change, person, person.anchor), person, cause)
        return out

    def _event(self, event: Event) -> list[Item]:
        if isinstance(event.record, Outcome):
            self._outcome(event.record)
            return []
        out = self._decide.heard(event)
        if self._scores is not None and event.topic.startswith("venue."):
            self._scores.venue = self._decide.venue
        return self._decided(out, None, Cause.of(event))

    def _tick(self, tick: Tick) -> list[Item]:
        out = self._rung(self._segments.recheck(tick.clock, tick.number, tick.clock))
        if tick.end and self._decide.end == "keep":
            return out
        everything = tick.end and self._decide.end == "all"
        return out + self._ring(None if everything else tick.clock, tick.number, tick.clock)

    def _catch_up(self, item: Item) -> list[Item]:
        """Timers of the steps of the clock before an item: presence may have walked on ahead of the next tick."""
        clock = _clock(item)
        if clock is None:
            return []
        return self._ring((clock - 1) // STEP_US * STEP_US, _number(item) or 0, clock)

    def _ring(self, upto: int | None, number: int, clock: int) -> list[Item]:
        out: list[Item] = []
        while True:
            segments, decide = self._segments.next_due(), self._decide.next_due()
            due = min((each for each in (segments, decide) if each is not None), default=None)
            if due is None or (upto is not None and due > upto):
                return out
            if due == segments:  # a membership that ends is no trigger's any more at that instant
                out += self._rung(self._segments.ring(due, number, clock))
            else:
                out += self._decided(self._decide.ring(due, number, clock), None, Cause(number, clock, due, due))

    def _rung(self, rung: Iterable[Rung]) -> list[Item]:
        out: list[Item] = []
        for each in rung:
            out += [*each.changes, *self._snapshots(each.person, each.cause)]
            for change in _own(each.changes):
                decided = self._decide.segment_changed(change, each.person, each.person.anchor)
                out += self._decided(decided, each.person, each.cause)
        return out

    def _settle(self) -> list[Item]:
        """Links that no event followed."""
        out: list[Item] = []
        if self._linked:
            last = self._linked[-1]
            cause = Cause(last.number, last.clock, last.event_time, last.event_time)
            out += self._snapshots(None, cause)
        for item in self._decide.settle():
            out += self._decided([item], None, _cause(item))
        return out

    def _snapshots(self, person: Person | None, cause: Cause) -> list[Event]:
        """What is published of the person at hand, and of those whose membership changed with the event."""
        linked, self._linked = self._linked, []
        persons = {} if person is None else {person.anchor: person}
        for each in linked:
            for other in each.persons:
                persons.setdefault(other.anchor, other)
        found = []
        for each_person in persons.values():
            scores: Mapping[str, float] = self._segments.scores(each_person)
            found.append(self._profiles.snapshot(each_person, self._segments.of(each_person), scores, cause))
        return [event for event in found if event is not None]

    def _score(self, touched: Touched) -> Scored | None:
        """A score for the segments that read one: whenever somebody has stayed somewhere."""
        event, record = touched.event, touched.event.record
        if not self._segments_read_score or self._scores is None or not isinstance(record, DwellReached):
            return None
        at = record.event_time
        return self._scores.score(
            touched.person,
            event,
            record.zone_id,
            record.visit_id,
            at,
            self._profiles.consents(touched.person, at),
            self._decide.occupancy(record.zone_id),
            touched.member,
        )

    def _decided(
        self, items: Sequence[Item], person: Person | None, cause: Cause, told: Sequence[Event] = ()
    ) -> list[Item]:
        """Count what fired, and let segments that read it know; a score is told once."""
        out: list[Item] = []
        known = {event.record.event_id for event in told if hasattr(event.record, "event_id")}
        for item in items:
            record = item.record if isinstance(item, Event) else None
            if record is not None and getattr(record, "event_id", "") in known:
                continue
            out.append(item)
            if isinstance(record, Decision):
                out += self._fired(record, person, cause)
        return out

    def _fired(self, record: Decision, person: Person | None, cause: Cause) -> list[Item]:
        whose = person or self._profiles.person_of(record.anchor_id)
        fired = [each.campaign_id for each in record.candidates if each.verdict == "FIRED"]
        if whose is None:
            return []
        counted = False
        for campaign in fired:
            counted |= self._profiles.observe_fired(whose, campaign, record.event_time, record.event_id)
        if not counted:
            return []
        changes = self._segments.evaluate(whose, cause, "EVENT")
        out: list[Item] = [*changes, *self._snapshots(whose, cause)]
        for change in _own(changes):
            out += self._decided(self._decide.segment_changed(change, whose, whose.anchor), whose, cause)
        return out

    def _outcome(self, record: Outcome) -> None:
        told = self._decide.outcome(record)
        person = None if told is None else self._profiles.person_of(told.member)
        if told is not None and person is not None:
            self._profiles.observe_outcome(person, told.campaign, record.status, record.event_time, record.event_id)


def _beyond(event: Event, end: Tick | None) -> bool:
    """Whether the end of a replay has fired a stay that lies ahead of everything heard."""
    record = event.record
    return end is not None and isinstance(record, DwellReached) and record.fired_at > end.clock


def _own(changes: Sequence[Event]) -> list[Event]:
    """Changes that are news: a membership that only passed on to the person who absorbed another is none."""
    records = [event.record for event in changes if isinstance(event.record, SegmentChange)]
    passed = {record.segment_id for record in records if record.kind == "LEFT" and record.cause == "MERGE"}
    return [
        event for event in changes if isinstance(event.record, SegmentChange) and event.record.segment_id not in passed
    ]


def _number(item: Item) -> int | None:
    number: int | None = item.event.number if isinstance(item, Touched) else getattr(item, "number", None)
    return number


def _clock(item: Item) -> int | None:
    if isinstance(item, Touched):
        return item.event.clock
    return item.clock if isinstance(item, Event | Linked | Occupied) else None


def _cause(item: Item) -> Cause:
    return Cause.of(item) if isinstance(item, Event) else Cause(0, 0, 0, 0)


def _ingest(linked: Linked, following: Sequence[Item]) -> int:
    """Ingest time of the event that changed a membership: it follows with the same number."""
    for item in following:
        if isinstance(item, Touched) and item.event.number == linked.number:
            return item.event.record.ingest_time
        if not isinstance(item, Linked | Event) or item.number != linked.number:
            break
    return linked.event_time
