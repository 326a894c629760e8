"""What the shop's sensors make of the people in it: noisy, a little late, now and then twice or wrong.

Tags are heard five times a second by the gateway of their half of the shop, phones twice a second by
angle of arrival. The noise is a slow error of some decimetres (which no filter removes) and a fast one.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from flows.cast import Customer, Row
from flows.shop import Shop
from flows.walkers import Path, Stop

MILLI = 1000
SECOND = 1_000_000
TWICE, WILD, STRAY, TARDY = 0.006, 0.0008, 0.0005, 0.0004
"""Shares of readings: sent twice, two metres off, spoilt, half a minute late."""


@dataclass
class Walker:
    """Somebody in the shop: a path, and the tag or phone that tells of it.

    `lag` and the shift are those of a companion, who walks beside the one whose path it is. `mute` are
    spans in which the tag says nothing. `end` is known once she is on her way out.
    """

    subject: str
    path: Path
    stops: list[Stop]
    rng: Random
    customer: Customer | None = None
    tech: str = "UWB"
    period: int = 200 * MILLI
    phase: int = 0
    shift: tuple[float, float] = (0.0, 0.0)
    lag: float = 0.0
    mute: list[tuple[float, float]] = field(default_factory=list)
    bias: tuple[float, float] = (0.0, 0.0)
    done: bool = False
    beside: list["Walker"] = field(default_factory=list)
    basket: list[str] | None = None

    @property
    def end(self) -> float:
        """When the path ends, as far as it is known."""
        return self.path.at[-1] + self.lag if self.done else float("inf")


def fast(rng: Random) -> float:
    """Noise of standard deviation 1 by plain arithmetic, so that no library's last bit matters."""
    return (rng.random() + rng.random() + rng.random() + rng.random() - 2.0) * 1.732


class Sensors:
    """All position sources of the shop; `zero` is the instant at which walkers' seconds count from 0."""

    def __init__(self, seed: str, shop: Shop, zero: int, *, faults: bool = True) -> None:
        self._rng, self._shop, self._zero, self._faults = Random(f"{seed}:sensors"), shop, zero, faults
        self._seq: dict[str, int] = {}
        store = shop.of_kind("STORE")
        self._middle = store.centre[0] if store else 0.0

    def sources(self) -> list[str]:
        """Sources heard so far, by name."""
        return sorted(self._seq)

    def hear(self, walkers: list[Walker], start: int, end: int) -> list[Row]:
        """Readings whose event time lies in [start, end), microseconds after zero, in no particular order."""
        rows: list[Row] = []
        for walker in walkers:
            first = max(start, int(walker.path.at[0] * SECOND))
            at = first + (walker.phase - first) % walker.period
            while at < end:
                moment = at / SECOND
                if moment >= walker.end:
                    break
                if not any(since <= moment < until for since, until in walker.mute):
                    self._reading(walker, at, moment, rows)
                at += walker.period
        return rows

    def _reading(self, walker: Walker, at: int, moment: float, rows: list[Row]) -> None:
        rng = walker.rng
        x, y = walker.path.place(moment - walker.lag)
        coarse = walker.tech != "UWB"
        drift, jitter = (0.04, 0.35) if coarse else (0.012, 0.08)
        walker.bias = (walker.bias[0] * 0.995 + drift * fast(rng), walker.bias[1] * 0.995 + drift * fast(rng))
        x += walker.shift[0] + walker.bias[0] + jitter * fast(rng)
        y += walker.shift[1] + walker.bias[1] + jitter * fast(rng)
        if rng.random() < WILD:
            x, y = x + 2.5 * fast(rng), y + 2.5 * fast(rng)
        source = "aoa-1" if coarse else "uwb-1" if x < self._middle else "uwb-2"
        self._seq[source] = self._seq.get(source, 0) + 1
        hurry = rng.random()
        time = self._zero + at
        row: dict[str, Any] = {
            "event_time": time,
            "ingest_time": time + 15 * MILLI + int(90 * MILLI * hurry * hurry * hurry * hurry),
            "site_id": self._shop.site_id,
            "source_id": source,
            "seq": self._seq[source],
            "subject_id": walker.subject,
            "tech": walker.tech,
            "x_m": round(x, 3),
            "y_m": round(y, 3),
            "floor": 0.0,
            "accuracy_m": 0.8 if coarse else 0.3,
        }
        if self._faults:
            self._spoil(row, rows)
        else:
            rows.append(("sensing.position", row))

    def _spoil(self, row: dict[str, Any], rows: list[Row]) -> None:
        """Add the reading as the network and the device would have it."""
        rng, chance = self._rng, self._rng.random()
        if chance < TARDY:
            row["ingest_time"] += 25 * SECOND + int(10 * SECOND * rng.random())
        elif chance < TARDY + STRAY:
            fault = int(rng.random() * (len(_FAULTS) + 1))
            row.update({"event_time": row["event_time"] + 3600 * SECOND} if fault == len(_FAULTS) else _FAULTS[fault])
        rows.append(("sensing.position", row))
        if TARDY + STRAY <= chance < TARDY + STRAY + TWICE:
            again = row["ingest_time"] + 5 * MILLI + int(60 * MILLI * rng.random())
            rows.append(("sensing.position", {**row, "ingest_time": again}))


_FAULTS: tuple[dict[str, Any], ...] = (
    {"x_m": 412.0},  # off the floor
    {"x_m": None},  # a field missing
    {"accuracy_m": -1.0},  # out of range
    {"subject_id": ""},  # nobody's
    {"site_id": "mad-99"},  # a shop that is not here
)
