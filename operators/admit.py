"""Admit: what may be acted on, in the order in which it happened.

Every record passes the gates at arrival; a position then waits until the watermark says that nothing older
will come, and leaves as a `Fix` in event-time order. What is refused is a dead letter, what is behind the
watermark a late row; every row meets exactly one fate.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappush

from operators.clocks import PROBATION_LASTS, SECOND, Held, Notice, Source, Trust, judge
from operators.dwelling import default_of
from operators.grounds import Grounds
from operators.place import Places
from operators.ranges import fault_of
from operators.reorder import Trail, Waiting
from operators.repeats import Repeats
from operators.shore import Shore
from operators.state.store import Tables
from schemas import ids
from schemas.codec import encode_body
from schemas.items import Due, Event, Fix, Item, Tally, Tick, Watermark
from schemas.letters import Sealed, dead_letter
from schemas.operations import Alert, Late
from schemas.sensing import Position, SourceStatus
from schemas.topics import TOPICS

STEP = 100_000
LEAD = 2 * SECOND
HOUR = 3600 * SECOND
FIRST_YEAR = 631_152_000 * SECOND
"""1990: no sensor's clock is older and right."""
UNTIL = 3_786_912_000 * SECOND
"""2090."""
END = 253_402_300_799 * SECOND
"""The end of time: the last second of the year 9999."""
QUIET = 60 * SECOND
SWEEP = 600 * SECOND
FORGET_SUBJECT = HOUR
POSITIONS = frozenset({"sensing.position", "sensing.position-batch"})
DUE = frozenset({"consent.record", "identity.link", "venue.zone", "venue.site", "control.threshold"})
_KEPT = {name: topic.hours * HOUR for name, topic in TOPICS.items() if topic.hours is not None}


@dataclass(frozen=True)
class AdmitRule:
    """How strict the door is.

    Args:
        sealed: seals the payload of a dead letter under the deployment's key.
        until: an event time at or past it is FUTURE_TIME whatever the clock says (µs).
        reorder_us: how long readings wait for older ones; None works it out from each source's delays.
        reorders: that time at most, by technology, where the settings differ from the defaults.
        network_floor_us: what every reading takes at least on its way.
        offsets: clock offsets an operator vouches for, by source id (µs to add to its event times).
        sites: sites known beside that of the venue.
        remembered: how many event ids of a topic are remembered against repeats.
    """

    sealed: Sealed
    until: int = UNTIL
    reorder_us: int | None = None
    reorders: Mapping[str, int] = field(default_factory=dict)
    network_floor_us: int = 0
    offsets: Mapping[str, int] = field(default_factory=dict)
    sites: frozenset[str] = frozenset()
    remembered: int = 100_000


class Admit:
    """The core of one shard.

    State: each source's lags and streams; each subject's last 64 readings, for an hour; what waits for the
        watermark; the last event ids of each topic; edits of the venue.
    Time: event time and a watermark of its own; the clock of the source comes with each item.
    Guarantee: any arrival order within the reorder time gives the same fixes.
    Errors: every reason of stage ADMIT; late readings go whole to `ops.late`.
    Cost: `benchmarks/micro/bench_admit.py`.

    Args:
        rule: how strict the door is.
        places: the venue's geometry; a copy is kept, so that later steps may use it in their own time.
        tables: all that is remembered.
    """

    def __init__(self, rule: AdmitRule, places: Places, tables: Tables) -> None:
        self._rule = rule
        self._shore = Shore(tables, 1)
        self._waiting = Waiting(tables, 3)
        self._trails = tables.table(5, Trail)
        self._repeats = Repeats(tables, 6, rule.remembered)
        self._grounds = Grounds(places, rule.sites, tables, 7)
        self._tally: Counter[tuple[str, str]] = Counter()
        self._out: list[Item] = []
        self._number = self._clock = 0

    def step(self, items: list[Item]) -> list[Item]:
        """Move the shard on; positions end here, everything else passes. Tallies stand at the end."""
        out = self._out = []
        for item in items:
            kind = type(item)
            if kind is Event:
                self._event(item)  # type: ignore[arg-type]
            elif kind is Tick:
                self._tick(item)  # type: ignore[arg-type]
            else:
                out.append(item)
        out.extend(Tally(topic, fate, count) for (topic, fate), count in sorted(self._tally.items()))
        self._tally.clear()
        self._waiting.keep()
        self._shore.keep()
        self._out = []
        return out

    # -- arrival

    def _event(self, event: Event) -> None:
        if event.offset < 0:  # derived on the way here
            self._out.append(event)
            return
        self._number, self._clock = event.number, event.clock
        if event.topic in POSITIONS:
            self._position(event)
        else:
            self._fact(event)

    def _position(self, event: Event) -> None:
        reading: Position = event.record  # type: ignore[assignment]
        if (fault := self._grounds.fault_of_position(reading)) is not None:
            self._refuse(event, *fault)
            return
        if self._grounds.sensitive(reading):
            self._tally[event.topic, "applied"] += 1
            return
        source = self._source(reading.site_id, reading.source_id, reading.tech)
        due = source.hear(reading.event_time, reading.ingest_time, event.clock)
        probation = source.trust is Trust.PROBATION
        held: Held = (
            reading.event_time + source.correction,
            reading.source_id,
            -1 if reading.seq is None else reading.seq,
            event.number,
            -1 if event.index is None else event.index,
            event.topic,
            event.partition,
            event.offset,
            reading,
        )
        if probation:
            if not self._untracked(held):
                source.waiting.append(held)
            if due:
                self._graduate(source, reading.ingest_time)
            return
        if due:
            self._judge(source, reading.ingest_time, reading.tech)
            held = (reading.event_time + source.correction, *held[1:])
        if source.trust is Trust.QUARANTINED:
            self._refuse(event, "CLOCK_QUARANTINE", f"clock of source {source.source_id!r} is quarantined")
        elif self._timely(held) and not self._untracked(held):
            self._enter(source, held)
            self._flow()

    def _timely(self, held: Held) -> bool:
        """FUTURE_TIME and TOO_OLD, by the corrected time."""
        t, reading = held[0], held[8]
        if t > reading.ingest_time + LEAD or reading.event_time >= self._rule.until:
            self._refuse(self._as_event(held), "FUTURE_TIME", "event_time must be at most 2 s after ingest_time")
        elif t < FIRST_YEAR or reading.ingest_time - t > _KEPT[held[5]]:
            self._refuse(self._as_event(held), "TOO_OLD", "event_time must lie within the topic's retention")
        else:
            return True
        return False

    def _untracked(self, held: Held) -> bool:
        """Count a reading of which nothing may be kept: nobody is tracked here, or this is nobody."""
        if not self._grounds.untracked(held[8]):
            return False
        self._tally[held[5], "applied"] += 1
        return True

    def _enter(self, source: Source, held: Held, *, tried: bool = False) -> None:
        """Duplicate, late, then the buffer; after a probation late is only what its own subject has passed."""
        t, reading = held[0], held[8]
        subject = reading.subject_id
        trail = self._trails.get(subject)
        if trail is None:
            trail = Trail({})
        trail.heard = self._clock
        if trail.repeats(reading):
            self._tally[held[5], "duplicate"] += 1
            return
        self._trails.put(subject, trail)
        mark = trail.shown if tried else self._shore.mark.at
        if t < mark:
            self._late(held, mark)
            return
        trail.waiting += 1
        heappush(self._waiting.readings, held)
        self._shore.entered(source, held[6], min(t, reading.ingest_time), self._clock, reading.ingest_time)

    def _late(self, held: Held, mark: int) -> None:
        t, _, _, _, index, topic, partition, offset, reading = held
        record = Late(
            event_id=ids.late(topic, partition, offset, "" if index < 0 else index),
            event_time=t,
            ingest_time=max(t, reading.ingest_time),
            site_id=reading.site_id,
            source_id="presence",
            origin_topic=topic,
            origin_partition=partition,
            origin_offset=offset,
            subject_id=reading.subject_id,
            late_by_us=mark - t,
            watermark=mark,
            payload=encode_body("sensing.position", reading),
        )
        self._tally[topic, "late"] += 1
        self._out.append(Event(self._number, self._clock, "ops.late", record))

    def _refuse(self, event: Event, reason: str, detail: str) -> None:
        self._tally[event.topic, "dead"] += 1
        self._out.append(
            dead_letter(event=event, stage="ADMIT", reason=reason, detail=detail, sealed=self._rule.sealed)
        )

    def _as_event(self, held: Held) -> Event:
        """A reading that has waited, as the event it was, at the place of what released it."""
        _, _, _, _, index, topic, partition, offset, reading = held
        return Event(self._number, self._clock, topic, reading, partition, offset, None if index < 0 else index)

    # -- sources

    def _source(self, site_id: str, source_id: str, tech: str) -> Source:
        found = self._shore.source(site_id, source_id)
        return found or self._shore.add(Source(site_id, source_id, Trust.PROBATION, self._longest(tech)))

    def _longest(self, tech: str) -> int:
        if self._rule.reorder_us is not None:
            return self._rule.reorder_us
        return self._rule.reorders.get(tech, default_of(tech).reorder_us)

    def _judge(self, source: Source, ingest_time: int, tech: str) -> None:
        notices = judge(
            source,
            ingest_time,
            longest=self._longest(tech),
            reorder=self._rule.reorder_us,
            floor=self._rule.network_floor_us,
            stated=self._rule.offsets.get(source.source_id),
        )
        self._shore.judged(source)
        for notice in notices:
            self._alert(source, ingest_time, notice)

    def _alert(self, source: Source, at: int, notice: Notice) -> None:
        record = Alert(
            event_id=ids.alert(source.site_id, source.source_id, notice.name, at, notice.cleared),
            event_time=at,
            ingest_time=at,
            site_id=source.site_id,
            source_id="presence",
            name=notice.name,
            severity="PAGE" if notice.name == "QUARANTINED" and not notice.cleared else "WARN",
            stage="ADMIT",
            cause=notice.cause,
            value=notice.value,
            limit=notice.limit,
            cleared=notice.cleared,
        )
        self._out.append(Event(self._number, self._clock, "ops.alert", record))

    def _graduate(self, source: Source, ingest_time: int) -> None:
        """End a probation: the estimate decides, then what has waited goes through the gates that are left."""
        waiting, source.waiting = sorted(source.waiting), []
        tech = waiting[-1][8].tech if waiting else "UNKNOWN"
        self._judge(source, ingest_time, tech)
        for held in waiting:
            corrected: Held = (held[8].event_time + source.correction, *held[1:])
            if source.trust is Trust.QUARANTINED:
                detail = f"clock of source {source.source_id!r} is quarantined"
                self._refuse(self._as_event(held), "CLOCK_QUARANTINE", detail)
            elif self._timely(corrected):
                self._enter(source, corrected, tried=True)
        self._flow()

    # -- release

    def _flow(self) -> None:
        """Release what the watermark has reached, then say how far it is."""
        mark = self._shore.mark
        if mark.at > mark.told:
            self._release(mark.at)
            mark.told = mark.at
            self._out.append(Watermark(self._number, self._clock, mark.at))
        elif self._waiting.readings and self._waiting.readings[0][0] <= mark.at:
            self._release(mark.at)

    def _release(self, watermark: int) -> None:
        ripe, out = self._waiting.ripe, self._out
        while (found := ripe(watermark)) is not None:
            if isinstance(found, Event):
                out.append(Due(self._number, self._clock, found))
            else:
                self._show(found)

    def _show(self, held: Held) -> None:
        t, reading = held[0], held[8]
        trail = self._trails.get(reading.subject_id)
        if trail is None:
            trail = Trail({})
        trail.waiting -= 1
        trail.shown = max(trail.shown, t)
        self._trails.put(reading.subject_id, trail)
        if trail.too_fast(t, reading.x_m, reading.y_m):
            detail = "a subject must move at most 5 m/s and 0.5 m within a second"
            self._refuse(self._as_event(held), "IMPOSSIBLE_SPEED", detail)
            return
        trail.at, trail.x_m, trail.y_m = t, reading.x_m, reading.y_m
        self._tally[held[5], "applied"] += 1
        accuracy = reading.accuracy_m
        self._out.append(
            Fix(
                self._number,
                self._clock,
                t,
                reading.ingest_time,
                reading.subject_id,
                reading.tech,
                reading.x_m,
                reading.y_m,
                reading.floor,
                0.0 if accuracy is None else accuracy,
            )
        )

    # -- time

    def _tick(self, tick: Tick) -> None:
        self._number = tick.number
        if tick.end:
            self._clock = tick.clock
            self._end()
        else:
            self._walk(tick.clock - tick.clock % STEP)
            self._clock = tick.clock
        self._out.append(tick)

    def _walk(self, to: int) -> None:
        """Step to `to` on multiples of 100 ms; where nothing can come of the steps, in one."""
        mark = self._shore.mark
        step = to if mark.stepped == 0 else mark.stepped + STEP
        while step <= to:
            if not self._busy(step, to):
                step = to
            self._clock = step
            if step // SWEEP != mark.stepped // SWEEP:
                self._sweep(step)
            mark.stepped = step
            for source in self._shore.probations():
                if source.count and step - source.first_clock >= PROBATION_LASTS:
                    self._graduate(source, max(source.first_ingest, step))
            self._shore.stepped(step)
            self._flow()
            step += STEP

    def _busy(self, step: int, to: int) -> bool:
        waiting = self._waiting
        return (
            bool(waiting.readings)
            or step - self._shore.mark.heard <= max(QUIET, self._grounds.longest_gap + QUIET // 2)
            or (bool(waiting.dues) and waiting.dues[0][0] <= to)
            or any(source.count for source in self._shore.probations())
        )

    def _end(self) -> None:
        for source in self._shore.probations():
            if source.count:
                self._graduate(source, source.first_ingest + PROBATION_LASTS)
        self._shore.mark.at = self._shore.mark.told = END
        self._release(END)
        self._out.append(Watermark(self._number, self._clock, END, end=True))

    def _sweep(self, clock: int) -> None:
        """Forget subjects not heard for an hour, and sources for a day."""
        for subject, trail in list(self._trails.items()):
            if trail.waiting <= 0 and clock - trail.heard > FORGET_SUBJECT:
                self._trails.put(subject, None)
        self._shore.forget(clock - 24 * HOUR)

    # -- everything that is not a position

    def _fact(self, event: Event) -> None:
        record, topic = event.record, event.topic
        fault = fault_of(record)
        if fault is None and topic.startswith("sensing."):
            fault = self._grounds.fault_of_sensed(record)
        fault = fault or self._untimely(event)
        if fault is not None:
            self._refuse(event, *fault)
            return
        if self._repeats.seen(topic, getattr(record, "event_id", ""), event.number):
            self._tally[topic, "duplicate"] += 1
            return
        self._tally[topic, "applied"] += 1
        self._grounds.note(record)
        if isinstance(record, SourceStatus):
            self._shore.said(self._source(record.site_id, record.source_id, "UNKNOWN"), record, event.clock)
        self._out.append(event)
        if topic in DUE:
            if record.event_time <= self._shore.mark.at:
                self._out.append(Due(event.number, event.clock, event))
            else:
                self._waiting.wait(event)

    def _untimely(self, event: Event) -> tuple[str, str] | None:
        record = event.record
        at = record.event_time
        if event.topic.startswith("sensing."):
            source = self._shore.source(record.site_id, record.source_id)
            at += 0 if source is None else source.correction
            if at > record.ingest_time + LEAD:
                return "FUTURE_TIME", "event_time must be at most 2 s after ingest_time"
        if record.event_time >= self._rule.until:
            return "FUTURE_TIME", "event_time must be before the end that the settings name"
        if at < FIRST_YEAR or record.ingest_time - at > _KEPT.get(event.topic, END):
            return "TOO_OLD", "event_time must lie within the topic's retention"
        return None
