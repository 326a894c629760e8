"""A small town that does everything at once: people with many identifiers, who become known, part, consent and come in."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from flows.deployment import EXAMPLE, Deployment
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables, Token
from schemas import ids
from schemas.items import Heard, Item, Tick
from schemas.shards import ALONE

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_796_486_400 * SECOND  # Saturday 2026-12-05, 17:00 in Madrid
SITE = "mad-01"
ZONES = ("offers", "garden", "shoes", "store")
PURPOSES = ("personalisation", "in_store_location", "profiling", "linking", "contact")
STEP = 100_000

MORE = {
    "campaigns/bought-after-looking.yaml": """
campaign: bought-after-looking
owner: town
priority: 20
group: web
when: {sequence: {of: [{event: {topic: web.event}}, {event: {topic: pos.receipt}}], within: 2h}}
if: {anyone: 'true'}
guard: {consent: [personalisation], caps: {this: 2 per 1h, any: 6 per calendar day}}
do: [{channel: push, template: offer10, ttl: 60s}]
""",
    "campaigns/came-in.yaml": """
campaign: came-in
owner: town
priority: 30
group: premium
when: {segment: {entered: premium}}
if: {anyone: 'true'}
guard: {consent: [personalisation], caps: {this: 1 per 30m}}
test: {holdout: 30%, metric: conversion, window: 1d}
do: [{channel: push, template: offer10, ttl: 60s}]
""",
    "campaigns/known-now.yaml": """
campaign: known-now
owner: town
priority: 35
when: {identified: {in_zone: offers}}
if: {anyone: 'true'}
guard: {consent: [personalisation], caps: {this: 3 per 1d}}
do: [{channel: screen, target: nearest, template: offer10, ttl: 20s}]
""",
    "campaigns/night.yaml": """
campaign: night
owner: town
priority: 10
group: night
when: {event: {topic: web.event}}
facts: {views_1d: {count: web.event, within: 1d}}
if: {often: 'facts.views_1d >= 3'}
guard: {consent: [personalisation], caps: {this: 2 per 3h}, quiet: {venue: "17:30-18:00", else: hold, at_most: 4h}}
do: [{channel: push, template: offer10, ttl: 60s}]
""",
    "segments/keen.yaml": """
segment: keen
facts: {views_1h: {count: web.event, within: 1h}}
enter: 'facts.views_1h >= 4'
leave: 'facts.views_1h < 2'
""",
}


def deployment(folder: Path, **changes: Any) -> Deployment:
    """The example's shop with more campaigns, over eight shards where somebody asks for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("campaigns", "segments", "templates", "models"):
        shutil.copytree(EXAMPLE / name, folder / name, dirs_exist_ok=True)
    shutil.copy2(EXAMPLE / "venue.geojson", folder)
    for name, text in MORE.items():
        (folder / name).write_text(text.lstrip())
    (folder / "footfall.toml").write_text(f'[site]\nid = "{SITE}"\n\n[engine]\nshards = 8\n')
    return Deployment.load(folder, folder / "footfall.toml", **changes)


@dataclass
class Town:
    """Rows of an hour and a half, in the order in which they are heard."""

    seed: int
    people: int = 12
    events: int = 600
    inside: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Topic and row, by ingest time; no two of one instant."""
        draw = random.Random(self.seed)
        at = START
        held = {n: self._identifiers(n) for n in range(self.people)}
        for n in range(self.people):
            at += STEP // 2 + 1
            yield "consent.record", self._consent(draw, held[n][0], at, generous=True)
            at += STEP // 2 + 1
            yield "crm.contact-point", self._point(n, held[n][0], at)
        for _ in range(self.events):
            at += draw.randrange(1, 18 * SECOND)
            n = draw.randrange(self.people)
            yield self._event(draw, held, n, at)

    @staticmethod
    def _identifiers(n: int) -> list[str]:
        return [
            f"loyalty:card-{n}",
            f"email:p{n}@example.com",
            f"device:phone-{n}",
            f"cookie:browser-{n}",
            f"cookie:tablet-{n // 2}",
            f"tag:trolley-{n}",
            f"login:user-{n}",
        ]

    def _event(self, draw: random.Random, held: dict[int, list[str]], n: int, at: int) -> tuple[str, dict[str, Any]]:
        mine = held[n]
        kind = draw.choices(
            ("web", "pos", "link", "unlink", "consent", "customer", "walk", "stock", "point"),
            (30, 14, 6, 3, 6, 6, 30, 3, 2),
        )[0]
        late = at - draw.choice((*[0] * 12, 2 * SECOND, 20 * SECOND, 50 * MINUTE))
        base: dict[str, Any] = {"event_time": late, "ingest_time": at, "site_id": SITE}
        if kind == "web":
            some = draw.sample(mine[:5] + mine[6:], draw.choice((1, 1, 2, 3)))
            return "web.event", base | {
                "name": "product_viewed", "identifiers": some, "category": draw.choice(("shoes", "garden")),
            }  # fmt: skip
        if kind == "pos":
            some = draw.sample([mine[0], mine[1], f"payment_token:card-{n // 3}"], draw.choice((1, 2)))
            return "pos.receipt", base | {
                "receipt_id": f"r-{at}", "identifiers": some, "currency": "EUR", "total_minor": 500, "kind": "SALE",
                "lines": [
                    {"sku": "a", "category": "shoes", "quantity_milli": 1000, "line_total_minor": 500, "kind": "SALE"}
                ],
            }  # fmt: skip
        if kind in {"link", "unlink"}:
            weak, other = draw.choice((mine[5], mine[3], mine[2])), draw.choice((n, draw.randrange(self.people)))
            return "identity.link", base | {
                "from_id": weak, "to_id": draw.choice((held[other][0], held[other][6])), "method": "QR_PAIR",
                "valid_from": late, "valid_to": draw.choice((None, late + 20 * MINUTE)), "revoked": kind == "unlink",
            }  # fmt: skip
        if kind == "consent":
            return "consent.record", self._consent(draw, draw.choice(mine[:2]), at, generous=draw.random() < 0.7)
        if kind == "customer":
            return "crm.customer", base | {
                "identifiers": draw.sample(mine[:2] + mine[6:], 2), "tier": draw.choice(("base", "silver", "gold")),
            }  # fmt: skip
        if kind == "stock":
            return "context.fact", base | {
                "scope": f"site:{SITE}", "name": f"stock.{draw.choice(('shoes', 'garden'))}", "value": str(draw.randrange(3)),
                "valid_until": at + 60 * MINUTE,
            }  # fmt: skip
        if kind == "point":
            return "crm.contact-point", self._point(n, mine[1], at)
        return self._walk(draw, mine[5], at)

    def _walk(self, draw: random.Random, tag: str, at: int) -> tuple[str, dict[str, Any]]:
        """A subject comes in, stays long enough, and goes: one step of it each time."""
        base = {
            "event_time": at, "ingest_time": at, "site_id": SITE, "source_id": "presence", "subject_id": tag,
            "zone_revision": 0,
        }  # fmt: skip
        if tag not in self.inside:
            zone = draw.choice(ZONES)
            visit = ids.of("visit", SITE, tag, zone, at)
            self.inside[tag] = (zone, visit, at)
            told = {"zone_id": zone, "visit_id": visit, "kind": "ENTER", "at": at, "reason": "CROSSED", "tech": "UWB"}
            return "presence.transition", base | told
        zone, visit, entered = self.inside[tag]
        if draw.random() < 0.6:
            threshold = 45 * SECOND if zone == "offers" else 30 * SECOND
            return "presence.dwell", base | {
                "zone_id": zone, "visit_id": visit, "threshold_us": threshold, "entered_at": entered,
                "reached_at": at, "fired_at": at, "last_fix_at": at, "fix_count": 9, "quality": 1.0,
            }  # fmt: skip
        del self.inside[tag]
        told = {"zone_id": zone, "visit_id": visit, "kind": "EXIT", "at": at, "reason": "LEFT", "tech": "UWB"}
        return "presence.transition", base | told

    @staticmethod
    def _point(n: int, who: str, at: int) -> dict[str, Any]:
        return {
            "event_time": at, "ingest_time": at, "site_id": "", "identifier": who, "kind": "PUSH",
            "value": f"address-{n}", "verified": True,
        }  # fmt: skip

    @staticmethod
    def _consent(draw: random.Random, who: str, at: int, *, generous: bool) -> dict[str, Any]:
        granted = [(code, generous or draw.random() < 0.5) for code in PURPOSES]
        return {
            "event_time": at, "ingest_time": at, "site_id": "", "identifier": who, "language": "en",
            "source_id": draw.choice(("till", "app")),
            "purposes": [{"code": code, "granted": yes} for code, yes in granted],
            "withdrawn": not generous and draw.random() < 0.2,
        }  # fmt: skip

    def heard(self) -> list[Item]:
        """The rows as they come in, with the ticks of the clock between."""
        found: list[Item] = []
        told = 0
        offsets: dict[str, int] = {}
        for number, (topic, row) in enumerate(self.rows()):
            clock = row["ingest_time"]
            if clock // STEP > told:
                told = clock // STEP
                found.append(Tick(number - 1, told * STEP))
            offset = offsets[topic] = offsets.get(topic, -1) + 1
            found.append(Heard(number, topic, 0, offset, clock, orjson.dumps(row)))
        return found


def opened(memory: Memory, number: int, token: Token | None = None, shard: str = ALONE) -> Tables:
    """Tables of a step over a memory, at a token."""
    tables = Tables(MemoryStore(memory, step=number))
    tables.store.claim(token)
    tables.open(shard)
    return tables
