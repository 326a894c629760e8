"""A small shop in which decisions are taken: real rules, profiles and segments; persons are said, not stitched."""

from dataclasses import dataclass, field

import orjson

from operators.decide import Decide, DecideRule
from operators.person import PersonStep
from operators.profile import ProfileRule, Profiles
from operators.rules import check_rules
from operators.segments import Segments
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas import ids
from schemas.derived import DwellReached, Outcome, Transition
from schemas.items import Event, Linked, Member, Occupied, Person, Tick, Touched
from schemas.people import ContactPoint, Customer, Receipt, ReceiptLine, WebEvent
from schemas.reference import Consent, ContextFact, Device, Link, Purpose, Release, Ring, Site, Zone
from schemas.sensing import SourceStatus
from schemas.venue import Floor, Venue

S = 1_000_000
M = 60 * S
H = 60 * M
DAY = 24 * H
T0 = 1_796_486_400 * S  # Saturday 2026-12-05 17:00 in Madrid
TAG, CARD, PHONE, MAIL, COOKIE = "tag:1:tag", "loyalty:1:card", "device:1:phone", "email:1:mail", "cookie:1:cookie"
ALL = ("personalisation", "in_store_location", "profiling", "linking", "contact")
TOPIC = {
    Transition: "presence.transition",
    DwellReached: "presence.dwell",
    WebEvent: "web.event",
    Receipt: "pos.receipt",
    Customer: "crm.customer",
    ContactPoint: "crm.contact-point",
    Consent: "consent.record",
    ContextFact: "context.fact",
    Zone: "venue.zone",
    Device: "venue.device",
    Release: "control.release",
    Outcome: "action.outcome",
    Link: "identity.link",
    SourceStatus: "sensing.status",
}


def square(zone_id, kind, x, y, category=None):
    ring = Ring(xy_m=[x, y, x + 4, y, x + 4, y + 4, x, y + 4])
    return Zone(event_time=0, zone_id=zone_id, kind=kind, floor=0.0, rings=[ring], category=category)


ZONES = (
    square("store", "STORE", 0, 0),
    square("offers", "OFFER", 10, 4, "offers"),
    square("shoes", "DEPARTMENT", 20, 4, "shoes"),
)
SCREENS = (
    Device(event_time=0, device_id="screen-7", kind="SCREEN", x_m=12.0, y_m=6.0, view_zones=["offers"], shared=True),
    Device(event_time=0, device_id="screen-8", kind="SCREEN", x_m=30.0, y_m=6.0, view_zones=["offers", "store"]),
    Device(event_time=0, device_id="till-1", kind="TILL", x_m=12.0, y_m=6.0, view_zones=["offers"]),
)
SITE = Site(
    event_time=0,
    site_id="mad-01",
    lat_deg=40.4,
    lon_deg=-3.7,
    time_zone="Europe/Madrid",
    currency="EUR",
    jurisdiction="ES",
    legal_basis="CONSENT",
)
VENUE = Venue(
    site=SITE,
    floors=[Floor(floor=0.0, rings=[])],
    zones={zone.zone_id: zone for zone in ZONES},
    devices={device.device_id: device for device in SCREENS},
    centroids={"store": (2.0, 2.0), "offers": (12.0, 6.0), "shoes": (22.0, 6.0)},
)
TEMPLATES = {
    "plain": {
        "push": {"en": "Hello", "es": "Hola"},
        "screen": {"en": "Members get 10 %"},
        "email": {"en": "Come back"},
    },
    "tiered": {"push": {"en": "For a {{ person.tier }} member"}, "screen": {"en": "Members get 10 %"}},
    "named": {"screen_personal": {"en": "{{ person.first_name }}, look here"}},
    "both": {"screen": {"en": "Look here"}, "screen_personal": {"en": "{{ person.first_name }}, look here"}},
}
PREMIUM = {"segment": "premium", "enter": 'person.tier == "gold"'}
IS_PREMIUM = {"premium": '"premium" in person.segments'}
PUSH = {"channel": "push", "template": "plain", "ttl": "60s"}
SCREEN = {"channel": "screen", "target": "nearest", "template": "plain", "ttl": "20s"}
MAILED = {"channel": "email", "template": "plain", "ttl": "24h"}
DWELL = {"dwell": {"zone": "offers", "at_least": "45s"}}
GUARD = {"identity": "confirmed", "consent": ["personalisation", "in_store_location"]}


def campaign(name="offer", when=None, **parts):
    """A campaign file's content; what is given replaces the plainest part."""
    return {
        "campaign": name,
        "owner": "store",
        "when": when or DWELL,
        "guard": GUARD,
        "do": [PUSH],
        **{{"if_": "if"}.get(key, key): value for key, value in parts.items()},
    }


def rules_of(*campaigns, segments=(PREMIUM,), templates=None):
    files = {f"campaigns/{each['campaign']}.yaml": orjson.dumps(each) for each in campaigns}
    files |= {f"segments/{each['segment']}.yaml": orjson.dumps(each) for each in segments}
    for name, parts in (templates or TEMPLATES).items():
        files[f"templates/{name}.yaml"] = orjson.dumps({"template": name, "fallback_locale": "en", "parts": parts})
    rules, faults = check_rules(files, VENUE)
    assert rules is not None, "\n".join(map(str, faults))
    return rules


def person(*members, anchor=None, root=None, state="ASSERTED", inferred=()):
    return Person(
        root=root or members[0],
        anchor=anchor or members[0],
        members=tuple(Member(each, each in inferred) for each in members),
        state=state,
    )


@dataclass
class Shop:
    """Drives the person step; times are µs after T0, and the clock is the event's unless it is said."""

    rules: object
    rule: DecideRule = field(default_factory=DecideRule)
    score: object = None
    memory: object = None
    token: object = None
    people: dict = field(default_factory=dict)
    number: int = 0
    inside: dict = field(default_factory=dict)

    def __post_init__(self):
        self.store = MemoryStore(self.memory)
        self.store.claim(self.token)
        self.store.open("0")
        self.tables = Tables(self.store)
        self.profiles = Profiles(ProfileRule(), self.rules.plan, self.tables)
        self.segments = Segments(list(self.rules.segments.values()), self.profiles, self.tables, "mad-01")
        self.decide = Decide(self.rules, self.profiles, self.segments.of, self.score, VENUE, self.rule, self.tables)
        self.core = PersonStep(self.profiles, self.segments, None, self.decide)
        self.out = []
        self.taken = []

    # What came out.

    def records(self, topic):
        return [item.record for item in self.out if isinstance(item, Event) and item.topic == topic]

    @property
    def decisions(self):
        return self.records("decision.record")

    @property
    def commands(self):
        return self.records("action.command")

    def only(self, name=None):
        """The one candidate of the last decision, or the one of that name."""
        (found,) = [each for each in self.decisions[-1].candidates if name in {None, each.campaign_id}]
        return found

    def said(self, name=None):
        candidate = self.only(name)
        return candidate.verdict, candidate.reason

    # What goes in.

    def take(self, *items):
        self.taken.append(items)
        made = self.core.step(list(items))
        self.out += made
        return made

    def link(self, *persons, at=0, kind="GREW"):
        for each in persons:
            for member in each.members:
                self.people[member.identifier] = each
        self.number += 1
        return self.take(Linked(self.number, T0 + at, T0 + at, kind, persons))

    def hear(self, record, member=None, clock=None):
        self.number += 1
        event = Event(self.number, record.ingest_time if clock is None else T0 + clock, TOPIC[type(record)], record)
        if member is None:
            return self.take(event)
        return self.take(Touched(event, member, self.people[member]))

    def link_by(self, record, member, *persons, kind="GREW", clock=None):
        """Membership changes with an event: the link and the event in one batch, as stitch hands them on."""
        for each in persons:
            for one in each.members:
                self.people[one.identifier] = each
        self.number += 1
        clock = record.ingest_time if clock is None else T0 + clock
        linked = Linked(self.number, clock, record.event_time, kind, persons)
        event = Event(self.number, clock, TOPIC[type(record)], record)
        return self.take(linked, Touched(event, member, self.people[member]))

    def tick(self, at, end=False):
        return self.take(Tick(self.number, T0 + at, end))

    def base(self, at, **more):
        return {"event_time": T0 + at, "ingest_time": T0 + at, "site_id": "mad-01"} | more

    def visit(self, at, zone="offers", member=TAG):
        return ids.visit("mad-01", member, zone, T0 + at)

    def enter(self, at, zone="offers", member=TAG, clock=None, reason="CROSSED"):
        return self._transition("ENTER", at, at, zone, member, clock, reason)

    def exit(self, entered, at, zone="offers", member=TAG, clock=None, reason="LEFT"):
        return self._transition("EXIT", entered, at, zone, member, clock, reason)

    def _transition(self, kind, entered, at, zone, member, clock, reason):
        visit = self.visit(entered, zone, member)
        record = Transition(
            event_id=ids.transition(visit, kind), visit_id=visit, subject_id=member, zone_id=zone, zone_revision=0,
            kind=kind, at=T0 + at, reason=reason, tech="UWB", **self.base(at),
        )  # fmt: skip
        return self.hear(record, member, clock)

    def dwell(self, entered, after=45 * S, zone="offers", member=TAG, clock=None, fired=None):
        visit = self.visit(entered, zone, member)
        fired = entered + after if fired is None else fired
        record = DwellReached(
            event_id=ids.dwell(visit, after), visit_id=visit, subject_id=member, zone_id=zone, zone_revision=0,
            threshold_us=after, entered_at=T0 + entered, reached_at=T0 + entered + after, fired_at=T0 + fired,
            last_fix_at=T0 + fired, fix_count=225, quality=1.0, **self.base(fired),
        )  # fmt: skip
        return self.hear(record, member, clock)

    def stay(self, entered=0, after=45 * S, zone="offers", member=TAG):
        """Somebody comes in and stands: the decisions of it."""
        self.enter(entered, zone, member)
        return self.dwell(entered, after, zone, member)

    def consent(self, at=-60 * S, granted=ALL, denied=(), member=CARD, clock=None, **more):
        purposes = [Purpose(code=code, granted=True) for code in granted]
        purposes += [Purpose(code=code, granted=False) for code in denied]
        name = ids.row("consent.record", at, member, *granted, *denied)
        record = Consent(event_id=name, identifier=member, purposes=purposes, epoch=name[:12], **self.base(at, **more))
        return self.hear(record, member, clock)

    def customer(self, tier, at=-60 * S, member=CARD):
        record = Customer(
            event_id=ids.row("crm.customer", at, member), identifiers=[member], tier=tier, **self.base(at)
        )
        return self.hear(record, member)

    def point(self, kind="PUSH", at=-60 * S, member=CARD, verified=True):
        record = ContactPoint(
            event_id=ids.row("crm.contact-point", at, member, kind), identifier=member, kind=kind, value_sealed=b"x",
            verified=verified, **self.base(at),
        )  # fmt: skip
        return self.hear(record, member)

    def receipt(self, at, category="offers", member=CARD, clock=None, total=1000):
        name = ids.row("pos.receipt", at, member)
        line = ReceiptLine(sku="a", category=category, quantity_milli=1000, line_total_minor=total)
        record = Receipt(
            event_id=name,
            receipt_id=name,
            currency="EUR",
            total_minor=total,
            lines=[line],
            kind="SALE",
            **self.base(at),
        )
        return self.hear(record, member, clock)

    def web(self, at, name="product_viewed", category="offers", member=CARD, clock=None, key=""):
        record = WebEvent(
            event_id=ids.row("web.event", at, member, name, key), name=name, category=category, **self.base(at)
        )
        return self.hear(record, member, clock)

    def stock(self, at, value, scope="mad-01", of="offers", until=DAY, clock=None):
        record = ContextFact(
            event_id=ids.row("context.fact", at, of, scope), scope=scope, name=f"stock.{of}", value=str(value),
            valid_until=T0 + at + until, **self.base(at),
        )  # fmt: skip
        return self.hear(record, None, clock)

    def present(self, zone, *subjects):
        """These are in a zone from now on, and no others; told one by one."""
        before = self.inside.get(zone, ("nobody",))
        self.inside[zone] = subjects
        out = []
        for subject in dict.fromkeys((*before, *subjects)):
            self.number += 1
            told = Occupied(self.number, T0, "mad-01", zone, len(subjects), subject, subject in subjects)
            out += self.take(told)
        return out

    def known(self, *members, tier="gold", granted=ALL, state="ASSERTED"):
        """A person with a card, a tag and a phone that can be reached; all she is asked for she grants."""
        members = members or (CARD, TAG)
        self.link(person(*members, state=state), at=-120 * S)
        self.consent(granted=granted, member=members[0])
        if tier is not None:
            self.customer(tier, member=members[0])
        self.point(member=members[0])
        return self


def shop(*campaigns, rule=None, score=None, segments=(PREMIUM,), templates=None):
    """A shop with these campaigns in force."""
    rules = rules_of(*campaigns, segments=segments, templates=templates)
    return Shop(rules, rule or DecideRule(), score)


def stranger(s):
    """A tag that is nobody's yet, and a customer who is not here yet."""
    s.link(person(TAG), at=-100 * S)
    s.link(person(CARD), at=-100 * S)
    s.consent()
    s.customer("gold")
    s.point()
    return s


def paired(s, at, *members, kind="MERGE"):
    """A QR code ties the tag to the card."""
    record = Link(event_id=f"link-{at}", from_id=TAG, to_id=CARD, method="QR_PAIR", valid_from=T0 + at, **s.base(at))
    return s.link_by(record, TAG, person(*(members or (CARD, TAG))), kind=kind)
