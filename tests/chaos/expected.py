"""What a crowd must bring about, worked out from its rows alone: an oracle that has no core in common with the flow.

It knows three campaigns by heart (see `crowd`), reads each person's rows in the order of their times, and says which decisions there
must be, with their verdicts, and which actions. Shared with the flow are the recipes of ids and tokens, and the
versions of the campaigns, which are hashes of their files.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas import ids
from tests.chaos.crowd import SECOND, THRESHOLD_US, TOKEN, Row

HOUR = 3_600 * SECOND
CAPS = {"linger": (1, HOUR // 4), "in-the-cart": (5, 24 * HOUR), "gold-at-the-till": (2, 2 * HOUR // 3)}
"""Most firings of a campaign, in any window so long (µs)."""
HELD_OUT = 1_000
"""Of 10,000 buckets those below are held out of `in-the-cart`."""


@dataclass
class Human:
    """A person: her cards by when the shop first heard of them, and what is known of each."""

    cards: dict[str, int] = field(default_factory=dict)
    tiers: dict[str, tuple[int, str]] = field(default_factory=dict)
    refused: dict[str, bool] = field(default_factory=dict)
    told: dict[str, list[int]] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """The card that was heard of first."""
        return min(self.cards, key=lambda one: (self.cards[one], one))

    @property
    def gold(self) -> bool:
        """Whether the newest word on her tier says so."""
        return max(self.tiers.values())[1] == "gold"

    def absorb(self, other: "Human") -> None:
        """Become one."""
        self.cards |= other.cards
        self.tiers |= other.tiers
        self.refused |= other.refused
        for campaign, times in other.told.items():
            self.told[campaign] = sorted([*self.told.get(campaign, []), *times])


@dataclass
class Expected:
    """Decisions by id, with verdict and reason; ids of actions."""

    decisions: dict[str, tuple[str, str]] = field(default_factory=dict)
    actions: set[str] = field(default_factory=set)


def expected(rows: Iterable[Row], versions: Mapping[str, str]) -> Expected:
    """Read a log to its end.

    Args:
        rows: those of one person in the order of their times.
        versions: of the campaigns, by name.
    """
    found = Expected()
    people: dict[str, Human] = {}

    def decide(campaign: str, human: Human, trigger: str, hangs_on: str, at: int) -> None:
        verdict = _verdict(campaign, human, at)
        if verdict[0] in {"FIRED", "HELD_OUT"}:
            human.told.setdefault(campaign, []).append(at)
        found.decisions[ids.decision(human.anchor, trigger, 0)] = verdict
        if verdict[0] == "FIRED":
            found.actions.add(ids.action(campaign, versions[campaign], human.anchor, hangs_on, 0))

    for at, topic, row in rows:
        record: Any = row
        if topic == "crm.customer":
            name = TOKEN(record.identifiers[0])
            human = people.setdefault(name, Human())
            human.cards.setdefault(name, at)
            human.tiers[name] = (at, record.tier)
        elif topic == "consent.record":
            name = TOKEN(record.identifier)
            people[name].refused[name] = any(
                one.code == "personalisation" and not one.granted for one in record.purposes
            )
        elif topic == "identity.link":
            one, other = people.get(TOKEN(record.from_id)), people[TOKEN(record.to_id)]
            if one is not None:
                other.absorb(one)
                people.update(dict.fromkeys([name for name, human in people.items() if human is one], other))
            people[TOKEN(record.from_id)] = other
        elif topic == "presence.dwell" and record.zone_id == "offers" and record.threshold_us == THRESHOLD_US:
            decide("linger", people[record.subject_id], record.event_id, record.visit_id, at)
        elif topic == "web.event" and record.name == "product_added":
            decide("in-the-cart", people[TOKEN(record.identifiers[0])], record.event_id, record.event_id, at)
        elif topic == "pos.receipt":
            decide("gold-at-the-till", people[TOKEN(record.identifiers[0])], record.event_id, record.event_id, at)
    return found


def _verdict(campaign: str, human: Human, at: int) -> tuple[str, str]:
    if any(human.refused.values()):
        return "SUPPRESSED", "CONSENT_MISSING"
    if campaign == "gold-at-the-till" and not human.gold:
        return "NOT_MATCHED", "CLAUSE_FALSE"
    most, within = CAPS[campaign]
    if sum(at - within < one <= at for one in human.told.get(campaign, ())) >= most:
        return "SUPPRESSED", "CAP_THIS"
    if campaign == "in-the-cart":
        held = {_bucket(campaign, name) < HELD_OUT for name in human.cards}
        if held == {True}:
            return "HELD_OUT", "HELD_OUT"
        if len(held) > 1:
            return "HELD_OUT", "MIXED_ARMS"
    return "FIRED", "NONE"


def _bucket(test: str, anchor: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{test}\0{anchor}".encode(), digest_size=8).digest(), "big") % 10_000
