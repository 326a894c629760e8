"""Identity by brute force: every piece of evidence is kept, and each answer is worked out anew from all of it.

Slow and obvious on purpose: no incremental state, no reverse lists, no caches. Arrival order matters here only
where it must: what a denial forbids is not kept.
"""

from collections import defaultdict

from operators.identities.evidence import DAY_US, NEVER, StitchRule, namespace
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Store, Tables, Token
from operators.stitch import Stitch
from schemas.items import Event, Item, Linked, Tick, Touched
from schemas.people import ContactPoint, Customer, Receipt, WebEvent
from schemas.reference import Consent, Link, Purpose
from schemas.sensing import Scan
from schemas.topics import TOPIC_OF
from schemas.types import AnyRecord

T0 = 1_796_482_800_000_000
NOW = T0 + 1_000 * DAY_US
LATER = NOW + 1_000 * DAY_US
HOUR = 3_600_000_000
RULE = StitchRule(site_id="mad-01")


def web(n: int, at: int, *identifiers: str) -> WebEvent:
    return WebEvent(event_id=f"e{n}", event_time=at, ingest_time=at, name="page_viewed", identifiers=list(identifiers))


def receipt(n: int, at: int, *identifiers: str) -> Receipt:
    return Receipt(
        event_id=f"e{n}",
        event_time=at,
        ingest_time=at,
        receipt_id=str(n),
        currency="EUR",
        total_minor=1,
        identifiers=list(identifiers),
    )


def customer(n: int, at: int, *identifiers: str) -> Customer:
    return Customer(event_id=f"e{n}", event_time=at, ingest_time=at, identifiers=list(identifiers))


def scan(n: int, at: int, subject: str, *identifiers: str) -> Scan:
    return Scan(
        event_id=f"e{n}",
        event_time=at,
        ingest_time=at,
        subject_id=subject,
        device_id="d",
        identifiers=list(identifiers),
    )


def contact(n: int, at: int, identifier: str) -> ContactPoint:
    return ContactPoint(event_id=f"e{n}", event_time=at, ingest_time=at, identifier=identifier, value_sealed=b"")


def link(
    n: int,
    at: int,
    from_id: str,
    to_id: str,
    method: str = "LOGIN",
    *,
    since: int | None = None,
    until: int | None = None,
    revoked: bool = False,
) -> Link:
    return Link(
        event_id=f"e{n}",
        event_time=at,
        ingest_time=at,
        from_id=from_id,
        to_id=to_id,
        method=method,
        valid_from=at if since is None else since,
        valid_to=until,
        revoked=revoked,
    )


def consent(n: int, at: int, identifier: str, linking: bool | None, *, withdrawn: bool = False) -> Consent:
    purposes = [] if linking is None else [Purpose(code="linking", granted=linking)]
    return Consent(
        event_id=f"e{n}",
        event_time=at,
        ingest_time=at,
        identifier=identifier,
        purposes=purposes,
        withdrawn=withdrawn,
    )


class Stitched:
    """A core over its own store, and everything it said."""

    def __init__(
        self,
        rule: StitchRule = RULE,
        memory: Memory | None = None,
        token: Token | None = None,
        store: Store | None = None,
    ) -> None:
        self.memory = Memory() if memory is None else memory
        if store is None:
            store = MemoryStore(self.memory)
            store.claim(token)
            store.open("0")
        self.tables = Tables(store)
        self.core = Stitch(rule, self.tables)
        self.out: list[Item] = []
        self.number = 0

    def feed(self, record: AnyRecord, clock: int | None = None) -> list[Item]:
        self.number += 1
        out = self.core.step(
            [Event(self.number, NOW + self.number if clock is None else clock, TOPIC_OF[type(record)], record)]
        )
        self.out += out
        return out

    def all(self, *records: AnyRecord) -> "Stitched":
        for record in records:
            self.feed(record)
        return self

    def tick(self, clock: int) -> list[Item]:
        out = self.core.step([Tick(self.number, clock)])
        self.out += out
        return out

    def person(self, identifier: str) -> tuple[str, str, frozenset[str]]:
        """Anchor, root, members."""
        person = self.core.person_of(identifier)
        return person.anchor, person.root, frozenset(member.identifier for member in person.members)

    def together(self, *identifiers: str) -> bool:
        return len({self.person(one) for one in identifiers}) == 1

    def rows(self, topic: str) -> list[AnyRecord]:
        return [item.record for item in self.out if isinstance(item, Event) and item.topic == topic]

    def changes(self) -> list[tuple[str, list[str], list[str], list[str]]]:
        return [
            (one.kind, one.persons_before, one.persons_after, one.members_moved)  # type: ignore[union-attr]
            for one in self.rows("identity.change")
        ]

    def touched(self) -> list[Touched]:
        return [item for item in self.out if isinstance(item, Touched)]

    def linked(self) -> list[Linked]:
        return [item for item in self.out if isinstance(item, Linked)]


class Oracle:
    """All evidence, and the questions asked of it."""

    def __init__(self, rule: StitchRule = RULE) -> None:
        self.rule = rule
        self.clock = 0
        self.first: dict[str, int] = {}
        self.known: set[str] = set()
        self.pairs: set[tuple[str, str, int, str]] = set()
        self.ties: dict[tuple[str, str], tuple[str, Link]] = {}
        self.consents: dict[str, dict[tuple[int, str], str]] = defaultdict(dict)
        self.voids: dict[str, int] = defaultdict(int)

    def rank(self, identifier: str) -> tuple[int, str]:
        return self.rule.priority[namespace(identifier)], identifier

    def feed(self, record: AnyRecord, clock: int) -> None:
        self.clock = max(self.clock, clock)
        channel = TOPIC_OF[type(record)].split(".")[0]
        match record:
            case Link(from_id=a, to_id=b):
                self.meet([a, b], record.event_time)
                strong, weak = sorted((a, b), key=self.rank)
                if a == b or (namespace(a) == namespace(b) and record.method != "IMPORT"):
                    return
                if record.revoked or self.may_join([a, b], record, own=True):
                    self.ties[weak, record.event_id] = strong, record
                    asserts = namespace(b) in self.rule.persons
                    if not asserts and not record.revoked and namespace(a) != namespace(b):
                        self.pairs.add((weak, strong, record.event_time, channel))
            case Consent(identifier=one):
                self.meet([one], record.event_time)
                self.agree(one, record)
            case ContactPoint(identifier=one):
                self.meet([one], record.event_time)
            case Customer(identifiers=named) | WebEvent(identifiers=named) | Receipt(identifiers=named):
                self.meet(named, record.event_time)
                self.together(named, record, channel)
            case Scan(identifiers=named, subject_id=subject):
                self.meet([*named, subject], None)
                self.together([*named, subject], record, channel)

    def meet(self, named: list[str], at: int | None) -> None:
        for one in named:
            self.known.add(one)
            if at is not None:
                self.first[one] = min(at, self.first.get(one, NEVER))

    def together(self, named: list[str], record: AnyRecord, channel: str) -> None:
        if self.may_join(named, record, own=channel == "crm"):
            for weak in named:
                for strong in named:
                    if self.rank(strong)[0] < self.rank(weak)[0]:
                        self.pairs.add((weak, strong, record.event_time, channel))

    def agree(self, one: str, record: Consent) -> None:
        linking = [purpose.granted for purpose in record.purposes if purpose.code == "linking"]
        state = "DENIED" if record.withdrawn or linking == [False] else "GRANTED" if linking == [True] else "UNSET"
        said = self.consents[one]
        key = (record.event_time, record.event_id)
        moot = any(other > key and what == "DENIED" for other, what in said.items())
        if key in said or moot:
            return
        said[key] = state
        if state != "DENIED":
            return
        members = next(found for _, _, found in self.persons() if one in found)
        for member in members:
            self.voids[member] = max(self.voids[member], record.event_time + 1)
        cuts = {member: self.cut(member) for member in members}
        for pair in list(self.pairs):
            if any(end in cuts and pair[2] // DAY_US <= (cuts[end] - 1) // DAY_US for end in pair[:2]):
                self.pairs.discard(pair)
        for key_, (strong, tie) in list(self.ties.items()):
            if not tie.revoked and any(end in cuts and tie.event_time < cuts[end] for end in (key_[0], strong)):
                del self.ties[key_]

    def cut(self, one: str) -> int:
        said = sorted(self.consents[one].items())
        denied = [n for n, (_, what) in enumerate(said) if what == "DENIED"]
        if not denied:
            return self.voids[one]
        after = said[denied[-1] + 1 :]
        return max(self.voids[one], after[0][0][0] if after else NEVER)

    def may_join(self, named: list[str], record: AnyRecord, *, own: bool) -> bool:
        asked = {member for _, _, found in self.persons() if found & set(named) for member in found}
        if any(record.event_time < self.cut(one) for one in asked):
            return False
        if own or self.rule.legal_basis == "PSEUDONYMOUS":
            return True
        return any(
            max((key, what) for key, what in self.consents[one].items() if key[0] <= record.event_time)[1] == "GRANTED"
            for one in asked
            if any(key[0] <= record.event_time for key in self.consents[one])
        )

    def buckets(self, weak: str) -> dict[str, set[tuple[int, str]]]:
        """What may be counted of it, by stronger identifier."""
        found: dict[str, set[tuple[int, str]]] = defaultdict(set)
        for one, strong, at, channel in self.pairs:
            if one == weak:
                found[strong].add((at // DAY_US, channel))
        if len(found) > self.rule.max_neighbours:
            return {}
        return {strong: days for strong, days in found.items() if not self.crowded(strong)}

    def crowded(self, strong: str) -> bool:
        below = {weak for weak, other, _, _ in self.pairs if other == strong}
        below |= {weak for (weak, _), (other, _) in self.ties.items() if other == strong}
        return len(below) > self.rule.max_below

    def best(self, days: dict[str, list[int]]) -> tuple[str, float, int] | None:
        by_namespace: dict[str, list[tuple[float, int, str]]] = defaultdict(list)
        for strong, when in days.items():
            weight = sum(sorted(2.0 ** (day / self.rule.half_life_days) for day in when))
            by_namespace[namespace(strong)].append((weight, max(when), strong))
        for name in sorted(by_namespace, key=self.rule.priority.__getitem__):
            found = by_namespace[name]
            if len(found) > self.rule.max_candidates:
                return None
            weight, last, strong = max(found)
            if len(found) == 1 or weight >= self.rule.dominance * sum(sorted(one for one, _, _ in found)):
                return strong, weight, last
            if name in self.rule.unique:
                return None
        return None

    def pointer(self, weak: str) -> tuple[str, bool, float, int] | None:
        """Target, asserted, weight, newest."""
        ties = sorted(
            ((tie.event_time, tie.event_id), strong, tie)
            for (one, _), (strong, tie) in self.ties.items()
            if one == weak
        )
        revoked = {strong: key for key, strong, tie in ties if tie.revoked}
        standing = [
            (key, strong, tie) for key, strong, tie in ties if not tie.revoked and key > revoked.get(strong, (0, ""))
        ]
        vetoed = revoked.keys() - {strong for _, strong, _ in standing}
        begun = [
            (key, strong, tie)
            for key, strong, tie in standing
            if tie.valid_from <= self.clock and namespace(tie.to_id) in self.rule.persons and tie.method != "INFERRED"
        ]
        kept = {"BADGE_ISSUE", "BADGE_RETURN", "IMPORT"}
        custody = [
            (tie.valid_from, key, strong, tie) for key, strong, tie in begun if weak[:4] == "tag:" or tie.method in kept
        ]
        if custody:
            since, _, strong, tie = max(custody, key=lambda one: one[:2])
            if tie.method != "BADGE_RETURN" and (tie.valid_to is None or tie.valid_to > self.clock):
                return strong, True, 0.0, since
            if weak[:4] == "tag:" or tie.method != "IMPORT":
                return None
        said: dict[str, list[int]] = defaultdict(list)
        for _, strong, tie in begun:
            open_ = tie.valid_to is None or tie.valid_to > self.clock
            if open_ and weak[:4] != "tag:" and tie.method not in kept:
                said[strong].append(tie.valid_from // DAY_US)
        if said:
            one = self.best(said)
            return None if one is None else (one[0], True, one[1], one[2] * 16 + 4)
        channels = {"crm": 0, "web": 1, "pos": 2, "sensing": 3, "identity": 4}
        marks = {
            strong: sorted(day * 16 + channels[channel] for day, channel in days)[-self.rule.max_buckets :]
            for strong, days in self.buckets(weak).items()
            if strong not in vetoed
        }
        one = self.best({strong: [mark // 16 for mark in found] for strong, found in marks.items()})
        return None if one is None else (one[0], False, one[1], marks[one[0]][-1])

    def persons(self) -> list[tuple[str, str, set[str]]]:
        """Every person: anchor, root, members."""
        pointers = {one: self.pointer(one) for one in self.known}
        refused: set[str] = set()

        def home(one: str) -> str:
            while one not in refused and (to := pointers[one]) is not None:
                one = to[0]
            return one

        while True:  # the strongest namespace first, and all anew after each refusal
            profiles: dict[str, set[str]] = defaultdict(set)
            for one in self.known:
                profiles[home(one)].add(one)
            over = []
            for profile, members in profiles.items():
                for name, limit in self.rule.limits.items():
                    counted = [
                        one
                        for one in members
                        if one != profile
                        and namespace(one) == name
                        and (to := pointers[one]) is not None
                        and namespace(to[0]) != name
                    ]
                    room = limit - (namespace(profile) == name)
                    if len(counted) > room:
                        weakest = min(counted, key=lambda one: (*(pointers[one] or ())[1:], one))
                        over.append((self.rule.priority[name], weakest))
            if not over:
                break
            refused.add(min(over)[1])
        found = []
        for root, members in profiles.items():
            lasting = [one for one in members if one[:4] != "tag:"] or list(members)
            anchor = min(lasting, key=lambda one: (self.first.get(one, NEVER), self.rank(one)))
            found.append((anchor, root, members))
        return found
