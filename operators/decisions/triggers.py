"""Triggers: which campaigns an event touches, and what of it they may read later."""

from collections.abc import Collection, Iterable, Mapping

from operators.decisions.occasion import Known, Occasion, Value, place
from operators.decisions.screens import Screens
from operators.rules.campaigns import (
    ANY,
    Absence,
    Campaign,
    Dwell,
    Entered,
    Exited,
    Happened,
    Sequence,
    Single,
    When,
)
from operators.rules.cel import Values
from operators.rules.leaves import event_leaves, event_topics
from operators.rules.load import Rules
from operators.state.store import Rows, Tables
from schemas import ids
from schemas.derived import DwellReached, SegmentChange, Transition
from schemas.items import Touched
from schemas.sensing import Scan
from schemas.types import AnyRecord
from schemas.venue import Venue

PROGRESS = 73
"""Number of the table of sequences under way."""


class Happening:
    """One event about a person, as triggers look at it; the values that `where` sees are worked out once."""

    def __init__(self, topic: str, record: AnyRecord, venue: Venue) -> None:
        self.topic, self.record = topic, record
        self.site_id = record.site_id or venue.site.site_id
        self.zone_id = _zone_of(record, venue)
        self.visit_id: str | None = getattr(record, "visit_id", None)
        self.id: str = getattr(record, "event_id", "")
        self.threshold_us = record.threshold_us if isinstance(record, DwellReached) else None
        self._venue = venue
        self._values: Values | None = None

    @property
    def values(self) -> Values:
        """What a `where` sees: `e.*`, and the place it happened at."""
        if self._values is None:
            leaves: dict[str, Known] = place(self._venue, self.site_id, self.zone_id)
            leaves |= self.leaves(event_leaves(self.topic))
            self._values = Values(leaves)
        return self._values

    def leaves(self, names: Iterable[str]) -> dict[str, Value]:
        """The event's leaves of these names that have a value."""
        sources = event_leaves(self.topic) if self.topic in event_topics() else {}
        read = ((name, sources[name].read(self.record)) for name in names if name in sources)
        return {name: value for name, value in read if value is not None}

    def fits(self, when: When) -> bool:
        """Whether this is what a trigger waits for."""
        record = self.record
        if isinstance(when, Happened):
            return when.topic == self.topic and (when.where is None or when.where.holds(self.values) is True)
        if isinstance(when, Dwell):
            return (
                isinstance(record, DwellReached)
                and record.zone_id == when.zone
                and record.threshold_us == when.at_least_us
            )
        if not isinstance(when, Entered | Exited) or not isinstance(record, Transition):
            return False
        if record.kind != ("ENTER" if isinstance(when, Entered) else "EXIT"):
            return False
        if when.zone is not None:
            return when.zone == record.zone_id
        zone = self._venue.zones.get(record.zone_id)
        return zone is not None and zone.kind == "STORE" and when.site in {ANY, self.site_id}


class Triggers:
    """Finds the campaigns of an event; keeps how far sequences have come, by member.

    A sequence is followed from its newest possible start: of every first half that a person has shown, the
    one that began last is kept, so whatever can still be completed in time will be.
    """

    def __init__(self, rules: Rules, screens: Screens, tables: Tables) -> None:
        self._rules, self._screens = rules, screens
        self._progress = tables.table(PROGRESS, list[int])

    def touched(self, touched: Touched) -> tuple[list[Occasion], list[tuple[Campaign, Occasion]]]:
        """Occasions of an event, and the absences that it starts to wait for."""
        event, member = touched.event, touched.member
        happening = Happening(event.topic, event.record, self._screens.venue)
        occasions: list[Occasion] = []
        steps: dict[str, tuple[Campaign, list[int]]] = {}
        for kind, subject in _plain(happening):
            found = [
                campaign
                for campaign in self._rules.candidates(
                    kind, subject, happening.site_id, threshold_us=happening.threshold_us
                )
                if kind != "EVENT" or happening.fits(campaign.when)
            ]
            if found:
                occasions.append(self._occasion(kind, happening, member, found))
            for campaign, step in self._rules.index.steps(kind, subject, happening.site_id):
                if happening.fits(singles_of(campaign.when)[step]):
                    steps.setdefault(campaign.id, (campaign, []))[1].append(step)
        started = []
        completed = []
        for campaign, fitting in steps.values():
            if isinstance(campaign.when, Absence):
                started.append((campaign, self._occasion("ABSENCE", happening, member, [campaign])))
            elif self._advance(campaign, fitting, touched):
                completed.append(campaign)
        if completed:
            done = self._occasion("SEQUENCE", happening, member, completed)
            done.id, done.inputs = ids.of("sequence", happening.id), [happening.id]
            occasions.append(done)
        return occasions, started

    def give(self, members: Collection[str]) -> Rows:
        """Hand over how far sequences have come for identifiers that move to another shard."""
        sequences = [name for name, each in self._rules.campaigns.items() if isinstance(each.when, Sequence)]
        return self._progress.give(f"{name}\0{member}" for name in sequences for member in members)

    def take(self, key: str, stored: bytes) -> None:
        """Take over how far a sequence has come for somebody who moved here."""
        self._progress.take(key, stored)

    def identified(self, zone_id: str, site_id: str) -> list[Campaign]:
        """Campaigns that wait for somebody in a zone to become known."""
        return self._rules.candidates("IDENTIFIED", zone_id, site_id)

    def segment(self, change: SegmentChange, member: str) -> list[Occasion]:
        """Occasions of a person's coming into a segment, or leaving it."""
        site = change.site_id or self._screens.venue.site.site_id
        found = self._rules.candidates("SEGMENT", f"{change.segment_id}:{change.kind}", change.site_id)
        if not found:
            return []
        return [
            Occasion(
                kind="SEGMENT",
                id=change.event_id,
                member=member,
                site_id=site,
                event_time=change.event_time,
                ingest_time=change.ingest_time,
                reached_at=change.event_time,
                campaigns=[campaign.id for campaign in found],
            )
        ]

    def _occasion(self, kind: str, happening: Happening, member: str, campaigns: list[Campaign]) -> Occasion:
        record = happening.record
        reached: int | None = getattr(record, "reached_at", None) or getattr(record, "at", None) or record.event_time
        names = dict.fromkeys(leaf.removesuffix("_known") for campaign in campaigns for leaf in campaign.reads)
        return Occasion(
            kind=kind,
            id=happening.id,
            member=member,
            site_id=happening.site_id,
            event_time=record.event_time,
            ingest_time=record.ingest_time,
            zone_id=happening.zone_id,
            visit_id=happening.visit_id,
            reached_at=reached,
            campaigns=[campaign.id for campaign in campaigns],
            about=happening.leaves(names),
        )

    def _advance(self, campaign: Campaign, fitting: list[int], touched: Touched) -> bool:
        """Move a sequence on by an event that fits some of its steps; True when it is whole.

        Each member keeps what it brought, so that a split leaves both sides theirs.
        """
        when, at = campaign.when, touched.event.record.event_time
        assert isinstance(when, Sequence)
        keys = [f"{campaign.id}\0{member.identifier}" for member in touched.person.members]
        own = f"{campaign.id}\0{touched.member}"
        mine = list(self._starts(own, len(when.of)))
        starts = [max(times) for times in zip(*(self._starts(key, len(when.of)) for key in keys), strict=True)]
        for step in sorted(fitting, reverse=True):
            begun = at if step == 0 else starts[step - 1]
            if begun and begun <= at <= begun + when.within_us:
                starts[step], mine[step] = max(starts[step], begun), max(mine[step], begun)
        if starts[-1] == 0:
            self._progress.put(own, mine)
            return False
        for key in keys:
            if self._progress.get(key) is not None:
                self._progress.put(key, None)
        return True

    def _starts(self, key: str, steps: int) -> list[int]:
        starts = self._progress.get(key)
        return starts if starts is not None and len(starts) == steps else [0] * steps


def singles_of(when: When) -> tuple[Single, ...]:
    """The plain triggers that a sequence, or an absence, waits for."""
    if isinstance(when, Sequence):
        return when.of
    return (when.after,) if isinstance(when, Absence) else ()


def _plain(happening: Happening) -> list[tuple[str, str]]:
    """What an event is as a plain trigger: kind, and topic or zone."""
    record = happening.record
    found = [("EVENT", happening.topic)]
    if isinstance(record, DwellReached):
        found.append(("DWELL", record.zone_id))
    elif isinstance(record, Transition):
        found.append(("ENTERED" if record.kind == "ENTER" else "EXITED", record.zone_id))
    return found


def _zone_of(record: AnyRecord, venue: Venue) -> str | None:
    if isinstance(record, Scan):
        device = venue.devices.get(record.device_id)
        return None if device is None else device.zone_id
    zone_id: str | None = getattr(record, "zone_id", None)
    return zone_id


def about_stay(record: AnyRecord, kept: Mapping[str, Value]) -> dict[str, Value]:
    """Leaves of the stay that an event is about, as far as they are known by then."""
    about = dict(kept)
    if isinstance(record, DwellReached):
        about["visit.dwell_s"] = (record.fired_at - record.entered_at) / 1_000_000
        about["visit.quality"] = record.quality
    elif isinstance(record, Transition) and record.kind == "ENTER":
        about["visit.enter_reason"], about["visit.tech"] = record.reason, record.tech
    return about
