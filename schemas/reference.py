"""Reference data: the venue, facts of the moment, what is in force, consents, and ties between identifiers."""

from typing import Annotated

from schemas.types import Blob, Double, Flag, Float, Instant, Int, Long, Nested, Record, Text, symbols

LegalBasis = Annotated[str, symbols("LegalBasis", "PSEUDONYMOUS CONSENT COUNTS_ONLY")]
ZoneKind = Annotated[
    str,
    symbols(
        "ZoneKind",
        "STORE DEPARTMENT OFFER SHELF FITTING_ROOM CHECKOUT ENTRANCE QUEUE STAFF AR_ANCHOR OUTDOOR",
    ),
]
DeviceKind = Annotated[
    str,
    symbols(
        "DeviceKind",
        "SCREEN RECEIVER READER ANTENNA BEACON NFC_TAG QR TILL KIOSK SHELF_SENSOR COUNTER LABEL",
    ),
]
ReleaseKind = Annotated[str, symbols("ReleaseKind", "CAMPAIGNS MODEL VENUE")]
ReleaseState = Annotated[str, symbols("ReleaseState", "ACTIVE PAUSED RETIRED")]
CollectedVia = Annotated[str, symbols("CollectedVia", "WEB APP TILL KIOSK STAFF IMPORT")]
LinkMethod = Annotated[
    str,
    symbols("LinkMethod", "LOGIN QR_PAIR NFC_TAP CHECKOUT BADGE_ISSUE BADGE_RETURN IMPORT INFERRED"),
]


class Site(Record, frozen=True, kw_only=True):
    """A shop or event ground, and the origin of its frame."""

    lat_deg: Double
    lon_deg: Double
    bearing_deg: Double = 0.0
    time_zone: Text
    opening: list[Text] = []
    currency: Text = ""
    jurisdiction: Text = ""
    legal_basis: LegalBasis = "UNKNOWN"
    revision: Long = 0


class Ring(Nested, frozen=True, kw_only=True):
    """A closed line as x0 y0 x1 y1 ..., metres in the site frame."""

    xy_m: list[Float]


class Zone(Record, frozen=True, kw_only=True):
    """A place where a stay counts; parameters left out are those of the technology."""

    dwell_us: list[Long] = []
    zone_id: Text
    name: Text = ""
    kind: ZoneKind = "UNKNOWN"
    floor: Float
    rings: list[Ring]
    z_min_m: Float | None = None
    z_max_m: Float | None = None
    exclusive_group: Text | None = None
    priority: Int = 0
    category: Text | None = None
    sensitive: Flag = False
    tech: Text | None = None
    enter_margin_m: Float | None = None
    enter_confirm_us: Long | None = None
    enter_fixes: Int | None = None
    exit_margin_m: Float | None = None
    exit_confirm_us: Long | None = None
    exit_fixes: Int | None = None
    gap_us: Long | None = None
    fresh_us: Long | None = None
    edge_max_us: Long | None = None
    acc_cap_m: Float | None = None
    takeover_margin_m: Float | None = None
    max_dwell_us: Long | None = None
    revision: Long = 0
    valid_from: Instant = 0
    valid_to: Instant | None = None
    deleted: Flag = False


class Device(Record, frozen=True, kw_only=True):
    """A fixed thing: a screen, a till, a reader."""

    device_id: Text
    kind: DeviceKind = "UNKNOWN"
    zone_id: Text | None = None
    floor: Float | None = None
    x_m: Float | None = None
    y_m: Float | None = None
    heading_deg: Float | None = None
    view_zones: list[Text] = []
    shared: Flag = False
    capabilities: dict[str, Text] = {}
    revision: Long = 0
    deleted: Flag = False


class ContextFact(Record, frozen=True, kw_only=True):
    """Weather, stock, traffic: true of a site or zone until `valid_until`."""

    scope: Text
    name: Text
    value: Text
    unit: Text | None = None
    valid_until: Instant


class Release(Record, frozen=True, kw_only=True):
    """What is in force from an event time on: campaigns, a model, a venue."""

    kind: ReleaseKind = "UNKNOWN"
    name: Text
    version: Text
    sha256: Text = ""
    signature: Blob | None = None
    effective_at: Instant
    state: ReleaseState = "UNKNOWN"


class Threshold(Record, frozen=True, kw_only=True):
    """The stays that campaigns in force want to hear of, by zone."""

    zone_id: Text
    dwell_us: list[Long] = []
    effective_at: Instant


class Purpose(Nested, frozen=True, kw_only=True):
    """One purpose of a consent; no channels named means every channel."""

    code: Text
    granted: Flag
    channels: list[Text] = []


class Consent(Record, frozen=True, kw_only=True):
    """What the holder of an identifier agreed to; it replaces the earlier record of that identifier."""

    identifier: Text
    epoch: Text = ""
    purposes: list[Purpose] = []
    legal_basis: Text = ""
    notice_version: Text = ""
    jurisdiction: Text = ""
    language: Text = ""
    collected_via: CollectedVia = "UNKNOWN"
    source_string: Text | None = None
    valid_until: Instant | None = None
    withdrawn: Flag = False


class Link(Record, frozen=True, kw_only=True):
    """A tie between two identifiers, stated by the shop."""

    from_id: Text
    to_id: Text
    method: LinkMethod = "UNKNOWN"
    confidence: Float = 1.0
    valid_from: Instant
    valid_to: Instant | None = None
    revoked: Flag = False
