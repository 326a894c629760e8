"""Guards: what must hold before anything is said to a person, each as an answer with its reason.

Every guard of a campaign is asked, whatever the others said, so that a record is complete and does not
depend on load; the first refusal, legal and cheap first, is the reason.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from operators.decisions.caps import DAY_US, in_calendar, in_window, local
from operators.rules.campaigns import Cap, Guard, Quiet, Stock
from schemas.items import Person
from schemas.person import EXPIRED, GRANTED, WITHDRAWN, Consents
from schemas.pseudonym import PERSON_KINDS, namespace_of
from schemas.reference import ContextFact

ORDER = ("identity", "consent", "stock", "audience", "quiet", "caps")
"""Legal and cheap first; also the keys of a record's `guards`."""
STALE = "STALE"
"""State of `contact` where the newest word on consents is too old to rely on."""
_LEVELS = {"anyone": 0, "candidate": 1, "confirmed": 2, "asserted": 3}
_CAP_REASONS = {"THIS": "CAP_THIS", "CHANNEL": "CAP_CHANNEL", "TAG": "CAP_TAG", "ANY": "CAP_ANY"}
_MINUTE_US = 60_000_000


class Answer(msgspec.Struct, frozen=True):
    """What a guard found: a note for the record, and where it refuses the reason and its detail.

    `until` is the instant at which a held decision is decided again.
    """

    note: str
    reason: str = "NONE"
    detail: str | None = None
    until: int | None = None

    @property
    def refuses(self) -> bool:
        """Whether the guard stands in the way."""
        return self.reason != "NONE"


def known(person: Person) -> bool:
    """Whether the shop knows who it is: some member names a person and not a thing."""
    return any(namespace_of(member.identifier) in PERSON_KINDS for member in person.members)


def identity(needed: str, person: Person) -> Answer:
    """Whether the person is known well enough; a thing alone is nobody, however sure we are of it."""
    level = _LEVELS.get(person.state.lower(), 0) if known(person) else 0
    state = person.state if known(person) else "ANONYMOUS"
    note = f"{state} {person.confidence:g} needs {needed}"
    if level < _LEVELS[needed]:
        return Answer(note, "IDENTITY_TOO_WEAK", f"{state.lower()}, {needed} needed")
    return Answer(note)


def consent(needed: Sequence[str], consents: Consents, withheld: Iterable[tuple[str, str]]) -> Answer:
    """Whether every purpose is granted, in guard order.

    Args:
        needed: purposes the campaign names.
        consents: the person's, at the trigger.
        withheld: what else entries of `do` lack (purpose, state), where that leaves none; else empty.
    """
    states = [(purpose, consents.of(purpose)) for purpose in needed]
    states += withheld
    missing = [(purpose, state) for purpose, state in states if state != GRANTED]
    epoch = consents.epoch or "-"
    names = list(dict.fromkeys(purpose for purpose, _ in missing))
    note = f"needs {','.join(needed) or '-'} missing {','.join(names) or '-'} epoch {epoch}"
    if not missing:
        return Answer(note)
    return Answer(note, consent_reason(state for _, state in missing), ",".join(names))


def consent_reason(states: Iterable[str]) -> str:
    """Reason for purposes that are not granted: withdrawn and expired are told apart from never given."""
    found = set(states)
    if WITHDRAWN in found:
        return "CONSENT_WITHDRAWN"
    if STALE in found:
        return "CONSENT_STALE"
    return "CONSENT_EXPIRED" if found == {EXPIRED} else "CONSENT_MISSING"


def stock(rule: Stock | None, of: object, at: int, fact: ContextFact | None) -> Answer:
    """Whether enough is on the shelf, by a fact that is young enough.

    Args:
        rule: what the campaign asks, if anything.
        of: value of the leaf it names: a category, mostly.
        at: instant of the decision.
        fact: the newest fact on it that lies at or before `at`.
    """
    if rule is None:
        return Answer("not asked")
    if of is None or fact is None:
        return Answer("unknown", "STOCK_UNKNOWN", f"no stock of {of}" if of is not None else f"no {rule.of}")
    age = at - fact.event_time
    note = f"{of} {fact.value} age {age // 1_000_000}s"
    if at >= fact.valid_until or (rule.max_age_us is not None and age > rule.max_age_us):
        return Answer(note, "STOCK_UNKNOWN", f"{of} is {age // 1_000_000}s old")
    try:
        value = float(fact.value)
    except ValueError:
        return Answer(note, "STOCK_UNKNOWN", f"{of} is no number")
    if value < rule.at_least:
        return Answer(note, "OUT_OF_STOCK", f"{of} {fact.value} of {rule.at_least:g}")
    return Answer(note)


def audience(rule: str, others: int | None, *, stands_in_the_way: bool) -> Answer:
    """Whether a personal text would be read by somebody else.

    Args:
        rule: `safe` or `any`.
        others: subjects in view of the screen beside the person; None where not everybody is sensed.
        stands_in_the_way: a personal screen is all that is left, and it may not be used.
    """
    note = f"{rule}, others in view {'unknown' if others is None else others}"
    if stands_in_the_way:
        return Answer(note, "AUDIENCE_SHARED", "screen_personal")
    return Answer(note)


def quiet_until(span: tuple[int, int] | None, at: int, time_zone: str) -> int | None:
    """End of the quiet span that `at` lies in, by the wall clock of a time zone; None outside of it."""
    here = local(at, time_zone)
    if span is None or not Quiet.covers(span, here.hour * 60 + here.minute):
        return None
    # By the wall clock and not by the duration: a night in which clocks change is an hour shorter or longer, and an
    # hour that comes twice may end the span before its nominal place. On such a night every minute is looked at.
    wanted = (span[1] - here.hour * 60 - here.minute - 1) % (24 * 60) + 1
    step = at - at % _MINUTE_US
    nominal = step + wanted * _MINUTE_US
    if local(nominal, time_zone).utcoffset() == here.utcoffset():
        step = nominal
    last = at + 2 * DAY_US  # a span that covers the whole day has no end: it is looked at again then
    while step < last and Quiet.covers(span, _minute(local(step, time_zone))):
        step += _MINUTE_US
    return step


def quiet(rule: Quiet | None, at: int, venue_zone: str, person_zone: str, *, personal_only: bool) -> Answer:
    """Whether it is a quiet hour at the venue, or of the person where only personal channels are left.

    Where the rule holds rather than drops, and the hour ends soon enough, the answer is HELD until then.
    """
    if rule is None:
        return Answer("not asked")
    venue = quiet_until(rule.venue, at, venue_zone)
    person = quiet_until(rule.person, at, person_zone)
    ends = [end for end in (venue, person if personal_only else None) if end is not None]
    note = ", ".join(
        f"{whose} until {local(end, zone):%H:%M}"
        for whose, end, zone in (("venue", venue, venue_zone), ("person", person, person_zone))
        if end is not None
    )
    if not ends:
        return Answer(note or "none")
    until = max(ends)
    if rule.hold and until - at <= rule.at_most_us:
        return Answer(note, "HELD", f"until {local(until, venue_zone):%Y-%m-%dT%H:%M}", until)
    return Answer(note, "QUIET_VENUE" if venue is not None else "QUIET_PERSON", note)


def caps(
    rules: Sequence[Cap],
    at: int,
    time_zone: str,
    charges: Callable[[str], Sequence[int]],
    *,
    fired: bool,
    channels: frozenset[str],
) -> Answer:
    """Whether the person may be told once more.

    Args:
        rules: caps of the campaign, in the order of the file.
        at: instant of the decision.
        time_zone: of the venue, for calendar days and weeks.
        charges: charge times of the person by scope, ascending.
        fired: the campaign has already fired in this stay, whatever its version.
        channels: channels that would be used, in lower case: the cap of another one does not matter.
    """
    notes, first = [], None
    for cap in rules:
        told = charges(cap.scope)
        used = (
            in_window(told, at, cap.window_us)
            if cap.window_us is not None
            else in_calendar(told, at, cap.calendar or "day", time_zone)
        )
        span = cap.text.partition(" per ")[2]
        notes.append(f"{cap.scope} {used}/{cap.limit} per {span}")
        binds = cap.kind != "CHANNEL" or cap.scope in channels
        if used >= cap.limit and binds and first is None:
            first = Answer("", _CAP_REASONS[cap.kind], f"{cap.scope}: {cap.limit} per {span}")
    note = "; ".join(notes) or "none"
    if fired:
        return Answer(note, "ALREADY_FIRED", "in this stay")
    return Answer(note, first.reason, first.detail) if first is not None else Answer(note)


def first_refusal(answers: dict[str, Answer]) -> Answer | None:
    """The refusal that is the reason, legal and cheap first."""
    return next((answers[name] for name in ORDER if answers[name].refuses), None)


def notes(answers: dict[str, Answer]) -> dict[str, str]:
    """What a record keeps of the guards."""
    return {name: answers[name].note for name in ORDER}


def needs(guard: Guard) -> tuple[str, ...]:
    """Purposes in guard order."""
    return guard.consent


def _minute(here: datetime) -> int:
    return here.hour * 60 + here.minute
