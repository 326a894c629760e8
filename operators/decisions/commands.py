"""From a campaign's `do` to commands: what can be sent to this person here, to where, in which words."""

import msgspec

from operators.decisions.guards import STALE
from operators.decisions.occasion import Known, Occasion, Reading
from operators.decisions.screens import Screens
from operators.rules.campaigns import Action, Campaign
from operators.rules.channels import CHANNELS
from operators.rules.leaves import PERSONALISATION, STATIC
from operators.rules.templates import NAME, Part, Template
from schemas import ids
from schemas.derived import Command
from schemas.person import GRANTED

NEAREST = "nearest"


class Entry(msgspec.Struct, frozen=True):
    """One entry of `do` that can be sent; `personal` channels reach one person alone."""

    action: Action
    channel: str
    target: str
    locale: str
    params: dict[str, str]
    personal: bool


class Plan(msgspec.Struct, frozen=True):
    """What of a campaign could be sent, and what stands in the way of the rest.

    `withheld` are (purpose, state) that entries lack; `shared`: a personal text has no screen of its own;
    `others` are the subjects in view beside her, None where nobody knows; `unreachable` names the channels
    that have no target or no words for her.
    """

    entries: list[Entry]
    withheld: list[tuple[str, str]]
    shared: bool
    others: int | None
    unreachable: str


class Planner:
    """Plans campaigns against templates and screens."""

    def __init__(self, templates: dict[str, Template], screens: Screens) -> None:
        self.templates, self._screens = templates, screens

    def plan(self, campaign: Campaign, reading: Reading) -> Plan:
        """What of `do` could be sent, entry by entry, and why the rest could not."""
        entries: list[Entry] = []
        withheld: list[tuple[str, str]] = []
        shared, unreachable = False, []
        screen = self._screens.nearest(reading.occasion.zone_id)
        others = None if screen is None else self._screens.others(screen, reading.person)
        for action in campaign.do:
            channel = CHANNELS[action.channel]
            template = self.templates[action.template]
            if channel.personal and (state := _may_contact(action, reading)) != GRANTED:
                withheld.append(("contact", state))
                continue
            target = self._target(action, reading, screen)
            if target is None or (channel.personal and reading.person.state == "CANDIDATE"):
                unreachable.append(action.channel)
                continue
            part = _part(template, action, campaign, reading)
            if (
                action.channel == "SCREEN"
                and (own := _part(template, action, campaign, reading, "screen_personal")) is not None
            ):
                display = reading.consents.of("display_name")
                alone = self._screens.alone(target, reading.person) and reading.person.state != "CANDIDATE"
                if alone and display == GRANTED and campaign.guard.audience == "safe":
                    part = own
                elif part is None and display != GRANTED:
                    withheld.append(("display_name", display))
                    continue
                elif part is None:
                    shared = True
                    continue
            if part is None:
                unreachable.append(action.channel)
                continue
            values = _values(part, action, campaign, reading)
            entries.append(Entry(action, action.channel, target, part.locale, part.params(values), channel.personal))
        return Plan(entries, withheld, shared, others, ",".join(dict.fromkeys(unreachable)))

    def _target(self, action: Action, reading: Reading, screen: str | None) -> str | None:
        channel = CHANNELS[action.channel]
        if channel.contact_point is not None:
            reached = reading.reach(channel.contact_point)
            return None if reached is None else reached.identifier
        if channel.personal:
            return reading.person.anchor
        if action.channel == "SCREEN" and action.target in {None, NEAREST}:
            return screen
        if action.target is None or action.target == NEAREST:
            return reading.occasion.zone_id or reading.occasion.site_id
        return action.target


def commands(
    campaign: Campaign, entries: list[Entry], occasion: Occasion, decision: str, anchor: str, epoch: str | None
) -> list[Command]:
    """Commands of a campaign that fired: the first entry, its fallbacks that wait for it, and what goes beside.

    `occasion` has the times of the decision.
    """
    made: list[Command] = []
    before: str | None = None
    for entry in entries:
        action = entry.action
        name = ids.action(campaign.id, campaign.version, anchor, occasion.stay, action.step)
        waits_for = None if action.also else before
        after = action.fallback_after_us if waits_for is not None else None
        made.append(
            Command(
                event_id=name,
                event_time=occasion.event_time,
                ingest_time=occasion.ingest_time,
                site_id=occasion.site_id,
                source_id="activation",
                campaign_id=campaign.id,
                campaign_version=campaign.version,
                step=str(action.step),
                decision_id=decision,
                anchor_id=anchor,
                visit_id=occasion.visit_id,
                channel=entry.channel,
                target_id=entry.target,
                template_id=action.template,
                locale=entry.locale,
                params=entry.params,
                purpose="contact" if entry.personal else "personalisation",
                consent_epoch=epoch,
                waits_for=waits_for,
                while_present=entry.channel == "SCREEN",
                not_before=None if after is None else occasion.event_time + after,
                expires_at=occasion.event_time + action.ttl_us,
                priority=campaign.priority,
            )
        )
        if not action.also:
            before = name
    return made


def _part(
    template: Template, action: Action, campaign: Campaign, reading: Reading, name: str | None = None
) -> Part | None:
    """The part for the person's language, if every variable that it needs has a value she lets be used."""
    part = template.choose(name or action.channel, reading.consents.language)
    return part if part is not None and part.sendable(_values(part, action, campaign, reading)) else None


def _may_contact(action: Action, reading: Reading) -> str:
    state = reading.consents.may_contact(action.channel)
    return STALE if state == GRANTED and reading.consents_stale else state


def _values(part: Part, action: Action, campaign: Campaign, reading: Reading) -> dict[str, Known]:
    values: dict[str, Known] = {f"params.{name}": value for name, value in action.params.items()}
    for leaf in part.variables:
        if leaf != NAME and not leaf.startswith("params.") and not reading.missing(leaf, purposes(leaf, campaign)):
            values[leaf] = reading.value(leaf, campaign)
    return values


def purposes(leaf: str, campaign: Campaign) -> frozenset[str]:
    """What a leaf in a text may be used for only with."""
    if leaf in campaign.needs:
        return campaign.needs[leaf]
    if leaf.startswith("person.traits."):
        return PERSONALISATION
    if leaf.startswith("facts."):
        read = campaign.facts.get(leaf.removeprefix("facts."))
        return frozenset() if read is None else read.purposes
    return STATIC[leaf].purposes if leaf in STATIC else frozenset()
