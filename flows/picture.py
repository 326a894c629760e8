"""The live picture of the demo: the shop from above, what it does, what it does not do and why.

`Picture` draws a `ShopState` with rich, in any size from 80 x 24 on. Without a terminal `lines` says the
same in plain lines, and `summary` ends both.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from flows.plan import LEGEND, Plan
from flows.shopstate import Refused, ShopState, Told
from schemas.venue import Venue

NEXT = (
    ("flows/example/campaigns/offers-premium-dwell.yaml", "whom to speak to: the zone, the 45 s, the conditions"),
    ("flows/example/templates/offer10.yaml", "what is said, on the phone and on the screen"),
    ("flows/example/venue.geojson", "where the zones, screens and tills are"),
)
"""The three files to edit next."""
CHANNELS = {"SCREEN": ("▣", "bright_blue"), "PUSH": ("✆", "green"), "EMAIL": ("✉", "yellow")}
VERDICTS = {"NOT_MATCHED": "grey62", "SUPPRESSED": "red", "HELD_OUT": "magenta", "OUTRANKED": "yellow"}
_FRESH_US = 6_000_000
_NAMED = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDE = 110
_FOOT = 5
"""Rows of the foot: a rule, up to two of latencies, the rest counts."""


class Picture:
    """Draws the states it is given; hand it to `rich.live.Live`, or use it as a context manager.

    Args:
        venue: whose floor is drawn.
        console: where to draw; the terminal's standard error if left out.
    """

    def __init__(self, venue: Venue, console: Console | None = None) -> None:
        self._plan, self._site = Plan(venue), venue.site
        self._zone = ZoneInfo(venue.site.time_zone)
        self._console = console or Console(stderr=True)
        self._state = ShopState()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._live = Live(self, console=self._console, screen=True, auto_refresh=False, transient=True)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, state: ShopState) -> None:
        """Show this state from now on."""
        self._state = state
        if self._live is not None:
            self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._whole(options.max_width, options.height or console.height)

    def _whole(self, width: int, height: int) -> Layout:
        body = height - 1 - _FOOT
        plan_width = max(34, min(int(width * (0.5 if width < _WIDE else 0.58)), int(body * 3.4)))
        right = width - plan_width
        whole = Layout()
        whole.split_column(
            Layout(self._head(width), size=1),
            Layout(name="body"),
            Layout(self._foot(width), size=_FOOT),
        )
        told = max(5, (body + 1) // 2)
        whole["body"].split_row(Layout(self._floor(plan_width, body), size=plan_width), Layout(name="said"))
        whole["said"].split_column(
            Layout(self._said(right, told), size=told), Layout(self._unsaid(right, body - told), name="unsaid")
        )
        return whole

    def _head(self, width: int) -> Text:
        state = self._state
        clock = moment(state.now, self._zone).strftime("%A %H:%M:%S" if width >= _WIDE else "%a %H:%M:%S")
        left = Text.assemble(
            (" FOOTFALL ", "bold black on green"), (f" {self._site.site_id}  ", "bold"), (clock, "bold white"),
            (f"  {len(state.people)} people in the shop", "green"),
        )  # fmt: skip
        until = f" of {state.of_s:.0f}" if state.of_s is not None else ""
        right = Text(f"{state.elapsed_s:.0f}{until} s  Ctrl-C ends ", "grey62")
        if right.cell_len + left.cell_len >= width:
            right = Text(f"{state.elapsed_s:.0f}{until} s ", "grey62")
        gap = width - left.cell_len - right.cell_len
        return Text.assemble(left, " " * gap, right) if gap > 0 else left

    def _floor(self, width: int, height: int) -> Panel:
        drawing = self._plan.draw(width - 4, height - 2, self._state)
        legend = Text("  ").join(Text(words, style) for words, style in LEGEND)
        if legend.cell_len > width - 6:
            legend = Text(" ").join(Text(words, style) for words, style in LEGEND[1:])
        return Panel(
            drawing, box=box.ROUNDED, border_style="grey50", title="[bold]the shop[/]", subtitle=legend, padding=(0, 1)
        )

    def _said(self, width: int, height: int) -> Panel:
        rows = _fitting((self._told(told) for told in self._state.actions), width - 4, height - 2)
        shown = Group(*rows) if rows else Text("nothing yet", "grey50 italic")
        number = self._state.counts.get("actions")
        title = f"[bold green]actions[/] [grey62]{number}[/]" if number else "[bold green]actions[/]"
        return Panel(shown, box=box.ROUNDED, border_style="green", title=title, title_align="left", padding=(0, 1))

    def _unsaid(self, width: int, height: int) -> Panel:
        rows = _fitting((self._refused(*one) for one in _together(self._state.refusals)), width - 4, height - 2)
        shown = Group(*rows) if rows else Text("nothing yet", "grey50 italic")
        number = self._state.reasons.total()
        title = f"[bold red]not done, and why[/] [grey62]{number}[/]" if number else "[bold red]not done, and why[/]"
        return Panel(shown, box=box.ROUNDED, border_style="red", title=title, title_align="left", padding=(0, 1))

    def _told(self, told: Told) -> Text:
        sign, style = CHANNELS.get(told.channel, ("→", "white"))
        fresh = f"bold {style}" if self._state.now - told.at < _FRESH_US else "white"
        to = told.target if told.channel == "SCREEN" else told.who
        return Text.assemble(
            (self._clock(told.at), "grey50"),
            (f" {sign} ", style),
            (to, f"bold {style}"),
            " ",
            (told.text, fresh),
        )

    def _refused(self, refused: Refused, who: list[str]) -> Text:
        style = VERDICTS.get(refused.verdict, "white")
        return Text.assemble(
            (self._clock(refused.at), "grey50"), " ", (_named(who), f"bold {style}"), " ", (refused.campaign_id, "grey62"),
            " ", (refused.words, style),
        )  # fmt: skip

    def _foot(self, width: int) -> Group:
        state = self._state
        first = sorted(state.latencies.items(), key=lambda one: one[0] != "decision")
        pieces = [
            Text.assemble(
                (stage, "bold cyan" if stage == "decision" else "cyan"), f" {_ms(p50)}", ("/", "grey50"), _ms(p99)
            )
            for stage, (p50, p99) in first
        ]
        stages = _in_rows(pieces, width) if pieces else [Text(" measuring", "grey50 italic")]
        counted = [
            Text.assemble((f"{number:,}", "bold"), (f" {name}", "grey62")) for name, number in state.counts.items()
        ]
        rows = [*stages[:2], *_in_rows(counted, width)[: _FOOT - 1 - len(stages[:2])]]
        return Group(Rule(Text("latency by stage, p50/p99 in ms", "grey62"), style="grey35", align="left"), *rows)

    def _clock(self, at: int) -> str:
        return moment(at, self._zone).strftime("%H:%M:%S")


class Teller:
    """The same without a terminal: each action and each refusal once, as a plain line."""

    def __init__(self, venue: Venue) -> None:
        self._zone = ZoneInfo(venue.site.time_zone)
        self._seen: set[Told | Refused] = set()

    def lines(self, state: ShopState) -> list[str]:
        """What is new in this state since the last one, oldest first."""
        shown: list[Told | Refused] = [*reversed(state.actions), *reversed(state.refusals)]
        new = [item for item in shown if item not in self._seen]
        self._seen = set(shown)
        new.sort(key=lambda item: (item.at, isinstance(item, Refused)))
        return [self._line(item) for item in new]

    def _line(self, item: Told | Refused) -> str:
        clock = moment(item.at, self._zone).strftime("%H:%M:%S")
        if isinstance(item, Told):
            return f"{clock} {item.channel:<6} to {item.target if item.channel == 'SCREEN' else item.who}: {item.text}"
        return f"{clock} NOTHING for {item.who}: {item.campaign_id}: {item.words}"


def lines(state: ShopState, venue: Venue) -> list[str]:
    """Everything in a state as plain lines, oldest first."""
    return Teller(venue).lines(state)


def summary(state: ShopState, ended_s: float | None = None) -> RenderableType:
    """What happened, and what to edit next."""
    counts = Table.grid(padding=(0, 2))
    counts.add_column(justify="right", style="bold")
    counts.add_column(style="grey62")
    for name, number in state.counts.items():
        counts.add_row(f"{number:,}", name)
    stages = Table.grid(padding=(0, 2))
    for style in ("cyan", "", "grey62"):
        stages.add_column(style=style, justify="left" if style == "cyan" else "right")
    for stage, (p50, p99) in state.latencies.items():
        stages.add_row(stage, _ms(p50), f"{_ms(p99)} ms")
    why = Table.grid(padding=(0, 2))
    why.add_column(justify="right", style="bold")
    why.add_column(style="grey62")
    for reason, number in sorted(state.reasons.items(), key=lambda one: (-one[1], one[0]))[:10]:
        why.add_row(f"{number:,}", reason.lower().replace("_", " "))
    side = Table.grid(padding=(0, 4))
    side.add_row(Text("counted", "bold"), Text("not done because of", "bold"), Text("latency, p50 and p99", "bold"))
    side.add_row(counts, why, stages)
    after = Table.grid(padding=(0, 2))
    after.add_column(no_wrap=True, overflow="fold")
    for path, what in NEXT:
        after.add_row(Text(path, "bold green"), Text(what, "grey62"))
    seconds = ended_s if ended_s is not None else state.elapsed_s
    return Group(
        Rule(f"[bold]{seconds:.0f} s in the shop", style="green"), side, Text(""),
        Text("Three files to edit next; then run it again and watch:", "bold"), after,
    )  # fmt: skip


def moment(at: int, zone: ZoneInfo) -> datetime:
    """An instant on the wall clock of the venue."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone)


def _fitting(texts: Iterator[Text], width: int, height: int) -> list[Text]:
    """As many texts, newest first, as fit whole; the first one in any case."""
    console = Console(width=width, height=height)
    found: list[Text] = []
    used = 0
    for text in texts:
        used += len(text.wrap(console, width))
        if found and used > height:
            break
        found.append(text)
    return found


def _together(refusals: Iterable[Refused]) -> Iterator[tuple[Refused, list[str]]]:
    """Refusals, newest first; those that no campaign was meant for stand together, one line for each reason."""
    found: dict[object, tuple[Refused, list[str]]] = {}
    for refused in refusals:
        key = (refused.campaign_id, refused.words) if refused.verdict == "NOT_MATCHED" else refused
        _, who = found.setdefault(key, (refused, []))
        if refused.who not in who:
            who.append(refused.who)
    yield from found.values()


def _named(who: list[str]) -> str:
    """A few names, and how many more.

    >>> _named(["Ben", "Ida", "Leo", "Mia", "Zoe"])
    'Ben, Ida, Leo + 2'
    """
    more = len(who) - _NAMED
    return ", ".join(who[:_NAMED]) + (f" + {more}" if more > 0 else "")


def _in_rows(pieces: list[Text], width: int) -> list[Text]:
    """Pieces side by side, in as many rows as they need."""
    rows = [Text(" ")]
    for piece in pieces:
        if rows[-1].cell_len > 1 and rows[-1].cell_len + piece.cell_len > width:
            rows.append(Text(" "))
        rows[-1].append(piece).append("   ")
    return rows


def _ms(value: float) -> str:
    """Milliseconds, as short as they are readable."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
