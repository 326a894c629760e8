"""Presence by sort and scan: slow, obvious, and written without a look at the core.

A stay is found by reading a subject's whole list of accepted fixes, zone by zone: where it was confirmed, how
far it goes, and which of its thresholds could be told when. Nothing is remembered between fixes, and time does
not pass. Also here: a rectangular shop, and how to drive the core through it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import hypot
from struct import pack, unpack
from typing import Any

import msgspec

from operators.dwell import Dwell, DwellRule
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables
from schemas.derived import DwellReached, Transition, Visit
from schemas.items import Due, Event, Fix, Item, Watermark
from schemas.reference import Ring, Site, Zone
from schemas.topics import TOPIC_OF
from schemas.venue import Dwelling, Venue

S = 1_000_000
T0 = 1_796_486_400 * S
"""2026-12-05T16:00:00Z, a Saturday."""
END = 1 << 62
UWB = Dwelling(
    enter_margin_m=0.0,
    enter_confirm_us=S,
    enter_fixes=2,
    exit_margin_m=0.5,
    exit_confirm_us=3 * S,
    exit_fixes=2,
    gap_us=10 * S,
    fresh_us=5 * S,
)


def rect(
    zone_id: str, x0: float, y0: float, x1: float, y1: float, *holes: tuple[float, float, float, float], **more: Any
) -> Zone:
    """A rectangular zone, perhaps with rectangular holes."""
    rings = [Ring(xy_m=[a, b, c, b, c, d, a, d]) for a, b, c, d in [(x0, y0, x1, y1), *holes]]
    return Zone(**{"event_time": T0, "zone_id": zone_id, "floor": 0.0, "rings": rings, **more})


def box_distance(ring: Ring, x: float, y: float) -> float:
    """Signed distance to a rectangle."""
    x0, y0, x1, y1 = min(ring.xy_m[::2]), min(ring.xy_m[1::2]), max(ring.xy_m[::2]), max(ring.xy_m[1::2])
    dx, dy = max(x0 - x, x - x1), max(y0 - y, y - y1)
    return hypot(max(dx, 0), max(dy, 0)) if dx > 0 or dy > 0 else max(dx, dy)


def distance(zone: Zone, x: float, y: float) -> float:
    """Signed distance to a rectangle less its holes."""
    outline, *holes = zone.rings
    return max([box_distance(outline, x, y), *(-box_distance(hole, x, y) for hole in holes)])


class Rectangles:
    """`Places` for rectangles: every zone, one by one."""

    def __init__(self, zones: Iterable[Zone], reach: float = 1.0) -> None:
        self._zones = {zone.zone_id: zone for zone in zones}
        self._reach = reach

    def near(self, floor: float, x: float, y: float) -> list[tuple[str, float]]:
        found = [(z.zone_id, distance(z, x, y)) for z in self._zones.values() if z.floor == floor]
        return [(zone_id, d) for zone_id, d in found if d <= self._reach]

    def distance(self, zone_id: str, x: float, y: float) -> float:
        return distance(self._zones[zone_id], x, y)

    def put(self, zone: Zone) -> None:
        self._zones[zone.zone_id] = zone

    def remove(self, zone_id: str) -> None:
        self._zones.pop(zone_id, None)


def dwelling(zone: Zone, tech: str) -> Dwelling:
    """UWB's defaults under what the zone says itself."""
    own = {name: value for name in Dwelling.__struct_fields__ if (value := getattr(zone, name, None)) is not None}
    return msgspec.structs.replace(UWB, **own)


def site(**more: Any) -> Site:
    return Site(**{"event_time": T0, "site_id": "shop", "lat_deg": 0.0, "lon_deg": 0.0, "time_zone": "UTC", **more})


@dataclass
class Shop:
    """A shop whose core can be stopped and started again over the same memory."""

    zones: list[Zone]
    site: Site = field(default_factory=site)
    end: Any = "close"
    wanted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    core: type[Dwell] = Dwell
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self._token: Any = None
        self.start()

    def start(self) -> None:
        """Open a core over what was committed last."""
        store = MemoryStore(self.memory)
        store.claim(self._token)
        store.open("0")
        self.tables = Tables(store)
        venue = Venue(site=self.site, floors=[], zones={zone.zone_id: zone for zone in self.zones}, devices={})
        rule = DwellRule(venue, dwelling, lambda zone: self.wanted.get(zone.zone_id, ()), self.end)
        self.dwell = self.core(rule, Rectangles(self.zones), self.tables)

    def restart(self) -> None:
        """Commit, and go on with a new core."""
        self._token = self.tables.commit()
        self.start()

    def run(self, *items: Item) -> list[Any]:
        """Records told on these items."""
        return [item.record for item in self.dwell.step(list(items)) if isinstance(item, Event)]


def fix(t: float, x: float, y: float, subject: str = "tag:1:a", **more: Any) -> Fix:
    """A fix `t` seconds after T0, heard 0.1 s later."""
    at = T0 + round(t * S)
    base = {
        "number": 0, "clock": at, "event_time": at, "ingest_time": at + S // 10, "subject_id": subject,
        "tech": "UWB", "x_m": x, "y_m": y, "floor": 0.0, "accuracy_m": 0.3,
    }  # fmt: skip
    return Fix(**{**base, **more})


def mark(t: float) -> Watermark:
    at = T0 + round(t * S)
    return Watermark(0, at, at)


def due(record: Any) -> Due:
    """A reference record, as told when the watermark reaches it."""
    return Due(0, record.event_time, Event(0, record.event_time, TOPIC_OF[type(record)], record))


END_MARK = Watermark(0, END, END, end=True)


# -- the oracle


@dataclass
class Cut:
    """Something that ends every stay in a zone at `at`: a hand-off, a withdrawal, closing time, an edit."""

    at: int
    reason: str


@dataclass
class Seen:
    """A stay as found: when it was decided to be open, and how it ended."""

    entered_at: int
    opened_at: int
    enter_reason: str
    left_at: int = 0
    closed_at: int = 0
    exit_reason: str = ""
    seen_by_then: int = 0
    """How many fixes had been seen when the end was decided: a later one of the same instant cannot count."""
    fired: list[tuple[int, int, int]] = field(default_factory=list)
    """Threshold, when it was told, and the number of the last fix by then."""


def scan(
    zones: Sequence[tuple[int, Zone]], fixes: Sequence[Fix], thresholds: Sequence[int], cuts: Sequence[Cut] = ()
) -> list[Seen]:
    """Stays of one subject in one zone.

    Args:
        zones: revisions of the zone, each with the time (µs) from which it counts, ascending. They differ in
            their place only, and each cut that a move makes is among `cuts`.
        fixes: all accepted fixes of the subject, in event-time order.
        thresholds: in µs.
        cuts: ascending.
    """
    how = dwelling(zones[0][1], "UWB")
    times = [f.event_time for f in fixes]
    kinds = []
    for f in fixes:
        zone = [z for since, z in zones if since <= f.event_time][-1]
        d = distance(zone, f.x_m, f.y_m)
        acc = min(f.accuracy_m, how.acc_cap_m)
        kinds.append("in" if d <= -how.enter_margin_m else "out" if d > how.exit_margin_m + acc else "edge")
    stays: list[Seen] = []
    begin = 0
    while (confirmed := _confirmed(times, kinds, begin, how, cuts)) is not None:
        first, opened = confirmed
        fresh = first == 0 or times[first] - times[first - 1] > how.gap_us
        seen = Seen(times[first], times[opened], "FIRST_HEARD" if fresh else "CROSSED")
        supports, begin = _extent(times, kinds, first, opened, how, cuts, seen)
        _tell(seen, times, supports, opened, thresholds, how)
        stays.append(seen)
    return stays


def _confirmed(
    times: list[int], kinds: list[str], begin: int, how: Dwelling, cuts: Sequence[Cut]
) -> tuple[int, int] | None:
    """First and confirming fix of the next run of in-fixes."""
    for first in range(begin, len(times)):
        if kinds[first] != "in":
            continue
        ins = [times[first]]
        for k in range(first, len(times)):
            if k > first:
                cut = any(times[first] < c.at <= times[k] for c in cuts)
                if kinds[k] == "out" or times[k] - ins[-1] > how.gap_us or cut:
                    break
                if kinds[k] == "in":
                    ins.append(times[k])
            if kinds[k] == "in" and times[k] - times[first] >= how.enter_confirm_us and len(ins) >= how.enter_fixes:
                return first, k
    return None


def _extent(
    times: list[int], kinds: list[str], first: int, opened: int, how: Dwelling, cuts: Sequence[Cut], seen: Seen
) -> tuple[list[bool], int]:
    """Which fixes support the stay, and the first fix after its end."""
    supports = [i >= first for i in range(opened + 1)]
    cut = next((c for c in cuts if c.at > times[opened]), None)

    def over(k: int, at: int, reason: str) -> tuple[list[bool], int]:
        seen.left_at = max(times[i] for i in range(len(supports)) if supports[i])
        seen.closed_at, seen.exit_reason, seen.seen_by_then = at, reason, k
        return supports, k

    for k in range(opened + 1, len(times) + 1):
        silence_ends = times[k - 1] + how.gap_us
        until = times[k] if k < len(times) else END
        if cut is not None and cut.at <= min(until, silence_ends):
            return over(k, cut.at, cut.reason)
        if until > silence_ends:
            return over(k, silence_ends, "TIMEOUT")
        deep = max(times[i] for i in range(first, k) if kinds[i] == "in")
        supports.append(kinds[k] == "in" or (kinds[k] == "edge" and times[k] - deep <= how.edge_max_us))
        outs = next(n for n in range(len(supports)) if supports[k - n])
        if outs >= how.exit_fixes and times[k] - times[k - outs + 1] >= how.exit_confirm_us:
            return over(k + 1, times[k], "LEFT")
    raise AssertionError("the end of time closes every stay")


def _tell(
    seen: Seen, times: list[int], supports: list[bool], opened: int, thresholds: Sequence[int], how: Dwelling
) -> None:
    """When each threshold was told: when reached, else with the next fix that supports the stay, else never."""
    for threshold in sorted(set(thresholds)):
        reached = seen.entered_at + threshold
        before = max((i for i in range(len(supports)) if times[i] < reached), default=-1)
        if (
            opened <= before
            and reached <= seen.closed_at
            and supports[before]
            and reached - times[before] <= how.fresh_us
        ):
            seen.fired.append((threshold, reached, before))
            continue
        back = [i for i in range(opened, len(supports)) if supports[i] and times[i] >= reached]
        if reached <= times[opened]:
            back = [opened]
        if back:
            seen.fired.append((threshold, times[back[0]], back[0]))


def scan_group(zones: Sequence[Zone], fixes: Sequence[Fix]) -> dict[str, list[Seen]]:
    """Stays of one subject in zones of one exclusive group; all zones have the same gap.

    From each opening on, the stay's natural end is found as if the zone were alone; then the first fix before
    that end at which some rival has been the deepest for long enough.
    """
    times = [f.event_time for f in fixes]
    names = sorted(zone.zone_id for zone in zones)
    ways = {zone.zone_id: dwelling(zone, "UWB") for zone in zones}
    d = {z.zone_id: [distance(z, f.x_m, f.y_m) for f in fixes] for z in zones}
    rank = {z.zone_id: (-z.priority, _box_area(z), z.zone_id) for z in zones}
    kinds = {n: ["in" if x <= 0 else "out" if x > ways[n].exit_margin_m else "edge" for x in d[n]] for n in names}
    stays: dict[str, list[Seen]] = {name: [] for name in names}
    begin = dict.fromkeys(names, 0)
    taken: tuple[str, int, int] | None = None
    while True:
        if taken is None:
            runs = {n: run for n in names if (run := _confirmed(times, kinds[n], begin[n], ways[n], ())) is not None}
            if not runs:
                return stays
            opened = min(run[1] for run in runs.values())
            name = min((n for n in runs if runs[n][1] == opened), key=lambda n: (d[n][opened], rank[n]))
            first = runs[name][0]
        else:
            name, first, opened = taken
        how = ways[name]
        fresh = first == 0 or times[first] - times[first - 1] > how.gap_us
        seen = Seen(times[first], times[opened], "TAKEOVER" if taken else "FIRST_HEARD" if fresh else "CROSSED")
        supports, after = _extent(times, kinds[name], first, opened, how, (), seen)
        deepest = [
            min(
                (n for n in names if n != name and d[n][k] <= 0 and d[n][k] < d[name][k]),
                key=lambda n: (d[n][k], rank[n]),
                default="",
            )
            for k in range(len(times))
        ]

        def run_start(k: int, opened: int = opened, deepest: list[str] = deepest) -> int:
            start = k
            while (
                start - 1 > opened
                and deepest[start - 1] == deepest[k]
                and times[start] - times[start - 1] <= ways[deepest[k]].gap_us
            ):
                start -= 1
            return start

        taken = None
        for k in range(opened + 1, after):
            rival = deepest[k]
            if rival:
                start = run_start(k)
                long_enough = times[k] - times[start] >= ways[rival].enter_confirm_us
                if long_enough and k - start + 1 >= ways[rival].enter_fixes:
                    taken = (rival, start, k)
                    supports = supports[:k]
                    seen.left_at, seen.closed_at, seen.exit_reason, seen.seen_by_then = (
                        times[start],
                        times[k],
                        "TAKEOVER",
                        k + 1,
                    )
                    break
        _tell(seen, times, supports, opened, [*next(z.dwell_us for z in zones if z.zone_id == name)], how)
        stays[name].append(seen)
        begin = dict.fromkeys(names, after)
        if taken is None and after - 1 > opened and deepest[after - 1]:
            begin[deepest[after - 1]] = run_start(after - 1)


def _box_area(zone: Zone) -> float:
    x, y = zone.rings[0].xy_m[::2], zone.rings[0].xy_m[1::2]
    return (max(x) - min(x)) * (max(y) - min(y))


def counted(times: Sequence[int], first: int, fresh: int) -> tuple[int, int, int, int]:
    """Fixes, observed µs, gaps above fresh and longest gap over all `times` from `first` on."""
    inside = [t for t in times if t >= first]
    gaps = [b - a for a, b in pairwise(inside)]
    return len(inside), sum(g for g in gaps if g <= fresh), sum(g > fresh for g in gaps), max(gaps, default=0)


Told = tuple[Any, ...]


def told(stays: Sequence[Seen], zone: Zone, subject: str, fixes: Sequence[Fix]) -> list[Told]:
    """The stays as the tuples that `said` makes of records."""
    how = dwelling(zone, "UWB")
    times = [f.event_time for f in fixes]
    out: list[Told] = []
    for s in stays:
        who = (subject, zone.zone_id, s.entered_at)
        out.append(("ENTER", *who, s.opened_at, s.entered_at, s.enter_reason))
        for threshold, fired_at, last in s.fired:
            n, observed, _, _ = counted(times[: last + 1], s.entered_at, how.fresh_us)
            late = fired_at - s.entered_at - threshold > 10 * S
            quality = 0.0 if late else unpack("<f", pack("<f", observed / (fired_at - s.entered_at)))[0]
            out.append(("DWELL", *who, threshold, fired_at, times[last], n, quality))
        n, observed, gaps, longest = counted(
            [t for t in times[: s.seen_by_then] if t <= s.left_at], s.entered_at, how.fresh_us
        )
        out.append(("EXIT", *who, s.closed_at, s.left_at, s.exit_reason))
        fired = tuple(threshold for threshold, _, _ in s.fired)
        out.append(
            ("VISIT", *who, s.closed_at, s.left_at, observed, n, gaps, longest, s.enter_reason, s.exit_reason, fired)
        )
    return out


def said(records: Iterable[Any]) -> list[Told]:
    """Records as comparable tuples: all fields but ids and ingest times."""
    out: list[Told] = []
    entered: dict[str, int] = {}
    for r in records:
        if isinstance(r, Transition):
            if r.kind == "ENTER":
                entered[r.visit_id] = r.at
            out.append((r.kind, r.subject_id, r.zone_id, entered[r.visit_id], r.event_time, r.at, r.reason))
        elif isinstance(r, DwellReached):
            who = (r.subject_id, r.zone_id, r.entered_at)
            assert r.reached_at == r.entered_at + r.threshold_us
            out.append(("DWELL", *who, r.threshold_us, r.fired_at, r.last_fix_at, r.fix_count, r.quality))
        elif isinstance(r, Visit):
            who = (r.subject_id, r.zone_id, r.entered_at)
            assert r.dwell_us == r.left_at - r.entered_at
            out.append(
                (
                    *("VISIT", *who, r.event_time, r.left_at, r.observed_us, r.fix_count, r.gap_count, r.max_gap_us),
                    *(r.enter_reason, r.exit_reason, tuple(r.fired_us)),
                )
            )
    return out
