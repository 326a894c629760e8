"""What a score costs: `python -m benchmarks.micro.bench_score`.

A row of the shipped model by each route, the vector of a person with some history, and the reasons.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from operators.models.features import Moment, features_hash, vector
from operators.models.history import DAY, HOUR, MINUTE, SECOND, History, observe
from operators.models.lightgbm import Trees
from operators.models.model import load_model
from schemas.derived import Transition
from schemas.people import Receipt, ReceiptLine, WebEvent, WebItem
from schemas.person import GRANTED, Consents

MODELS = Path(__file__).parent.parent.parent / "flows" / "example" / "models" / "intent"
NOON = 1_796_468_400 * SECOND
ZONE = ZoneInfo("Europe/Madrid")


def costs(call: Callable[[int], object], times: int) -> str:
    """Median and p99 of one call, in µs."""
    taken = []
    for number in range(times):
        began = time.perf_counter_ns()
        call(number)
        taken.append(time.perf_counter_ns() - began)
    p50, p99 = np.percentile(taken, [50, 99]) / 1000
    return f"p50 {p50:7.1f} µs   p99 {p99:7.1f} µs"


def past(stays: int, clicks: int, tickets: int) -> History:
    """A member with so much behind her."""
    history = History()
    for number in range(stays):
        at = NOON - (number // 6) * 9 * DAY - number % 6 * 2 * MINUTE - 45 * SECOND
        observe(history, _transition(number, at, "ENTER"), category="shoes", zone=ZONE, clock=NOON)
        if number:
            observe(history, _transition(number, at + MINUTE, "EXIT"), category="shoes", zone=ZONE, clock=NOON)
    for number in range(clicks):
        item = WebItem(sku=f"s{number}", category="shoes", price_minor=1990)
        name = "product_added" if number % 9 == 0 else "product_viewed"
        event = WebEvent(
            event_id=str(number), event_time=NOON - HOUR - number * 5 * MINUTE, name=name, session_id="s", items=[item]
        )
        observe(history, event, category=None, zone=ZONE, clock=NOON)
    for number in range(tickets):
        line = ReceiptLine(sku="a", category="shoes", quantity_milli=1000, line_total_minor=1990)
        at = NOON - number * 20 * DAY - DAY
        receipt = Receipt(
            event_id=f"r{number}", event_time=at, receipt_id="r", currency="EUR", total_minor=1990, lines=[line]
        )
        observe(history, receipt, category=None, zone=ZONE, clock=NOON)
    return history


def _transition(number: int, at: int, kind: str) -> Transition:
    return Transition(
        event_id="", event_time=at, site_id="s", visit_id=f"v{number}", subject_id="tag:1:a", zone_id="shoes", zone_revision=0,
        kind=kind, at=at, reason="CROSSED", tech="UWB",
    )  # fmt: skip


def main() -> int:
    """Print one line a thing measured."""
    model = load_model(next(MODELS.iterdir()))
    rng = np.random.Generator(np.random.PCG64(0))
    golden = np.array([[float.fromhex(value) for value in row.features.split()] for row in model.manifest.golden])
    varied = golden[rng.integers(0, len(golden), (20_000, golden.shape[1])), np.arange(golden.shape[1])]
    lines = [tuple(line) for line in varied.tolist()]
    slow = Trees((next(MODELS.iterdir()) / "model.txt").read_text(), fast=False)
    together = model.trees.raw_many(varied).tolist()
    unequal = sum(model.raw(line) != other for line, other in zip(lines, together, strict=True))
    moment = Moment(NOON, "s", ZONE, "shoes", "v0", "shoes", 3)
    granted = Consents(dict.fromkeys(("profiling", "in_store_location", "linking"), GRANTED), {})
    say = sys.stdout.write
    say(f"{model.trees.trees} trees; single rows other than many rows, of {len(lines):,}: {unequal}\n")
    say(f"single row, C interface   {costs(lambda n: model.raw(lines[n]), 20_000)}\n")
    say(f"single row, predict       {costs(lambda n: slow.raw(lines[n]), 2_000)}\n")
    say(f"reasons                   {costs(lambda n: model.strongest(lines[n]), 500)}\n")
    for name, size in (("newcomer", (1, 0, 0)), ("usual", (12, 20, 5)), ("busy", (200, 400, 60))):
        history = past(*size)
        say(f"vector, {name:9s}         {costs(lambda _, kept=history: vector([kept], moment, granted), 2_000)}\n")  # type: ignore[misc]
    row = vector([past(12, 20, 5)], moment, granted)
    say(f"hash of a vector          {costs(lambda _: features_hash(row), 5_000)}\n")
    return int(unequal > 0)


if __name__ == "__main__":
    sys.exit(main())
