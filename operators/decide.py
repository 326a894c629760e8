"""Decide: what should happen for this person here, every campaign considered, and why or why not.

One record for each (trigger, person, attempt), with every campaign that the trigger touched. A decision that
did not fire is taken again when the person becomes known or consents while the stay is open, when a quiet
hour ends, and when stock becomes known: always by the same rules and under the same caps.
"""

from collections.abc import Callable, Collection, Iterable
from heapq import heappop, heappush

import msgspec

from operators.decisions.absences import Absences
from operators.decisions.arbiter import ANCHORS, CHARGES, SENT, Arbiter, Told
from operators.decisions.consent_view import ConsentView
from operators.decisions.guards import known
from operators.decisions.occasion import Occasion
from operators.decisions.releases import Releases
from operators.decisions.screens import Screens
from operators.decisions.surroundings import STOCK, Surroundings
from operators.decisions.triggers import PROGRESS, Triggers, about_stay
from operators.decisions.verdicts import Moment, ScoreOf, Verdicts
from operators.decisions.waiting import ABSENCES, STAYS, UNDECIDED, Stay, Undecided, Waiting
from operators.rules.load import Rules
from operators.state.store import Rows, Tables
from schemas import ids
from schemas.derived import DwellReached, Outcome, SegmentChange, Transition
from schemas.items import Event, Item, Linked, Occupied, Person, Touched
from schemas.person import People
from schemas.reference import Consent, ContextFact, Device, Release, Site, Zone
from schemas.sensing import SourceStatus
from schemas.venue import Venue

FACTS, RELEASES, CONSENT_VIEW = 78, 79, 82
"""Numbers of the tables; the cores that work on one person share one store."""
SOURCE = "activation"
BOUND = frozenset({"DWELL", "ENTERED", "IDENTIFIED"})
"""Triggers that mean something only while the stay lasts."""


class DecideRule(msgspec.Struct, frozen=True):
    """How decisions are taken.

    `stale_after_us` is how far the clock may be past what triggered, `consent_limit_us` how far a trigger may
    be ahead of the word on consents (24 h on a box that may be offline). `end` says which timers ring at the end
    of a replay: `close` those due up to the last ingest time, `keep` none more, `all` every one.
    `timers_go_stale` for a live run, where a timer that fell due while the process was down is too old to
    speak. `control` is the share of the global control group. `versions` are those of the model in force (`model`) and
    of whatever else a record should name: `campaigns`, `segments` and `rules` are known from the rules.
    """

    stale_after_us: int = 10_000_000
    consent_limit_us: int = 2_000_000
    end: str = "close"
    timers_go_stale: bool = False
    control: float = 0.0
    versions: dict[str, str] = {}


class Decide:
    """The decisions of one shard.

    Args:
        rules: campaigns and templates in force.
        people: profiles, as of the event being worked on.
        segments_of: segments a person is in now.
        score_of: a model's word on a person at a trigger, or None.
        venue: zones, devices, the site.
        rule: how decisions are taken.
        tables: all that is remembered.

    State: open stays, undecided triggers, absences, sequences, charges, anchors, occupancy, context facts.
    Time: event time of triggers; the source's clock says what is stale and what has fallen due.
    Guarantee: ids are functions of the data; one action per campaign, anchor and visit.
    """

    def __init__(
        self,
        rules: Rules,
        people: People,
        segments_of: Callable[[Person], Iterable[str]],
        score_of: ScoreOf | None,
        venue: Venue,
        rule: DecideRule,
        tables: Tables,
    ) -> None:
        self._rules, self._people = rules, people
        self._rule = rule
        self._waiting = Waiting(tables)
        self._screens = Screens(venue, tables)
        self._triggers = Triggers(rules, self._screens, tables)
        self._arbiter = Arbiter(rules, rule.control, tables)
        self._facts = Surroundings(tables, FACTS)
        self._releases = Releases(tables, RELEASES)
        self._view = ConsentView(rule.consent_limit_us, tables, CONSENT_VIEW)
        self._verdicts = Verdicts(
            rules,
            people,
            segments_of,
            score_of,
            self._screens,
            self._facts,
            self._releases,
            self._arbiter,
            self._view,
            rule.versions,
        )
        self._absences = Absences(rules, people, self._verdicts, self._waiting)
        self._linked: list[Linked] = []
        self._due: list[tuple[int, str, str]] = []
        self._reopen()

    @property
    def venue(self) -> Venue:
        """The venue as it stands."""
        return self._screens.venue

    @property
    def consents_known_to(self) -> int | None:
        """Up to when (µs) all is known of consents; None where no source says. Safe to read from another thread."""
        return self._view.least

    @property
    def end(self) -> str:
        """Which timers ring at the end of a replay."""
        return self._rule.end

    @property
    def segments_read_score(self) -> bool:
        """Whether a segment reads a score, so that one is asked for whenever somebody has stayed."""
        return self._rules.reads_score(())

    def occupancy(self, zone_id: str) -> int | None:
        """Subjects in a zone; None where nobody counts."""
        return self._screens.count(zone_id)

    # What comes in.

    def consider(self, touched: Touched) -> list[Item]:
        """An event about a person, that her profile, score and segments already know of."""
        event = touched.event
        record, person = event.record, touched.person
        self._follow(touched)
        if isinstance(record, Consent):
            self._view.heard(record)
        out = self._became_known(Moment.of(event))
        fresh = self._fresh(event)
        if isinstance(record, Consent) and fresh and not record.withdrawn and any(p.granted for p in record.purposes):
            for stay in self._waiting.open_stays(member.identifier for member in person.members):
                out += self._again_in(stay, person, Moment.of(event), "CONSENT_GIVEN")
        occasions, started = self._triggers.touched(touched)
        for occasion in occasions:
            known_stay = self._waiting.stays.get(occasion.visit_id or "")
            occasion.about |= about_stay(record, {} if known_stay is None else known_stay.about)
            out += self._decide(occasion, person, Moment.of(event), stale=not fresh)
        if fresh:
            for campaign, occasion in started:
                timer = self._absences.wait(campaign, occasion, person)
                if timer is not None:
                    heappush(self._due, (timer[0], "absence", timer[1]))
        if isinstance(record, Transition) and record.kind == "EXIT":
            left = self._waiting.stays.get(record.visit_id)
            if left is not None:
                self._waiting.leave(left)
        return out

    def linked(self, linked: Linked) -> None:
        """Persons changed. It is acted on with the event that did it, once that is applied too."""
        self._linked.append(linked)
        for person in linked.persons:
            self._arbiter.was_anchor(person.anchor)

    def settle(self) -> list[Item]:
        """Act on links that no event followed."""
        if not self._linked:
            return []
        last = self._linked[-1]
        return self._became_known(Moment(last.number, last.clock, last.event_time, last.event_time))

    def outcome(self, record: Outcome) -> Told | None:
        """What became of a command: a reservation is returned. Says whom and what it was about."""
        return self._arbiter.outcome(record)

    def segment_changed(self, event: Event, person: Person, member: str) -> list[Item]:
        """A person came into a segment or left it."""
        assert isinstance(event.record, SegmentChange)
        out: list[Item] = []
        for occasion in self._triggers.segment(event.record, member):
            out += self._decide(occasion, person, Moment.of(event), stale=not self._fresh(event))
        return out

    def occupied(self, item: Occupied) -> None:
        """A subject is in a zone from now on, or is not."""
        self._screens.present(item.zone_id, item.subject_id, inside=item.inside)

    def heard(self, event: Event) -> list[Item]:
        """A fact of the moment, a piece of the venue or a release."""
        record = event.record
        if isinstance(record, ContextFact):
            return self._told(event, record)
        if isinstance(record, Consent):  # of a person of another shard: only that its source speaks
            self._view.heard(record)
        if isinstance(record, Zone):
            self._screens.zone(record)
        elif isinstance(record, Device):
            self._screens.device(record)
        elif isinstance(record, Site):
            self._screens.site(record)
        elif isinstance(record, Release):
            self._releases.put(record)
        elif isinstance(record, SourceStatus):
            self._view.heard(record)
        return []

    # Timers.

    def next_due(self) -> int | None:
        """When the next timer is due, µs."""
        while self._due and not self._stands(*self._due[0]):
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def ring(self, upto: int, number: int, clock: int) -> list[Item]:
        """Ring the timers due at or before `upto`, in order."""
        out: list[Item] = []
        while (due := self.next_due()) is not None and due <= upto:
            _, kind, key = heappop(self._due)
            stale = self._rule.timers_go_stale and clock > due + self._rule.stale_after_us
            if kind == "hold":
                out += self._hold_ended(key, due, number, clock, stale=stale)
            elif kind == "absence":
                out += self._absent(key, number, clock, stale=stale)
            else:
                self._arbiter.sent.drop(key)
        return out

    # Who moves to another shard, or came from one.

    def give(self, members: Collection[str]) -> Rows:
        """Hand over all that is remembered of these identifiers."""
        return [*self._waiting.give(members), *self._triggers.give(members), *self._arbiter.give(members)]

    def take(self, table: int, key: str, stored: bytes) -> bool:
        """Take over a row of somebody who moved here; False for a table of another core."""
        timer = None
        if table in {STAYS, UNDECIDED, ABSENCES}:
            timer = self._waiting.take(table, key, stored)
        elif table in {CHARGES, ANCHORS, SENT}:
            timer = self._arbiter.take(table, key, stored)
        elif table == PROGRESS:
            self._triggers.take(key, stored)
        else:
            return False
        if timer is not None:
            heappush(self._due, timer)
        return True

    # What is remembered of an event.

    def _reopen(self) -> None:
        for timer in self._waiting.due():
            heappush(self._due, timer)
        for key, sent in self._arbiter.sent.items():
            heappush(self._due, (sent.drop_at, "sent", key))

    def _follow(self, touched: Touched) -> None:
        record, person = touched.event.record, touched.person
        if isinstance(record, Transition):
            entered_at = record.at
        elif isinstance(record, DwellReached):
            entered_at = record.entered_at
        else:
            return
        if self._waiting.stays.get(record.visit_id) is None:
            stay = Stay(
                visit_id=record.visit_id,
                member=touched.member,
                site_id=record.site_id,
                zone_id=record.zone_id,
                entered_at=entered_at,
                root=person.root,
                state=person.state,
                known=known(person),
                about=about_stay(record, {}),
            )
            self._waiting.enter(stay)

    def _fresh(self, event: Event) -> bool:
        record = event.record
        at = record.fired_at if isinstance(record, DwellReached) else record.event_time
        return event.clock <= at + self._rule.stale_after_us

    def _stands(self, due: int, kind: str, key: str) -> bool:
        if kind == "hold":
            undecided = self._waiting.undecided.get(key)
            return undecided is not None and undecided.held_until == due
        if kind == "absence":
            absence = self._waiting.absences.get(key)
            return absence is not None and absence.due == due
        sent = self._arbiter.sent.get(key)
        return sent is not None and sent.drop_at == due

    # Decided again.

    def _became_known(self, moment: Moment) -> list[Item]:
        links, self._linked = self._linked, []
        out: list[Item] = []
        persons = {person.root: person for linked in links for person in linked.persons}
        for person in persons.values():
            for stay in self._waiting.open_stays(member.identifier for member in person.members):
                out += self._looked_at_again(stay, person, moment)
        return out

    def _looked_at_again(self, stay: Stay, person: Person, moment: Moment) -> list[Item]:
        if (stay.root, stay.state) == (person.root, person.state):
            return []
        known_now = not stay.known and known(person)
        stay.root, stay.state, stay.known = person.root, person.state, known(person)
        self._waiting.stays.put(stay.visit_id, stay)
        if moment.clock > moment.at + self._rule.stale_after_us:
            return []
        out = self._again_in(stay, person, moment, "IDENTIFIED")
        found = self._triggers.identified(stay.zone_id, stay.site_id) if known_now else []
        if found:
            occasion = Occasion(
                kind="IDENTIFIED",
                id=ids.of("identified", stay.visit_id, moment.input or moment.at),
                member=stay.member,
                site_id=stay.site_id,
                event_time=moment.at,
                ingest_time=moment.ingest_time,
                zone_id=stay.zone_id,
                visit_id=stay.visit_id,
                reached_at=moment.at,
                campaigns=[campaign.id for campaign in found],
                about=dict(stay.about),
            )
            out += self._decide(occasion, person, moment)
        return out

    def _again_in(self, stay: Stay, person: Person, moment: Moment, cause: str) -> list[Item]:
        out: list[Item] = []
        for key in list(stay.undecided):
            undecided = self._waiting.undecided.get(key)
            if undecided is not None and undecided.open:
                out += self._again(key, undecided, person, moment, cause)
        return out

    def _again(
        self, key: str, undecided: Undecided, person: Person, moment: Moment, cause: str, *, stale: bool = False
    ) -> list[Item]:
        self._waiting.drop(key, undecided)
        return self._decide(undecided.occasion, person, moment, cause=cause, before=undecided, stale=stale)

    def _hold_ended(self, key: str, due: int, number: int, clock: int, *, stale: bool) -> list[Item]:
        undecided = self._waiting.undecided.get(key)
        assert undecided is not None
        person = self._people.person_of(undecided.occasion.member)
        if person is None:
            self._waiting.drop(key, undecided)
            return []
        moment = Moment(number, clock, due, max(due, undecided.occasion.ingest_time))
        return self._again(key, undecided, person, moment, "HOLD_ENDED", stale=stale)

    def _told(self, event: Event, record: ContextFact) -> list[Item]:
        if not self._facts.told(record) or not record.name.startswith(STOCK) or not self._fresh(event):
            return []
        out: list[Item] = []
        for key in self._waiting.wanting(record.name.removeprefix(STOCK)):
            undecided = self._waiting.undecided.get(key)
            if undecided is None or not undecided.open or record.scope not in undecided.occasion.scopes:
                continue
            person = self._people.person_of(undecided.occasion.member)
            if person is not None:
                out += self._again(key, undecided, person, Moment.of(event), "STOCK_KNOWN")
        return out

    def _absent(self, key: str, number: int, clock: int, *, stale: bool) -> list[Item]:
        occasion = self._absences.ring(key)
        person = None if occasion is None else self._people.person_of(occasion.member)
        if occasion is None or person is None:
            return []
        moment = Moment(number, clock, occasion.event_time, occasion.ingest_time)
        return self._decide(occasion, person, moment, stale=stale)

    # One decision, and what is kept of it.

    def _decide(
        self,
        occasion: Occasion,
        person: Person,
        moment: Moment,
        *,
        cause: str = "TRIGGER",
        before: Undecided | None = None,
        stale: bool = False,
    ) -> list[Item]:
        stay = self._waiting.stays.get(occasion.visit_id or "")
        anchor = before.anchor if before is not None else (stay.anchor if stay is not None else "") or person.anchor
        attempt = 0 if before is None else before.attempt + 1
        fired = frozenset([*(() if before is None else before.fired), *(() if stay is None else stay.fired)])
        verdict = self._verdicts.take(
            occasion,
            person,
            moment,
            anchor=anchor,
            attempt=attempt,
            cause=cause,
            fired=fired,
            stale=stale,
            ended=before is not None and occasion.kind in BOUND and stay is None,
        )
        if verdict is None:
            return []
        if stay is not None:
            stay.anchor = anchor
            stay.fired += [name for name in verdict.fired if name not in stay.fired]
            self._waiting.stays.put(stay.visit_id, stay)
        for due, name in verdict.timers:
            heappush(self._due, (due, "sent", name))
        refusals = [each.refusal for each in verdict.judged if each.refusal is not None]
        held = min((refusal.until for refusal in refusals if refusal.until is not None), default=None)
        lasts = not verdict.fired and stay is not None and occasion.kind != "EXITED"
        if not stale and (held is not None or lasts):
            stock = [each.stock for each in verdict.judged if each.stock is not None]
            undecided = Undecided(
                occasion, anchor, attempt, not verdict.fired, held, stock, sorted(fired.union(verdict.fired))
            )
            self._waiting.keep(occasion.id, undecided)
            if held is not None:
                heappush(self._due, (held, "hold", occasion.id))
        return verdict.items
