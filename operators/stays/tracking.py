"""Who may be tracked: consents for location, ties of subjects to persons, the legal basis of the site."""

import msgspec

from operators.state.store import Tables
from schemas.pseudonym import PERSON_KINDS, namespace_of
from schemas.reference import Consent, Link

LOCATION = "in_store_location"
_NOBODY = "track"


class Location(msgspec.Struct, array_like=True):
    """What the newest consent record of an identifier says on location; `granted` None where it is silent."""

    at: int
    granted: bool | None
    until: int | None


class Tie(msgspec.Struct, array_like=True):
    """The newest link of a subject to a person-kind identifier."""

    to_id: str
    since: int
    until: int | None


class Tracking:
    """The Track gate (`contract`, 5) over what consents and links have said so far.

    Args:
        tables: where consents and ties are kept.
        first: number of the first of the two tables.
    """

    def __init__(self, tables: Tables, first: int) -> None:
        self._locations = tables.table(first, Location)
        self._ties = tables.table(first + 1, Tie)
        self._tied: dict[str, dict[str, None]] = {}
        for subject, tie in self._ties.items():
            self._tied.setdefault(tie.to_id, {})[subject] = None

    def consented(self, record: Consent) -> list[str]:
        """Keep a consent; returns the subjects it may concern, sorted."""
        before = self._locations.get(record.identifier)
        if before is not None and before.at > record.event_time:
            return []
        granted = next((purpose.granted for purpose in record.purposes if purpose.code == LOCATION), None)
        if record.withdrawn:
            granted = False
        self._locations.put(record.identifier, Location(record.event_time, granted, record.valid_until))
        return sorted({record.identifier, *self._tied.get(record.identifier, ())})

    def linked(self, link: Link) -> None:
        """Keep or end the tie of a subject."""
        if namespace_of(link.to_id) not in PERSON_KINDS:
            return
        tie = self._ties.get(link.from_id)
        if link.revoked or link.method == "BADGE_RETURN":
            if tie is not None and tie.to_id == link.to_id:
                self._ties.put(link.from_id, None)
                self._tied[tie.to_id].pop(link.from_id, None)
            return
        if tie is not None:
            if tie.since > link.valid_from:
                return
            self._tied[tie.to_id].pop(link.from_id, None)
        self._ties.put(link.from_id, Tie(link.to_id, link.valid_from, link.valid_to))
        self._tied.setdefault(link.to_id, {})[link.from_id] = None

    def allowed(self, subject: str, basis: str, at: int) -> tuple[bool, int | None]:
        """Whether a subject may be tracked at `at`, and when that may change by itself."""
        if basis == "COUNTS_ONLY" or namespace_of(subject) == _NOBODY:
            return False, None
        tie, person, changes = self._ties.get(subject), subject, None
        if tie is not None:
            if at < tie.since:
                changes = tie.since
            elif tie.until is None or at < tie.until:
                person, changes = tie.to_id, tie.until
        location = self._locations.get(person)
        if location is None:
            return person == subject or basis != "CONSENT", changes
        if location.granted and location.until is not None:
            if at >= location.until:
                return basis != "CONSENT", changes
            changes = location.until if changes is None else min(changes, location.until)
        if basis == "CONSENT":
            return location.granted is True, changes
        return location.granted is not False, changes
