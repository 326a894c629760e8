"""Absences: what should have followed a trigger and did not, noticed when its time is up."""

from operators.decisions.occasion import Occasion
from operators.decisions.verdicts import Verdicts
from operators.decisions.waiting import Absence, Waiting
from operators.rules.campaigns import Absence as AbsenceRule
from operators.rules.campaigns import Campaign, Exited
from operators.rules.load import Rules
from schemas import ids
from schemas.items import Person
from schemas.person import People


class Absences:
    """Waits that were begun by a trigger: each rings once, by event time, for the campaigns that still miss something."""

    def __init__(self, rules: Rules, people: People, verdicts: Verdicts, waiting: Waiting) -> None:
        self._rules, self._people, self._verdicts, self._waiting = rules, people, verdicts, waiting

    def wait(self, campaign: Campaign, occasion: Occasion, person: Person) -> tuple[int, str] | None:
        """Begin to wait; says when it rings and under which key, None where it already does or need not.

        Somebody who left and had what is missed within that time *before* she left has not left without it.
        """
        when = campaign.when
        assert isinstance(when, AbsenceRule)
        since = occasion.event_time
        if isinstance(when.after, Exited) and self._happened(when, occasion, person, since):
            return None
        due = since + when.within_us
        key = ids.of("absence", occasion.id, due)
        absence = self._waiting.absences.get(key)
        if absence is not None:
            if campaign.id not in absence.occasion.campaigns:
                absence.occasion.campaigns.append(campaign.id)
                absence.occasion.about |= occasion.about
            self._waiting.absences.put(key, absence)
            return None
        occasion.inputs = [occasion.id]
        occasion.id, occasion.event_time, occasion.reached_at = key, due, due
        occasion.ingest_time = max(due, occasion.ingest_time)
        self._waiting.absences.put(key, Absence(due, since, occasion))
        return due, key

    def ring(self, key: str) -> Occasion | None:
        """The time is up: the occasion, with the campaigns whose event has not come."""
        absence = self._waiting.absences.get(key)
        self._waiting.absences.drop(key)
        person = None if absence is None else self._people.person_of(absence.occasion.member)
        if absence is None or person is None:
            return None
        occasion = absence.occasion
        waited = [self._rules.campaigns.get(name) for name in occasion.campaigns]
        occasion.campaigns = [
            campaign.id
            for campaign in waited
            if campaign is not None
            and isinstance(campaign.when, AbsenceRule)
            and not self._happened(campaign.when, occasion, person, absence.due)
        ]
        return occasion if occasion.campaigns else None

    def _happened(self, when: AbsenceRule, occasion: Occasion, person: Person, at: int) -> bool:
        reading = self._verdicts.reading(person, occasion, at, self._people.consents(person, at))
        count = reading.fact(when.without, holding_back=True)
        return isinstance(count, int | float) and count > 0
