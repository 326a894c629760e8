"""The reference: the same rules as a plain Python loop, with nothing around it.

No engine, no reorder buffer, no gates, no state that survives: lines in, counts out. It takes its input in
order and trusts it. What it finds must equal what the flow finds on the same clean input, or its speed says
nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from operators.venues.place import Places
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from schemas.venue import Dwelling, Venue

SECOND = 1_000_000


@dataclass(slots=True)
class Stay:
    """One subject in or about one zone."""

    state: str
    run: int
    n: int
    entered: int = 0
    last_in: int = 0
    last_deep: int = 0
    told: int = 0


@dataclass
class Presence:
    """Stays by subject and zone, and the dwells they gave."""

    ways: dict[str, dict[str, Dwelling]]
    """Parameters by technology and zone."""
    wanted: dict[str, tuple[int, ...]]
    stays: dict[str, dict[str, Stay]] = field(default_factory=lambda: defaultdict(dict))
    last: dict[str, tuple[int, str]] = field(default_factory=dict)
    dwells: Counter[str] = field(default_factory=Counter)

    def fix(self, subject: str, t: int, tech: str, near: Iterable[tuple[str, float]]) -> None:
        """One reading, in event-time order."""
        mine, seen = self.stays[subject], dict(near)
        self.silence(mine, t, *self.last.get(subject, (t, tech)))
        self.last[subject] = (t, tech)
        for zone in {*mine, *seen}:
            way, stay = self.ways[tech][zone], mine.get(zone)
            d = seen.get(zone, 1e9)
            inside, outside = d <= -way.enter_margin_m, d > way.exit_margin_m
            if stay is None:
                if inside:
                    mine[zone] = Stay("CAND", t, 1, last_deep=t)
                continue
            if stay.state in {"IN", "GRACE"} and not inside and t - stay.last_deep > way.edge_max_us:
                outside = True
            if inside:
                stay.last_deep = t
            if stay.state == "CAND":
                if outside:
                    del mine[zone]
                elif inside:
                    stay.n += 1
                    if t - stay.run >= way.enter_confirm_us and stay.n >= way.enter_fixes:
                        stay.state, stay.entered = "IN", stay.run
            elif outside:
                if stay.state == "IN":
                    stay.state, stay.run, stay.n = "GRACE", t, 0
                stay.n += 1
                if t - stay.run >= way.exit_confirm_us and stay.n >= way.exit_fixes:
                    del mine[zone]
            else:
                stay.state = "IN"
            if stay.state == "IN":
                stay.last_in = t
                self._due(zone, stay, t)

    def silence(self, mine: dict[str, Stay], t: int, last: int, tech: str) -> None:
        """What fell due between a subject's last reading and this one."""
        for zone in list(mine):
            way, stay = self.ways[tech][zone], mine[zone]
            if stay.state == "IN":
                self._due(zone, stay, min(t, stay.last_in + way.fresh_us))
            if t - (stay.last_deep if stay.state == "CAND" else last) > way.gap_us:
                del mine[zone]

    def _due(self, zone: str, stay: Stay, t: int) -> None:
        asked = self.wanted.get(zone, ())
        while stay.told < len(asked) and stay.entered + asked[stay.told] <= t:
            stay.told += 1
            self.dwells[zone] += 1


Ways = dict[str, dict[str, Dwelling]]


def presence(lines: Path, venue: Venue, ways: Ways, wanted: dict[str, tuple[int, ...]]) -> Counter[str]:
    """Dwells by zone, from a file of positions in event-time order."""
    places, found = Places(venue), Presence(ways, wanted)
    token = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)
    with lines.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            near = places.near(row["floor"], row["x_m"], row["y_m"])
            found.fix(token(row["subject_id"]), row["event_time"], row["tech"], near)
    for subject, mine in found.stays.items():
        found.silence(mine, 1 << 62, *found.last[subject])
    return found.dwells


@dataclass
class Person:
    """What the loop keeps of a person."""

    tier: str = ""
    granted: dict[str, bool] = field(default_factory=dict)
    views: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    bought: dict[str, int] = field(default_factory=dict)
    charged: list[int] = field(default_factory=list)


def activation(rows: Iterable[tuple[str, dict[str, Any]]], categories: dict[str, str | None]) -> Counter[str]:
    """Verdicts on one campaign (gold members, 45 s in Offers, once a day), from rows as they were heard."""
    token = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)
    card: dict[str, str] = {}
    people: dict[str, Person] = defaultdict(Person)
    told: Counter[str] = Counter()
    for topic, row in rows:
        t = row["event_time"]
        if topic == "presence.dwell":
            if row["zone_id"] == "offers" and row["threshold_us"] == 45 * SECOND:
                told[_decided(people[_of(card, token(row["subject_id"]))], t, categories["offers"])] += 1
            continue
        named = [token(one) for one in row.get("identifiers", ())] or [
            token(row[name]) for name in ("identifier", "from_id") if name in row
        ]
        if not named:
            continue
        if topic in {"crm.customer", "identity.link"}:
            strong = token(row["to_id"]) if topic == "identity.link" else named[0]
            card.update(dict.fromkeys(named, strong))
        person = people[_of(card, named[0])]
        if topic == "crm.customer":
            person.tier = row.get("tier") or ""
        elif topic == "consent.record":
            person.granted = {one["code"]: one["granted"] for one in row["purposes"]}
        elif topic == "web.event":
            person.views[row.get("category") or ""].append(t)
        elif topic == "pos.receipt":
            person.bought.update({line.get("category") or "": t for line in row["lines"]})
    return told


def _of(card: dict[str, str], identifier: str) -> str:
    return card.get(identifier, identifier)


def _decided(person: Person, t: int, category: str | None) -> str:
    if not (person.granted.get("personalisation") and person.granted.get("in_store_location")):
        return "NO_CONSENT"
    if person.tier != "gold":
        return "NOT_MATCHED"
    if t - person.bought.get(category or "", -(1 << 62)) < 2 * 3600 * SECOND:
        return "BOUGHT"
    person.charged = [one for one in person.charged if t - one < 24 * 3600 * SECOND]
    if person.charged:
        return "CAPPED"
    person.charged.append(t)
    return "FIRED"
