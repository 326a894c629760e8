"""Campaigns that never get their turn: another one of the same group always stands before them (W502)."""

from collections.abc import Iterator, Mapping
from itertools import islice

from operators.rules.campaigns import Campaign
from operators.rules.faults import Fault
from operators.rules.strict_yaml import Document
from operators.rules.witness import Search

_TRIED = 4
"""Rivals looked at for each campaign: a search through values is dear, and one that answers is enough."""
_STRENGTH = ("anyone", "candidate", "confirmed", "asserted")


def check(documents: Mapping[str, Document], campaigns: Mapping[str, Campaign], search: Search) -> Iterator[Fault]:
    """A warning for each campaign that a higher priority of its group and trigger leaves nothing to.

    Args:
        documents: files by name.
        campaigns: by id.
        search: what answers whether one's conditions follow from the other's.
    """
    by_trigger: dict[tuple[str, str], list[Campaign]] = {}
    for campaign in campaigns.values():
        by_trigger.setdefault((campaign.group, repr(campaign.when)), []).append(campaign)
    for rivals in by_trigger.values():
        for campaign in rivals:
            above = (one for one in rivals if one.priority > campaign.priority and _may_stand_before(one, campaign))
            shadow = next((one for one in islice(above, _TRIED) if search.implied(campaign.clauses, one.clauses)), None)
            if shadow is not None:
                what = f"{shadow.id} stands before it wherever it could fire: same trigger and group, higher priority"
                fix = "give it another group, a higher priority or other conditions"
                yield documents[campaign.file].fault(("campaign",), "W502", what, fix)


def _may_stand_before(above: Campaign, below: Campaign) -> bool:
    """Whether all but the clauses of `above` holds wherever `below` could fire.

    Any doubt says no: a false alarm teaches to look away.
    """
    same_facts = all(
        below.facts.get(name) == read for name, read in above.facts.items() if f"facts.{name}" in above.reads
    )
    return (
        not above.paused
        and above.test is None
        and above.valid_from is None
        and above.valid_to is None
        and above.include in {("*",), below.include}
        and set(above.exclude) <= set(below.exclude)
        and above.unless in {(), below.unless}
        and _guards_no_stricter(above, below)
        and {action.channel for action in below.do} <= {action.channel for action in above.do}
        and same_facts
    )


def _guards_no_stricter(above: Campaign, below: Campaign) -> bool:
    over, under = above.guard, below.guard
    shared = {cap for cap in under.caps if cap.kind != "THIS"}
    return (
        _STRENGTH.index(over.identity) <= _STRENGTH.index(under.identity)
        and set(over.consent) <= set(under.consent)
        and set(over.caps) <= shared
        and over.quiet in {None, under.quiet}
        and over.stock in {None, under.stock}
    )
