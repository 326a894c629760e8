"""What Footfall itself says: stays, persons, scores, decisions, commands, outcomes."""

from typing import Annotated

from schemas.sensing import Tech
from schemas.types import Double, Flag, Float, Instant, Int, Long, Nested, Record, Text, symbols

TransitionKind = Annotated[str, symbols("TransitionKind", "ENTER EXIT")]
StayReason = Annotated[
    str,
    symbols(
        "StayReason",
        "CROSSED FIRST_HEARD TAKEOVER SCANNED LEFT TIMEOUT FLOOR_CHANGE HANDOFF ZONE_CHANGED MAX_DWELL"
        " WITHDRAWN STORE_CLOSED",
    ),
]
AssignmentState = Annotated[str, symbols("AssignmentState", "CANDIDATE CONFIRMED ASSERTED")]
ChangeKind = Annotated[str, symbols("ChangeKind", "MERGE SPLIT REANCHOR ALIAS ERASE")]
SegmentKind = Annotated[str, symbols("SegmentKind", "ENTERED LEFT")]
SegmentCause = Annotated[str, symbols("SegmentCause", "EVENT TIME MERGE SPLIT RULE")]
DecisionCause = Annotated[str, symbols("DecisionCause", "TRIGGER IDENTIFIED CONSENT_GIVEN HOLD_ENDED STOCK_KNOWN")]
TriggerKind = Annotated[str, symbols("TriggerKind", "DWELL ENTERED EXITED EVENT SEQUENCE ABSENCE SEGMENT IDENTIFIED")]
Verdict = Annotated[str, symbols("Verdict", "FIRED SUPPRESSED HELD_OUT OUTRANKED NOT_MATCHED")]
DecisionReason = Annotated[
    str,
    symbols(
        "DecisionReason",
        "NONE CLAUSE_FALSE VALUE_MISSING UNLESS_MATCHED NOT_IN_FORCE PAUSED SITE_EXCLUDED STALE_TRIGGER"
        " STAY_ENDED IDENTITY_TOO_WEAK CONSENT_MISSING CONSENT_WITHDRAWN CONSENT_EXPIRED CONSENT_STALE"
        " JURISDICTION_FORBIDS ZONE_DENIED OUT_OF_STOCK STOCK_UNKNOWN AUDIENCE_SHARED QUIET_VENUE"
        " QUIET_PERSON HELD CAP_THIS CAP_CHANNEL CAP_TAG CAP_ANY ALREADY_FIRED OUTRANKED HELD_OUT"
        " HELD_OUT_GLOBAL MIXED_ARMS NO_REACHABLE_CHANNEL MODEL_UNAVAILABLE ERASED",
    ),
]
ClauseValue = Annotated[str, symbols("ClauseValue", "TRUE FALSE")]
Channel = Annotated[
    str,
    symbols(
        "Channel",
        "SCREEN PUSH EMAIL SMS SESSION TILL WALLET TASK LABEL ACTUATOR AUDIENCE AR WEBHOOK MINT",
    ),
]
OutcomeStatus = Annotated[
    str,
    symbols(
        "OutcomeStatus",
        "SENT DELIVERED SHOWN CLICKED REDEEMED SUPPRESSED EXPIRED FAILED RETRACTED UNCERTAIN",
    ),
]
OutcomeReason = Annotated[
    str,
    symbols(
        "OutcomeReason",
        "NONE EXPIRED DUPLICATE CONSENT_WITHDRAWN CONSENT_STALE AUDIENCE_CHANGED OUT_OF_STOCK STAY_ENDED"
        " ERASED NOT_NEEDED PREEMPTED TARGET_UNKNOWN TARGET_GONE TARGET_OFFLINE TEMPLATE_FAILED TOO_LARGE"
        " REJECTED RATE_LIMITED CIRCUIT_OPEN TIMEOUT EGRESS_REFUSED CHANNEL_DISABLED UNCERTAIN_EFFECT",
    ),
]


class Transition(Record, frozen=True, kw_only=True):
    """A subject came into a zone or left it; `at` is back-dated, `event_time` is when it was decided."""

    visit_id: Text
    subject_id: Text
    zone_id: Text
    zone_revision: Long
    kind: TransitionKind
    at: Instant
    reason: StayReason
    tech: Tech


class DwellReached(Record, frozen=True, kw_only=True):
    """A stay has lasted `threshold_us`, said while it lasts."""

    visit_id: Text
    subject_id: Text
    zone_id: Text
    zone_revision: Long
    threshold_us: Long
    entered_at: Instant
    reached_at: Instant
    fired_at: Instant
    last_fix_at: Instant
    fix_count: Long
    quality: Float


class Visit(Record, frozen=True, kw_only=True):
    """A whole stay, back-dated to its first and last supporting fix."""

    visit_id: Text
    subject_id: Text
    zone_id: Text
    zone_revision: Long
    entered_at: Instant
    left_at: Instant
    dwell_us: Long
    observed_us: Long
    fix_count: Long
    gap_count: Int
    max_gap_us: Long
    enter_reason: StayReason
    exit_reason: StayReason
    fired_us: list[Long]
    tech: Tech
    revision: Int


class Assignment(Record, frozen=True, kw_only=True):
    """Which person an identifier belongs to from now on."""

    identifier: Text
    person_id: Text
    anchor_id: Text
    root: Text
    state: AssignmentState
    confidence: Float
    rule_version: Text
    version: Long


class Change(Record, frozen=True, kw_only=True):
    """Two persons became one, one became two, or an anchor moved."""

    kind: ChangeKind
    persons_before: list[Text]
    persons_after: list[Text]
    members_moved: list[Text]
    family: Text | None = None
    bits: Float | None = None
    rule_version: Text


class Trait(Nested, frozen=True, kw_only=True):
    """A named value of a person, with where it came from and what it may be used for."""

    name: Text
    value: Text
    at: Instant
    source: Text
    purpose: Text


class Profile(Record, frozen=True, kw_only=True):
    """A person as published after one event."""

    person_id: Text
    version: Long
    segments: list[Text]
    tier: Text | None = None
    traits: list[Trait]
    scores: dict[str, Text]
    last_receipt_at: Instant | None = None
    rule_version: Text


class SegmentChange(Record, frozen=True, kw_only=True):
    """A person came into a segment or left it."""

    person_id: Text
    segment_id: Text
    segment_version: Text
    kind: SegmentKind
    cause: SegmentCause


class Reason(Nested, frozen=True, kw_only=True):
    """A feature and how far it moved a score."""

    feature: Text
    weight: Float


class Score(Record, frozen=True, kw_only=True):
    """A model's word on one person at one trigger, 0..1."""

    person_id: Text
    visit_id: Text | None = None
    model: Text
    model_version: Text
    score: Double
    reasons: list[Reason]
    features_hash: Text


class Trigger(Nested, frozen=True, kw_only=True):
    """What a decision was about."""

    kind: TriggerKind
    id: Text
    zone_id: Text | None = None
    visit_id: Text | None = None
    reached_at: Instant | None = None


class Clause(Nested, frozen=True, kw_only=True):
    """A condition, how it came out, and the values it saw."""

    name: Text
    value: ClauseValue
    seen: list[Text] = []


class Candidate(Nested, frozen=True, kw_only=True):
    """One campaign that the trigger touched, and what became of it."""

    campaign_id: Text
    campaign_version: Text
    verdict: Verdict
    reason: DecisionReason
    detail: Text | None = None
    rank: Int = 0
    clauses: list[Clause] = []
    guards: dict[str, Text] = {}
    arm: Text | None = None


class Decision(Record, frozen=True, kw_only=True):
    """What should happen for this person here, every campaign considered, and why or why not."""

    anchor_id: Text
    root: Text
    attempt: Int
    cause: DecisionCause
    trigger: Trigger
    candidates: list[Candidate]
    score: Double | None = None
    reasons: list[Reason] = []
    actions: list[Text] = []
    input_ids: list[Text] = []
    versions: dict[str, Text] = {}


class Command(Record, frozen=True, kw_only=True):
    """An action to take: template and variables, never text, never a name."""

    campaign_id: Text
    campaign_version: Text
    step: Text
    decision_id: Text
    anchor_id: Text | None = None
    visit_id: Text | None = None
    channel: Channel
    target_id: Text
    template_id: Text
    locale: Text
    params: dict[str, Text]
    purpose: Text
    consent_epoch: Text | None = None
    waits_for: Text | None = None
    while_present: Flag
    not_before: Instant | None = None
    expires_at: Instant
    priority: Int


class Outcome(Record, frozen=True, kw_only=True):
    """What became of a command."""

    action_id: Text
    channel: Channel
    status: OutcomeStatus
    reason: OutcomeReason
    attempt: Int
    provider_ref: Text | None = None
    latency_us: Long | None = None
