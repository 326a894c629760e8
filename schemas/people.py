"""What people do at the site, the till and the desk, and what the shop's own records say of them."""

from typing import Annotated

from schemas.types import Blob, Flag, Instant, Int, Long, Nested, Record, Text, symbols

ReceiptKind = Annotated[str, symbols("ReceiptKind", "SALE RETURN VOID")]
LineKind = Annotated[str, symbols("LineKind", "SALE RETURN VOID DISCOUNT")]
ContactKind = Annotated[str, symbols("ContactKind", "NAME EMAIL PHONE PUSH POSTAL BIRTH WALLET")]


class WebItem(Nested, frozen=True, kw_only=True):
    """An article in a web event."""

    gtin: Text | None = None
    sku: Text
    category: Text | None = None
    quantity_milli: Long = 1000
    price_minor: Long | None = None


class WebEvent(Record, frozen=True, kw_only=True):
    """Something done on the site or in the app, named as Segment names it, in snake case."""

    name: Text
    identifiers: list[Text] = []
    session_id: Text = ""
    client_created: Instant = 0
    client_sent: Instant = 0
    path: Text | None = None
    kiosk_id: Text | None = None
    category: Text | None = None
    items: list[WebItem] = []
    currency: Text | None = None
    consent_state: Text | None = None
    properties: dict[str, Text] = {}


class ReceiptLine(Nested, frozen=True, kw_only=True):
    """One line of a receipt; money and goods that come back are negative."""

    line_no: Int = 0
    kind: LineKind = "UNKNOWN"
    gtin: Text | None = None
    sku: Text
    category: Text | None = None
    serial: Text | None = None
    quantity_milli: Long
    line_total_minor: Long
    discount_minor: Long = 0
    promo_id: Text | None = None


class Receipt(Record, frozen=True, kw_only=True):
    """A finished ticket of a till; no tender detail, no card number."""

    receipt_id: Text
    workstation_id: Text = ""
    business_date: Text = ""
    kind: ReceiptKind = "UNKNOWN"
    identifiers: list[Text] = []
    currency: Text
    total_minor: Long
    backfill: Flag = False
    lines: list[ReceiptLine] = []


class Customer(Record, frozen=True, kw_only=True):
    """The shop's own record of a person: no name, no address."""

    identifiers: list[Text]
    tier: Text | None = None
    since: Instant | None = None
    birth_year: Int | None = None
    region: Text | None = None
    traits: dict[str, Text] = {}
    source_version: Text = ""
    deleted: Flag = False


class ContactPoint(Record, frozen=True, kw_only=True):
    """A name or an address, sealed under the person's data key."""

    identifier: Text
    kind: ContactKind = "UNKNOWN"
    value_sealed: Blob
    locale: Text | None = None
    verified: Flag = False
    deleted: Flag = False
