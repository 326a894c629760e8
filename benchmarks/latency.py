"""Latency through the live flow, open loop: rows are due at their time, whether the flow is ready or not.

A simulated shop is played faster than life until it gives the rate asked for. What is measured is wall clock,
from the moment a row was due: the age of what the source hears, each stage of a micro-batch, and the whole
way from the row or clock step that completed a decision to its record.
"""

import resource
import time
from itertools import pairwise
from typing import Any

from bytewax.run import cli_main
from hdrh.histogram import HdrHistogram

from benchmarks.results import result, say
from flows.deployment import EXAMPLE, Deployment
from flows.live import LiveShop
from flows.ports import Ports, stores
from flows.store import store
from operators.connectors.clock import monotonic, wall
from operators.connectors.live import HandSink, LiveSource, Rows
from schemas.derived import Command, Decision
from schemas.items import Batch, Event

SEED = 7
WARM_UP_S = 3.0
STAGES = ("decode", "admit", "dwell", "occupancy", "stitch", "person", "deliver")
LATE_MS = 5.0
"""A run whose source was later than this at p99.9 says nothing about the flow."""


class Clocked:
    """Takes the times of a live flow."""

    def __init__(self, shop: LiveShop, speed: float) -> None:
        self._shop, self._speed, self._opened, self._wall = shop, speed, 0.0, 0
        self.names = ("heard", *STAGES)
        self.found = {name: HdrHistogram(1, 60_000_000, 3) for name in ("source", *STAGES, "flow", "decision")}
        self.rows = self.decisions = self.actions = 0

    def opened(self, at: float) -> None:
        """The shop has opened."""
        self._opened, self._wall = at, wall() - int((monotonic() - at) * 1e6)

    def due(self, elapsed: float) -> Rows:
        """Rows that are due, and how long they have been."""
        rows = self._shop.due(elapsed)
        if self._warm():
            self.rows += len(rows)
            now = wall()
            for _, row in rows:
                self.found["source"].record_value(max(1, now - self._due(row["ingest_time"])))
        return rows

    def _due(self, clock: int) -> int:
        return self._wall + int((clock - self._shop.start) / self._speed)

    def _warm(self) -> bool:
        return bool(self._opened) and monotonic() - self._opened > WARM_UP_S

    def take(self, batch: Batch) -> None:
        """A micro-batch has come out."""
        if not self._warm():
            return
        for before, after in pairwise(self.names):
            self.found[after].record_value(max(1, batch.stamps[after] - batch.stamps[before]))
        self.found["flow"].record_value(max(1, batch.stamps[STAGES[-1]] - batch.stamps["heard"]))
        for item in batch.items:
            if isinstance(item, Event) and isinstance(item.record, Decision):
                self.decisions += 1
                self.found["decision"].record_value(max(1, batch.stamps["person"] - self._due(item.clock)))
            elif isinstance(item, Event) and isinstance(item.record, Command):
                self.actions += 1


def _quantiles(found: Any) -> dict[str, float]:
    points = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9, "max": 100}
    return {name: round(found.get_value_at_percentile(point) / 1e3, 2) for name, point in points.items()}


def latency(rate: int, seconds: float, command: str) -> dict[str, Any]:
    """Play the shop at about `rate` rows a second for `seconds` after the warm-up."""
    probe = LiveShop(SEED)
    probe.due(0.0)
    speed = rate / (len(probe.due(10.0)) / 10.0)
    shop = LiveShop(SEED, speed)
    deployment = Deployment.load(EXAMPLE, EXAMPLE / "footfall.toml", live=True)
    clocked = Clocked(shop, speed)
    source = LiveSource(clocked.due, shop.now, seconds=WARM_UP_S + seconds, opened=clocked.opened)
    before = time.process_time()
    cli_main(store(deployment, Ports(source, HandSink(clocked.take), stores(deployment.settings, EXAMPLE))))
    busy = time.process_time() - before
    stages = {name: _quantiles(found) for name, found in clocked.found.items() if found.get_total_count()}
    achieved = round(clocked.rows / seconds)
    void = None if stages["source"]["p999"] <= LATE_MS * 4 else "the source was late: the machine was busy"
    shown = {name: stages[name] for name in ("source", "flow", "decision") if name in stages}
    for name, stage in shown.items():
        say(f"latency at {achieved:,} rows/s, {name}: p50 {stage['p50']} ms, p99 {stage['p99']} ms")
    return result(
        "latency",
        title=f"live flow at {achieved:,} rows/s",
        command=command,
        seed=SEED,
        offered_per_s=rate,
        achieved_per_s=achieved,
        events=clocked.rows,
        decisions=clocked.decisions,
        actions=clocked.actions,
        warmup_s=WARM_UP_S,
        settings={"state": "memory", "broker": "none", "poll_ms": 5, "epoch_s": 10},
        latency_ms=stages,
        cpu_s=round(busy, 2),
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        void=void,
    )
