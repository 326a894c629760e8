"""Rings of points as a shape: how far a point is from its edge, and how much room there is inside.

A point is inside by even-odd over all rings, so holes and several parts need no case of their own.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from math import inf, sqrt

from schemas.reference import Ring

Point = tuple[float, float]
_PRECISION_M = 0.001


class Shape:
    """A closed area in the site frame, made of rings; rings may repeat their first point at the end.

    >>> Shape([[(0, 0), (4, 0), (4, 3), (0, 3)]]).distance(2, 1)
    -1
    """

    __slots__ = ("_box", "_edges", "bounds")

    def __init__(self, rings: Iterable[Sequence[Point]]) -> None:
        edges = []
        corners: list[Point] = []
        for ring in rings:
            corners += ring
            for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], *ring[:1]], strict=True):
                dx, dy = x2 - x1, y2 - y1
                if length2 := dx * dx + dy * dy:
                    edges.append((x1, y1, y2, dx, dy, length2))
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        self.bounds = (min(xs, default=inf), min(ys, default=inf), max(xs, default=-inf), max(ys, default=-inf))
        self._edges = tuple(edges)
        self._box = (
            len(edges) == 4 and len(set(corners)) == 4 and all(dx == 0 or dy == 0 for _, _, _, dx, dy, _ in edges)
        )

    def distance(self, x: float, y: float) -> float:
        """Metres from (x, y) to the nearest edge, negative inside; infinite where there is no edge."""
        if self._box:  # most zones are; the same figure without a walk along the edges
            west, south, east, north = self.bounds
            across = west - x if x - west < east - x else x - east
            along = south - y if y - south < north - y else y - north
            if across > 0 and along > 0:
                return sqrt(across * across + along * along)
            return across if across > along else along  # noqa: FURB136
        nearest, inside = inf, False
        for x1, y1, y2, dx, dy, length2 in self._edges:
            px, py = x - x1, y - y1
            share = (px * dx + py * dy) / length2
            if share > 0.0:
                if share > 1.0:  # noqa: PLR1730 - a call to min() an edge is what this loop would cost most
                    share = 1.0
                px -= share * dx
                py -= share * dy
            apart = px * px + py * py
            if apart < nearest:  # noqa: PLR1730
                nearest = apart
            if (y1 > y) != (y2 > y) and x < x1 + dx * (y - y1) / dy:
                inside = not inside
        return -sqrt(nearest) if inside else sqrt(nearest)

    def side(self) -> float:
        """Diameter in metres of the largest circle that fits inside: of a square, its side.

        Best-first over ever smaller squares; a square is left alone when even its far corner could not
        beat the best centre found by more than a millimetre.
        """
        west, south, east, north = self.bounds
        if not self._edges:
            return 0.0
        if self._box:
            return min(east - west, north - south)
        half = min(east - west, north - south) / 2
        if half <= 0:
            return 0.0
        best = max(0.0, -self.distance((west + east) / 2, (south + north) / 2))
        heap: list[tuple[float, float, float, float]] = []

        def look(x: float, y: float, half: float) -> None:
            nonlocal best
            room = -self.distance(x, y)
            best = max(best, room)
            if (limit := room + half * sqrt(2)) > best + _PRECISION_M:
                heappush(heap, (-limit, x, y, half))

        columns, rows = int((east - west) / (2 * half)) + 1, int((north - south) / (2 * half)) + 1
        for column in range(columns):
            for row in range(rows):
                look(west + (2 * column + 1) * half, south + (2 * row + 1) * half, half)
        while heap:
            limit, x, y, half = heappop(heap)
            if -limit <= best + _PRECISION_M:
                break
            half /= 2
            for across in (-half, half):
                for along in (-half, half):
                    look(x + across, y + along, half)
        return 2 * best


def points(ring: Ring) -> list[Point]:
    """The points of a ring as it stands in a record."""
    xy = ring.xy_m
    return list(zip(xy[::2], xy[1::2], strict=False))


def shape(rings: Iterable[Ring]) -> Shape:
    """The shape of a zone's record."""
    return Shape([points(ring) for ring in rings])


def hull(corners: Iterable[Point]) -> list[Point]:
    """The smallest convex ring around points (Andrew's monotone chain)."""
    ordered = sorted(set(corners))
    if len(ordered) < 3:
        return ordered

    def half(line: Iterable[Point]) -> list[Point]:
        kept: list[Point] = []
        for x, y in line:
            while len(kept) > 1 and _turn(kept[-2], kept[-1], (x, y)) <= 0:
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return half(ordered) + half(reversed(ordered))


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
