"""Reasons in words: why a campaign did, or did not, do something for a person."""

from schemas.derived import Candidate, Trigger

REASONS: dict[str, str] = {
    "NONE": "everything was in order, so it was done",
    "CLAUSE_FALSE": "the condition {clause} does not hold",
    "VALUE_MISSING": "the condition {clause} needs a value that is not known{of}",
    "UNLESS_MATCHED": "{clause} holds it back",
    "NOT_IN_FORCE": "the campaign is not in force at this time{of}",
    "PAUSED": "the campaign is paused",
    "SITE_EXCLUDED": "the campaign does not run in this shop",
    "STALE_TRIGGER": "the news came too late to act on{of}",
    "STAY_ENDED": "the stay had ended by then",
    "IDENTITY_TOO_WEAK": "it is not known well enough who this is{of}",
    "CONSENT_MISSING": "consent is missing{for}",
    "CONSENT_WITHDRAWN": "consent was withdrawn{for}",
    "CONSENT_EXPIRED": "consent has run out{for}",
    "CONSENT_STALE": "the newest word on consents is too old to rely on{of}",
    "JURISDICTION_FORBIDS": "the law of the place does not allow it{of}",
    "ZONE_DENIED": "nothing may be done in this zone{of}",
    "OUT_OF_STOCK": "the shelf is empty{of}",
    "STOCK_UNKNOWN": "it is not known whether the shelf is full{of}",
    "AUDIENCE_SHARED": "somebody else would have read it{of}",
    "QUIET_VENUE": "these are quiet hours of the shop{of}",
    "QUIET_PERSON": "these are quiet hours of the person{of}",
    "HELD": "it waits for the end of the quiet hours{of}",
    "CAP_THIS": "this campaign has spoken to the person often enough{of}",
    "CAP_CHANNEL": "the channel has been used often enough{of}",
    "CAP_TAG": "offers of this kind have been made often enough{of}",
    "CAP_ANY": "the person has heard from us often enough{of}",
    "ALREADY_FIRED": "it was done before in this stay",
    "OUTRANKED": "another campaign came first{of}",
    "HELD_OUT": "the person is in the part of the test that gets nothing",
    "HELD_OUT_GLOBAL": "the person is in the control group of all campaigns",
    "MIXED_ARMS": "two records of the person were in different arms of the test",
    "NO_REACHABLE_CHANNEL": "there is no channel on which the person can be reached{of}",
    "MODEL_UNAVAILABLE": "there is no model in service that could give the score{of}",
    "ERASED": "the person has been erased",
    "UNKNOWN": "the reason was written by a newer program",
}
"""One sentence a reason of decision records. `{of}` is the detail in brackets, `{for}` what is missing, and
`{clause}` the name of the clause that decided, with what it saw."""

MOMENTS: dict[str, str] = {
    "DWELL": "stayed in {zone}",
    "ENTERED": "came into {zone}",
    "EXITED": "left {zone}",
    "EVENT": "did something",
    "SEQUENCE": "did one thing after another",
    "ABSENCE": "did not come back to it in time",
    "SEGMENT": "changed segment",
    "IDENTIFIED": "became known in {zone}",
    "UNKNOWN": "did something",
}
"""What a trigger is about, by kind."""

_DECIDES = {"CLAUSE_FALSE": "FALSE", "VALUE_MISSING": "UNKNOWN", "UNLESS_MATCHED": "TRUE"}


def reason_in_words(reason: str, detail: str | None = None, clause: str = "of the campaign") -> str:
    """The sentence of a reason.

    >>> reason_in_words("CONSENT_MISSING", "personalisation")
    'consent is missing for personalisation'
    >>> reason_in_words("CAP_THIS", "this: 1 per 24h")
    'this campaign has spoken to the person often enough (this: 1 per 24h)'
    """
    slots = {
        "clause": clause,
        "of": f" ({detail})" if detail else "",
        "for": f" for {detail.replace(',', ', ')}" if detail else "",
    }
    return REASONS.get(reason, REASONS["UNKNOWN"]).format_map(slots)


def moment_in_words(trigger: Trigger) -> str:
    """What happened.

    >>> moment_in_words(Trigger(kind="DWELL", id="x", zone_id="offers"))
    'stayed in offers'
    """
    return MOMENTS.get(trigger.kind, MOMENTS["UNKNOWN"]).format(zone=trigger.zone_id or "the shop")


def clause_that_decided(candidate: Candidate) -> str | None:
    """Name of the clause that gave the reason, and what it saw.

    Conditions stand before `unless` clauses in a record. So the first FALSE is a condition when one failed,
    and the last TRUE is an `unless` when one of them matched.
    """
    value = _DECIDES.get(candidate.reason)
    found = [clause for clause in candidate.clauses if clause.value == value]
    if not found:
        return None
    clause = found[-1 if value == "TRUE" else 0]
    seen = [one for one in clause.seen if not one.endswith(("= set", "= not set"))]
    return f'"{clause.name}"' + (f" ({', '.join(seen)})" if seen else "")


def in_words(candidate: Candidate, trigger: Trigger) -> str:
    """Why a candidate of a decision record did or did not fire, as one sentence.

    >>> told = Candidate(campaign_id="welcome", campaign_version="1", verdict="HELD_OUT", reason="HELD_OUT")
    >>> in_words(told, Trigger(kind="ENTERED", id="x", zone_id="entrance"))
    'welcome: came into entrance, but the person is in the part of the test that gets nothing'
    """
    clause = clause_that_decided(candidate) or "of the campaign"
    why = reason_in_words(candidate.reason, candidate.detail, clause)
    if candidate.verdict == "FIRED":
        return f"{candidate.campaign_id}: {moment_in_words(trigger)}, and {why}"
    return f"{candidate.campaign_id}: {moment_in_words(trigger)}, but {why}"
