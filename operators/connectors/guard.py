"""What an output already holds of what a replay will say again: ids found in its tail, waiting to be repeated.

No broker here. An id is *pending* from when it is read back until the flow derives it again; then it is matched
and not written twice. The engine's snapshot keeps the lowest offset that is still pending: with the end of the
topic in its place, a second crash before the repetition would forget the rest and write it twice.
"""

from collections import Counter, OrderedDict, defaultdict
from typing import NamedTuple

Place = tuple[str, int]
"""Topic (without prefix) and partition."""


class Pending(NamedTuple):
    """Where an id stands, when it happened, and the key it has on a compacted topic."""

    offset: int
    event_time: int
    key: bytes


class Reach(NamedTuple):
    """How far a tail reaches back: `low` is the first offset that is still pending, else the next one.

    What stands before `firm` is only of ids that the flow did not repeat though it was through with everything that
    would; the newest of them happened at `newest`. What stands from there on is to be matched.
    """

    low: int
    firm: int
    newest: int


class Guard:
    """The ids of the tails of some partitions, and where each tail begins.

    Args:
        compacted: topics of which the broker keeps the last record of a key only.
        orphan_after: how much event time may pass before an id that is not repeated is given up (µs).
        recent: how many ids written or matched are remembered; none of them is written again.
    """

    def __init__(self, compacted: frozenset[str], *, orphan_after: int, recent: int = 1 << 16) -> None:
        self._compacted, self._orphan_after, self._kept = compacted, orphan_after, recent
        self._pending: dict[Place, dict[str, Pending]] = defaultdict(dict)
        self._keys: dict[Place, Counter[bytes]] = defaultdict(Counter)
        self._next: dict[Place, int] = {}
        self._recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._now = 0
        self._through = False
        self.counts: Counter[tuple[str, str]] = Counter()

    def begins(self, place: Place, offset: int) -> None:
        """A partition of ours, and where its next record will stand at the least."""
        self._next[place] = max(self._next.get(place, 0), offset)

    def found(self, place: Place, event_id: str, pending: Pending) -> None:
        """An id read back. Of one that stands twice the first place counts: it is the one to keep in reach."""
        held = self._pending[place]
        if event_id not in held:
            held[event_id] = pending
            if place[0] in self._compacted:
                self._keys[place][pending.key] += 1

    def seen(self, place: Place, event_id: str, key: bytes) -> bool:
        """Whether a derived id is already on its topic; a pending one is matched by asking."""
        topic = place[0]
        if (topic, event_id) in self._recent:
            self.counts["repeated", topic] += 1
            return True
        if event_id in self._pending[place]:
            self._forget(place, event_id)
            self.counts["suppressed", topic] += 1
        elif self._keys[place][key] > 0:
            # Records of a key are written in order: a later one is there, so this one was, and was compacted
            # away. Written again it would stand last, and the topic would tell an old state. Ids of such topics
            # count versions under their key, so this is exact whenever the cleaner comes: the topics need no
            # `min.compaction.lag.ms`, which would only keep what was superseded for longer.
            self.counts["compacted", topic] += 1
        else:
            return False
        self.remember(topic, event_id)
        return True

    def remember(self, topic: str, event_id: str) -> None:
        """An id that is on its topic, or on its way there."""
        self._recent[topic, event_id] = None
        if len(self._recent) > self._kept:
            self._recent.popitem(last=False)

    def written(self, place: Place, offset: int) -> None:
        """A record was acknowledged at an offset."""
        self._next[place] = max(self._next[place], offset + 1)

    def moved(self, event_time: int) -> None:
        """Event time of what the flow says has come to here."""
        self._now = max(self._now, event_time)

    def heard(self, clock: int) -> None:
        """The source's clock stands there: whatever was to be said of rows up to it has been said."""
        self._through = True
        self.moved(clock)

    def drop_orphans(self) -> int:
        """Give up ids that are too old to be repeated; answers how many."""
        before = self._now - self._orphan_after
        orphans = [
            (place, event_id)
            for place, held in self._pending.items()
            for event_id, pending in held.items()
            if pending.event_time < before
        ]
        for place, event_id in orphans:
            self._forget(place, event_id)
            self.counts["orphaned", place[0]] += 1
        return len(orphans)

    def next_of(self, place: Place) -> int:
        """Where the next record will stand at the least."""
        return self._next[place]

    def low(self, place: Place) -> int:
        """Where the tail begins: the lowest offset that is still pending, else the next one."""
        held = self._pending.get(place)
        # Ids were found in order of their offsets and dicts keep it: the first is the lowest.
        return next(iter(held.values())).offset if held else self._next[place]

    def reach(self, place: Place) -> Reach:
        """How far the tail reaches back."""
        low, held = self.low(place), self._pending.get(place)
        if not held or not self._through:
            return Reach(low, low, 0)
        return Reach(low, self._next[place], max(pending.event_time for pending in held.values()))

    @property
    def pending(self) -> int:
        """How many ids wait to be repeated."""
        return sum(map(len, self._pending.values()))

    def _forget(self, place: Place, event_id: str) -> None:
        pending = self._pending[place].pop(event_id)
        if place[0] in self._compacted:
            self._keys[place][pending.key] -= 1
