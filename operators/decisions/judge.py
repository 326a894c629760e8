"""One candidate before one person: its conditions, what holds it back, its guards; all evaluated, always."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from operators.decisions import guards
from operators.decisions.commands import Entry, Plan
from operators.decisions.guards import Answer
from operators.decisions.occasion import Known, Reading
from operators.rules.campaigns import Campaign, FactRead, Unless
from operators.rules.cel import FALSE, TRUE, UNKNOWN, Values
from schemas.derived import Clause as ClauseRow

_STOCK = frozenset({"STOCK_UNKNOWN", "OUT_OF_STOCK"})


class Refusal(msgspec.Struct, frozen=True):
    """Why a candidate goes no further; `until` is when a held one is decided again."""

    verdict: str
    reason: str
    detail: str | None = None
    until: int | None = None


@dataclass
class Judged:
    """A candidate and what became of it."""

    campaign: Campaign
    refusal: Refusal | None = None
    clauses: list[ClauseRow] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    stock: str | None = None
    """What is missing from the shelf, or not known of."""

    def judge(
        self,
        reading: Reading,
        plan: Callable[[Campaign, Reading], Plan],
        charges: Callable[[str], Sequence[int]],
        venue_zone: str,
        *,
        fired: bool,
        scored: bool,
    ) -> None:
        """Ask everything.

        Args:
            reading: the person's leaves.
            plan: what could be sent to her.
            charges: when she was told, by scope of this campaign's caps.
            venue_zone: time zone of the venue.
            fired: the campaign has already acted on this stay.
            scored: there is a model to ask.
        """
        self.clauses, missed = conditions(self.campaign, reading, scored=scored)
        stops, stopped = holding_back(self.campaign, reading)
        self.clauses += stops
        self.refusal = missed or stopped
        if self.refusal is not None and self.refusal.verdict == "NOT_MATCHED":
            return
        planned = plan(self.campaign, reading)
        self.entries, self.answers = guarded(self.campaign, reading, planned, charges, venue_zone, fired=fired)
        if self.refusal is None:
            refused = guards.first_refusal(self.answers)
            if refused is not None:
                self.refusal = Refusal("SUPPRESSED", refused.reason, refused.detail, refused.until)
            elif not self.entries:
                self.refusal = Refusal("SUPPRESSED", "NO_REACHABLE_CHANNEL", planned.unreachable or None)
        rule = self.campaign.guard.stock
        if rule is not None and self.answers["stock"].reason in _STOCK:
            self.stock = str(reading.value(rule.of, self.campaign))


def conditions(campaign: Campaign, reading: Reading, *, scored: bool) -> tuple[list[ClauseRow], Refusal | None]:
    """Every clause of `if`, each apart, and why they do not all hold."""
    values, refused = reading.values(campaign)
    rows: list[ClauseRow] = []
    wrong: list[str] = []
    missing: dict[str, None] = {}
    blind = False
    for clause in campaign.clauses:
        verdict = clause.evaluate(values)
        rows.append(ClauseRow(name=clause.name, value=verdict.value, seen=verdict.seen))
        if verdict.value == FALSE:
            wrong.append(clause.name)
        elif verdict.value == UNKNOWN:
            blind = blind or not verdict.missing
            missing.update(dict.fromkeys(verdict.missing))
    if wrong:
        return rows, Refusal("NOT_MATCHED", "CLAUSE_FALSE", ",".join(wrong))
    if not missing and not blind:
        return rows, None
    others = [leaf for leaf in missing if leaf not in refused]
    if not others and not blind:
        purposes = {purpose for leaf in missing for purpose in refused[leaf]}
        ordered = [purpose for purpose in campaign.guard.consent if purpose in purposes]
        ordered += sorted(purposes.difference(ordered))
        return rows, Refusal("SUPPRESSED", "CONSENT_MISSING", ",".join(ordered))
    if others and not blind and not scored and all(leaf.startswith("score.") for leaf in others):
        return rows, Refusal("SUPPRESSED", "MODEL_UNAVAILABLE", ",".join(others))
    return rows, Refusal("NOT_MATCHED", "VALUE_MISSING", ",".join(others) or None)


def holding_back(campaign: Campaign, reading: Reading) -> tuple[list[ClauseRow], Refusal | None]:
    """Every entry of `unless`: no purpose is needed, for it only holds back."""
    rows: list[ClauseRow] = []
    matched: list[str] = []
    for stop in campaign.unless:
        row = _stop(stop, campaign, reading)
        rows.append(row)
        if row.value == TRUE:
            matched.append(stop.name)
    return rows, Refusal("SUPPRESSED", "UNLESS_MATCHED", ",".join(matched)) if matched else None


def guarded(
    campaign: Campaign,
    reading: Reading,
    plan: Plan,
    charges: Callable[[str], Sequence[int]],
    venue_zone: str,
    *,
    fired: bool,
) -> tuple[list[Entry], dict[str, Answer]]:
    """Every guard, and the entries of `do` that are left of the plan."""
    guard, at = campaign.guard, reading.at
    person_zone = reading.time_zone() if guard.quiet is not None else venue_zone
    quieted = guard.quiet is not None and guards.quiet_until(guard.quiet.person, at, person_zone) is not None
    entries = [entry for entry in plan.entries if not (quieted and entry.personal)]
    of = None if guard.stock is None else reading.value(guard.stock.of, campaign)
    answers = {
        "identity": guards.identity(guard.identity, reading.person),
        "consent": guards.consent(guard.consent, reading.consents, () if plan.entries else plan.withheld),
        "stock": guards.stock(guard.stock, of, at, None if of is None else reading.stock(of)),
        "audience": guards.audience(
            guard.audience, plan.others, stands_in_the_way=plan.shared and not plan.entries and not plan.withheld
        ),
        "quiet": guards.quiet(
            guard.quiet, at, venue_zone, person_zone, personal_only=bool(plan.entries) and not entries
        ),
        "caps": guards.caps(
            guard.caps,
            at,
            venue_zone,
            charges,
            fired=fired,
            channels=frozenset(entry.channel.lower() for entry in entries),
        ),
    }
    return entries, answers


def sources(campaign: Campaign, reading: Reading) -> list[str]:
    """Ids of the events that stand behind the facts a campaign read."""
    reads: list[FactRead] = [*campaign.facts.values()]
    reads += [stop.read for stop in campaign.unless if stop.read is not None]
    return [name for read in reads for name in reading.sources(read)]


def _stop(stop: Unless, campaign: Campaign, reading: Reading) -> ClauseRow:
    if stop.read is not None:
        count = reading.fact(stop.read, holding_back=True)
        matched = isinstance(count, int | float) and count > 0
        return ClauseRow(name=stop.name, value=TRUE if matched else FALSE, seen=[f"count = {count or 0}"])
    assert stop.clause is not None
    leaves: dict[str, Known] = {}
    for name in stop.clause.reads:
        leaf = name.removesuffix("_known")
        leaves[leaf] = reading.value(leaf, campaign)
    verdict = stop.clause.evaluate(Values(leaves))
    return ClauseRow(name=stop.name, value=verdict.value, seen=verdict.seen)
