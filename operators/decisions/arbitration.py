"""Arbitration: one winner a group, and who is held out of it.

Arms hang on the anchor and on the test's name alone, so neither a new version, a restart nor a merge of
equal arms moves anybody.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from operators.rules.campaigns import Test

MIXED = "mixed"
BUCKETS = 10_000
GLOBAL_TEST = "global"
"""Name of the one test that every campaign shares: the global control group."""


class Arm(msgspec.Struct, frozen=True):
    """Where an anchor stands in a test; `held` arms are not acted on."""

    name: str
    bucket: int
    held: bool


class Entrant(msgspec.Struct, frozen=True):
    """A candidate that passed every guard; `held` is the reason it may not act: HELD_OUT, MIXED_ARMS ..."""

    campaign_id: str
    group: str
    priority: int
    score: float | None = None
    held: str | None = None


class Place(msgspec.Struct, frozen=True):
    """What became of an entrant: its rank in its group, verdict and reason; `detail` names the winner or cap."""

    rank: int
    verdict: str
    reason: str
    detail: str | None = None


def bucket(test: str, anchor: str) -> int:
    """Bucket 0..9999 of an anchor in a test.

    >>> bucket("offers-premium-dwell", "loyalty:1:wyjlgf47g6fbvkxrmtwq")
    2040
    """
    digest = hashlib.blake2b(f"{test}\0{anchor}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def arm(test: Test, anchor: str) -> Arm:
    """Arm of an anchor in a campaign's test; the control arm gets nothing."""
    place = bucket(test.id, anchor)
    name = test.arm(place)
    return Arm(name, place, name == test.control)


def meet(arms: Sequence[Arm]) -> Arm:
    """Arm of a person over all of her anchors; where they differ she is held out, as `mixed`."""
    first = arms[0]
    if all(each.name == first.name for each in arms):
        return first
    return Arm(MIXED, first.bucket, held=True)


def walk(entrants: Iterable[Entrant], wins: Callable[[Entrant], tuple[str, str | None] | None]) -> dict[str, Place]:
    """Decide every group: by priority, score, id; a held-out candidate is passed over, the first other wins.

    Args:
        entrants: candidates that passed every guard.
        wins: takes the winner of a group and charges it, or answers with the reason and detail for which it
            cannot be: a cap that the winner of another group has just used up. The walk then goes on.

    Returns:
        What became of each, by campaign.
    """
    groups: dict[str, list[Entrant]] = {}
    for entrant in sorted(entrants, key=lambda each: (-each.priority, -(each.score or 0.0), each.campaign_id)):
        groups.setdefault(entrant.group, []).append(entrant)
    places: dict[str, Place] = {}
    for group in groups.values():
        winner: str | None = None
        for rank, each in enumerate(group, 1):
            if each.held is not None:
                places[each.campaign_id] = Place(rank, "HELD_OUT", each.held)
            elif winner is not None:
                places[each.campaign_id] = Place(rank, "OUTRANKED", "OUTRANKED", winner)
            elif (refusal := wins(each)) is not None:
                places[each.campaign_id] = Place(rank, "SUPPRESSED", *refusal)
            else:
                winner = each.campaign_id
                places[winner] = Place(rank, "FIRED", "NONE")
    return places
