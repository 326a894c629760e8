"""Readings through the presence cores, as a replay would drive them, without an engine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import ceil

import numpy as np

from benchmarks.recordings import SECOND, Reading
from operators.admit import Admit, AdmitRule
from operators.dwell import Dwell, DwellRule
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.venues.dwelling import dwelling
from operators.venues.place import Places
from schemas.derived import DwellReached, Transition, Visit
from schemas.items import Event, Fix, Item, Tick, Watermark
from schemas.operations import Alert, DeadLetter, Late
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, subject_tokens, tokens
from schemas.reference import Ring, Site, Zone
from schemas.sensing import Position
from schemas.venue import Floor, Venue

TICK = 100_000
BATCH = 500
AFTERWARDS = 24 * 3600 * SECOND
"""How long the silence at the end lasts: it closes every stay."""
_token = subject_tokens(tokens(EXAMPLE_KEY, EXAMPLE_VERSION))


@dataclass
class Said:
    """What presence said."""

    dwells: list[DwellReached] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)

    def hear(self, items: Iterable[Item]) -> None:
        """Sort what came out of the last core."""
        kept = {
            DwellReached: self.dwells,
            Visit: self.visits,
            Transition: self.transitions,
            DeadLetter: self.dead,
            Late: self.late,
            Alert: self.alerts,
        }
        for item in items:
            if isinstance(item, Event) and type(item.record) in kept:
                kept[type(item.record)].append(item.record)  # type: ignore[attr-defined]


def tiles(
    low: tuple[float, float],
    high: tuple[float, float],
    side: float,
    shift: float = 0.0,
    *,
    clipped: float | None = None,
    **zone: object,
) -> Venue:
    """A venue of square zones from `low` (moved by `shift`) to beyond `high`.

    Args:
        low: left and bottom in metres.
        high: right and top.
        side: of a tile.
        shift: added to the origin.
        clipped: tiles end at `low` and `high`, those without area go, and the outer ones reach this far beyond.
        zone: more fields of each zone.
    """
    zones = {}
    for column in range(ceil((high[0] - low[0] - shift) / side)):
        for line in range(ceil((high[1] - low[1] - shift) / side)):
            left, bottom = low[0] + shift + column * side, low[1] + shift + line * side
            right, top = left + side, bottom + side
            if clipped is not None:
                if min(right, high[0]) - max(left, low[0]) <= 1e-9 or min(top, high[1]) - max(bottom, low[1]) <= 1e-9:
                    continue
                left = left if left > low[0] else low[0] - clipped
                bottom = bottom if bottom > low[1] else low[1] - clipped
                right = right if right < high[0] else high[0] + clipped
                top = top if top < high[1] else high[1] + clipped
            name = f"t{column:02d}-{line:02d}"
            ring = Ring(xy_m=[left, bottom, right, bottom, right, top, left, top])
            zones[name] = Zone(
                event_time=0, zone_id=name, name=name, kind="DEPARTMENT", floor=0.0, rings=[ring], **zone
            )  # type: ignore[arg-type]
    outline = [(-500.0, -500.0), (500.0, -500.0), (500.0, 500.0), (-500.0, 500.0)]
    site = Site(event_time=0, site_id="here", lat_deg=0.0, lon_deg=0.0, time_zone="UTC", legal_basis="PSEUDONYMOUS")
    return Venue(site=site, floors=[Floor(floor=0.0, rings=[outline])], zones=zones, devices={})


def fresh() -> Tables:
    """Tables over a store in memory."""
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    return Tables(store)


def dwell_over(venue: Venue, overrides: Mapping[str, Mapping[str, float]] | None = None) -> Dwell:
    """The dwell core over a venue; thresholds are those of its zones."""
    return Dwell(DwellRule(venue, partial(dwelling, overrides=overrides)), Places(venue), fresh())


def presence(readings: list[Reading], venue: Venue, overrides: Mapping[str, Mapping[str, float]] | None = None) -> Said:
    """Readings that are in order and true of time, straight to the dwell core.

    Args:
        readings: by rising time.
        venue: where.
        overrides: parameters by technology.
    """
    core, said = dwell_over(venue, overrides), Said()
    items: list[Item] = []
    for number, one in enumerate(readings):
        items.append(
            Fix(number, one.heard, one.at, one.heard, _token(one.subject), one.tech, _f32(one.x), _f32(one.y), 0.0, 0.0)
        )
        if len(items) >= BATCH:
            said.hear(core.step(items))
            items = []
    last = readings[-1].at
    items.append(Watermark(len(readings), last, last + AFTERWARDS, end=True))
    said.hear(core.step(items))
    return said


def admitted(readings: list[Reading], venue: Venue, reorder_us: int | None = None) -> Said:
    """Readings as they were heard, through the gates and the reorder buffer, then to the dwell core.

    Args:
        readings: by the time they were heard.
        venue: where.
        reorder_us: how long readings wait for earlier ones; None is `auto`.
    """
    rule = AdmitRule(sealed=bytes, reorder_us=reorder_us)  # a letter's payload is of no interest here
    gates, core, said = Admit(rule, Places(venue), fresh()), dwell_over(venue), Said()

    def on(items: list[Item]) -> None:
        said.hear(core.step(gates.step(items)))

    clock = readings[0].heard // TICK * TICK
    items: list[Item] = []
    for number, one in enumerate(readings):
        while clock + TICK <= one.heard:
            clock += TICK
            items.append(Tick(number - 1, clock))
        record = Position(
            event_time=one.at, ingest_time=one.heard, site_id="here", source_id=one.source, seq=one.seq,
            subject_id=_token(one.subject), tech=one.tech, x_m=_f32(one.x), y_m=_f32(one.y), floor=0.0,
        )  # fmt: skip
        items.append(Event(number, one.heard, "sensing.position", record, offset=number))
        if len(items) >= BATCH:
            on(items)
            items = []
    items.append(Tick(len(readings) - 1, readings[-1].heard, end=True))
    on(items)
    return said


@lru_cache(1 << 16)
def _f32(value: float) -> float:
    """As a position has it after the door."""
    return float(np.float32(value))
