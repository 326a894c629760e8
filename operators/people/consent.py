"""What a person has agreed to, composed from the consent records of her identifiers."""

from collections.abc import Iterable

from operators.people.ledger import Agreed
from schemas.person import DENIED, EXPIRED, GRANTED, UNSET, WITHDRAWN, Consents

PURPOSES = (
    "in_store_location", "linking", "personalisation", "profiling", "display_name", "contact", "measurement",
    "assistance", "audience_export", "ownership",
)  # fmt: skip
"""All there are: what a withdrawal withdraws."""
CONTACT = "contact"
STRICTEST = (DENIED, WITHDRAWN, GRANTED, EXPIRED, UNSET)
"""Of the states that members give a purpose the first one here holds: one denial is enough, and so is one
grant where nobody denies; an identifier that has no record does not count."""


def compose(records: Iterable[Agreed], at: int) -> Consents:
    """Consents of a person at `at` (µs), from the newest record of each member that has one.

    The newest records hold also for an instant before them: a withdrawal acts at once.
    """
    given = list(records)
    if not given:
        return Consents({}, {})
    newest = max(given, key=lambda record: (record.at, record.id))
    codes = dict.fromkeys(code for record in given for code, _, _ in record.purposes)
    if any(record.withdrawn for record in given):
        codes.update(dict.fromkeys(PURPOSES))
    named = {
        channel: None
        for record in given
        for code, _, channels in record.purposes
        if code == CONTACT
        for channel in channels
    }
    return Consents(
        purposes={code: _strictest(_state(record, at, code, None) for record in given) for code in sorted(codes)},
        contact={name: _strictest(_state(record, at, CONTACT, name) for record in given) for name in sorted(named)},
        contact_any=_strictest(_state(record, at, CONTACT, None) for record in given),
        language=newest.language,
        jurisdiction=newest.jurisdiction,
        epoch=newest.epoch,
    )


def next_expiry(records: Iterable[Agreed], at: int) -> int | None:
    """When a grant next runs out by itself, after `at`."""
    return min(
        (
            record.valid_until
            for record in records
            if record.valid_until is not None and record.valid_until > at and not record.withdrawn
        ),
        default=None,
    )


def _state(record: Agreed, at: int, code: str, channel: str | None) -> str:
    """One record's word. Channels narrow `contact` only; where no channel is asked for, entries for all count."""
    if record.withdrawn:
        return WITHDRAWN
    said = [
        granted
        for named, granted, channels in record.purposes
        if named == code and (code != CONTACT or not channels or channel in channels)
    ]
    if not said:
        return UNSET
    if not all(said):
        return DENIED
    return EXPIRED if record.valid_until is not None and record.valid_until <= at else GRANTED


def _strictest(states: Iterable[str]) -> str:
    found = set(states)
    return next((state for state in STRICTEST if state in found), UNSET)
