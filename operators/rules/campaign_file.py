"""What may stand in a campaign file, word for word (`campaigns.md`, section 1)."""

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from operators.rules.channels import CHANNELS, PURPOSES
from operators.rules.faults import meant
from operators.rules.leaves import event_topics
from operators.rules.shape import Duration, Part, Reads, Unreadable
from schemas import durations

ID = re.compile(r"[a-z0-9-]{3,64}")
_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_WALL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?")
_CAP = re.compile(r"([1-9]\d{0,5}) per (?:calendar (day|week)|(\S+))")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)%")
_METRIC = re.compile(r"basket_value|conversion|visits|units of [a-z0-9_-]+")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


def _text(written: Any, what: str) -> str:
    if not isinstance(written, str) or not written.strip():
        raise Unreadable(f"{what} must be a string that is not empty; got {written!r}")
    return written


def _id(written: Any) -> str:
    if not isinstance(written, str) or not ID.fullmatch(written):
        raise Unreadable(f"an id must have 3 to 64 of a-z, 0-9 and -; got {written}", "choose another id")
    return written


def _topic(written: Any) -> str:
    if written not in event_topics():
        raise Unreadable(f"no topic of a person's events is called {written}", meant(str(written), event_topics()))
    return str(written)


def _channel(written: Any) -> str:
    names = [name.lower() for name in CHANNELS]
    if written not in names:
        raise Unreadable(f"no channel is called {written}", meant(str(written), names))
    return str(written).upper()


def _purpose(written: Any) -> str:
    if written not in PURPOSES:
        raise Unreadable(f"no purpose is called {written}", meant(str(written), PURPOSES))
    return str(written)


def _span(written: Any) -> tuple[int, int]:
    found = _SPAN.fullmatch(written) if isinstance(written, str) else None
    if not found:
        raise Unreadable(f'quiet hours must be written like "21:00-09:00"; got {written}', 'write "21:00-09:00"')
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if start == end:
        raise Unreadable("quiet hours must not start when they end", "drop them, or give them a length")
    return start, end


def _wall(written: Any) -> datetime:
    if isinstance(written, str) and _WALL.fullmatch(written):
        try:
            return datetime.fromisoformat(written)
        except ValueError:
            pass
    raise Unreadable(
        f'a venue time must be written like "2026-12-01T09:00"; got {written}',
        "leave out the time zone: it is the venue's",
    )


def _share(written: Any) -> int:
    found = _SHARE.fullmatch(written) if isinstance(written, str) else None
    if not found or float(found[1]) > 100:
        raise Unreadable(f"a share must be written like 10%; got {written}", "write 10%")
    return round(float(found[1]) * 100)


class CapText(msgspec.Struct, frozen=True):
    """`1 per 24h`, or `2 per calendar day`."""

    limit: int
    window_us: int | None
    calendar: str | None
    shown: bool
    text: str


def _cap(written: Any) -> CapText:
    text, shown = written, False
    if isinstance(written, dict):
        if not {"limit"} <= written.keys() <= {"limit", "count"} or written.get("count", "shown") != "shown":
            raise Unreadable("a cap must be {limit: 1 per 24h, count: shown}", "write {limit: 1 per 24h, count: shown}")
        text, shown = written["limit"], "count" in written
    found = _CAP.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise Unreadable(f"a cap must be written like 1 per 24h or 2 per calendar day; got {text}", "write 1 per 24h")
    if found[2]:
        return CapText(int(found[1]), None, found[2], shown, found[0])
    try:
        window_us = durations.parse(found[3])
    except durations.DurationFault as fault:
        raise Unreadable(str(fault), f"write {found[1]} per 24h") from None
    if not window_us:
        raise Unreadable("the window of a cap must be longer than nothing", f"write {found[1]} per 24h")
    return CapText(int(found[1]), window_us, None, shown, found[0])


def _priority(written: Any) -> int:
    if not isinstance(written, int) or isinstance(written, bool) or not 0 <= written <= 100:
        raise Unreadable(f"priority must be a whole number from 0 to 100; got {written}", "write 50")
    return written


def _metric(written: Any) -> str:
    if not isinstance(written, str) or not _METRIC.fullmatch(written):
        raise Unreadable(
            f"no metric is called {written}",
            meant(str(written), ["basket_value", "conversion", "visits", "units of TAG"]),
        )
    return written


def _params(written: Any) -> dict[str, str]:
    if not isinstance(written, dict) or any(not isinstance(value, str | int | float) for value in written.values()):
        raise Unreadable("params must be a mapping of names to literal values", "write {name: value}")
    return {name: value if isinstance(value, str) else _literal(value) for name, value in written.items()}


def _literal(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Id = Annotated[str, Reads(_id, "E105")]
Text = Annotated[str, Reads(lambda written: _text(written, "it"))]
Topic = Annotated[str, Reads(_topic)]
Channel = Annotated[str, Reads(_channel)]
Purpose = Annotated[str, Reads(_purpose)]
Span = Annotated[tuple[int, int], Reads(_span, "E103")]
Wall = Annotated[datetime, Reads(_wall, "E103")]
Share = Annotated[int, Reads(_share, "E103")]
CapLine = Annotated[CapText, Reads(_cap, "E103")]


class Sites(Part, frozen=True, kw_only=True):
    """Where it runs: globs of site ids."""

    include: tuple[Text, ...] = ("*",)
    exclude: tuple[Text, ...] = ()


class Valid(Part, frozen=True, kw_only=True):
    """From when to when, in venue time, half-open."""

    start: Wall | None = msgspec.field(name="from", default=None)
    to: Wall | None = None


class DwellPart(Part, frozen=True, kw_only=True):
    """A stay that has lasted so long."""

    zone: Text
    at_least: Duration


class PlacePart(Part, frozen=True, kw_only=True):
    """A zone, or a site (`any` = every one)."""

    exactly_one: ClassVar[tuple[str, ...]] = ("zone", "site")
    zone: Text | None = None
    site: Text | None = None


class EventPart(Part, frozen=True, kw_only=True):
    """An event of a topic, fitting a condition."""

    topic: Topic
    where: str | None = None


class SinglePart(Part, frozen=True, kw_only=True):
    """A trigger that stands for itself."""

    exactly_one: ClassVar[tuple[str, ...]] = ("dwell", "entered", "exited", "event")
    dwell: DwellPart | None = None
    entered: PlacePart | None = None
    exited: PlacePart | None = None
    event: EventPart | None = None


class SequencePart(Part, frozen=True, kw_only=True):
    """Triggers in order."""

    of: tuple[SinglePart, ...]
    within: Duration


class WithoutPart(Part, frozen=True, kw_only=True):
    """The event whose absence counts."""

    event: Topic
    where: str | None = None


class AbsencePart(Part, frozen=True, kw_only=True):
    """What did not happen after a trigger."""

    after: SinglePart
    without: WithoutPart
    within: Duration


class SegmentPart(Part, frozen=True, kw_only=True):
    """A move into a segment or out of it."""

    exactly_one: ClassVar[tuple[str, ...]] = ("entered", "left")
    entered: Text | None = None
    left: Text | None = None


class IdentifiedPart(Part, frozen=True, kw_only=True):
    """A person becomes known while present."""

    in_zone: Text | None = None


class WhenPart(SinglePart, frozen=True, kw_only=True):
    """Exactly one trigger."""

    exactly_one: ClassVar[tuple[str, ...]] = (
        *("dwell", "entered", "exited", "event"),
        *("sequence", "absence", "segment", "identified"),
    )
    sequence: SequencePart | None = None
    absence: AbsencePart | None = None
    segment: SegmentPart | None = None
    identified: IdentifiedPart | None = None


class FactPart(Part, frozen=True, kw_only=True):
    """An aggregate the engine keeps per person."""

    exactly_one: ClassVar[tuple[str, ...]] = ("count", "sum", "max", "last", "distinct", "fired", "outcome")
    count: Topic | None = None
    sum: Topic | None = None
    max: Topic | None = None
    last: Topic | None = None
    distinct: Topic | None = None
    fired: Text | None = None
    outcome: Text | None = None
    of: Text | None = None
    where: str | None = None
    status: Literal["sent", "delivered", "shown", "clicked", "redeemed", "suppressed", "expired", "failed"] | None = (
        None
    )
    within: Duration


class UnlessPart(Part, frozen=True, kw_only=True):
    """Something that happened and holds back."""

    exactly_one: ClassVar[tuple[str, ...]] = ("event", "fired", "outcome")
    event: Topic | None = None
    fired: Text | None = None
    outcome: Text | None = None
    where: str | None = None
    status: Literal["sent", "delivered", "shown", "clicked", "redeemed", "suppressed", "expired", "failed"] | None = (
        None
    )
    within: Duration


class QuietPart(Part, frozen=True, kw_only=True):
    """Hours without messages."""

    venue: Span | None = None
    person: Span | None = None
    otherwise: Literal["drop", "hold"] = msgspec.field(name="else", default="drop")
    at_most: Duration | None = None


class StockPart(Part, frozen=True, kw_only=True):
    """What must be there to sell."""

    of: Literal["zone.category", "zone.id", "site.id"]
    at_least: float = 1
    max_age: Duration | None = None


class GuardPart(Part, frozen=True, kw_only=True):
    """What must hold beside the conditions."""

    identity: Literal["asserted", "confirmed", "candidate", "anyone"] = "confirmed"
    consent: tuple[Purpose, ...] = ()
    caps: dict[str, CapLine] = {}
    quiet: QuietPart | None = None
    stock: StockPart | None = None
    audience: Literal["safe", "any"] = "safe"


class TestPart(Part, frozen=True, kw_only=True):
    """Who is left out to measure."""

    exactly_one: ClassVar[tuple[str, ...]] = ("holdout", "variants")
    holdout: Share | None = None
    variants: dict[str, Share] | None = None
    id: Id | None = None
    unit: Literal["person", "zone_slot"] = "person"
    metric: Annotated[str, Reads(_metric)] | None = None
    window: Duration | None = None
    covariate: Text | None = None
    expect: Share | None = None


class ActionPart(Part, frozen=True, kw_only=True):
    """One entry of `do`."""

    channel: Channel
    target: Text | None = None
    template: Text
    ttl: Duration
    fallback_after: Duration | None = None
    also: bool = False
    params: Annotated[dict[str, str], Reads(_params)] = {}


class CampaignFile(Part, frozen=True, kw_only=True):
    """A whole campaign file."""

    campaign: Id
    owner: Text
    about: str = ""
    priority: Annotated[int, Reads(_priority)] = 50
    group: Text = "all"
    tags: tuple[Text, ...] = ()
    sites: Sites = Sites()
    valid: Valid = Valid()
    paused: bool = False
    when: WhenPart
    facts: dict[str, FactPart] = {}
    conditions: dict[str, str] = msgspec.field(name="if", default_factory=dict)
    unless: Annotated[dict[str, Any], Reads(lambda written: written)] = {}
    guard: GuardPart = GuardPart()
    test: TestPart | None = None
    do: tuple[ActionPart, ...]


class SegmentFile(Part, frozen=True, kw_only=True):
    """A whole segment file."""

    segment: Id
    owner: str = ""
    about: str = ""
    facts: dict[str, FactPart] = {}
    enter: str
    leave: str | None = None


def is_name(word: str) -> bool:
    """Whether a fact or clause may be called so: it becomes a leaf, or stands in a record."""
    return bool(_NAME.fullmatch(word))
