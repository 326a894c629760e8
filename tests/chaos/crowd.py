"""A seeded crowd for the flow `activation`: rows in waves, arranged so that what must be said follows from them alone.

Order between topics is nobody's promise: a start reads what stands before what happens, and partitions interleave. So
whatever must come after something else comes in a later wave, and a wave is said only when all before it is durable.
Within a wave the rows of one person that touch each other have one topic and one key, which keep their order.

A person has a card (`loyalty:`), a phone (`device:`) and a tag, tied to the card by asserted links. People are dealt into
cohorts that walk the same five phases, one after the other: enter, dwell, leave, buy, papers.
Papers are new tiers, refused and granted consents, and links by which two persons with profiles become one; from then
on the two act in turns.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.simulate import EXAMPLE, copy_example
from schemas import ids
from schemas.derived import DwellReached, Transition, Visit
from schemas.people import Customer, Receipt, ReceiptLine, WebEvent
from schemas.pseudonym import tokens
from schemas.reference import Consent, Link, Purpose
from schemas.types import AnyRecord

Row = tuple[int, str, AnyRecord]
"""When it was heard (µs), its topic, and what it says."""
KEY = b"a key for the kill loop"
TOKEN = tokens(KEY, 1, remembered=1 << 18)
SITE = "mad-01"
SECOND = 1_000_000
WAVE_US = 120 * SECOND
PHASES = 5
ENTER, DWELL, LEAVE, BUY, PAPERS = range(PHASES)
SETUP = 2
"""Waves before the first phase: customers, then their consents and what is theirs."""
THRESHOLD_US = 45 * SECOND
PURPOSES = ("personalisation", "in_store_location", "profiling", "linking")
TIERS = ("gold", "silver", "base")
TOPICS = (
    "crm.customer", "consent.record", "identity.link", "presence.transition", "presence.dwell", "presence.visit",
    "web.event", "pos.receipt",
)  # fmt: skip
CAMPAIGNS = {
    "linger": """\
campaign: linger
owner: chaos
about: Somebody stays; at most once in a quarter of an hour
when: {dwell: {zone: offers, at_least: 45s}}
guard:
  identity: confirmed
  consent: [personalisation, in_store_location]
  caps: {this: 1 per 15m}
do:
  - {channel: task, template: word, ttl: 60s}
""",
    "in-the-cart": """\
campaign: in-the-cart
owner: chaos
about: Something is put into the cart; five times a day, a tenth is held out
when: {event: {topic: web.event, where: 'e.name == "product_added"'}}
guard:
  identity: confirmed
  consent: [personalisation]
  caps: {this: 5 per 24h}
test: {holdout: 10%, metric: conversion, window: 24h}
do:
  - {channel: webhook, template: word, ttl: 60s}
""",
    "gold-at-the-till": """\
campaign: gold-at-the-till
owner: chaos
about: Whoever is premium buys; at most twice in forty minutes
when: {event: {topic: pos.receipt}}
if:
  premium: '"premium" in person.segments'
guard:
  identity: confirmed
  consent: [personalisation]
  caps: {this: 2 per 40m}
do:
  - {channel: till, template: word, ttl: 60s}
""",
}
SEGMENT = "segment: premium\nenter: 'person.tier == \"gold\"'\nleave: 'person.tier != \"gold\"'\n"
TEMPLATE = "template: word\nfallback_locale: en\nparts:\n" + "".join(
    f"  {channel}:\n    en: 'A word'\n" for channel in ("task", "webhook", "till")
)


def deployed(folder: Path) -> None:
    """Put the example's venue and the crowd's own rules into a folder."""
    copy_example(EXAMPLE, folder)
    for kind in ("campaigns", "segments", "templates"):
        (folder / kind).mkdir(exist_ok=True)
        for old in (folder / kind).glob("*.yaml"):
            old.unlink()
    for name, text in CAMPAIGNS.items():
        (folder / "campaigns" / f"{name}.yaml").write_text(text)
    (folder / "segments" / "premium.yaml").write_text(SEGMENT)
    (folder / "templates" / "word.yaml").write_text(TEMPLATE)
    (folder / ".key").write_bytes(KEY)
    (folder / ".key").chmod(0o600)


@dataclass
class Crowd:
    """Who comes, and what happens to them.

    Args:
        seed: draws everything.
        people: how many.
        cycles: how often each goes through all phases.
        web: events of the web when somebody leaves, and when she buys.
        start: when it begins, µs.
        visitors: how many of them come to the shop, about; the others are on the web and at the till alone. Whoever
            enters or leaves is told of with all who are in the zone, so a full shop costs the square of who is in it.
    """

    seed: int
    people: int
    cycles: int = 3
    web: int = 7
    start: int = 0
    visitors: int = 1_500
    partner: dict[int, int] = field(init=False)
    """Who becomes one with whom, both ways."""
    since: dict[int, int] = field(init=False)
    """In the papers of which cycle."""

    def __post_init__(self) -> None:
        draw = random.Random(f"pairs:{self.seed}")
        self.partner, self.since = {}, {}
        for cohort in range(PHASES):
            members = list(range(cohort, self.people, PHASES))
            draw.shuffle(members)
            chosen = members[: len(members) // 10 * 2]
            for one, other in zip(chosen[::2], chosen[1::2], strict=True):
                self.partner[one], self.partner[other] = other, one
                self.since[one] = self.since[other] = draw.randrange(max(1, self.cycles - 1))

    @property
    def waves(self) -> int:
        """How many there are."""
        return SETUP + PHASES * self.cycles + PHASES - 1

    def wave(self, number: int) -> Iterator[Row]:
        """The rows of a wave, those of one person in order of their times."""
        draw = random.Random(f"{self.seed}:{number}")
        apart = (WAVE_US - 10 * SECOND) // self.people
        for person in range(self.people):
            at = self.start + number * WAVE_US + person * apart
            if number == 0:
                yield at, "crm.customer", self._customer(person, at, draw.choice(TIERS))
            elif number == 1:
                yield from self._belongings(person, at)
            else:
                cycle, phase = divmod(number - SETUP - person % PHASES, PHASES)
                if 0 <= cycle < self.cycles:
                    yield from self._acts(person, cycle, phase, at, draw)

    def rows(self) -> Iterator[Row]:
        """All of them."""
        for number in range(self.waves):
            yield from self.wave(number)

    # What one person does.

    def _acts(self, person: int, cycle: int, phase: int, at: int, draw: random.Random) -> Iterator[Row]:
        if phase == PAPERS:
            yield from self._papers(person, cycle, at, draw)
        elif not self._rests(person, cycle):
            if phase != BUY and person // PHASES % max(1, self.people // self.visitors) == 0:
                yield from self._stays(person, phase, at)
            if phase in {LEAVE, BUY}:
                yield from self._web(person, cycle, phase, at + SECOND // 100, draw)
            if phase == BUY:
                yield at + SECOND // 50, "pos.receipt", self._receipt(person, cycle, at + SECOND // 50)

    def _rests(self, person: int, cycle: int) -> bool:
        """Of two who have become one, one acts in even cycles, the other in odd ones."""
        other = self.partner.get(person)
        if other is None or cycle <= self.since[person]:
            return False
        return (cycle % 2 == 0) == (person > other)

    def _customer(self, person: int, at: int, tier: str) -> Customer:
        return Customer(
            event_id=f"crm-{person}-{at}", event_time=at, ingest_time=at, source_id="crm", tier=tier,
            identifiers=[card(person)],
        )  # fmt: skip

    def _consent(self, person: int, at: int, *, granted: bool) -> Consent:
        return Consent(
            event_id=f"consent-{person}-{at}", event_time=at, ingest_time=at, source_id="app", identifier=card(person),
            purposes=[Purpose(code=code, granted=granted or code != "personalisation") for code in PURPOSES],
            legal_basis="consent", notice_version="1", jurisdiction="ES", language="en", collected_via="APP",
        )  # fmt: skip

    def _link(self, weak: str, strong: str, at: int, method: str) -> Link:
        return Link(
            event_id=f"link-{weak}-{strong}", event_time=at, ingest_time=at, source_id="desk", site_id=SITE,
            from_id=weak, to_id=strong, method=method, valid_from=at,
        )  # fmt: skip

    def _belongings(self, person: int, at: int) -> Iterator[Row]:
        yield at, "consent.record", self._consent(person, at, granted=person % 17 != 3)
        yield at + 1, "identity.link", self._link(tag(person), card(person), at + 1, "LOGIN")
        yield at + 2, "identity.link", self._link(phone(person), card(person), at + 2, "LOGIN")

    def _papers(self, person: int, cycle: int, at: int, draw: random.Random) -> Iterator[Row]:
        chance = draw.random()
        other = self.partner.get(person)
        if other is not None:
            if cycle == self.since[person] and person < other:
                yield at, "identity.link", self._link(card(person), card(other), at, "IMPORT")
        elif chance < 0.2:
            yield at, "crm.customer", self._customer(person, at, draw.choice(TIERS))
        elif chance < 0.3:
            yield at, "consent.record", self._consent(person, at, granted=draw.random() < 0.5)

    def _web(self, person: int, cycle: int, phase: int, at: int, draw: random.Random) -> Iterator[Row]:
        added = set(draw.sample(range(self.web), 2)) if phase == BUY else set()
        for number in range(self.web):
            when = at + 10 * number
            yield (
                when,
                "web.event",
                WebEvent(
                    event_id=f"web-{person}-{cycle}-{phase}-{number}", event_time=when, ingest_time=when,
                    source_id="web", identifiers=[phone(person) if person % 2 else card(person)],
                    name="product_added" if number in added else "product_viewed", session_id=f"{person}-{cycle}",
                    client_created=when, client_sent=when, path="/shoes", category="shoes",
                ),
            )  # fmt: skip

    def _receipt(self, person: int, cycle: int, at: int) -> Receipt:
        line = ReceiptLine(
            line_no=1, kind="SALE", sku="shoe", category="shoes", quantity_milli=1000, line_total_minor=990
        )
        return Receipt(
            event_id=f"receipt-{person}-{cycle}", event_time=at, ingest_time=at, site_id=SITE, source_id="till-1",
            receipt_id=f"{person}-{cycle}", workstation_id="till-1", business_date="2026-12-05", kind="SALE",
            identifiers=[card(person)], currency="EUR", total_minor=990, lines=[line],
        )  # fmt: skip

    def _stays(self, person: int, phase: int, at: int) -> Iterator[Row]:
        subject = TOKEN(tag(person))
        for number, zone in enumerate(("offers", "shoes")):
            entered = at - phase * WAVE_US
            visit, when = ids.visit(SITE, subject, zone, entered), at + number
            head: dict[str, Any] = {"event_time": when, "ingest_time": when, "site_id": SITE, "source_id": "presence"}
            place: dict[str, Any] = {"visit_id": visit, "subject_id": subject, "zone_id": zone, "zone_revision": 0}
            if phase == DWELL:
                reached: dict[str, Any] = {
                    "entered_at": entered,
                    "reached_at": entered + THRESHOLD_US,
                    "fired_at": when,
                }
                dwelt = DwellReached(
                    event_id=ids.dwell(visit, THRESHOLD_US), **head, **place, **reached, threshold_us=THRESHOLD_US,
                    last_fix_at=when, fix_count=90, quality=1.0,
                )  # fmt: skip
                yield when, "presence.dwell", dwelt
                continue
            kind, reason = ("ENTER", "CROSSED") if phase == ENTER else ("EXIT", "LEFT")
            moved = Transition(
                event_id=ids.transition(visit, kind), **head, **place, kind=kind, at=when, reason=reason, tech="UWB"
            )
            yield when, "presence.transition", moved
            if phase == LEAVE:
                stayed = Visit(
                    event_id=ids.visit_record(visit), **head, **place, entered_at=entered, left_at=when,
                    dwell_us=when - entered, observed_us=when - entered, fix_count=200, gap_count=0, max_gap_us=SECOND,
                    enter_reason="CROSSED", exit_reason="LEFT", fired_us=[THRESHOLD_US], tech="UWB", revision=0,
                )  # fmt: skip
                yield when, "presence.visit", stayed


def card(person: int) -> str:
    """Her card."""
    return f"loyalty:card-{person:06d}"


def phone(person: int) -> str:
    """Her phone."""
    return f"device:phone-{person:06d}"


def tag(person: int) -> str:
    """Her tag."""
    return f"tag:tag-{person:06d}"
