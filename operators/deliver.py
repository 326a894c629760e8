"""Deliver: a command becomes a text in somebody's hands, or an outcome that says why it did not.

The only step that sees a name or an address: it opens the sealed contact points, renders, and hands the
text on as an item that goes to a channel and to no topic.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from operators.people.consent import compose
from operators.people.ledger import Agreed
from operators.rules.channels import CHANNELS
from operators.rules.templates import Part, Template
from operators.state.store import Table, Tables
from schemas import ids
from schemas.derived import Command, Outcome
from schemas.items import DataKey, Event, Item, Linked, Occupied, Touched
from schemas.letters import Sealed
from schemas.people import ContactPoint
from schemas.person import GRANTED, Consents
from schemas.reference import Consent
from schemas.sealing import Unsealable, opener
from schemas.texts import Delivered
from schemas.venue import Venue

NAME = "person.first_name"


class Sealing(msgspec.Struct, array_like=True, frozen=True):
    """The newest contact point of a kind, as it came."""

    at: int
    id: str
    sealed: bytes
    deleted: bool


class Holder(msgspec.Struct, array_like=True):
    """What delivery keeps of one identifier: its wrapped key, contact points, consent, and who it is with."""

    wrapped: bytes = b""
    contacts: dict[str, Sealing] = {}
    agreed: Agreed | None = None
    together: list[str] = []


@dataclass(frozen=True)
class DeliverRule:
    """Templates by id, the venue, and what opens a wrapped data key."""

    templates: Mapping[str, Template]
    venue: Venue
    unwrapped: Sealed


class Deliver:
    """The core of one shard.

    State: a Holder an identifier; the status of each action until it has expired for good; who is in view.
    Time: the batch's clock against `expires_at`. Guarantee: each action id is handed out once.
    """

    def __init__(self, rule: DeliverRule, tables: Tables) -> None:
        self._rule = rule
        self._holders: Table[Holder] = tables.table(1, Holder)
        self._done: Table[str] = tables.table(2, str)
        self._present: Table[int] = tables.table(3, int)

    def step(self, items: list[Item]) -> list[Item]:
        """Hand out commands in order; everything passes on, an outcome right behind its command."""
        out: list[Item] = []
        for item in items:
            out.append(item)
            if isinstance(item, Event):
                if isinstance(item.record, Command):
                    out.extend(self._command(item, item.record))
            elif isinstance(item, Touched):
                self._learn(item.event)
            elif isinstance(item, Linked):
                self._link(item)
            elif isinstance(item, Occupied):
                self._present.put(item.zone_id, item.count)
            elif isinstance(item, DataKey):
                holder = self._holder(item.identifier)
                holder.wrapped = item.wrapped
                self._holders.put(item.identifier, holder)
        return out

    def _holder(self, identifier: str) -> Holder:
        return self._holders.get(identifier) or Holder(together=[identifier])

    def _link(self, linked: Linked) -> None:
        for person in linked.persons:
            together = [member.identifier for member in person.members]
            for identifier in together:
                holder = self._holder(identifier)
                holder.together = together
                self._holders.put(identifier, holder)

    def _learn(self, event: Event) -> None:
        record = event.record
        if isinstance(record, ContactPoint):
            holder = self._holder(record.identifier)
            kept = holder.contacts.get(record.kind)
            if kept is None or (record.event_time, record.event_id) >= (kept.at, kept.id):
                holder.contacts[record.kind] = Sealing(
                    record.event_time, record.event_id, record.value_sealed, record.deleted
                )
                self._holders.put(record.identifier, holder)
        elif isinstance(record, Consent):
            holder = self._holder(record.identifier)
            kept_record = holder.agreed
            if kept_record is None or (record.event_time, record.event_id) >= (kept_record.at, kept_record.id):
                holder.agreed = Agreed(
                    record.event_time,
                    record.event_id,
                    record.epoch,
                    [(one.code, one.granted, [name.lower() for name in one.channels]) for one in record.purposes],
                    record.jurisdiction,
                    record.language,
                    record.valid_until,
                    record.withdrawn,
                )
                self._holders.put(record.identifier, holder)

    def _command(self, event: Event, command: Command) -> Iterator[Item]:
        if self._done.get(command.event_id) is not None:
            yield self._outcome(event, command, "SUPPRESSED", "DUPLICATE")
            return
        status, reason = "SENT", "NONE"
        if command.expires_at <= event.clock:
            status, reason = "EXPIRED", "EXPIRED"
        elif command.waits_for and self._done.get(command.waits_for) == "SENT":
            status, reason = "SUPPRESSED", "NOT_NEEDED"
        else:
            handed = self._handed(event, command)
            if isinstance(handed, str):
                status, reason = "SUPPRESSED", handed
            else:
                yield handed
        self._done.put(command.event_id, status)
        yield self._outcome(event, command, status, reason)

    def _handed(self, event: Event, command: Command) -> Delivered | str:
        """The text for its target, or the reason why there is none."""
        consents = self._consents(command.anchor_id, command.event_time)
        channel = CHANNELS[command.channel]
        if channel.personal and consents.may_contact(command.channel) != GRANTED:
            return "CONSENT_WITHDRAWN"
        target: str | None = command.target_id
        if channel.contact_point is not None:
            target = self._opened(command.target_id, channel.contact_point)
            if target is None:
                return "TARGET_UNKNOWN"
        values: dict[str, Any] = dict(command.params)
        if command.anchor_id is not None:
            values[NAME] = self._name(command.anchor_id)
        for part in self._parts(command, consents):
            text = part.render(values)
            if text is not None:
                subject = part.subject(values)
                whole = text if subject is None else f"{subject}\n{text}"
                return Delivered(
                    event.number,
                    event.clock,
                    command.event_time,
                    command.channel,
                    target or "",
                    whole,
                    command.campaign_id,
                    command.event_id,
                )
        return "TEMPLATE_FAILED"

    def _parts(self, command: Command, consents: Consents) -> Iterator[Part]:
        """The parts to try: a personal one on a screen only with `display_name`, and nobody else in view."""
        template = self._rule.templates.get(command.template_id)
        if template is None:
            return
        if command.channel == "SCREEN" and consents.granted("display_name"):
            device = self._rule.venue.devices.get(command.target_id)
            in_view = sum(self._present.get(zone) or 0 for zone in (device.view_zones if device else ()))
            personal = template.choose("screen_personal", command.locale)
            if personal is not None and in_view <= 1:
                yield personal
        part = template.choose(command.channel, command.locale)
        if part is not None:
            yield part

    def _consents(self, anchor: str | None, at: int) -> Consents:
        if anchor is None:
            return Consents({}, {})
        holders = [self._holder(member) for member in self._holder(anchor).together]
        return compose([holder.agreed for holder in holders if holder.agreed is not None], at)

    def _name(self, anchor: str) -> str | None:
        named = [
            (sealing.at, sealing.id, member)
            for member in self._holder(anchor).together
            if (sealing := self._holder(member).contacts.get("NAME")) is not None
        ]
        return self._opened(max(named)[2], "NAME") if named else None

    def _opened(self, identifier: str, kind: str) -> str | None:
        holder = self._holder(identifier)
        sealing = holder.contacts.get(kind)
        if sealing is None or sealing.deleted or not holder.wrapped:
            return None
        try:
            return opener(self._rule.unwrapped(holder.wrapped))(sealing.sealed).decode()
        except Unsealable:
            return None

    @staticmethod
    def _outcome(event: Event, command: Command, status: str, reason: str) -> Event:
        outcome = Outcome(
            event_id=ids.outcome(command.event_id, status, 0),
            event_time=command.event_time,
            ingest_time=command.ingest_time,
            site_id=command.site_id,
            source_id="activation",
            action_id=command.event_id,
            channel=command.channel,
            status=status,
            reason=reason,
            attempt=0,
        )
        return Event(event.number, event.clock, "action.outcome", outcome)
