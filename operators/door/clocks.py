"""What a source's clock is worth: its offset from the lags of its readings, probation, quarantine.

`lag = ingest_time - event_time`. Delay only adds to it, so its low end shows the clock: the 5th percentile
of the last 500 lags is the estimate. What a correction may follow from it is the rule of this module; event
times become true by `event_time + correction`.
"""

from collections.abc import Iterable
from enum import IntEnum
from math import ceil

import msgspec

from schemas.sensing import Position

SECOND = 1_000_000
LAGS = 500
REFRESH = 50
BEAT = SECOND // 5
MOST_A_BEAT = 8
SAMPLES = 160
DAY = 86_400 * SECOND
LEFT_ALONE = SECOND // 4
STRAYED = SECOND
QUARANTINE = 30 * SECOND
STEADY = SECOND // 2
BEHAVES_FOR = 60 * SECOND
PROBATION_READINGS = 20
PROBATION_SPAN = 3 * SECOND
PROBATION_LASTS = 10 * SECOND
LEAST_REORDER = SECOND // 4
HEARTBEAT = SECOND

Held = tuple[int, str, int, int, int, str, int, int, Position]
"""A reading that waits: corrected event time, source, seq, row number, index, topic, partition, offset, record."""


class Trust(IntEnum):
    """How far a source's clock is believed."""

    PROBATION = 0
    TRUSTED = 1
    DEGRADED = 2
    QUARANTINED = 3


class Stream(msgspec.Struct, array_like=True):
    """What one source has said on one partition: newest event time, when it was heard, how far it is."""

    newest: int
    heard: int
    at: int
    catching_up: bool = False
    active: bool = False


class Notice(msgspec.Struct, frozen=True):
    """A change of trust that somebody should know of; `value` is the offset, below 0 ahead; seconds."""

    name: str
    value: float
    limit: float
    cleared: bool = False


class Source(msgspec.Struct, array_like=True):
    """One source: the lags of its readings and what they led to. Durations in µs.

    `estimate` is the offset its lags show, `correction` the part of it that is believed and added to event
    times, `bridge` what a bridge says of it (all positive where the clock is behind); `longest_us` is the
    reorder time of the slowest technology heard from it.
    """

    site_id: str
    source_id: str
    trust: Trust
    reorder_us: int
    first_ingest: int = 0
    first_clock: int = 0
    earliest: int = 0
    latest: int = 0
    count: int = 0
    lags: list[int] = []
    samples: list[tuple[int, int]] = []
    beat: int = 0
    burst: int = 0
    estimate: int = 0
    correction: int = 0
    bridge: int | None = None
    heartbeat_us: int = HEARTBEAT
    longest_us: int = 0
    steady_since: int | None = None
    good_since: int | None = None
    waiting: list[Held] = []
    streams: dict[int, Stream] = {}

    @property
    def silence_lag(self) -> int:
        """How long nothing is heard until silence moves the watermark."""
        return self.reorder_us + SECOND

    @property
    def residue(self) -> int:
        """What of the estimated offset is not corrected, because it may be delay."""
        return self.estimate - self.correction

    def hear(self, event_time: int, ingest_time: int, clock: int) -> bool:
        """Take in the lag of a reading past the place gate; whether the clock is to be judged now."""
        if self.count == 0:
            self.first_ingest, self.first_clock, self.earliest, self.latest = ingest_time, clock, event_time, event_time
        self.count += 1
        lag = ingest_time - event_time
        if -DAY <= lag <= DAY:  # one device in 2099 must not move the estimate of the rest
            self.lags.append(lag)
            beat = ingest_time // BEAT
            if beat != self.beat:
                self.beat, self.burst = beat, 0
            if self.burst < MOST_A_BEAT:
                self.burst += 1
                self.samples.append((event_time, lag))
        if self.trust is Trust.PROBATION:
            if event_time < self.earliest:
                self.earliest = event_time
            elif event_time > self.latest:
                self.latest = event_time
            enough = self.count >= PROBATION_READINGS and self.latest - self.earliest >= PROBATION_SPAN
            return enough or ingest_time - self.first_ingest >= PROBATION_LASTS
        return self.trust is Trust.QUARANTINED or self.count % REFRESH == 0 or self.count == PROBATION_READINGS


def rank(ordered: list[int], share: float) -> int:
    """Nearest-rank percentile of sorted values.

    >>> rank([10, 20, 30, 40], 0.05), rank([10, 20, 30, 40], 0.99)
    (10, 40)
    """
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def judge(source: Source, ingest_time: int, *, reorder: int | None, floor: int, stated: int | None) -> list[Notice]:
    """Draw the consequences of the lags so far.

    Args:
        source: changed in place.
        ingest_time: of the reading that gives the occasion.
        reorder: the one the settings fix, or None for auto.
        floor: network time that every reading of the source takes.
        stated: offset that an operator vouches for.

    Returns:
        What somebody should know of: each change once, and its end.
    """
    if source.trust is Trust.QUARANTINED and not _behaves(source, ingest_time, stated):
        return []
    before = source.trust
    del source.lags[:-LAGS], source.samples[:-SAMPLES]
    source.reorder_us = source.longest_us if reorder is None else reorder
    level: int | None = None
    if source.lags:
        recent = _recent(source)
        level = None if recent is None else rank(recent, 0.05) - floor
        if (
            recent is not None
            and level is not None
            and abs(level - source.estimate) > STRAYED
            and before is not Trust.PROBATION
        ):
            source.lags = list(recent)  # the clock has stepped: what was before says nothing
        ordered = sorted(source.lags)
        source.estimate = _low(ordered) - floor
        if reorder is None and len(ordered) >= PROBATION_READINGS:
            source.reorder_us = min(max(rank(ordered, 0.99) - rank(ordered, 0.05), LEAST_REORDER), source.longest_us)
    if level is None and before is Trust.PROBATION and source.estimate < -QUARANTINE:
        level = source.estimate  # no delay puts a clock ahead, so fewer readings are enough
    if stated is None and level is not None and abs(level) > QUARANTINE:
        source.trust, source.correction, source.good_since = Trust.QUARANTINED, 0, None
        if before is Trust.QUARANTINED:
            return []
        return [_notice("QUARANTINED", level, QUARANTINE)]
    source.correction = _correction(source, ingest_time, level, stated)
    strayed = abs(source.correction) > STRAYED and stated is None
    source.trust = Trust.DEGRADED if strayed else Trust.TRUSTED
    told = []
    if before is Trust.QUARANTINED:
        told.append(_notice("QUARANTINED", source.estimate, QUARANTINE, cleared=True))
    if before is Trust.DEGRADED and not strayed:
        told.append(_notice("DEGRADED", source.correction, STRAYED, cleared=True))
    elif before is not Trust.DEGRADED and strayed:
        told.append(_notice("DEGRADED", source.correction, STRAYED))
    return told


def _low(ordered: list[int]) -> int:
    """The 5th percentile; but one lag alone, a second below all others, is a wild reading and no clock."""
    low = rank(ordered, 0.05)
    alone = len(ordered) > 2 and low == ordered[0] and ordered[1] - low > STRAYED
    return ordered[1] if alone else low


def _recent(source: Source) -> list[int] | None:
    """The newest lags, sorted, if they are at least 20 over 3 s of event time and all but equal.

    Of a busy source eight readings every 200 ms stand for all: its last 500 would not span the time.
    """
    earliest = latest = source.samples[-1][0]
    for size, (time, _) in enumerate(reversed(source.samples), 1):
        earliest, latest = min(earliest, time), max(latest, time)
        if size >= PROBATION_READINGS and latest - earliest >= PROBATION_SPAN:
            found = sorted(lag for _, lag in source.samples[-size:])
            return found if rank(found, 0.99) - rank(found, 0.05) < STEADY else None
    return None


def _correction(source: Source, ingest_time: int, level: int | None, stated: int | None) -> int:
    """Ahead at once, since no delay makes a lag negative; behind only when it cannot be delay."""
    steady = level is not None and level > STRAYED
    if not steady:
        source.steady_since = None
    elif source.steady_since is None:
        source.steady_since = ingest_time
    if stated is not None:
        return stated
    if source.estimate < -LEFT_ALONE:
        return source.estimate
    if source.estimate <= LEFT_ALONE:
        return 0
    if source.bridge is not None and source.bridge > LEFT_ALONE:
        return source.bridge
    if source.steady_since is not None and ingest_time - source.steady_since >= BEHAVES_FOR:
        return source.estimate
    return max(source.correction, 0)


def _behaves(source: Source, ingest_time: int, stated: int | None) -> bool:
    """Whether a quarantined source may come back: a minute of good lags, or an operator's word."""
    if stated is not None:
        return True
    if not source.lags or abs(source.lags[-1]) > QUARANTINE:
        source.lags, source.samples, source.burst, source.good_since = [], [], 0, None
        return False
    if source.good_since is None:
        source.good_since = ingest_time
        del source.lags[:-1], source.samples[:-1]
    return ingest_time - source.good_since >= BEHAVES_FOR


def _notice(name: str, offset: int, limit: int, *, cleared: bool = False) -> Notice:
    return Notice(name, offset / SECOND, limit / SECOND, cleared)


def slowest(streams: Iterable[Stream], clock: int, behind: int) -> int | None:
    """The least watermark of active streams; one that is further behind than `behind` counts only if all are."""
    marks = [stream.at for stream in streams]
    return min([mark for mark in marks if clock - mark <= behind] or marks, default=None)
