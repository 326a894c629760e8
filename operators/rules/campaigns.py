"""A campaign in force: what a marketer wrote, checked and compiled.

Everything here is fixed when the set is loaded; a decision only reads it. Times are microseconds, channels
and kinds are the symbols of the records, names of leaves are dotted paths (`zone.category`).
"""

from datetime import datetime
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

import msgspec

from operators.rules.cel import Clause
from operators.rules.leaves import Leaf

ANY = "any"
"""As a site: every site."""


class FactRead(msgspec.Struct, frozen=True):
    """How a campaign or segment reads one aggregate.

    `name` is the fact's name (its leaf is `facts.<name>`), `aggregate` the id in the fact plan, `key_leaf`
    the leaf whose value keys it (`zone.category`), None where it is not keyed. `purposes` are what its
    topic may be used for only with. `topic`, `where` and `within_us` are as they were written.
    """

    name: str
    aggregate: str
    key_leaf: str | None = None
    purposes: frozenset[str] = frozenset()
    topic: str = ""
    where: str | None = None
    within_us: int = 0


class Dwell(msgspec.Struct, frozen=True, tag="DWELL"):
    """A stay in a zone has lasted `at_least_us`."""

    zone: str
    at_least_us: int


class Entered(msgspec.Struct, frozen=True, tag="ENTERED"):
    """Somebody came into a zone, or into a site (`any` = every one): then into its zone of kind STORE."""

    zone: str | None = None
    site: str | None = None


class Exited(msgspec.Struct, frozen=True, tag="EXITED"):
    """Somebody left a zone or a site."""

    zone: str | None = None
    site: str | None = None


class Happened(msgspec.Struct, frozen=True, tag="EVENT"):
    """An event of a topic that fits `where`; the clause reads `e.*`, and `zone.*` and `site.*` where there are any."""

    topic: str
    where: Clause | None = None


class Sequence(msgspec.Struct, frozen=True, tag="SEQUENCE"):
    """Triggers one after the other, from the first to the last within `within_us`."""

    of: tuple[Dwell | Entered | Exited | Happened, ...]
    within_us: int


class Absence(msgspec.Struct, frozen=True, tag="ABSENCE"):
    """`within_us` after a trigger, unless the aggregate of `without` (a count over that time) is above zero."""

    after: Dwell | Entered | Exited | Happened
    without: FactRead
    within_us: int


class SegmentMoved(msgspec.Struct, frozen=True, tag="SEGMENT"):
    """A person came into a segment (`kind` ENTERED) or left it (LEFT)."""

    segment: str
    kind: str


class Identified(msgspec.Struct, frozen=True, tag="IDENTIFIED"):
    """Somebody who is in a zone becomes known."""

    in_zone: str | None = None


Single = Dwell | Entered | Exited | Happened
When = Dwell | Entered | Exited | Happened | Sequence | Absence | SegmentMoved | Identified


def kind_of(when: When) -> str:
    """The trigger's kind, as records say it."""
    return str(type(when).__struct_config__.tag)


class Unless(msgspec.Struct, frozen=True):
    """What holds a campaign back: a count above zero, or a condition that is true; exactly one of both is there."""

    name: str
    read: FactRead | None = None
    clause: Clause | None = None


class Cap(msgspec.Struct, frozen=True):
    """At most `limit` firings in a window.

    `kind` is THIS, CHANNEL, TAG or ANY; `scope` is the key its charges are kept under: `this` for the
    campaign's own, a channel in lower case, `tag.<tag>`, or `any`. `window_us` is rolling; `calendar`
    (`day`, `week`) is venue time; exactly one of both is there. `shown` charges what was shown only.
    """

    kind: str
    scope: str
    limit: int
    window_us: int | None = None
    calendar: str | None = None
    shown: bool = False
    text: str = ""


class Quiet(msgspec.Struct, frozen=True):
    """Wall-clock spans without messages, as minutes of the day; a span may pass midnight.

    `hold` keeps a decision for at most `at_most_us` and has it decided again; else it is dropped.
    """

    venue: tuple[int, int] | None = None
    person: tuple[int, int] | None = None
    hold: bool = False
    at_most_us: int = 0

    @staticmethod
    def covers(span: tuple[int, int] | None, minute: int) -> bool:
        """Whether a minute of the day lies in a span, half-open.

        >>> Quiet.covers((21 * 60, 9 * 60), 3 * 60), Quiet.covers((21 * 60, 9 * 60), 9 * 60)
        (True, False)
        """
        if span is None:
            return False
        start, end = span
        return start <= minute < end if start < end else minute >= start or minute < end


class Stock(msgspec.Struct, frozen=True):
    """At least so many of what `of` names (a leaf), known not longer ago than `max_age_us`."""

    of: str
    at_least: float
    max_age_us: int | None = None


class Guard(msgspec.Struct, frozen=True):
    """What must hold beside the conditions: legal and cheap first.

    `identity` is `asserted`, `confirmed`, `candidate` or `anyone`; `audience` is `safe` or `any`.
    """

    identity: str = "confirmed"
    consent: tuple[str, ...] = ()
    caps: tuple[Cap, ...] = ()
    quiet: Quiet | None = None
    stock: Stock | None = None
    audience: str = "safe"


class Arm(msgspec.Struct, frozen=True):
    """A share of the buckets 0..9999: from `first` up to, not with, `end`."""

    name: str
    first: int
    end: int


class Test(msgspec.Struct, frozen=True):
    """Who is left out, so that what the campaign earns can be seen.

    `id` keys the buckets: the campaign's id unless the file says otherwise. `control` is the arm that gets
    nothing. With `holdout` the arms are `control` (the first buckets) and `treated`.
    """

    __test__ = False  # no test case, whatever a test runner makes of the name

    id: str
    arms: tuple[Arm, ...]
    control: str = "control"
    unit: str = "person"
    metric: str | None = None
    window_us: int | None = None
    covariate: str | None = None
    expect: float | None = None

    def arm(self, bucket: int) -> str:
        """Name of the arm a bucket belongs to."""
        return next(arm.name for arm in self.arms if arm.first <= bucket < arm.end)


class Action(msgspec.Struct, frozen=True):
    """One entry of `do`; `step` is its index. `also` goes out beside the entry before it, not instead of it."""

    step: int
    channel: str
    template: str
    ttl_us: int
    target: str | None = None
    fallback_after_us: int | None = None
    also: bool = False
    params: dict[str, str] = {}


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """A whole campaign. `clauses` keep the order of the file."""

    id: str
    version: str
    file: str
    owner: str
    about: str = ""
    priority: int = 50
    group: str = "all"
    tags: tuple[str, ...] = ()
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    paused: bool = False
    when: When
    facts: dict[str, FactRead] = {}
    clauses: tuple[Clause, ...] = ()
    unless: tuple[Unless, ...] = ()
    guard: Guard = Guard()
    test: Test | None = None
    do: tuple[Action, ...] = ()
    reads: tuple[str, ...] = ()
    """Every leaf that a clause, the stock guard or a fact's key reads, in order of first use."""
    needs: dict[str, frozenset[str]] = {}
    """Purposes by leaf that a clause of `if` reads."""
    fact_leaves: dict[str, Leaf] = {}
    """Its facts as leaves, by leaf name."""

    def at_site(self, site: str) -> bool:
        """Whether the campaign is meant for a site at all."""
        return any(fnmatchcase(site, glob) for glob in self.include)

    def excluded(self, site: str) -> bool:
        """Whether a site it is meant for is taken out again."""
        return any(fnmatchcase(site, glob) for glob in self.exclude)

    def in_force(self, at: int, zone: ZoneInfo) -> bool:
        """Whether an instant (µs) lies in `valid`, in the venue's wall clock, half-open."""
        return (self.valid_from is None or _instant(self.valid_from, zone) <= at) and (
            self.valid_to is None or at < _instant(self.valid_to, zone)
        )

    @property
    def kind(self) -> str:
        """Kind of its trigger."""
        return kind_of(self.when)

    @property
    def reads_score(self) -> bool:
        """Whether a model must be asked for it."""
        return any(leaf.startswith("score.") for leaf in self.reads)


def _instant(wall: datetime, zone: ZoneInfo) -> int:
    # The first of two equal wall times when clocks go back: `fold` is 0 on what was written.
    return round(wall.replace(tzinfo=zone).timestamp()) * 1_000_000
