"""Gather: several lanes become one stream again, with one clock, once all of them know what stands.

Lanes are read by several processes. What happens is not acted on before every lane has handed on the reference
rows that stood at the start; until then it waits here, in order. From then on it passes as it comes.
"""

from operators.state.store import Table, Tables
from schemas.items import Batch, Event, Item, Opened, Tick
from schemas.parcels import packed, unpacked
from schemas.shards import ALONE

WAITING = 1
"""Number of the table."""


class Gather:
    """The core of the one shard that every lane comes to.

    State: events that wait for the start of some lane. Time: the clock is that of the lane furthest behind; it
    never goes back. Guarantee: the order within a lane is kept, but that reference rows pass what waits.

    Args:
        lanes: how many there are.
        reference: topics whose rows pass at once.
        tables: all that is remembered.
    """

    def __init__(self, lanes: int, reference: frozenset[str], tables: Tables) -> None:
        self._lanes, self._reference = lanes, reference
        self._waiting: Table[bytes] = tables.table(WAITING, bytes)
        self._next = max((int(key) + 1 for key, _ in self._waiting.items()), default=0)
        self._opened: set[int] = set()
        self._clocks: dict[int, int] = {}
        self._clock = 0

    def step(self, items: list[Item]) -> list[Item]:
        """Hold back, let go, and keep one clock; everything else passes."""
        out: list[Item] = []
        held: list[Item] = []
        for item in items:
            if isinstance(item, Opened):
                before = self._open
                self._opened.add(item.lane)
                if self._open and not before:
                    out += [item, *self._released(), *held]
                    held = []
            elif isinstance(item, Tick):
                out += self._tick(item)
            elif isinstance(item, Event) and not self._open and item.topic not in self._reference:
                held.append(item)
            else:
                out.append(item)
        if held:
            self._waiting.put(f"{self._next:020d}", packed(Batch(held))[1])
            self._next += 1
        return out

    @property
    def _open(self) -> bool:
        return len(self._opened) >= self._lanes

    def _released(self) -> list[Item]:
        """All that has waited; its rows go."""
        waited = list(self._waiting.items())
        for key, _ in waited:
            self._waiting.put(key, None)
        return [item for _, body in waited for item in unpacked((ALONE, body)).items]

    def _tick(self, tick: Tick) -> list[Item]:
        self._clocks[tick.lane] = tick.clock
        if not self._open or len(self._clocks) < self._lanes:
            return []
        clock = min(self._clocks.values())
        if clock <= self._clock:
            return []
        self._clock = clock
        return [Tick(tick.number, clock, tick.end)]
