"""The simulated shop at wall-clock speed: at any time, the rows that have been heard since the last look.

Nothing here reads a clock: whoever polls says how many seconds have gone by.
"""

from collections.abc import Iterator
from pathlib import Path

from flows.afternoon import EXAMPLE, LEAD_S, Simulation
from flows.cast import Row
from flows.sensors import SECOND


class LiveShop:
    """Paces a simulation that never ends.

    `start` is the simulated instant at which the run begins, `lead_s` after 17:00: unless told otherwise, 40 s into
    Ana's stay. The first call of `due` returns everything heard before it as well: the history, and life until then.

    >>> shop = LiveShop(seed=7)
    >>> backlog, soon = shop.due(0.0), shop.due(0.2)
    >>> backlog[-1][1]["ingest_time"] < shop.start <= soon[0][1]["ingest_time"] < shop.now(0.2)
    True
    """

    def __init__(self, seed: int, speed: float = 1.0, *, example: Path = EXAMPLE, lead_s: float = LEAD_S) -> None:
        self._simulation = Simulation(seed, example=example)
        self.start = self._simulation.start + int(lead_s * SECOND)
        self.site_id = self._simulation.shop.site_id
        self.names = self._simulation.names
        self.followed = self._simulation.followed
        self._speed = speed
        self._rows: Iterator[Row] = self._simulation.rows(None)
        self._next: Row | None = None

    def now(self, elapsed_s: float) -> int:
        """The source's clock: simulated start plus what has gone by, in microseconds."""
        return self.start + int(elapsed_s * self._speed * SECOND)

    def due(self, elapsed_s: float) -> list[Row]:
        """Rows heard before `now(elapsed_s)` and not returned yet, by ingest time."""
        now = self.now(elapsed_s)
        found: list[Row] = []
        while True:
            row = next(self._rows) if self._next is None else self._next
            if row[1]["ingest_time"] >= now:
                self._next = row
                return found
            self._next = None
            found.append(row)
