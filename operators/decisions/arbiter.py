"""Arbiter: who of the candidates that passed every guard acts, who is held out, and what that is charged."""

from collections.abc import Collection, Iterable

import msgspec

from operators.decisions import arbitration
from operators.decisions.arbitration import Arm, Entrant, Place
from operators.decisions.caps import DAY_US, Ledger
from operators.decisions.guards import caps as cap_guard
from operators.decisions.judge import Judged
from operators.rules.campaigns import Campaign
from operators.rules.load import Rules
from operators.state.owned import Owned
from operators.state.store import Rows, Tables
from schemas.derived import Command, Outcome
from schemas.items import Person

CHARGES, ANCHORS, SENT = 74, 75, 76
"""Numbers of the tables; the cores that work on one person share one store."""


SLOT_US = 30 * 60_000_000


class Sent(msgspec.Struct, array_like=True, frozen=True):
    """A command whose outcome matters: by whose ledger it was charged, for which campaign, when.

    `shown` are the scopes that charge only what was shown, `channel` the one that a fallback holds in reserve.
    """

    member: str
    campaign: str
    at: int
    drop_at: int
    channel: str | None
    shown: list[str]


class Told(msgspec.Struct, frozen=True):
    """What an outcome was about: the member and the campaign that its fact counts for."""

    member: str
    campaign: str


class Arbiter:
    """Arms and charges of one shard.

    Args:
        rules: the campaigns in force.
        control: share of the global control group.
        tables: charges by member, what was an anchor, commands whose outcome matters.
    """

    def __init__(self, rules: Rules, control: float, tables: Tables) -> None:
        self._control = round(control * arbitration.BUCKETS)
        windows = [cap.window_us or 0 for campaign in rules.campaigns.values() for cap in campaign.guard.caps]
        topics = {aggregate.topic for aggregate in rules.plan.aggregates.values()}
        self._watched = {topic.split(":")[1] for topic in topics if topic.startswith("outcome:")}
        self._charges = tables.table(CHARGES, dict[str, list[int]])
        self._ledger = Ledger(self._charges, 2 * max([*windows, 16 * DAY_US]))
        self._anchors = tables.table(ANCHORS, list[str])
        self.sent: Owned[Sent] = Owned(tables.table(SENT, Sent), lambda sent: sent.member)

    def charges(self, members: Iterable[str], scope: str, campaign: Campaign) -> list[int]:
        """When a person was told, in a scope of a campaign's caps; ascending."""
        return self._ledger.of(members, _scope(scope, campaign))

    def decide(
        self, judged: list[Judged], person: Person, anchor: str, at: int, zone_id: str | None, time_zone: str
    ) -> tuple[dict[str, Arm], dict[str, Place]]:
        """Walk the groups, and charge what fired or was held out.

        Args:
            judged: candidates that passed every guard.
            person: whom it is about.
            anchor: hers, or that of the stay.
            at: instant of the decision.
            zone_id: where it is about.
            time_zone: of the venue.

        Returns:
            Arms and places, by campaign.
        """
        by_id = {each.campaign.id: each for each in judged}
        members = [member.identifier for member in person.members]
        payer = payer_of(person, anchor)
        spared = self._control > 0 and arbitration.bucket(arbitration.GLOBAL_TEST, anchor) < self._control
        arms: dict[str, Arm] = {}
        entrants = []
        for name, each in by_id.items():
            arm = self._arm(each.campaign, person, anchor, zone_id, at)
            held = "HELD_OUT_GLOBAL" if spared else None
            if arm is not None:
                arms[name] = arm
                if held is None and arm.held:
                    held = "MIXED_ARMS" if arm.name == arbitration.MIXED else "HELD_OUT"
            if held is not None:  # as if she had been told, so that both arms come up equally often
                self._ledger.charge(payer, _scope("this", each.campaign), at)
            entrants.append(Entrant(name, each.campaign.group, each.campaign.priority, None, held))

        def wins(entrant: Entrant) -> tuple[str, str | None] | None:
            campaign, entries = by_id[entrant.campaign_id].campaign, by_id[entrant.campaign_id].entries
            channels = frozenset(entry.channel.lower() for entry in entries)
            answer = cap_guard(
                campaign.guard.caps,
                at,
                time_zone,
                lambda scope: self.charges(members, scope, campaign),
                fired=False,
                channels=channels,
            )
            if answer.refuses:
                return answer.reason, answer.detail
            tags = (f"tag.{tag}" for tag in campaign.tags)
            for scope in (_scope("this", campaign), *sorted(channels), *tags, "any"):
                self._ledger.charge(payer, scope, at)
            return None

        return arms, arbitration.walk(entrants, wins)

    def was_anchor(self, member: str, test: str | None = None) -> None:
        """Note that a member was the anchor of a person, and in which test that mattered."""
        tests = self._anchors.get(member)
        if tests is None or (test is not None and test not in tests):
            self._anchors.put(member, [*(tests or ()), *(() if test is None else (test,))])

    def remember(self, campaign: Campaign, made: Iterable[Command], payer: str, at: int) -> list[tuple[int, str]]:
        """Keep the commands whose outcome matters; says when each may be forgotten."""
        shown = [_scope(cap.scope, campaign) for cap in campaign.guard.caps if cap.shown]
        watched = campaign.id in self._watched
        kept = []
        for command in made:
            reserved = command.channel.lower() if command.waits_for is not None else None
            if reserved is not None or shown or watched:
                drop_at = command.expires_at + 7 * DAY_US
                self.sent.put(command.event_id, Sent(payer, campaign.id, at, drop_at, reserved, shown))
                kept.append((drop_at, command.event_id))
        return kept

    def outcome(self, record: Outcome) -> Told | None:
        """What became of a command: a reservation is returned. Says whom and what it was about."""
        sent = self.sent.get(record.action_id)
        if sent is None:
            return None
        if record.status in {"EXPIRED", "SUPPRESSED", "FAILED"}:
            reserved = [] if sent.channel is None or record.reason != "NOT_NEEDED" else [sent.channel]
            for scope in dict.fromkeys([*sent.shown, *reserved]):
                self._ledger.give_back(sent.member, scope, sent.at)
            self.sent.put(record.action_id, msgspec.structs.replace(sent, channel=None, shown=[]))
        return Told(sent.member, sent.campaign)

    def give(self, members: Collection[str]) -> Rows:
        """Hand over charges, arms and commands of identifiers that move to another shard."""
        return [*self._charges.give(members), *self._anchors.give(members), *self.sent.give(members)]

    def take(self, table: int, key: str, stored: bytes) -> tuple[int, str, str] | None:
        """Take over what was charged to somebody who moved here; its timer, where it has one."""
        if table == SENT:
            return self.sent.take(key, stored).drop_at, "sent", key
        (self._charges if table == CHARGES else self._anchors).take(key, stored)
        return None

    def _arm(self, campaign: Campaign, person: Person, anchor: str, zone_id: str | None, at: int) -> Arm | None:
        """Where a person stands in a campaign's test, over every anchor that she, or this stay, has had.

        A tag passes from hand to hand: that it was once somebody counts only in tests it was drawn for.
        """
        test = campaign.test
        if test is None:
            return None
        if test.unit == "zone_slot":  # a screen is seen by everybody: zone and half hour are drawn, not persons
            return arbitration.arm(test, f"{zone_id or ''}\0{at // SLOT_US}")
        anchors = {anchor: None, person.anchor: None}
        for member in person.members:
            tests = self._anchors.get(member.identifier)
            if tests is not None and (test.id in tests or not member.identifier.startswith("tag:")):
                anchors[member.identifier] = None
        for name in (anchor, person.anchor):
            self.was_anchor(name, test.id)
        return arbitration.meet([arbitration.arm(test, each) for each in anchors])


def payer_of(person: Person, anchor: str) -> str:
    """Whose ledger is charged: the anchor's, as long as it is hers."""
    return anchor if any(member.identifier == anchor for member in person.members) else person.anchor


def _scope(scope: str, campaign: Campaign) -> str:
    """Charges of a campaign's own cap lie under its id, whatever its version."""
    return f"this:{campaign.id}" if scope == "this" else scope
