"""What the live picture shows: a plain state, filled record by record from what a flow publishes."""

from collections import Counter, deque
from dataclasses import dataclass, field

from flows.words import clause_that_decided, reason_in_words
from schemas.derived import Assignment, Candidate, Decision, Transition
from schemas.items import Fix
from schemas.pseudonym import PERSON_KINDS, namespace_of
from schemas.sensing import Position
from schemas.types import AnyRecord

SECOND = 1_000_000
UNHEARD_US = 12 * SECOND
"""After that much silence a dot leaves the picture."""
AHEAD_US = 2 * SECOND
"""A dot from further in the future is a broken clock's, and leaves at once."""
NOTED_US = 9 * SECOND
"""That long a person carries a mark for what was decided about her."""
_KEPT = 60


@dataclass
class Dot:
    """Where a subject was heard last."""

    x_m: float
    y_m: float
    at: int


@dataclass(frozen=True)
class Told:
    """An action that went out."""

    at: int
    channel: str
    target: str
    text: str
    campaign_id: str
    who: str


@dataclass(frozen=True)
class Refused:
    """An action that did not, and why."""

    at: int
    who: str
    campaign_id: str
    verdict: str
    reason: str
    words: str


@dataclass
class ShopState:
    """One moment of the shop.

    Attributes:
        now: the simulated clock, in microseconds.
        elapsed_s, of_s: seconds run, and how many it will run; None for ever.
        people: dots by subject token.
        occupancy: people by zone.
        actions, refusals: newest first.
        reasons: how often each reason stood in the way.
        latencies: p50 and p99 in milliseconds, by stage.
        counts: anything worth counting, by name, in the order in which it is shown.
        names: first names by anchor, where the picture may use them.
        followed: anchors of people whose name stands beside their dot all the time.
    """

    now: int = 0
    elapsed_s: float = 0.0
    of_s: float | None = None
    people: dict[str, Dot] = field(default_factory=dict)
    occupancy: dict[str, int] = field(default_factory=dict)
    actions: deque[Told] = field(default_factory=lambda: deque(maxlen=_KEPT))
    refusals: deque[Refused] = field(default_factory=lambda: deque(maxlen=_KEPT))
    reasons: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, tuple[float, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    followed: frozenset[str] = frozenset()
    anchors: dict[str, str] = field(default_factory=dict)
    noted: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _inside: dict[str, set[str]] = field(default_factory=dict)

    def take(self, record: AnyRecord | Fix) -> None:
        """Take in a record of the flow, or a fix; those that the picture does not show are passed over."""
        match record:
            case Fix() | Position():
                before = self.people.get(record.subject_id)
                if before is None or record.event_time > before.at:
                    self.people[record.subject_id] = Dot(record.x_m, record.y_m, record.event_time)
            case Transition():
                here = self._inside.setdefault(record.zone_id, set())
                (here.add if record.kind == "ENTER" else here.discard)(record.visit_id)
                self.occupancy[record.zone_id] = len(here)
            case Assignment():
                self.anchors[record.identifier] = record.anchor_id
            case Decision():
                self._decided(record)
            case _:
                pass

    def delivered(self, at: int, channel: str, target: str, text: str, campaign_id: str, anchor: str | None) -> None:
        """An action went out with this text."""
        self.actions.appendleft(Told(at, channel, target, text, campaign_id, self.who(anchor or "")))
        if anchor:
            self.noted[self.person(anchor)] = (at, True)

    def at_clock(self, now: int) -> None:
        """Move the clock on; who has not been heard for a while leaves the picture."""
        self.now = now
        for subject in [one for one, dot in self.people.items() if not -AHEAD_US < now - dot.at <= UNHEARD_US]:
            del self.people[subject]
        for anchor in [one for one, (at, _) in self.noted.items() if now - at > NOTED_US]:
            del self.noted[anchor]

    def who(self, anchor: str) -> str:
        """What the picture calls somebody: a first name, else that she is a member, or nobody known."""
        person = self.person(anchor)
        if person in self.names:
            return self.names[person]
        return "a member" if namespace_of(person) in PERSON_KINDS else "a visitor"

    def person(self, anchor: str) -> str:
        """Whom an anchor stands for by now: a stay keeps the one it had before its person was known."""
        return self.anchors.get(anchor, anchor)

    def known(self, subject: str) -> str | None:
        """The anchor of a subject that belongs to a known person."""
        anchor = self.person(subject)
        return anchor if namespace_of(anchor) in PERSON_KINDS else None

    def _decided(self, record: Decision) -> None:
        person = self.person(record.anchor_id)
        for candidate in record.candidates:
            if candidate.verdict == "FIRED":
                continue
            self.reasons[candidate.reason] += 1
            if namespace_of(person) in PERSON_KINDS:
                self.refusals.appendleft(self._refused(record, candidate))
                if not self.noted.get(person, (0, False))[1]:
                    self.noted[person] = (record.event_time, False)

    def _refused(self, record: Decision, candidate: Candidate) -> Refused:
        words = reason_in_words(candidate.reason, candidate.detail, clause_that_decided(candidate) or "of the campaign")
        who = self.who(record.anchor_id)
        return Refused(record.event_time, who, candidate.campaign_id, candidate.verdict, candidate.reason, words)
