"""Dwell: say that a subject stands in a zone, and for how long, while it still stands there.

Fixes of one shard come in event-time order, watermarks between them. All that happens by itself (a threshold
reached in silence, a silence too long, closing time) stands in one heap with a lower bound of its time; an
entry that comes up too early is put back, one that is stale is dropped. What fell due at or before a fix is
done before the fix, so no record depends on how often the watermark was told.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Literal

from operators.state.store import Tables
from operators.stays.ground import Ground, Places, Turn
from operators.stays.moves import Moves, Outcome
from operators.stays.saying import Saying
from operators.stays.stay import State, Stay, figures
from operators.stays.subject import NEVER, Subject, next_key
from operators.stays.tracking import Tracking
from operators.venues.hours import Hours
from schemas.items import Due, Fix, Item, Watermark
from schemas.reference import Consent, Link, Site, Threshold, Zone
from schemas.venue import Dwelling, Venue

CLOSING_GRACE = 30 * 60_000_000
"""How long after closing the last stays are ended, µs."""
_HANDED = frozenset({"BADGE_ISSUE", "BADGE_RETURN"})
_IN, _CAND = State.IN, State.CAND


def nothing_wanted(_: Zone) -> Iterable[int]:
    """No campaign asks for a threshold."""
    return ()


@dataclass(frozen=True)
class DwellRule:
    """How presence works in one venue.

    Args:
        venue: the site and its zones as the venue file has them.
        dwelling: parameters of a zone for a technology (of the zone's own `tech`, where it names one).
        wanted: thresholds (µs) that the campaigns of this process want of a zone.
        end: what the end of a replay does to open visits: `close` and `all` end them as silence would,
            `keep` leaves them.
    """

    venue: Venue
    dwelling: Callable[[Zone, str], Dwelling]
    wanted: Callable[[Zone], Iterable[int]] = nothing_wanted
    end: Literal["close", "keep", "all"] = "close"


class Dwell:
    """The core: fixes in event-time order to transitions, dwells and visits.

    State: per subject its last fix, floor and stays until it has been silent longer than any zone forgives;
        consents for location and ties to persons; zone edits and thresholds in force.
    Time: event time; timers run up to the watermark and up to each fix.
    Guarantee: the ids of records are functions of the accepted fixes; a replay repeats them.
    Cost: `benchmarks/micro/bench_dwell.py`.

    Args:
        rule: the venue and how to treat it.
        places: its geometry, holding the zones of the venue file.
        tables: all that is remembered.
    """

    def __init__(self, rule: DwellRule, places: Places, tables: Tables) -> None:
        self._rule, self._places = rule, places
        self._subjects = tables.table(1, Subject)
        self._clock = tables.table(2, int)
        self._sites = tables.table(3, Site)
        self._tracking = Tracking(tables, 4)
        self._at = self._clock.get("at") or 0
        self._ground = Ground(rule.venue.zones, places, rule.dwelling, rule.wanted, tables, 6, self._at)
        self._moves = Moves(self._ground, places)
        self._say = Saying(rule.venue.site.site_id)
        self._settle(self._sites.get("site") or rule.venue.site)
        self._timers: list[tuple[int, str]] = []
        for subject, s in self._subjects.items():
            key = self._next(s)
            if key < s.key:  # the venue file has changed meanwhile
                s.key = key
                self._subjects.put(subject, s)
            self._timers.append((s.key, subject))
        heapify(self._timers)

    def step(self, items: list[Item]) -> list[Item]:
        """Move the shard on; Fix and Due end here, all other items pass."""
        out, before = self._say.out, self._at
        for item in items:
            if isinstance(item, Fix):
                self._say.cause = item
                self._fix(item)
            elif isinstance(item, Watermark):
                self._say.cause = item
                if not item.end:
                    self._advance(item.at)
                    out.append(item)
                elif self._rule.end != "keep":
                    self._run(2 * item.at)
            elif isinstance(item, Due):
                self._say.cause = item
                self._due(item)
            else:
                out.append(item)
        if self._at != before:
            self._clock.put("at", self._at)
        self._say.out = []
        return out

    # -- one fix

    def _fix(self, fix: Fix) -> None:
        t, subject, ground = fix.event_time, fix.subject_id, self._ground
        self._advance(t)
        near = self._places.near(fix.floor, fix.x_m, fix.y_m)
        if ground.sensitive and any(d <= 0 and zone_id in ground.sensitive for zone_id, d in near):
            return  # neither stored nor acted on
        s = self._subjects.get(subject)
        if s is None:
            allowed, until = self._tracking.allowed(subject, self._basis, t)
            if not allowed:
                return
            s = Subject(NEVER, 0, 0, 0, fix.tech, fix.x_m, fix.y_m, fix.floor, {}, until=until)
            self._tell(s, subject, t, self._moves.moved(s, fix, near))
        elif not self._moves.unmoved(s, fix, near):
            self._tell(s, subject, t, self._moves.moved(s, fix, near))
        self._subjects.put(subject, s)

    def _tell(self, s: Subject, subject: str, t: int, outcome: Outcome) -> None:
        """Tell what a fix did: closings before openings, each by zone."""
        for zone_id in sorted(outcome.closing):
            stay, reason, kept = outcome.closing[zone_id]
            self._say.closed(subject, zone_id, stay, reason, t, s.ingest, kept)
        for zone_id in sorted(s.stays):
            stay = s.stays[zone_id]
            if zone_id in outcome.opening:
                self._say.opened(subject, zone_id, stay, outcome.opening[zone_id], t, s.ingest)
                stay.closes_at = self._hours.closing_after(t)
            if stay.state is _IN and stay.pending and stay.entered_at + stay.pending[0] <= t:
                self._say.fired(subject, zone_id, stay, s, t, t)
        self._schedule(subject, s)

    # -- timers

    def _advance(self, at: int) -> None:
        if at > self._at:  # noqa: PLR1730 - once a fix
            self._at = at
        key, timers = 2 * at, self._timers
        if (timers and timers[0][0] <= key) or self._ground.next_turn <= at:
            self._run(key)

    def _run(self, limit: int) -> None:
        """Do what is due up to `limit` (half µs), subjects of one instant by name, then changes of zones."""
        timers, ground = self._timers, self._ground
        while True:
            key = timers[0][0] if timers else limit + 1
            if 2 * ground.next_turn <= limit and 2 * ground.next_turn < key:
                self._turned(ground.turn(), None)
                continue
            if key > limit:
                return
            key, subject = heappop(timers)
            s = self._subjects.get(subject)
            if s is None or s.key != key:
                continue
            s.key = self._next(s)
            if s.key <= key:
                self._ring(subject, s, s.key)
            else:
                heappush(timers, (s.key, subject))
                self._subjects.put(subject, s)

    def _ring(self, subject: str, s: Subject, key: int) -> None:
        """Do what is due for a subject at `key`."""
        due, s.key = key >> 1, 0
        if key & 1:
            self._silent(subject, s, due)
            if not s.stays and self._next(s) <= key:
                self._subjects.put(subject, None)
                return
        else:
            if s.until is not None and s.until <= due and not self._gate(subject, s, s.until, None):
                return
            for zone_id in sorted(s.stays):
                self._ripened(subject, s, zone_id, due)
            if s.still is not None:
                s.stays = {zone_id: stay for zone_id, stay in s.stays.items() if stay.state is not _CAND}
        self._schedule(subject, s)
        self._subjects.put(subject, s)

    def _silent(self, subject: str, s: Subject, due: int) -> None:
        for zone_id in sorted(s.stays):
            stay = s.stays[zone_id]
            how = self._ground.ways(stay.tech)[zone_id]
            if stay.state is _CAND:
                if stay.last_deep + how.gap_us <= due:
                    del s.stays[zone_id]
            elif s.at + how.gap_us <= due:
                self._close(subject, s, zone_id, "TIMEOUT", s.at + how.gap_us, None)

    def _ripened(self, subject: str, s: Subject, zone_id: str, due: int) -> None:
        stay = s.stays[zone_id]
        how = self._ground.ways(stay.tech).get(zone_id)
        if how is None:  # the venue file lost the zone while nothing ran
            self._close(subject, s, zone_id, "ZONE_CHANGED", s.at, None)
            return
        if stay.state is _CAND:
            return
        if stay.pending and not stay.held and (reached := stay.entered_at + stay.pending[0]) <= due:
            if stay.state is _IN and reached - s.at <= how.fresh_us:
                self._say.fired(subject, zone_id, stay, s, reached, reached)
            else:
                stay.held = True
        if (over := stay.entered_at + how.max_dwell_us) <= due:
            self._close(subject, s, zone_id, "MAX_DWELL", over, None)
            s.still = (s.x, s.y, s.floor)
        elif stay.closes_at is not None and stay.closes_at <= due:
            self._close(subject, s, zone_id, "STORE_CLOSED", stay.closes_at, None)

    def _schedule(self, subject: str, s: Subject) -> None:
        key = self._next(s)
        if s.key == 0 or key < s.key:
            s.key = key
            heappush(self._timers, (key, subject))

    def _next(self, s: Subject) -> int:
        return next_key(s, self._ground.ways, self._ground.longest_gap)

    # -- what is told to presence

    def _due(self, due: Due) -> None:
        record = due.event.record
        at = record.event_time
        self._advance(at)
        if isinstance(record, Zone):
            self._ground.edited(record)
            self._changed(at, record.ingest_time)
        elif isinstance(record, Threshold):
            self._ground.asked(record)
            self._changed(at, record.ingest_time)
        elif isinstance(record, Consent):
            for subject in self._tracking.consented(record):
                self._regate(subject, at, record.ingest_time)
        elif isinstance(record, Link):
            self._linked(record)
        elif isinstance(record, Site):
            self._moved_in(record)

    def _changed(self, at: int, ingest: int) -> None:
        """Make the turns that a record has just brought, as decided by that record."""
        while self._ground.next_turn <= at:
            self._turned(self._ground.turn(), ingest)

    def _turned(self, turn: Turn, ingest: int | None) -> None:
        zone, zone_id = turn.zone, turn.zone_id
        for subject, s in self._subjects.items():
            stay = s.stays.get(zone_id)
            if stay is None:
                continue
            if turn.moved and (zone is None or zone.floor != s.floor or self._places.distance(zone_id, s.x, s.y) > 0):
                self._close(subject, s, zone_id, "ZONE_CHANGED", turn.at, ingest)
            elif zone is not None:
                stay.revision = zone.revision
                self._ask(stay, zone_id, turn.at)
            self._schedule(subject, s)
            self._subjects.put(subject, s)

    def _ask(self, stay: Stay, zone_id: str, at: int) -> None:
        """Thresholds of a stay after a change at `at`: of the new ones only those that lie ahead."""
        start = stay.run if stay.state is _CAND else stay.entered_at
        first = stay.pending[:1]
        stay.pending = tuple(
            after
            for after in self._ground.thresholds(zone_id, at)
            if after not in stay.fired and (after in stay.pending or start + after > at)
        )
        stay.held = stay.held and stay.pending[:1] == first

    def _linked(self, link: Link) -> None:
        subject = link.from_id
        s = self._subjects.get(subject)
        if s is not None and (link.revoked or link.method in _HANDED):
            self._close_all(subject, s, "HANDOFF", link.event_time, link.ingest_time, link.valid_from)
            self._schedule(subject, s)
            self._subjects.put(subject, s)
        self._tracking.linked(link)
        self._regate(subject, link.event_time, link.ingest_time)

    def _moved_in(self, site: Site) -> None:
        known = self._sites.get("site") or self._rule.venue.site
        if site.site_id != known.site_id or site.revision < known.revision:
            return
        self._sites.put("site", site)
        self._settle(site)
        for subject, s in self._subjects.items():
            for stay in s.stays.values():
                if stay.state is not _CAND:
                    stay.closes_at = self._hours.closing_after(site.event_time)
            self._schedule(subject, s)
            self._subjects.put(subject, s)
            self._regate(subject, site.event_time, site.ingest_time)

    def _settle(self, site: Site) -> None:
        self._basis = site.legal_basis
        self._hours = Hours(site.opening, site.time_zone, CLOSING_GRACE)

    def _regate(self, subject: str, at: int, ingest: int) -> None:
        s = self._subjects.get(subject)
        if s is not None and self._gate(subject, s, at, ingest):
            self._schedule(subject, s)
            self._subjects.put(subject, s)

    def _gate(self, subject: str, s: Subject, at: int, ingest: int | None) -> bool:
        """Look again whether a subject may be tracked; where not, its stays end and its state is dropped."""
        allowed, s.until = self._tracking.allowed(subject, self._basis, at)
        if not allowed:
            self._close_all(subject, s, "WITHDRAWN", at, ingest, at)
            self._subjects.put(subject, None)
        return allowed

    # -- ends

    def _close_all(self, subject: str, s: Subject, reason: str, at: int, ingest: int | None, bound: int) -> None:
        for zone_id in sorted(s.stays):
            self._close(subject, s, zone_id, reason, at, ingest, bound)

    def _close(
        self, subject: str, s: Subject, zone_id: str, reason: str, at: int, ingest: int | None, bound: int | None = None
    ) -> None:
        """End a stay at its last supporting fix, or at `bound` where that is earlier; a candidate just goes.

        Only a hand-off or a withdrawal that was told late has an earlier bound; the count of fixes then still
        is that up to the last supporting one, for what each fix was is not remembered.
        """
        stay = s.stays.pop(zone_id)
        if stay.state is _CAND:
            return
        kept = stay.kept if stay.kept is not None else figures(stay, s.at, s.count)
        if bound is not None and bound < kept.at:
            kept.at = max(stay.entered_at, bound)
        self._say.closed(subject, zone_id, stay, reason, at, s.ingest if ingest is None else ingest, kept)
