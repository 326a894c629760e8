"""Days of shop life without positions: stays as presence would have told them, for a model to learn from.

A stay is written as its transitions, thresholds and visit, each at the instant at which it would have been
known. What people do, and why they buy, is the same as in the live simulation (`flows.purchases`).
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop
from pathlib import Path
from random import Random
from typing import Any

from flows import cast, purchases
from flows.afternoon import DAY, EXAMPLE, opening_moment
from flows.cast import Customer, Row
from flows.sensors import SECOND
from flows.shop import Area, Shop
from flows.simulate import write_rows
from schemas import ids
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from schemas.topics import TOPICS

THRESHOLDS_S = (15, 30, 45, 60)
"""Seconds in a zone at which a stay is told while it lasts."""
_TOKEN = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)
_CONFIRM, _GAP = 1 * SECOND, 3 * SECOND
_EVENING = 15 * 3600 * SECOND
"""How long before opening at ten the web session of a visit may begin."""


class History:
    """Rows of whole days before the simulated Saturday, in order of ingest time."""

    def __init__(self, seed: int, days: int, *, visits: int = 120, people: int = 500, example: Path = EXAMPLE) -> None:
        self.shop = Shop.read(example / "venue.geojson")
        self.start = opening_moment(self.shop.time_zone) - 7 * 3600 * SECOND - days * DAY
        self.days, self._visits, self._name = days, visits, f"history:{seed}"
        rng = Random(f"{self._name}:people")
        self._categories = sorted({area.category for area in self.shop.browsed if area.category})
        self._people = cast.customers(rng, people, self._categories)
        self._rows: list[tuple[int, int, str, int, dict[str, Any]]] = []
        self._told = 0
        self._looking: dict[str, purchases.Looking] = {}

    def rows(self) -> Iterator[Row]:
        """Customers first, then day after day."""
        for customer in self._people:
            for topic, row in cast.papers(customer, self.start - 2 * DAY):
                self._say(topic, row)
        for day in range(self.days):
            self._day(self.start + day * DAY, Random(f"{self._name}:{day}"))
            yield from self._heard(self.start + (day + 1) * DAY - _EVENING)
        yield from self._heard(1 << 62)

    def _say(self, topic: str, row: dict[str, Any]) -> None:
        row = {"event_id": ids.of("simulated", self._name, topic, self._told), **row}
        self._rows.append((row["ingest_time"], TOPICS[topic].rank, topic, self._told, row))
        self._told += 1

    def _heard(self, until: int) -> Iterator[Row]:
        heapify(self._rows)
        while self._rows and self._rows[0][0] < until:
            _, _, topic, _, row = heappop(self._rows)
            yield topic, row

    def _day(self, morning: int, rng: Random) -> None:
        """Who comes between ten and eight, and what they looked at the evening before."""
        chosen = sorted(range(len(self._people)), key=lambda _: rng.random())[: self._visits]
        for number, index in enumerate(sorted(chosen)):
            customer = self._people[index]
            looking, rows = purchases.browse(rng, customer, morning - _EVENING, self._looking.get(customer.card))
            self._looking[customer.card] = looking
            for topic, row in rows:
                self._say(topic, row)
            if rng.random() < 0.85:
                at = morning + int(rng.random() * 9.5 * 3600) * SECOND
                self._visit(rng, customer, looking, at, f"{morning // DAY}-{number}")

    def _visit(self, rng: Random, customer: Customer, looking: purchases.Looking, at: int, number: str) -> None:
        inside, now, bought = at, at + 8 * SECOND, list[str]()
        for area in self._chosen(rng, customer):
            stay = purchases.dwell_s(rng, customer.interest(area.category))
            now += int((5 + 10 * rng.random()) * 1000) * 1000
            self._stay(customer, area, now, now + int(stay * 1000) * 1000)
            now += int(stay * 1000) * 1000
            views, in_cart = looking.views.get(area.category or "", 0), area.category in looking.cart
            if area.category and rng.random() < purchases.chance(views, stay, in_cart):
                bought.append(area.category)
        now += int((20 + 60 * rng.random()) * 1000) * 1000
        if bought:
            now += 60 * SECOND
            till, day = f"till-{1 + int(3 * rng.random())}", number.partition("-")[0]
            topic, row = purchases.receipt(
                rng, self.shop.site_id, self.shop.currency, till, now, number, day, bought, customer.loyalty
            )
            self._say(topic, row)
        store = self.shop.of_kind("STORE")
        if store is not None:
            self._stay(customer, store, inside, now + 20 * SECOND)

    def _chosen(self, rng: Random, customer: Customer) -> list[Area]:
        drawn = [(rng.random() * (0.4 + customer.interest(area.category)), area.zone_id) for area in self.shop.browsed]
        drawn.sort(key=lambda one: (-one[0], one[1]))
        return [self.shop.zones[zone_id] for _, zone_id in drawn[: 1 + int(3 * rng.random())]]

    def _stay(self, customer: Customer, area: Area, entered: int, left: int) -> None:
        """One stay as presence tells it: in, the thresholds, out, the whole."""
        token = _TOKEN(customer.device)
        visit = ids.visit(self.shop.site_id, token, area.zone_id, entered)
        of = {"visit_id": visit, "subject_id": customer.device, "zone_id": area.zone_id, "zone_revision": 0}
        fired = [after * SECOND for after in THRESHOLDS_S if entered + after * SECOND <= left and area.category]
        crossing = {**of, "kind": "ENTER", "at": entered, "reason": "CROSSED", "tech": "BLE_AOA"}
        self._tell("presence.transition", ids.transition(visit, "ENTER"), entered + _CONFIRM, crossing)
        for after in fired:
            due = entered + after
            reached = {"threshold_us": after, "entered_at": entered, "reached_at": due, "fired_at": due}
            seen = {"last_fix_at": due, "fix_count": 2 * after // SECOND, "quality": 1.0}
            self._tell("presence.dwell", ids.dwell(visit, after), due, {**of, **reached, **seen})
        crossing = {**of, "kind": "EXIT", "at": left, "reason": "LEFT", "tech": "BLE_AOA"}
        self._tell("presence.transition", ids.transition(visit, "EXIT"), left + _GAP, crossing)
        whole: dict[str, Any] = {
            "entered_at": entered,
            "left_at": left,
            "dwell_us": left - entered,
            "observed_us": left - entered,
        }
        whole |= {"fix_count": 2 * (left - entered) // SECOND, "gap_count": 0, "max_gap_us": 500_000}
        whole |= {"enter_reason": "CROSSED", "exit_reason": "LEFT", "fired_us": fired, "tech": "BLE_AOA", "revision": 0}
        self._tell("presence.visit", ids.visit_record(visit, 0), left + _GAP, {**of, **whole})

    def _tell(self, topic: str, event_id: str, at: int, fields: dict[str, Any]) -> None:
        envelope = {"event_id": event_id, "event_time": at, "ingest_time": at, "site_id": self.shop.site_id}
        self._say(topic, {**envelope, "source_id": "presence", **fields})


def history(seed: int, days: int, *, visits: int = 120, people: int = 500, example: Path = EXAMPLE) -> Iterator[Row]:
    """Rows of `days` days with about `visits` visits each, by ingest time: no positions, stays instead."""
    return History(seed, days, visits=visits, people=people, example=example).rows()


def write_history(
    out: Path, seed: int, days: int, *, example: Path = EXAMPLE, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Write `history` as a replay directory for `--flow activation`; see `flows.simulate.write_directory`."""
    past = History(seed, days, example=example)
    return write_rows(out, past.rows(), example, past.start, days * 24 * 60, progress)
