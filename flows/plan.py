"""The floor plan in characters: zones as boxes with name and occupancy, people as dots."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from rich.text import Text

from flows.shopstate import Dot, ShopState
from schemas.reference import Zone
from schemas.venue import Venue

KINDS = {
    "OFFER": "bold yellow",
    "DEPARTMENT": "cyan",
    "SHELF": "cyan",
    "ENTRANCE": "green",
    "CHECKOUT": "magenta",
    "QUEUE": "magenta",
    "FITTING_ROOM": "blue",
}
"""Colour of a zone by kind."""
STRANGER, MEMBER, ACTED, NOT_ACTED = ("•", "grey62"), ("●", "bold white"), ("★", "bold green"), ("○", "bold red")
"""Marks of people: nobody we know, a member, one who has just got something, one who just did not."""
LEGEND = (("• visitor", STRANGER[1]), ("● member", MEMBER[1]), ("★ told", ACTED[1]), ("○ not told", NOT_ACTED[1]))
_TOUCH = 0.999


@dataclass
class _Canvas:
    """A grid of characters, each with a style; `fixed` cells are not drawn over."""

    width: int
    height: int

    def __post_init__(self) -> None:
        self.cells = [[(" ", "")] * self.width for _ in range(self.height)]
        self.fixed = [[False] * self.width for _ in range(self.height)]

    def put(self, column: int, row: int, text: str, style: str, *, fix: bool = False) -> None:
        """Write characters from a cell to the right, as far as there is room and nothing fixed."""
        for step, character in enumerate(text):
            at = column + step
            if 0 <= row < self.height and 0 <= at < self.width and not self.fixed[row][at]:
                self.cells[row][at] = (character, style)
                self.fixed[row][at] = fix

    def free(self, column: int, row: int, length: int) -> bool:
        """Whether a text of that length fits there without touching a fixed cell."""
        inside = 0 <= row < self.height and column >= 0 and column + length <= self.width
        return inside and not any(self.fixed[row][column : column + length])

    def text(self) -> Text:
        """The grid as one text."""
        found = Text(no_wrap=True, overflow="crop")
        for number, row in enumerate(self.cells):
            if number:
                found.append("\n")
            for style, run in groupby(row, key=itemgetter(1)):
                found.append("".join(character for character, _ in run), style)
        return found


class Plan:
    """Draws one floor of a venue, the one with most zones, into any number of characters."""

    def __init__(self, venue: Venue) -> None:
        floors = sorted({zone.floor for zone in venue.zones.values()})
        self._floor = max(floors, key=lambda floor: (self._zones_on(venue, floor), -floor), default=0.0)
        self._zones = [zone for _, zone in sorted(venue.zones.items()) if zone.floor == self._floor and zone.rings]
        self._screens = [
            (device.x_m, device.y_m, "▣" if device.kind == "SCREEN" else "▪")
            for _, device in sorted(venue.devices.items())
            if device.kind in {"SCREEN", "TILL"} and device.x_m is not None and device.y_m is not None
        ]
        boxes = [_box(zone) for zone in self._zones] or [(0.0, 0.0, 1.0, 1.0)]
        self._left, self._bottom = min(box[0] for box in boxes), min(box[1] for box in boxes)
        self._right, self._top = max(box[2] for box in boxes), max(box[3] for box in boxes)

    @staticmethod
    def _zones_on(venue: Venue, floor: float) -> int:
        return sum(zone.floor == floor for zone in venue.zones.values())

    def draw(self, width: int, height: int, state: ShopState) -> Text:
        """The floor with everybody on it."""
        canvas = _Canvas(max(width, 8), max(height, 4))
        for zone in self._zones:
            if zone.kind != "STORE":
                self._zone(canvas, zone, state.occupancy.get(zone.zone_id, 0))
        for x, y, sign in self._screens:
            canvas.put(*self._cell(canvas, x, y), sign, "bright_blue" if sign == "▣" else "magenta")
        self._people(canvas, state)
        return canvas.text()

    def _cell(self, canvas: _Canvas, x: float, y: float) -> tuple[int, int]:
        across = (x - self._left) / (self._right - self._left or 1.0)
        up = (y - self._bottom) / (self._top - self._bottom or 1.0)
        column = int(min(max(across, 0.0), _TOUCH) * canvas.width)
        return column, canvas.height - 1 - int(min(max(up, 0.0), _TOUCH) * canvas.height)

    def _zone(self, canvas: _Canvas, zone: Zone, count: int) -> None:
        left, bottom, right, top = _box(zone)
        (x0, y1), (x1, y0) = self._cell(canvas, left, bottom), self._cell(canvas, right, top)
        style = KINDS.get(zone.kind, "white")
        line = style.replace("bold ", "") if count else f"dim {style.replace('bold ', '')}"
        for row in (y0, y1):
            canvas.put(x0, row, "─" * (x1 - x0 + 1), line)
        for row in range(y0, y1 + 1):
            canvas.put(x0, row, "│", line)
            canvas.put(x1, row, "│", line)
        for column, row, corner in ((x0, y0, "╭"), (x1, y0, "╮"), (x0, y1, "╰"), (x1, y1, "╯")):
            canvas.put(column, row, corner, line)
        room = max(0, x1 - x0 - 1)
        canvas.put(x0 + 1, y0, (zone.name or zone.zone_id)[:room], style, fix=True)
        if count:
            number = f" {count} "[:room]
            canvas.put(x1 - len(number), y1, number, f"{style} reverse", fix=True)

    def _people(self, canvas: _Canvas, state: ShopState) -> None:
        drawn: list[tuple[int, str, Dot, str | None]] = []
        for subject, dot in sorted(state.people.items()):
            anchor = state.known(subject)
            noted = state.noted.get(anchor) if anchor else None
            drawn.append((0 if anchor is None else 1 if noted is None else 2 + noted[1], subject, dot, anchor))
        drawn.sort(key=lambda one: (one[0], one[1]))
        labels: list[tuple[int, int, str, str]] = []
        for rank, _, dot, anchor in drawn:
            sign, style = (STRANGER, MEMBER, NOT_ACTED, ACTED)[rank]
            column, row = self._cell(canvas, dot.x_m, dot.y_m)
            canvas.put(column, row, sign, style, fix=rank >= 2)
            if anchor is not None and (rank >= 2 or anchor in state.followed):
                labels.append((column, row, state.names.get(anchor, ""), style))
        for column, row, name, style in reversed(labels):
            _label(canvas, column, row, name, style)


def _label(canvas: _Canvas, column: int, row: int, name: str, style: str) -> None:
    """Write a name beside its dot, else above or below it, where there is room and a gap to the next."""
    if not name:
        return
    middle = column - len(name) // 2 - 1
    for at, line in ((column + 1, row), (column - len(name) - 1, row), (middle, row - 1), (middle, row + 1)):
        before, after = (at != column + 1 or line != row), (at >= column or line != row)
        start, text = at, " " * before + name + " " * after
        if canvas.free(start, line, len(text)):
            canvas.put(start, line, text, style, fix=True)
            return


def _box(zone: Zone) -> tuple[float, float, float, float]:
    xs, ys = list(_every_other(zone, 0)), list(_every_other(zone, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _every_other(zone: Zone, start: int) -> Iterable[float]:
    for ring in zone.rings:
        yield from ring.xy_m[start::2]
