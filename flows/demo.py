"""The demo: the fused flow, live, on a simulated shop, with a picture of it."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from bytewax.run import cli_main
from hdrh.histogram import HdrHistogram
from rich.console import Console

from flows.deployment import EXAMPLE, Deployment
from flows.live import LiveShop
from flows.picture import Picture, Teller
from flows.picture import summary as closing
from flows.ports import Ports, stores
from flows.replay import FLOWS
from flows.settings import is_ci
from flows.shopstate import ShopState
from flows.store import store
from operators.connectors.clock import monotonic, wall
from operators.connectors.files import published
from operators.connectors.live import HandSink, LiveSource, Rows
from schemas.derived import Command, Decision, DwellReached, Visit
from schemas.items import Batch, Tally
from schemas.pseudonym import subject_tokens
from schemas.sensing import Position
from schemas.texts import Delivered

FRAME_S = 0.25
STAGES = ("decode", "admit", "dwell", "occupancy", "stitch", "person", "deliver")
TOPICS = FLOWS["store"].writes | {"action.outcome"}
ANA, OFFERS = "Ana", "offers"


class Watch:
    """Follows a live flow: the state of the picture, the counts of the summary, and latencies by stage."""

    def __init__(
        self, shop: LiveShop, deployment: Deployment, *, seconds: float | None, show: Callable[[ShopState], None]
    ) -> None:
        self._shop, self._show = shop, show
        self._subject = subject_tokens(deployment.token)
        token = deployment.token
        self.state = ShopState(
            now=shop.start,
            of_s=seconds,
            names={token(raw): name for raw, name in shop.names.items()},
            followed=frozenset(map(token, shop.followed)),
        )
        self._began = self._frame = 0.0
        self._began_wall = 0
        self.events: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.delivered: list[dict[str, Any]] = []
        self.dwells: dict[str, float] = {}
        self.anchors: dict[str, tuple[str, str]] = {}
        self.histograms = {name: HdrHistogram(1, 60_000_000, 3) for name in ("decision", *STAGES)}

    def opened(self, at: float) -> None:
        """The source has started, at this monotonic time."""
        self._began, self._began_wall = at, wall() - int((monotonic() - at) * 1e6)

    def due(self, elapsed: float) -> Rows:
        """Rows to hear now; their positions move the dots."""
        rows = self._shop.due(elapsed)
        for topic, row in rows:
            self.events[topic] += 1
            if topic == "sensing.position":
                self._dot(row)
        return rows

    def _dot(self, row: dict[str, Any]) -> None:
        try:
            at, x, y = row["event_time"], float(row["x_m"]), float(row["y_m"])
            subject = self._subject(row["subject_id"])
            if at <= self.state.now + 5_000_000 and abs(x) < 1_000 and abs(y) < 1_000:
                self.state.take(Position(event_time=at, subject_id=subject, x_m=x, y_m=y, floor=0.0))
        except (KeyError, TypeError, ValueError):
            return  # a bad row of the simulated shop: the flow says what is wrong with it

    def take(self, batch: Batch) -> None:
        """A micro-batch has come out at the end."""
        for event in published(batch.items, TOPICS):
            record = event.record
            self.state.take(record)
            if isinstance(record, Decision):
                self._decided(batch, event.clock, record)
            elif isinstance(record, DwellReached):
                self.counts["dwells"] += 1
                self.dwells[record.visit_id] = (record.fired_at - record.entered_at) / 1e6
            elif isinstance(record, Visit):
                self.counts["visits"] += 1
            elif isinstance(record, Command):
                self.actions[record.channel] += 1
                self.anchors[record.event_id] = (record.anchor_id or "", record.visit_id or "")
        for item in batch.items:
            if isinstance(item, Delivered):
                self._handed(item)
            elif isinstance(item, Tally) and item.fate in {"late", "dead"}:
                self.counts[item.fate] += item.count
        self._stages(batch)
        now = monotonic()
        if now - self._frame >= FRAME_S:
            self._frame = now
            self._draw(now - self._began if self._began else 0.0)

    def _decided(self, batch: Batch, clock: int, record: Decision) -> None:
        for candidate in record.candidates:
            self.verdicts[candidate.verdict] += 1
        due = self._began_wall + (clock - self._shop.start)
        if self._began and clock >= self._shop.start:
            self.histograms["decision"].record_value(max(1, batch.stamps["person"] - due))

    def _handed(self, item: Delivered) -> None:
        anchor = self.anchors.get(item.action_id, ("", ""))[0]
        self.state.delivered(item.at, item.channel, item.target, item.text, item.campaign_id, anchor)
        self.delivered.append(
            {
                "at": item.at,
                "channel": item.channel,
                "target": item.target,
                "text": item.text,
                "campaign_id": item.campaign_id,
                "action_id": item.action_id,
            }
        )

    def _stages(self, batch: Batch) -> None:
        if not self._began:
            return  # the past of the shop is no live traffic
        before = batch.stamps["heard"]
        for name in STAGES:
            self.histograms[name].record_value(max(1, batch.stamps[name] - before))
            before = batch.stamps[name]

    def _draw(self, elapsed: float) -> None:
        state = self.state
        state.elapsed_s = elapsed
        state.at_clock(self._shop.now(elapsed))
        state.counts = {
            "events in": self.events.total(),
            "stays": self.counts["visits"],
            "dwells told": self.counts["dwells"],
            "actions": self.actions.total(),
            "late": self.counts["late"],
            "dead letters": self.counts["dead"],
        }
        state.latencies = {
            name: (found.get_value_at_percentile(50) / 1e3, found.get_value_at_percentile(99) / 1e3)
            for name, found in self.histograms.items()
            if found.get_total_count()
        }
        self._show(state)

    def close(self) -> None:
        """Draw what is left at the end."""
        self._draw(monotonic() - self._began)


def _quantiles(found: Any) -> dict[str, float]:
    points = {"p50": 50, "p99": 99, "p999": 99.9, "max": 100}
    return {name: round(found.get_value_at_percentile(point) / 1e3, 3) for name, point in points.items()}


def _summary(watch: Watch, seed: int, seconds: float) -> dict[str, Any]:
    from schemas.rows import written

    hers = [
        one
        for one in watch.delivered
        if one["campaign_id"] == "offers-premium-dwell"
        and watch.state.who(watch.anchors.get(one["action_id"], ("", ""))[0]) == ANA
    ]
    visit = next((watch.anchors[one["action_id"]][1] for one in hers), "")
    rows = [
        {**{name: value for name, value in one.items() if name != "action_id"}, "at": written(one["at"])}
        for one in watch.delivered
    ]
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "events_in": dict(sorted(watch.events.items())),
        "visits": watch.counts["visits"],
        "dwells": watch.counts["dwells"],
        "decisions": dict(sorted(watch.verdicts.items())),
        "reasons": dict(sorted(watch.state.reasons.items())),
        "actions": dict(sorted(watch.actions.items())),
        "delivered": rows,
        "latency_ms": {name: _quantiles(found) for name, found in watch.histograms.items() if found.get_total_count()},
        "late": watch.counts["late"],
        "dead": watch.counts["dead"],
        "example": {
            "person": ANA,
            "zone": OFFERS,
            "dwell_s": watch.dwells.get(visit),
            "delivered": [
                {**{name: value for name, value in one.items() if name != "action_id"}, "at": written(one["at"])}
                for one in hers
            ],
        },
    }


def run(*, seconds: float | None, seed: int | None, headless: bool, quiet: bool) -> dict[str, Any]:
    """Run the demo and answer its summary.

    Args:
        seconds: how long the shop is open; None until interrupted.
        seed: another simulated shop than that of the example's settings.
        headless: plain lines in place of the picture.
        quiet: not even those.
    """
    console = Console(stderr=True, highlight=False)
    deployment = Deployment.load(
        EXAMPLE,
        EXAMPLE / "footfall.toml",
        complete=True,
        live=True,
        say=(lambda _text: None) if quiet else console.print,
    )
    chosen = deployment.settings.simulate.seed if seed is None else seed
    shop = LiveShop(chosen)
    live = console.is_terminal and not headless and not is_ci()
    teller = Teller(deployment.venue)
    picture = Picture(deployment.venue, console) if live else None

    def show(state: ShopState) -> None:
        if picture is not None:
            picture.update(state)
        elif not quiet:
            for line in teller.lines(state):
                console.print(line, markup=False, soft_wrap=True)

    watch = Watch(shop, deployment, seconds=seconds, show=show)
    ports = Ports(
        topics=LiveSource(watch.due, shop.now, seconds=seconds, opened=watch.opened),
        records=HandSink(watch.take),
        opened=stores(deployment.settings, EXAMPLE),
    )
    began = time.perf_counter()
    with picture or nullcontext():
        with suppress(KeyboardInterrupt):
            cli_main(store(deployment, ports))
        watch.close()
    elapsed = time.perf_counter() - began
    if not quiet:
        console.print(closing(watch.state, elapsed))
        sys.stderr.flush()
    return _summary(watch, chosen, elapsed)
