"""What one member did, as far as a score looks at it: stays, web events, receipts.

Facts lie with the member they are credited to, so a person is the union of her members' histories: a merge
adds one, a split takes it away, and nothing is worked out anew. Order of arrival and repeats do not matter.
"""

import hashlib
from bisect import bisect_left
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec

from schemas.derived import DwellReached, Transition, Visit
from schemas.people import Receipt, ReceiptLine, WebEvent
from schemas.types import AnyRecord

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
UNHEARD_END = DAY
"""A stay that is still open after this long has lost its end: it counts for nothing."""
STAYS_FOR, WEB_FOR, TICKETS_FOR = 90 * DAY, 30 * DAY, 365 * DAY
"""How long facts can reach a score."""
SLACK = DAY
"""How long a fact is kept beyond that, for triggers that are behind the clock."""
KEPT_STAYS, KEPT_WEB, KEPT_TICKETS = 1024, 512, 512
"""The newest facts of one member that count; a tag on a trolley may have more."""
ADDED, REMOVED, ORDERED = "product_added", "product_removed", "order_completed"


class Stay(msgspec.Struct, array_like=True, gc=False):
    """A stay in a zone; `*_seen` is the event time of the record that said so."""

    site_id: str
    zone_id: str
    category: str | None
    entered_at: int
    entered_seen: int
    left_at: int = 0
    left_seen: int | None = None

    def end(self, at: int) -> int:
        """Where the stay ends as known at `at`: there, if it is still open."""
        if self.left_seen is not None and self.left_seen <= at:
            return self.left_at
        return at if at - self.entered_at <= UNHEARD_END else self.entered_at


class Article(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An article put into a cart or taken out."""

    sku: str
    category: str | None
    quantity_milli: int
    price_minor: int


class Click(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A web event, as far as a feature looks at it; articles only where the cart changed."""

    at: int
    id: int
    name: str
    session: str
    categories: tuple[str, ...]
    articles: tuple[Article, ...]


class Ticket(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A receipt: its net, what was sold and brought back, the categories bought, the day at the venue."""

    at: int
    id: int
    day: int
    net_minor: int
    sold_minor: int
    returned_minor: int
    categories: tuple[str, ...]


class History(msgspec.Struct, array_like=True):
    """What one member did. `days` holds the net by day of receipts that had no room in `tickets`."""

    stays: dict[str, Stay] = {}
    clicks: list[Click] = []
    tickets: list[Ticket] = []
    days: dict[int, int] = {}


T = TypeVar("T", Click, Ticket)


def observe(history: History, record: AnyRecord, *, category: str | None, zone: ZoneInfo, clock: int) -> bool:
    """Take a record into the history of the member it is credited to; order and repeats do not matter.

    Args:
        history: changed in place.
        record: a transition, a dwell, a visit, a web event or a receipt; anything else is no fact.
        category: category of the zone of a presence record, as of now.
        zone: the venue's time zone: a receipt belongs to a day there.
        clock: the source's clock; facts that left every window behind it are dropped.

    Returns:
        Whether it is a fact.
    """
    match record:
        case Transition():
            stay = _stay(history, record, record.at if record.kind == "ENTER" else None, category)
            if record.kind == "EXIT":
                _close(stay, record, record.at)
        case DwellReached():
            _stay(history, record, record.entered_at, category)
        case Visit():
            _close(_stay(history, record, record.entered_at, category), record, record.left_at)
        case WebEvent():
            _keep(history.clicks, _click(record), clock - WEB_FOR - SLACK, KEPT_WEB)
        case Receipt():
            for old in _keep(history.tickets, _ticket(record, zone), 0, KEPT_TICKETS):
                history.days[old.day] = history.days.get(old.day, 0) + old.net_minor
        case _:
            return False
    if history.stays and isinstance(record, Transition | Visit):
        _forget_stays(history, clock - STAYS_FOR - SLACK)
    return True


def _stay(
    history: History, record: Transition | DwellReached | Visit, entered_at: int | None, category: str | None
) -> Stay | None:
    stay = history.stays.get(record.visit_id)
    if stay is None and entered_at is not None:
        stay = Stay(record.site_id, record.zone_id, category, entered_at, record.event_time)
        history.stays[record.visit_id] = stay
    elif stay is not None and entered_at is not None and record.event_time < stay.entered_seen:
        stay.entered_seen = record.event_time
    return stay


def _close(stay: Stay | None, record: Transition | Visit, left_at: int) -> None:
    if stay is None:  # an exit heard without its entry: the visit record, or nothing, will tell how long
        return
    if stay.left_seen is None or record.event_time < stay.left_seen:
        stay.left_seen = record.event_time
    stay.left_at = left_at


def _forget_stays(history: History, before: int) -> None:
    stays = history.stays
    if len(stays) > KEPT_STAYS or next(iter(stays.values())).entered_at < before:
        kept = sorted(stays.items(), key=lambda pair: (pair[1].entered_at, pair[0]))[-KEPT_STAYS:]
        history.stays = {visit: stay for visit, stay in kept if stay.entered_at >= before}


def _keep(kept: list[T], fact: T, before: int, most: int) -> list[T]:
    """Insert in order of time unless it is there already; returns what had to go."""
    place = (fact.at, fact.id)
    found = bisect_left(kept, place, key=place_of)
    if found == len(kept) or place_of(kept[found]) != place:
        kept.insert(found, fact)
    gone = max(bisect_left(kept, (before, -1), key=place_of), len(kept) - most)
    old = kept[:gone] if gone > 0 else []
    del kept[: len(old)]
    return old


def place_of(fact: Click | Ticket) -> tuple[int, int]:
    """Where a fact stands among those of its kind."""
    return fact.at, fact.id


def _id(text: str) -> int:
    """A record's id as a number that fits msgpack: 8 bytes are enough to tell one member's records apart."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _click(event: WebEvent) -> Click:
    categories = {item.category for item in event.items if item.category}
    if event.category:
        categories.add(event.category)
    changed = event.items if event.name in {ADDED, REMOVED} else ()
    return Click(
        event.event_time,
        _id(event.event_id),
        event.name,
        event.session_id,
        tuple(sorted(categories)),
        tuple(
            Article(item.sku, item.category or event.category, item.quantity_milli, item.price_minor or 0)
            for item in changed
        ),
    )


def _ticket(receipt: Receipt, zone: ZoneInfo) -> Ticket:
    """What counts of a receipt; without lines its total stands for them."""
    lines = receipt.lines or [ReceiptLine(sku="", quantity_milli=0, line_total_minor=receipt.total_minor)]
    sold = returned = 0
    categories = set()
    for line in lines:
        if "RETURN" in {line.kind, receipt.kind}:
            returned -= line.line_total_minor
        else:
            sold += line.line_total_minor
        if line.category and line.quantity_milli > 0:
            categories.add(line.category)
    day = datetime.fromtimestamp(receipt.event_time // SECOND, zone).toordinal()
    key = _id(receipt.event_id or receipt.receipt_id)
    return Ticket(receipt.event_time, key, day, receipt.total_minor, sold, returned, tuple(sorted(categories)))
