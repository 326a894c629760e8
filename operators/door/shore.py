"""How far event time has come: the watermark of a shard over its sources.

A source's watermark is its newest reading less the time readings wait for older ones, or what silence
allows; the shard's is the least of the active ones, and never goes back.
"""

import msgspec

from operators.door.clocks import Source, Stream, Trust, slowest
from operators.state.store import Tables
from schemas.sensing import SourceStatus

SECOND = 1_000_000
BEHIND = 10 * SECOND
IDLE_HEARTBEATS = 3
PATIENCE = 60 * SECOND


class Mark(msgspec.Struct, array_like=True):
    """Where the shard stands, µs.

    `told` is the watermark last told, `began` and `stepped` the first and the last multiple of 100 ms walked
    to, `heard` the clock of the last reading that entered, `lag` how far behind the clock the watermark runs
    when no source is active, `started` whether one ever was.
    """

    at: int = 0
    told: int = 0
    began: int = 0
    stepped: int = 0
    heard: int = 0
    lag: int = 2 * SECOND
    started: bool = False


class Shore:
    """Sources of a shard and the watermark they give.

    Args:
        tables: where both are kept.
        first: number of the first of the two tables.
    """

    def __init__(self, tables: Tables, first: int) -> None:
        self._kept = tables.table(first, Source, kept=1 << 40)
        self._kept_mark = tables.table(first + 1, Mark)
        self._sources: dict[tuple[str, str], Source] = {}
        self._touched: dict[tuple[str, str], Source] = {}
        self._trying: dict[tuple[str, str], Source] = {}
        self._active: dict[tuple[str, str, int], tuple[Source, Stream]] = {}
        self.mark: Mark = self._kept_mark.get("") or Mark()
        for source in dict(self._kept.items()).values():
            key = (source.site_id, source.source_id)
            self._sources[key] = source
            if source.trust is Trust.PROBATION:
                self._trying[key] = source
            for partition, stream in source.streams.items():
                if stream.active:
                    self._active[*key, partition] = (source, stream)
        self._least = slowest((stream for _, stream in self._active.values()), self.mark.stepped, BEHIND)

    @property
    def idle(self) -> int:
        """Sources that were heard and are silent on every partition; those in quarantine are held to be neither."""
        streams = [
            list(source.streams.values())
            for source in list(self._sources.values())
            if source.trust is not Trust.QUARANTINED
        ]
        return sum(bool(found) and not any(stream.active for stream in found) for found in streams)

    @property
    def offset(self) -> int:
        """Greatest offset that the lags of a source show, their least delay included, either way (µs)."""
        return max((abs(source.estimate) for source in list(self._sources.values())), default=0)

    def keep(self) -> None:
        """Put what has changed into the tables."""
        for key, source in self._touched.items():
            self._kept.put("|".join(key), source)
        self._touched.clear()
        self._kept_mark.put("", self.mark)

    def source(self, site_id: str, source_id: str) -> Source | None:
        """A source, about to be changed."""
        key = (site_id, source_id)
        source = self._sources.get(key)
        if source is not None:
            self._touched[key] = source
        return source

    def add(self, source: Source) -> Source:
        """A source heard for the first time."""
        key = (source.site_id, source.source_id)
        self._sources[key] = self._touched[key] = self._trying[key] = source
        return source

    def probations(self) -> list[Source]:
        """Sources that are still tried."""
        return list(self._trying.values())

    def judged(self, source: Source) -> None:
        """The trust in a source may have changed."""
        key = (source.site_id, source.source_id)
        if source.trust is not Trust.PROBATION:
            self._trying.pop(key, None)
        if source.trust is Trust.QUARANTINED:
            for partition, stream in source.streams.items():
                stream.active = False
                self._active.pop((*key, partition), None)
            self._least = None

    def said(self, source: Source, status: SourceStatus, clock: int) -> None:
        """A source's word on itself: a heartbeat, its interval, the bridge's estimate of its offset."""
        if status.heartbeat_us > 0:
            source.heartbeat_us = status.heartbeat_us
        source.bridge = status.clock_offset_us
        for stream in source.streams.values():
            stream.heard = max(stream.heard, clock)

    def entered(self, source: Source, partition: int, newest: int, clock: int, ingest_time: int) -> None:
        """A reading has entered the buffer; `newest` is its event time, at most its ingest time."""
        mark = self.mark
        mark.heard, mark.started = clock, True
        stream = source.streams.get(partition)
        if stream is None:
            stream = source.streams[partition] = Stream(newest, clock, newest - source.reorder_us)
        stream.heard = clock
        stream.catching_up = clock - ingest_time > BEHIND
        stream.newest = max(stream.newest, newest)
        if not stream.active:
            stream.active = True
            stream.at = max(stream.at, stream.newest - source.reorder_us)
            self._active[source.site_id, source.source_id, partition] = (source, stream)
            self._tide(clock)
            return
        before, at = stream.at, stream.newest - source.reorder_us
        if at > before:
            stream.at = at
            if self._least is None or before <= self._least or before < clock - BEHIND:
                self._tide(clock)

    def stepped(self, clock: int) -> None:
        """The clock stands at a step: silence counts, and who has been silent too long leaves."""
        for key, (source, stream) in list(self._active.items()):
            if clock - stream.heard >= IDLE_HEARTBEATS * source.heartbeat_us:
                stream.active = False
                del self._active[key]
                lag = source.residue + source.silence_lag
                if lag <= BEHIND:
                    self.mark.lag = lag
            elif not stream.catching_up:
                stream.at = max(stream.at, clock - source.residue - source.silence_lag)
            else:
                continue
            self._touched[key[:2]] = source
        if self._active:
            self._tide(clock)
            return
        self._least = None
        mark = self.mark
        mark.began = mark.began or clock
        # a flow that starts on a backlog has heard nothing yet either: that is no silence
        unheard = not any(source.count for source in self._trying.values()) and clock - mark.began > PATIENCE
        if mark.started or unheard:
            mark.at = max(mark.at, clock - mark.lag)

    def forget(self, before: int) -> None:
        """Drop sources that have said nothing since `before`."""
        for key, source in list(self._sources.items()):
            heard = max((stream.heard for stream in source.streams.values()), default=source.first_clock)
            if source.count and heard < before and source.trust is not Trust.QUARANTINED and not source.waiting:
                del self._sources[key]
                self._trying.pop(key, None)
                self._touched.pop(key, None)
                self._kept.put("|".join(key), None)

    def _tide(self, clock: int) -> None:
        least = slowest((stream for _, stream in self._active.values()), clock, BEHIND)
        self._least = least
        if least is not None and least > self.mark.at:
            self.mark.at = least
