"""How people move: from the door to what they want to see, to the tills if they buy, and out again.

A path is a list of moments with a place each, walked in straight lines. All of it is worked out when it is
planned, so that where somebody is at an instant is a look-up, and two runs agree to the last bit.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from math import sqrt
from random import Random

from flows.shop import Area, Point, Shop

SPEED_MPS = 1.15
STROLL_MPS = 0.5


@dataclass
class Path:
    """Moments in seconds, rising, and where one is at each."""

    at: list[float] = field(default_factory=list)
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    def stand(self, until: float) -> None:
        """Stay where one is."""
        if until > self.at[-1]:
            self.mark(until, self.x[-1], self.y[-1])

    def walk(self, to: Point, speed: float = SPEED_MPS) -> None:
        """Go there in a straight line."""
        dx, dy = to[0] - self.x[-1], to[1] - self.y[-1]
        self.mark(self.at[-1] + max(0.2, sqrt(dx * dx + dy * dy) / speed), *to)

    def mark(self, at: float, x: float, y: float) -> None:
        """Add a moment."""
        self.at.append(at)
        self.x.append(x)
        self.y.append(y)

    def place(self, at: float) -> Point:
        """Where one is at `at`; before the first and after the last moment one stands there.

        >>> path = Path([0.0, 2.0], [0.0, 4.0], [0.0, 0.0])
        >>> path.place(1.0)
        (2.0, 0.0)
        """
        after = bisect_right(self.at, at)
        if after == 0:
            return self.x[0], self.y[0]
        if after == len(self.at):
            return self.x[-1], self.y[-1]
        before = after - 1
        share = (at - self.at[before]) / (self.at[after] - self.at[before])
        return (
            self.x[before] + share * (self.x[after] - self.x[before]),
            self.y[before] + share * (self.y[after] - self.y[before]),
        )

    @property
    def inside(self) -> float:
        """When one has come in by the door and a step further, if there is one."""
        return self.at[min(2, len(self.at) - 1)]

    def enters(self, area: Area) -> float:
        """When one first stands in `area`, to a tenth of a second."""
        moment = self.at[0]
        while moment < self.at[-1] and not area.holds(*self.place(moment)):
            moment += 0.1
        return moment


@dataclass(frozen=True)
class Stop:
    """A stay in a zone: from when to when, in seconds."""

    zone_id: str
    category: str | None
    start: float
    end: float


def visit(shop: Shop, rng: Random, start: float, wanted: list[tuple[Area, float]]) -> tuple[Path, list[Stop]]:
    """Come in at `start` and stand in each wanted zone for its seconds, shifting about as people do."""
    speed = SPEED_MPS * (0.85 + 0.3 * rng.random())
    path = Path([start], [shop.outside[0]], [shop.outside[1]])
    path.walk(shop.door, speed)
    entrance = shop.of_kind("ENTRANCE")
    if entrance is not None:
        path.walk(entrance.spot(rng), speed)
        path.stand(path.at[-1] + 2.0 + 4.0 * rng.random())
    return path, [stay(path, rng, area, seconds, speed) for area, seconds in wanted]


def stay(path: Path, rng: Random, area: Area, seconds: float, speed: float = SPEED_MPS) -> Stop:
    """Walk to a zone and stay there for that long, with a small step now and then."""
    path.walk(area.spot(rng), speed)
    start = path.at[-1]
    end = start + seconds
    while path.at[-1] < end:
        path.stand(min(end, path.at[-1] + 6.0 + 10.0 * rng.random()))
        if path.at[-1] < end - 6.0:
            x, y = area.spot(rng)
            path.walk((path.x[-1] + 0.35 * (x - path.x[-1]), path.y[-1] + 0.35 * (y - path.y[-1])), STROLL_MPS)
    return Stop(area.zone_id, area.category, start, path.at[-1])


def leave(shop: Shop, path: Path) -> None:
    """Go out by the door, and a few steps on."""
    path.walk(shop.door)
    path.walk(shop.outside)


class Tills:
    """One line before all tills, first come, first served."""

    def __init__(self, shop: Shop) -> None:
        self._queue, self._checkout = shop.of_kind("QUEUE"), shop.of_kind("CHECKOUT")
        self._places = sorted(shop.tills.items())
        self._free = [float("-inf")] * len(self._places)
        self._starts: list[float] = []

    @property
    def open(self) -> bool:
        """Whether there is a till to go to."""
        return bool(self._places)

    def line_up(self, rng: Random, path: Path) -> None:
        """Walk to the end of the line; what comes then is `pay`, once everybody before has come."""
        if self._queue is not None:
            path.walk(self._queue.spot(rng))

    def pay(self, rng: Random, path: Path) -> tuple[str, float]:
        """Wait, step up as others are served, pay, and say at which till and when.

        Called in the order in which people arrive, which is what makes it a queue.
        """
        arrived = path.at[-1]
        chosen = min(range(len(self._places)), key=lambda till: (self._free[till], till))
        start = max(arrived, self._free[chosen])
        self._starts = [other for other in self._starts if other > arrived]
        ahead = sorted(self._starts)
        for gone, moment in enumerate(ahead):
            if moment + 1.5 < start:
                path.stand(max(path.at[-1], moment))
                path.walk(self._slot(len(ahead) - gone - 1), STROLL_MPS)
        path.stand(start)
        self._starts.append(start)
        till, place = self._places[chosen]
        path.walk((place[0], place[1] - 0.6))
        path.stand(path.at[-1] + 18.0 + 28.0 * rng.random())
        self._free[chosen] = path.at[-1]
        return till, path.at[-1]

    def _slot(self, number: int) -> Point:
        """Place of the nth in line: from the side of the tills backwards."""
        area = self._queue or self._checkout
        if area is None:
            return self._places[0][1]
        left, bottom, right, top = area.box
        back = min(0.6 + 0.9 * number, right - left - 0.6)
        till = self._places[0][1][0]
        return (right - back if till >= (left + right) / 2 else left + back), (bottom + top) / 2
