"""What is known of one identifier, and whom that points to: no clock but the one passed in, no other identifier.

An identifier remembers the stronger ones it was seen with, as days and channels, and what the shop has said
of it. Its pointer is a function of that alone, so order, duplicates and replays do not matter.
"""

from bisect import bisect_left, insort
from functools import cached_property, lru_cache

import msgspec

from schemas import ids, pseudonym
from schemas.pseudonym import NAMESPACES, namespace_of

DAY_US = 86_400_000_000
CHANNELS = {"crm": 0, "web": 1, "pos": 2, "sensing": 3, "identity": 4}
"""Where a co-occurrence was seen: the domain of its topic. Numbers are stored, never reused."""
NEVER = 1 << 62
"""Later than any instant: evidence of someone who has denied linking is void until then."""
_PER_DAY = 16
_CUSTODY = frozenset({"BADGE_ISSUE", "BADGE_RETURN", "IMPORT"})
_SILENT = frozenset({"INFERRED"})

Edges = dict[str, list[int]]
"""By stronger identifier: the distinct (day, channel) it was seen with, oldest first. An empty list counts
as a neighbour and ties nothing."""


class StitchRule(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """How identifiers become persons. What changes the outcome is part of `version`.

    `site_id` and `legal_basis` say where the flow runs: the site of events without one, and its basis until
    a `venue.site` says otherwise.
    """

    site_id: str = ""
    legal_basis: str = "PSEUDONYMOUS"
    priority: dict[str, int] = msgspec.field(
        default_factory=lambda: {name: rank for name, rank in NAMESPACES.items() if name != "track"}
    )
    unique: frozenset[str] = pseudonym.UNIQUE
    limits: dict[str, int] = msgspec.field(default_factory=pseudonym.LIMITS.copy)
    persons: frozenset[str] = pseudonym.PERSON_KINDS
    max_neighbours: int = 24
    """More stronger identifiers than these: a kiosk, a call centre; its edges are dropped for good."""
    max_candidates: int = 6
    max_below: int = 1_024
    """More weaker identifiers than these: a placeholder; being seen with it ties nothing from then on."""
    max_buckets: int = 16
    max_identifiers: int = 8
    dominance: float = 0.7
    half_life_days: int = 90

    def __post_init__(self) -> None:
        weakest = max(self.priority[name] for name in self.persons)
        for name, rank in self.priority.items():
            if name not in self.persons and rank <= weakest:
                raise ValueError(f"{name} is a thing: its priority must come after every person's ({weakest})")

    @cached_property
    def version(self) -> str:
        """Content hash of the rule, without the place it runs at."""
        document = msgspec.to_builtins(self, order="deterministic")
        del document["site_id"], document["legal_basis"]
        return ids.version(document)

    def rank(self, identifier: str) -> tuple[int, str]:
        """Stronger identifiers first."""
        return self.priority[_namespace(identifier)], identifier


class Tie(msgspec.Struct, array_like=True, gc=False):
    """One `identity.link` that the weaker of its two identifiers keeps.

    `asserts`: the shop states that both are one person's; else it was only seen with `to`.
    """

    time: int
    id: str
    to: str
    method: str
    valid_from: int
    valid_to: int | None
    revoked: bool
    asserts: bool


class Agreement(msgspec.Struct, array_like=True, gc=False):
    """What a consent record said of `linking`."""

    time: int
    id: str
    state: str
    until: int | None


class Pointer(msgspec.Struct, array_like=True, gc=False):
    """The stronger identifier that one belongs to, and how strongly: asserted, weight, newest bucket."""

    to: str
    asserted: bool
    weight: float
    newest: int


_namespace = lru_cache(1 << 17)(namespace_of)


def namespace(identifier: str) -> str:
    """Namespace of a token, remembered."""
    return _namespace(identifier)


def bucket(event_time: int, channel: int) -> int:
    """Day and channel as one number: newer days are larger."""
    return event_time // DAY_US * _PER_DAY + channel


def newest(buckets: list[int], kept: int) -> list[int]:
    """The newest of them, oldest first."""
    return sorted(set(buckets))[-kept:]


class Seen(msgspec.Struct, array_like=True):
    """The stronger identifiers that one was seen with. A hub has been seen with too many, and keeps none."""

    edges: Edges = {}
    hub: bool = False

    def note(self, other: str, mark: int, rule: StitchRule, *, crowded: bool = False) -> bool:
        """Add one sight; False when nothing is new. A `crowded` neighbour counts, and ties nothing."""
        if self.hub:
            return False
        marks = self.edges.get(other)
        if marks is None:
            self.edges[other] = [] if crowded else [mark]
            if len(self.edges) > rule.max_neighbours:
                self.edges, self.hub = {}, True
            return True
        at = bisect_left(marks, mark)
        if not marks or (at < len(marks) and marks[at] == mark):
            return False
        if len(marks) >= rule.max_buckets:
            if at == 0:
                return False
            del marks[0]
        insort(marks, mark)
        return True

    def knows(self, other: str, mark: int) -> bool:
        """Whether a sight would add nothing; what a hub was seen with is counted elsewhere."""
        marks = self.edges.get(other)
        return marks is not None and (not marks or mark in marks)

    def join(self, other: "Seen", rule: StitchRule) -> "Seen":
        """What two states of one identifier, from anywhere, know together."""
        keys = self.edges.keys() | other.edges.keys()
        if self.hub or other.hub or len(keys) > rule.max_neighbours:
            return Seen({}, True)
        return Seen(
            {key: newest(self.edges.get(key, []) + other.edges.get(key, []), rule.max_buckets) for key in sorted(keys)}
        )


def parent(edges: Edges, rule: StitchRule) -> Pointer | None:
    """The one stronger identifier that the evidence points to; None when it is nobody's, or shared."""
    if len(edges) == 1:
        ((other, marks),) = edges.items()
        return Pointer(other, False, _weight(marks, rule.half_life_days), marks[-1]) if marks else None
    found: dict[str, list[str]] = {}
    for other, marks in edges.items():
        if marks:
            found.setdefault(_namespace(other), []).append(other)
    for name in sorted(found, key=rule.priority.__getitem__):
        candidates = found[name]
        if len(candidates) > rule.max_candidates:
            return None
        weighed = [(_weight(edges[other], rule.half_life_days), edges[other][-1], other) for other in candidates]
        weight, last, best = max(weighed)
        if len(weighed) == 1 or weight >= rule.dominance * sum(sorted(one for one, _, _ in weighed)):
            return Pointer(best, False, weight, last)
        if name in rule.unique:
            return None
    return None


def _weight(marks: list[int], half_life_days: int) -> float:
    """Buckets, each half as much as one a half-life newer: shares between edges never change by time alone."""
    return float(sum(2.0 ** (mark // _PER_DAY / half_life_days) for mark in marks))


def points_to(identifier: str, seen: Seen, ties: list[Tie], clock: int, rule: StitchRule) -> Pointer | None:
    """Whom an identifier belongs to at `clock`: what the shop said of it wins over what it was seen with."""
    if not ties:
        return parent(seen.edges, rule)
    revoked = {tie.to: (tie.time, tie.id) for tie in ties if tie.revoked}  # in order of time: the last one stays
    vetoed = set(revoked)
    custody: Tie | None = None
    said: Edges = {}
    handed = _namespace(identifier) == "tag"
    for tie in ties:
        if tie.revoked or (tie.time, tie.id) < revoked.get(tie.to, (0, "")):
            continue
        vetoed.discard(tie.to)
        if tie.valid_from > clock or not tie.asserts or tie.method in _SILENT:
            continue
        if handed or tie.method in _CUSTODY:
            if custody is None or _since(tie) > _since(custody):
                custody = tie
        elif tie.valid_to is None or tie.valid_to > clock:
            insort(said.setdefault(tie.to, []), bucket(tie.valid_from, CHANNELS["identity"]))
    if custody is not None:
        if custody.method != "BADGE_RETURN" and (custody.valid_to is None or custody.valid_to > clock):
            return Pointer(custody.to, True, 0.0, custody.valid_from)
        if custody.method != "IMPORT" or handed:
            return None  # it was handed back: whoever was seen with it had it before
    if said:
        one = parent(said, rule)
        return None if one is None else Pointer(one.to, True, one.weight, one.newest)
    return parent({other: marks for other, marks in seen.edges.items() if other not in vetoed}, rule)


def _since(tie: Tie) -> tuple[int, int, str]:
    return tie.valid_from, tie.time, tie.id


class Linking(msgspec.Struct, array_like=True):
    """What the holder of an identifier has said of `linking`, in order of event time, from the last denial on.

    `void` is the instant before which evidence is void because another member of the person denied it.
    """

    said: list[Agreement] = []
    void: int = 0

    def hear(self, agreement: Agreement) -> bool:
        """Take in a record; False when it is known, or older than a denial that made it moot."""
        at = bisect_left(self.said, (agreement.time, agreement.id), key=lambda one: (one.time, one.id))
        if at < len(self.said) and (self.said[at].time, self.said[at].id) == (agreement.time, agreement.id):
            return False
        if at == 0 and self.said and self.said[0].state == "DENIED":
            return False
        self.said.insert(at, agreement)
        last = max((n for n, one in enumerate(self.said) if one.state == "DENIED"), default=0)
        del self.said[:last]
        return True

    @property
    def cut(self) -> int:
        """Evidence from before this instant is void; 0 while nothing was denied."""
        if not self.said or self.said[0].state != "DENIED":
            return self.void
        return max(self.void, self.said[1].time if len(self.said) > 1 else NEVER)

    def granted(self, at: int) -> bool:
        """Whether linking was agreed to at an instant."""
        last: Agreement | None = None
        for one in self.said:
            if one.time <= at:
                last = one
        return last is not None and last.state == "GRANTED" and (last.until is None or last.until > at)
