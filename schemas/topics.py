"""The table of topics: the struct each carries, how it is keyed, how long it is kept, and its rank in a merge.

A topic that is not here does not exist.
"""

from dataclasses import dataclass

from schemas import derived, operations, people, reference, sensing
from schemas.types import AnyRecord

RANKS = ("venue", "catalog", "context", "control", "consent", "identity", "crm", "sensing", "web", "pos")
"""Order of topics among rows of one ingest time; every other domain comes after."""

Key = str
"""S = site|subject, I = identifier token, P = person, R = id of a reference row, O = of its origin."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic; `hours` is how long it is kept at most, None where only compaction ends a row."""

    name: str
    record: type[AnyRecord]
    key: Key
    hours: int | None
    compact: bool = False

    @property
    def rank(self) -> int:
        """Place in a merge of rows of equal ingest time."""
        domain = self.name.split(".", 1)[0]
        return RANKS.index(domain) if domain in RANKS else len(RANKS)


_DAY = 24

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic("sensing.position", sensing.Position, "S", _DAY),
        Topic("sensing.position-batch", sensing.PositionBatch, "S", _DAY),
        Topic("sensing.count", sensing.PeopleCount, "R", 90 * _DAY),
        Topic("sensing.scan", sensing.Scan, "S", 90 * _DAY),
        Topic("sensing.status", sensing.SourceStatus, "R", 7 * _DAY, compact=True),
        Topic("web.event", people.WebEvent, "I", 90 * _DAY),
        Topic("pos.receipt", people.Receipt, "I", 400 * _DAY),
        Topic("crm.customer", people.Customer, "I", None, compact=True),
        Topic("crm.contact-point", people.ContactPoint, "I", None, compact=True),
        Topic("venue.site", reference.Site, "R", None, compact=True),
        Topic("venue.zone", reference.Zone, "R", None, compact=True),
        Topic("venue.device", reference.Device, "R", None, compact=True),
        Topic("context.fact", reference.ContextFact, "R", 7 * _DAY, compact=True),
        Topic("control.release", reference.Release, "R", None, compact=True),
        Topic("control.threshold", reference.Threshold, "R", None, compact=True),
        Topic("consent.record", reference.Consent, "I", None, compact=True),
        Topic("identity.link", reference.Link, "I", 400 * _DAY),
        Topic("identity.assignment", derived.Assignment, "I", None, compact=True),
        Topic("identity.change", derived.Change, "P", 400 * _DAY),
        Topic("presence.transition", derived.Transition, "S", 7 * _DAY),
        Topic("presence.dwell", derived.DwellReached, "S", 7 * _DAY),
        Topic("presence.visit", derived.Visit, "S", 400 * _DAY),
        Topic("profile.snapshot", derived.Profile, "P", None, compact=True),
        Topic("segment.change", derived.SegmentChange, "P", 90 * _DAY),
        Topic("decision.score", derived.Score, "P", 90 * _DAY),
        Topic("decision.record", derived.Decision, "P", 400 * _DAY),
        Topic("action.command", derived.Command, "P", 30 * _DAY),
        Topic("action.outcome", derived.Outcome, "P", 400 * _DAY),
        Topic("ops.dead-letter", operations.DeadLetter, "O", 30 * _DAY),
        Topic("ops.late", operations.Late, "O", _DAY),
        Topic("ops.alert", operations.Alert, "R", 90 * _DAY),
    )
}
_STANDING = frozenset({"venue", "catalog", "context", "control", "consent", "identity", "crm"})
REFERENCE = frozenset(name for name in TOPICS if name.split(".")[0] in _STANDING) - {
    "identity.assignment",
    "identity.change",
}
"""Topics that must be known before anything is acted on: what stands, not what happens."""
TOPIC_OF = {topic.record: topic.name for topic in TOPICS.values()}
