"""The decision record: every candidate with its conditions and guards, and the events behind them."""

from operators.decisions.arbitration import Arm, Place
from operators.decisions.guards import notes
from operators.decisions.judge import Judged, sources
from operators.decisions.occasion import Occasion, Reading
from schemas.derived import Candidate

MOST_INPUTS = 32


def candidate(each: Judged, place: Place | None, arm: Arm | None) -> Candidate:
    """The row of one candidate."""
    campaign, refusal = each.campaign, each.refusal
    verdict, reason, detail = "UNKNOWN", "UNKNOWN", None
    if place is not None:
        verdict, reason, detail = place.verdict, place.reason, place.detail
        if verdict == "HELD_OUT" and arm is not None:
            detail = f"bucket {arm.bucket}"
    elif refusal is not None:
        verdict, reason, detail = refusal.verdict, refusal.reason, refusal.detail
    return Candidate(
        campaign_id=campaign.id,
        campaign_version=campaign.version,
        verdict=verdict,
        reason=reason,
        detail=detail,
        rank=0 if place is None else place.rank,
        clauses=each.clauses,
        guards=notes(each.answers) if each.answers else {},
        arm=None if arm is None or place is None else arm.name,
    )


def inputs(occasion: Occasion, cause: str | None, judged: list[Judged], reading: Reading) -> list[str]:
    """Ids of the events behind a decision: the trigger first, then the fact that brought it back, then the others."""
    behind = dict.fromkeys([occasion.id, *occasion.inputs])
    if cause is not None:
        behind[cause] = None
    for each in judged:
        behind.update(dict.fromkeys(sources(each.campaign, reading)))
    return list(behind)[:MOST_INPUTS]
