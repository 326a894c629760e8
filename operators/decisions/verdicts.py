"""Verdicts: one trigger, one person, one instant; every campaign that was touched, and what becomes of it."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

import msgspec

from operators.decisions.arbiter import Arbiter, payer_of
from operators.decisions.commands import Planner, commands
from operators.decisions.consent_view import ConsentView
from operators.decisions.judge import Judged, Refusal
from operators.decisions.occasion import FactsOf, Occasion, Reading
from operators.decisions.record import candidate, inputs
from operators.decisions.releases import Releases
from operators.decisions.screens import Screens
from operators.rules.campaigns import Campaign
from operators.rules.load import Rules
from schemas import ids
from schemas.derived import Command, Decision, Reason, Trigger
from schemas.items import Event, Item, Person
from schemas.person import Consents, People
from schemas.types import Record

SOURCE = "activation"


class ScoredLike(Protocol):
    """A score: its value, the row that says so, and what moved it."""

    @property
    def value(self) -> float:
        """How likely, 0..1."""
        ...

    @property
    def event(self) -> Event:
        """Its `decision.score`."""
        ...

    def reasons(self) -> list[Reason]:
        """The features that moved it furthest."""
        ...


class ScoreOf(Protocol):
    """Asks for a score of a person at a trigger."""

    def __call__(
        self,
        person: Person,
        trigger: Event,
        zone_id: str | None,
        visit_id: str | None,
        at: int,
        consents: Consents,
        occupancy: int | None,
        member: str | None = None,
    ) -> ScoredLike | None:
        """The score, or None without a model or without the purpose."""
        ...


class Moment(msgspec.Struct, frozen=True):
    """When a decision is taken: the times of its trigger or of the fact that brought it back."""

    number: int
    clock: int
    at: int
    ingest_time: int
    input: str | None = None

    @staticmethod
    def of(event: Event) -> "Moment":
        """The moment of an event."""
        record = event.record
        return Moment(
            event.number, event.clock, record.event_time, record.ingest_time, getattr(record, "event_id", None)
        )


class Verdict(msgspec.Struct, frozen=True):
    """A decision as taken: what goes out, the candidates, those that fired, and timers of commands to forget."""

    items: list[Item]
    judged: list[Judged]
    fired: list[str]
    timers: list[tuple[int, str]]


class Verdicts:
    """Takes one decision.

    Args:
        rules: campaigns and templates in force.
        people: profiles, as of the event being worked on.
        segments_of: segments a person is in now.
        score_of: a model's word on a person at a trigger, or None.
        screens: the venue.
        facts: what was told of the surroundings.
        releases: what is paused or retired.
        arbiter: arms and charges.
        view: how far the word on consents reaches.
        versions: of the model, and of what else is not the rules' own.
    """

    def __init__(
        self,
        rules: Rules,
        people: People,
        segments_of: Callable[[Person], Iterable[str]],
        score_of: ScoreOf | None,
        screens: Screens,
        facts: FactsOf,
        releases: Releases,
        arbiter: Arbiter,
        view: ConsentView,
        versions: Mapping[str, str],
    ) -> None:
        self._rules, self._people, self._segments_of, self._score_of = rules, people, segments_of, score_of
        self._screens, self._facts, self._releases, self._arbiter = screens, facts, releases, arbiter
        self._view = view
        self._planner = Planner(rules.templates, screens)
        self._versions = {
            name: versions.get(name) or rules.versions.get(name, "")
            for name in ("campaigns", "segments", "model", "rules")
        }

    def take(
        self,
        occasion: Occasion,
        person: Person,
        moment: Moment,
        *,
        anchor: str,
        attempt: int,
        cause: str,
        fired: frozenset[str],
        stale: bool,
        ended: bool,
    ) -> Verdict | None:
        """Decide; None when no campaign was touched.

        Args:
            occasion: the trigger.
            person: whom it is about.
            moment: the times of the decision.
            anchor: hers, or that of the stay.
            attempt: how often this trigger was decided before.
            cause: what brought it here.
            fired: campaigns that have acted on this stay.
            stale: the trigger is too old to speak.
            ended: the stay that it needs is over.
        """
        found = (self._rules.campaigns.get(name) for name in sorted(occasion.campaigns))
        judged = [Judged(campaign) for campaign in found if campaign is not None]
        if not judged:
            return None
        at, zone = moment.at, self._screens.venue.site.time_zone or "UTC"
        consents = self._people.consents(person, at)
        reading = self.reading(person, occasion, at, consents)
        for each in judged:
            each.refusal = self._out_of_force(each.campaign, occasion, at, stale=stale, ended=ended)
        in_force = [each for each in judged if each.refusal is None]
        scored = self._score(in_force, reading, moment, attempt)
        members = [member.identifier for member in person.members]
        for each in in_force:
            each.judge(
                reading,
                self._planner.plan,
                partial(self._arbiter.charges, members, campaign=each.campaign),
                zone,
                fired=each.campaign.id in fired,
                scored=scored is not None,
            )
        passed = [each for each in in_force if each.refusal is None]
        arms, places = self._arbiter.decide(passed, person, anchor, at, occasion.zone_id, zone)
        decision = ids.decision(anchor, occasion.id, attempt)
        now = msgspec.structs.replace(occasion, event_time=at, ingest_time=moment.ingest_time)
        orders: list[Command] = []
        timers: list[tuple[int, str]] = []
        acted = [each for each in passed if places[each.campaign.id].verdict == "FIRED"]
        for each in acted:
            made = commands(each.campaign, each.entries, now, decision, anchor, consents.epoch)
            timers += self._arbiter.remember(each.campaign, made, payer_of(person, anchor), at)
            orders += made
        record = Decision(
            event_id=decision,
            event_time=at,
            ingest_time=moment.ingest_time,
            site_id=occasion.site_id,
            source_id=SOURCE,
            anchor_id=anchor,
            root=person.root,
            attempt=attempt,
            cause=cause,
            trigger=Trigger(
                kind=occasion.kind,
                id=occasion.id,
                zone_id=occasion.zone_id,
                visit_id=occasion.visit_id,
                reached_at=occasion.reached_at,
            ),
            candidates=[candidate(each, places.get(each.campaign.id), arms.get(each.campaign.id)) for each in judged],
            score=None if scored is None else scored.value,
            reasons=scored.reasons() if scored is not None and acted else [],
            actions=[order.event_id for order in orders],
            input_ids=inputs(occasion, moment.input, in_force, reading),
            versions=self._versions,
        )
        items: list[Item] = [] if scored is None else [scored.event]
        items.append(Event(moment.number, moment.clock, "decision.record", record))
        items += [Event(moment.number, moment.clock, "action.command", order) for order in orders]
        return Verdict(items, judged, [each.campaign.id for each in acted], timers)

    def reading(self, person: Person, occasion: Occasion, at: int, consents: Consents) -> Reading:
        """What a person's leaves say at an instant."""
        segments = sorted(self._segments_of(person))
        return Reading(
            person,
            occasion,
            at,
            self._people,
            consents,
            segments,
            self._screens.venue,
            self._facts,
            consents_stale=self._view.stale(at),
        )

    def _out_of_force(
        self, campaign: Campaign, occasion: Occasion, at: int, *, stale: bool, ended: bool
    ) -> Refusal | None:
        state = self._releases.state(campaign.id, at)
        reason = None
        if not campaign.in_force(at, self._screens.zone_info) or state == "RETIRED":
            reason = "NOT_IN_FORCE"
        elif campaign.excluded(occasion.site_id):
            reason = "SITE_EXCLUDED"
        elif campaign.paused or state == "PAUSED":
            reason = "PAUSED"
        elif stale:
            reason = "STALE_TRIGGER"
        elif ended:
            reason = "STAY_ENDED"
        return None if reason is None else Refusal("SUPPRESSED", reason)

    def _score(self, judged: list[Judged], reading: Reading, moment: Moment, attempt: int) -> ScoredLike | None:
        if self._score_of is None or not any(each.campaign.reads_score for each in judged):
            return None
        occasion = reading.occasion
        name = occasion.id if attempt == 0 else ids.of("again", occasion.id, attempt)
        trigger = Record(event_id=name, event_time=moment.at, ingest_time=moment.ingest_time, site_id=occasion.site_id)
        scored = self._score_of(
            reading.person,
            Event(moment.number, moment.clock, "", trigger),
            occasion.zone_id,
            occasion.visit_id,
            moment.at,
            reading.consents,
            self._screens.count(occasion.zone_id),
            occasion.member,
        )
        reading.score = None if scored is None else scored.value
        return scored
