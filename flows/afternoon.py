"""The simulated Saturday at 17:00: who comes, looks, queues, pays and goes, and what is heard of it.

The history (customers, consents, past receipts, the web of the evening before) comes first; then life in
the shop, second by second. Everybody draws from a generator of her own, so that one more walker moves nobody.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from flows import cast, purchases, walkers
from flows.cast import Customer, Row
from flows.scenes import SCENES, Scene
from flows.sensors import MILLI, SECOND, Sensors, Walker
from flows.shop import Shop
from schemas import ids
from schemas.topics import TOPICS

EXAMPLE = Path(__file__).parent / "example"
LEAD_S = 60
"""Seconds of shop life before the moment at which the live demo begins: 40 s of them Ana is in Offers."""
SOLD_OUT_S = 70
DAY = 24 * 3600 * SECOND
NOTHING: tuple[purchases.Looking, list[Row]] = (purchases.Looking(), [])
_EARLIER_S = 1500
_PEOPLE = 240
_BETWEEN_S = 4.6
_MEMBERS = 0.5


def opening_moment(time_zone: str) -> int:
    """The simulated Saturday, 17:00 of the venue, in microseconds.

    >>> opening_moment("Europe/Madrid")
    1796486400000000
    """
    return int(datetime(2026, 12, 5, 17, tzinfo=ZoneInfo(time_zone)).timestamp()) * SECOND


class Simulation:
    """One seeded run over a venue; `rows` may be taken once.

    Args:
        seed: draws everything.
        example: the directory whose `venue.geojson` is walked in.
        faults: whether sensors also repeat, delay and spoil readings.
    """

    def __init__(self, seed: int, *, example: Path = EXAMPLE, faults: bool = True) -> None:
        self.shop = Shop.read(example / "venue.geojson")
        self.start = opening_moment(self.shop.time_zone)
        self._name = f"footfall:{seed}"
        self._rng = Random(f"{self._name}:day")
        self._sensors = Sensors(self._name, self.shop, self.start, faults=faults)
        self._tills = walkers.Tills(self.shop)
        self._parts = cast.parts()
        self._categories = sorted({area.category for area in self.shop.browsed if area.category})
        self._people = cast.customers(Random(f"{self._name}:people"), _PEOPLE, self._categories)
        self._looking: dict[str, purchases.Looking] = {}
        self._pending: list[tuple[int, int, str, int, dict[str, Any]]] = []
        self._events: list[tuple[float, int, str, Walker]] = []
        self._inside: list[Walker] = []
        self._told = self._came = self._sold = 0
        self._in, self._out = 0, 0

    @property
    def names(self) -> dict[str, str]:
        """First names by raw card."""
        return cast.names([*self._people, *self._parts.values()])

    @property
    def followed(self) -> list[str]:
        """Raw cards of those with a part."""
        return [customer.loyalty for customer in self._parts.values()]

    def rows(self, minutes: float | None) -> Iterator[Row]:
        """All rows heard until `minutes` after 17:00, by ingest time; None never ends."""
        self._history()
        second = -_EARLIER_S
        arrival = float(second)
        while minutes is None or second < minutes * 60:
            while arrival < second + 1:
                self._arrive(arrival)
                arrival += _BETWEEN_S * 2.0 * self._rng.random()
            self._go_on(second + 1)
            if second >= 0:
                for topic, row in self._sensors.hear(self._inside, second * SECOND, (second + 1) * SECOND):
                    self._say(topic, row)
                self._report(second)
            self._inside = [walker for walker in self._inside if walker.end > second]
            second += 1
            yield from self._heard(self.start + second * SECOND)

    def _say(self, topic: str, row: dict[str, Any]) -> None:
        if not topic.startswith("sensing.position"):
            row = {"event_id": ids.of("simulated", self._name, topic, self._told), **row}
        heappush(self._pending, (row["ingest_time"], TOPICS[topic].rank, topic, self._told, row))
        self._told += 1

    def _heard(self, until: int) -> Iterator[Row]:
        while self._pending and self._pending[0][0] < until:
            _, _, topic, _, row = heappop(self._pending)
            yield topic, row

    def _history(self) -> None:
        """Customers, what they bought before, what they looked at last night, and today's weather."""
        rng = Random(f"{self._name}:history")
        evening = self.start - 22 * 3600 * SECOND
        for customer in (*self._parts.values(), *self._people):
            joined = self.start - 80 * DAY - int(rng.random() * 200) * 3600 * SECOND
            for topic, row in cast.papers(customer, joined):
                self._say(topic, row)
            if customer is self._parts.get(customer.name):
                looking, rows = purchases.keen(rng, customer, evening) if customer.interests else NOTHING
            else:
                self._past(rng, customer)
                looking, rows = purchases.browse(rng, customer, evening)
            self._looking[customer.card] = looking
            for topic, row in rows:
                self._say(topic, row)
        fact = {"scope": self.shop.site_id, "name": "weather", "value": "rain", "valid_until": self.start + DAY // 2}
        times = {"event_time": self.start - 2 * DAY // 24, "ingest_time": self.start - 2 * DAY // 24}
        self._say("context.fact", {**times, "site_id": self.shop.site_id, "source_id": "weather", **fact})
        for minute in (-10, -5, 0):
            self._take_stock(minute * 60)
        for scene in SCENES:
            self._stage(scene)

    def _take_stock(self, second: int) -> None:
        """What lies on the shelves, by category; the garden sells out for a minute, to be seen in the demo."""
        at = self.start + second * SECOND
        for category in self._categories:
            empty = category == "garden" and second == SOLD_OUT_S
            fact = {
                "scope": self.shop.site_id,
                "name": f"stock.{category}",
                "value": "0" if empty else "12",
                "unit": "pieces",
            }
            times = {"event_time": at, "ingest_time": at + 30 * MILLI, "valid_until": at + 900 * SECOND}
            self._say("context.fact", {**times, "site_id": self.shop.site_id, "source_id": "erp", **fact})

    def _past(self, rng: Random, customer: Customer) -> None:
        for _ in range(int(5 * rng.random() * rng.random())):
            at = self.start - int((1.0 + 76.0 * rng.random()) * 24 * 3600) * SECOND
            bought = [name for name in self._categories if rng.random() < 0.15 + 0.6 * customer.interest(name)]
            if bought:
                self._sell(rng, "till-1", at, bought, customer)

    def _stage(self, scene: Scene) -> None:
        """Put somebody with a part on her way, so that she is in her zone at the moment the scene names."""
        customer = self._parts[scene.name]
        rng = Random(f"{self._name}:{scene.name}:{scene.at_s}")
        if scene.bought:
            self._sell(rng, "till-1", self.start + int(scene.at_s * SECOND), [scene.bought], customer)
            return
        area = self.shop.zones.get(scene.zone_id) or (self.shop.browsed or list(self.shop.zones.values()))[0]
        path, stops = walkers.visit(self.shop, rng, 0.0, [(area, scene.stay_s)])
        walkers.leave(self.shop, path)
        moved = scene.at_s - path.enters(area) if scene.leaves_at_s is None else scene.leaves_at_s - path.at[-1]
        path.at = [moment + moved for moment in path.at]
        stops = [replace(stop, start=stop.start + moved, end=stop.end + moved) for stop in stops]
        walker = Walker(self._tag(), path, stops, rng, customer, phase=self._phase(rng), done=True)
        paired = scene.paired_s if scene.paired_s is not None else path.inside + 1.5
        self._pair(walker, paired)
        if path.at[0] >= 0:
            heappush(self._events, (path.at[0], self._came, "come", walker))
            return
        walker.period = SECOND
        for topic, row in self._sensors.hear([walker], int(path.at[0] * SECOND), int(path.at[-1] * SECOND)):
            self._say(topic, row)

    def _tag(self) -> str:
        self._came += 1
        return f"tag:handheld-{self._came:05d}"

    @staticmethod
    def _phase(rng: Random) -> int:
        return int(rng.random() * 200) * MILLI

    def _pair(self, walker: Walker, at_s: float) -> None:
        """The code on the handheld is read by her app: from now on the tag is hers."""
        assert walker.customer is not None
        at = self.start + int(at_s * 1000) * MILLI
        link = {"from_id": walker.subject, "to_id": walker.customer.loyalty, "method": "QR_PAIR", "confidence": 1.0}
        envelope = {"event_time": at, "ingest_time": at + 40 * MILLI, "site_id": self.shop.site_id, "source_id": "app"}
        self._say("identity.link", {**envelope, **link, "valid_from": at})

    def _arrive(self, at: float) -> None:
        """Somebody comes in: a member with a paired handheld or her phone, or a stranger with a trolley."""
        tag = self._tag()
        rng = Random(f"{self._name}:walker:{self._came}")
        customer = self._people[self._came % len(self._people)] if rng.random() < _MEMBERS else None
        wanted = []
        for area in self._chosen(rng, customer):
            interest = customer.interest(area.category) if customer else 0.4 * rng.random()
            wanted.append((area, purchases.dwell_s(rng, interest)))
        path, stops = walkers.visit(self.shop, rng, at, wanted)
        walker = Walker(tag, path, stops, rng, customer, phase=self._phase(rng))
        if customer is not None and rng.random() < 0.25:
            walker.subject, walker.tech, walker.period = customer.device, "BLE_AOA", 500 * MILLI
        elif customer is not None:
            self._pair(walker, path.inside + 1.0 + rng.random())
        if rng.random() < 0.2:
            since = at + 20.0 + 120.0 * rng.random()
            walker.mute.append((since, since + (8.0 if rng.random() < 0.6 else 25.0)))
        heappush(self._events, (at, self._came, "come", walker))
        heappush(self._events, (path.at[-1], self._came, "decide", walker))
        if customer is None and rng.random() < 0.25:
            self._company(walker, at)
        if customer is not None and stops and stops[0].category and rng.random() < 0.15:
            seen = self.start + int((stops[0].start + 5.0) * SECOND)
            self._say(*purchases.in_store_view(rng, customer, seen, stops[0].category))

    def _company(self, leader: Walker, at: float) -> None:
        """One or two who walk beside her with a tag of their own."""
        for number in range(1 + int(leader.rng.random() * 2)):
            tag = self._tag()
            rng = Random(f"{self._name}:walker:{self._came}")
            beside = (0.5 + 0.2 * number, -0.4 + 0.7 * number)
            friend = Walker(tag, leader.path, [], rng, shift=beside, lag=0.4 + 0.3 * number, phase=self._phase(rng))
            heappush(self._events, (at, self._came, "come", friend))
            leader.beside.append(friend)

    def _chosen(self, rng: Random, customer: Customer | None) -> list[Any]:
        """One to four zones, those first that draw her most."""
        drawn = []
        for area in self.shop.browsed:
            pull = customer.interest(area.category) if customer else 0.3
            weight = {"OFFER": 0.35, "FITTING_ROOM": 0.5}.get(area.kind, 1.0)
            drawn.append((rng.random() * weight * (0.4 + pull), area.zone_id, area))
        drawn.sort(key=lambda one: (-one[0], one[1]))
        return [area for _, _, area in drawn[: 2 + int(3 * rng.random())]]

    def _go_on(self, until: float) -> None:
        """Everything that people do before `until`, in order of time: come, decide to buy, pay."""
        while self._events and self._events[0][0] < until:
            at, number, what, walker = heappop(self._events)
            if what == "come":
                self._inside.append(walker)
                self._in += at >= 0
            elif what == "decide":
                if self._tills.open and self._bought(walker):
                    self._tills.line_up(walker.rng, walker.path)
                    heappush(self._events, (walker.path.at[-1], number, "pay", walker))
                else:
                    self._go_out(walker, number)
            elif what == "pay":
                bought = self._bought(walker)
                till, paid = self._tills.pay(walker.rng, walker.path)
                shown = walker.customer if walker.customer and walker.rng.random() < 0.9 else None
                self._sell(walker.rng, till, self.start + int(paid * 1000) * MILLI, bought, shown)
                self._go_out(walker, number)
            else:
                self._out += at >= 0

    def _go_out(self, walker: Walker, number: int) -> None:
        walkers.leave(self.shop, walker.path)
        for one in (walker, *walker.beside):
            one.done = True
            heappush(self._events, (one.end, number, "gone", one))

    def _bought(self, walker: Walker) -> list[str]:
        """Categories she takes to the till; asked twice, it answers the same."""
        if walker.basket is None:
            looking = self._looking.get(walker.customer.card) if walker.customer else None
            walker.basket = []
            for stop in walker.stops:
                views = looking.views.get(stop.category or "", 0) if looking else 0
                in_cart = bool(looking and stop.category in looking.cart)
                taken = walker.rng.random() < purchases.chance(views, stop.end - stop.start, in_cart)
                if taken and stop.category and stop.category not in walker.basket:
                    walker.basket.append(stop.category)
        return walker.basket

    def _sell(self, rng: Random, till: str, at: int, bought: list[str], customer: Customer | None) -> None:
        self._sold += 1
        day = datetime.fromtimestamp(at / SECOND, ZoneInfo(self.shop.time_zone)).strftime("%Y%m%d")
        card = customer.loyalty if customer else None
        number = f"{self._sold:06d}"
        topic, row = purchases.receipt(rng, self.shop.site_id, self.shop.currency, till, at, number, day, bought, card)
        self._say(topic, row)

    def _report(self, second: int) -> None:
        """What sources say of themselves, and the counter over the door."""
        at = self.start + second * SECOND
        envelope = {"event_time": at, "ingest_time": at + 20 * MILLI, "site_id": self.shop.site_id}
        if second % 10 == 5:
            for source in self._sensors.sources():
                status = {"source_id": source, "state": "UP", "heartbeat_us": SECOND}
                self._say("sensing.status", {**envelope, **status})
        if second in {SOLD_OUT_S, SOLD_OUT_S + 60} or (second % 300 == 0 and second > 0):
            self._take_stock(second)
        if second % 60 == 0 and second > 0 and self.shop.counter:
            count = {"counter_id": self.shop.counter, "interval_start": at - 60 * SECOND, "interval_end": at}
            count |= {"count_in": self._in, "count_out": self._out}
            self._say("sensing.count", {**envelope, "source_id": self.shop.counter, **count})
            self._in = self._out = 0
