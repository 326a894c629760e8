"""Admit: what may be acted on, in the order in which it happened.

Every record passes the gates at arrival; a position then waits until the watermark says that nothing older
will come, and leaves as a `Fix` in event-time order. What is refused is a dead letter, what is behind the
watermark a late row; every row meets exactly one fate.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappush

from operators.door import remarks
from operators.door.clocks import PROBATION_LASTS, SECOND, Held, Source, Trust, judge
from operators.door.grounds import Grounds
from operators.door.ranges import fault_of
from operators.door.reorder import Trail, Waiting
from operators.door.repeats import Repeats
from operators.door.shore import Shore
from operators.door.times import END, UNTIL, fault_of_clock, fault_of_time
from operators.state.store import Tables
from operators.venues.dwelling import default_of
from operators.venues.place import Places
from schemas.items import Due, Event, Fix, Item, Tally, Tick, Watermark
from schemas.letters import Sealed, dead_letter
from schemas.sensing import Position, SourceStatus
from schemas.types import AnyRecord

STEP = 100_000
HOUR = 3600 * SECOND
QUIET = 60 * SECOND
SWEEP = 600 * SECOND
FORGET_SUBJECT = HOUR
POSITIONS = frozenset({"sensing.position", "sensing.position-batch"})
_QUARANTINED = "the clock of its source must be right; an alert QUARANTINED says which"
DUE = frozenset({"consent.record", "identity.link", "venue.zone", "venue.site", "control.threshold"})


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
        longest_gap_us: the longest silence that the settings forgive, where it is longer than any zone's own.
        sites: sites known beside that of the venue.
        remembered: how many event ids of a topic are remembered against repeats.
    """

    sealed: Sealed
    until: int = UNTIL
    reorder_us: int | None = None
    reorders: Mapping[str, int] = field(default_factory=dict)
    network_floor_us: int = 0
    offsets: Mapping[str, int] = field(default_factory=dict)
    longest_gap_us: int = 0
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

    @property
    def idle_sources(self) -> int:
        """Sources that have fallen silent; safe to read from another thread."""
        return self._shore.idle

    @property
    def clock_offset(self) -> int:
        """Farthest that the readings of a source are from our clock, µs; safe to read from another thread."""
        return self._shore.offset

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
        if (fault := fault_of_clock(reading) or self._grounds.fault_of_position(reading)) is not None:
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
            self._judge(source, reading.ingest_time, held)
            held = (reading.event_time + source.correction, *held[1:])
        if source.trust is Trust.QUARANTINED:
            self._refuse(event, "CLOCK_QUARANTINE", _QUARANTINED)
        elif self._timely(held, event) and not self._untracked(held):
            self._enter(source, held)
            self._flow()

    def _timely(self, held: Held, event: Event) -> bool:
        fault = fault_of_time(held[5], held[8], held[0], self._rule.until)
        if fault is not None:
            self._refuse(event, *fault)
        return fault is None

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
            self._tally[held[5], "late"] += 1
            self._say("ops.late", remarks.late(held, mark))
            return
        trail.waiting += 1
        heappush(self._waiting.readings, held)
        self._shore.entered(source, held[6], min(t, reading.ingest_time), self._clock, reading.ingest_time)

    def _refuse(self, event: Event, reason: str, detail: str) -> None:
        self._tally[event.topic, "dead"] += 1
        self._out.append(
            dead_letter(
                event=event,
                site_id=self._grounds.site_of(event.record),
                stage="ADMIT",
                reason=reason,
                detail=detail,
                sealed=self._rule.sealed,
            )
        )

    def _say(self, topic: str, record: AnyRecord) -> None:
        self._out.append(Event(self._number, self._clock, topic, record))

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

    def _judge(self, source: Source, ingest_time: int, held: Held | None) -> None:
        """Judge a clock; `held` is the last reading of the source, where any is kept."""
        source.longest_us = max(source.longest_us, self._longest("UNKNOWN" if held is None else held[8].tech))
        notices = judge(
            source,
            ingest_time,
            reorder=self._rule.reorder_us,
            floor=self._rule.network_floor_us,
            stated=self._rule.offsets.get(source.source_id),
        )
        self._shore.judged(source)
        for notice in notices:
            self._say("ops.alert", remarks.alert(source, ingest_time, notice, held))

    def _graduate(self, source: Source, ingest_time: int) -> None:
        """End a probation: the estimate decides, then what has waited goes through the gates that are left."""
        waiting, source.waiting = sorted(source.waiting), []
        self._judge(source, ingest_time, waiting[-1] if waiting else None)
        for held in waiting:
            corrected: Held = (held[8].event_time + source.correction, *held[1:])
            if source.trust is Trust.QUARANTINED:
                self._refuse(self._as_event(held), "CLOCK_QUARANTINE", _QUARANTINED)
            elif self._timely(corrected, self._as_event(held)):
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
        mark.stepped = min(mark.stepped, to)  # a host's clock that was set back: the watermark waits for it
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
            or step - self._shore.mark.heard <= self._quiet()
            or (bool(waiting.dues) and waiting.dues[0][0] <= to)
            or any(source.count for source in self._shore.probations())
        )

    def _quiet(self) -> int:
        """After how long without a reading no timer of presence can be left."""
        return max(QUIET, max(self._grounds.longest_gap, self._rule.longest_gap_us) + QUIET // 2)

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
        fault = fault_of_clock(record) or fault_of(record)
        if fault is None and topic.startswith("sensing."):
            fault = self._grounds.fault_of_sensed(record)
        source = self._shore.source(record.site_id, record.source_id) if topic.startswith("sensing.") else None
        at = record.event_time + (0 if source is None else source.correction)
        fault = fault or fault_of_time(topic, record, at, self._rule.until)
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
