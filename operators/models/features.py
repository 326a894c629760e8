"""The 24 numbers a score looks at: a person as of one instant, from the histories of her members.

The same code runs for a live trigger, in a replay and in training, so a model is fed exactly what it learned
from. Facts are summed as integers and divided once, at the end: the order in which they came, and whether
they lie with one member or with two that were merged, cannot reach a bit of the result.
"""

import hashlib
import math
import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import merge
from operator import itemgetter
from zoneinfo import ZoneInfo

import msgspec

from operators.models.history import (
    ADDED,
    DAY,
    HOUR,
    MINUTE,
    ORDERED,
    SECOND,
    STAYS_FOR,
    TICKETS_FOR,
    WEB_FOR,
    Click,
    History,
    Ticket,
    place_of,
)
from schemas.features import FEATURE_HASH, FEATURES
from schemas.person import Consents

VISIT_GAP = 30 * MINUTE
"""Stays further apart than this belong to two visits of the store."""
VIEWS = frozenset({"product_viewed", "product_list_viewed"})
_NAN = math.nan
_PACK = struct.Struct("<d").pack
_CANONICAL_NAN = struct.pack("<Q", 0x7FF8000000000000)


class Moment(msgspec.Struct, frozen=True):
    """When and where a person is scored."""

    at: int
    site_id: str
    zone: ZoneInfo
    zone_id: str | None = None
    visit_id: str | None = None
    category: str | None = None
    occupancy: int | None = None


def vector(members: Sequence[History], moment: Moment, consents: Consents) -> tuple[float, ...]:
    """The features of a person as of a moment: of the union of her members' facts, none later than it.

    Args:
        members: histories of the members that count, in any order.
        moment: when and where.
        consents: a group whose purpose is not granted is NaN.

    Returns:
        As many floats as the registry has features, in its order.
    """
    clicks = list(_known(members, moment.at))
    out = (
        *_stay_features(members, moment),
        *_web_features(clicks, moment),
        *_cart_features(clicks, moment),
        *_purchase_features(members, moment),
        *_context_features(moment),
    )
    refused = [place for place, purposes in _PURPOSES if not all(map(consents.granted, purposes))]
    if refused:
        blanked = list(out)
        for place in refused:
            blanked[place] = _NAN
        return tuple(blanked)
    return out


def features_hash(features: Iterable[float]) -> str:
    """Name a vector and the registry it was made by; every NaN is the same NaN.

    Args:
        features: the vector.

    Returns:
        32 hex digits.
    """
    digest = hashlib.blake2b(FEATURE_HASH.encode(), digest_size=16)
    for value in features:
        digest.update(_CANONICAL_NAN if value != value else _PACK(value))  # noqa: PLR0124
    return digest.hexdigest()


_PURPOSES = [(place, feature.purposes) for place, feature in enumerate(FEATURES) if feature.purposes]


def _known(members: Sequence[History], at: int) -> Iterable[Click]:
    """Web events of the last 30 days as known at `at`, oldest first."""
    parts = [
        history.clicks[bisect_right(history.clicks, at - WEB_FOR, key=_at) : bisect_right(history.clicks, at, key=_at)]
        for history in members
    ]
    return parts[0] if len(parts) == 1 else merge(*parts, key=place_of)


def _at(fact: Click | Ticket) -> int:
    return fact.at


def _stay_features(members: Sequence[History], moment: Moment) -> tuple[float, ...]:
    at = moment.at
    own = _NAN
    category_us = visits = 0
    zones: set[str] = set()
    in_zone = 0
    began = reach = None
    stays = [
        (stay.entered_at, stay.end(at), stay.zone_id, stay.site_id, stay.category, visit)
        for history in members
        for visit, stay in history.stays.items()
        if stay.entered_seen <= at and stay.entered_at > at - STAYS_FOR
    ]
    stays.sort(key=itemgetter(0, 5))
    for entered, left, zone_id, site_id, category, visit in stays:
        if visit == moment.visit_id:
            own = (at - entered) / SECOND
        if category is not None and category == moment.category:
            category_us += max(0, left - max(entered, at - 30 * DAY))
        if site_id != moment.site_id:
            continue
        if reach is None or entered - reach > VISIT_GAP:
            began, reach, in_zone = entered, left, 0
            zones.clear()
            visits += 1
        reach = max(reach, left)
        zones.add(zone_id)
        in_zone += zone_id == moment.zone_id
    if began is None or reach is None or at - reach > VISIT_GAP:
        return own, 0.0, category_us / SECOND, _NAN, 0.0, float(visits)
    return own, float(in_zone), category_us / SECOND, (at - began) / SECOND, float(len(zones)), float(visits)


def _web_features(clicks: list[Click], moment: Moment) -> tuple[float, ...]:
    if not clicks:
        return _NAN, 0.0, 0.0, 0.0
    since = moment.at - 7 * DAY
    views = of_category = 0
    sessions = set()
    for click in reversed(clicks):
        if click.at <= since:
            break
        if click.session:
            sessions.add(click.session)
        if click.name in VIEWS:
            views += 1
            of_category += moment.category is not None and moment.category in click.categories
    return (moment.at - clicks[-1].at) / MINUTE, float(views), float(of_category), float(len(sessions))


def _cart_features(clicks: list[Click], moment: Moment) -> tuple[float, ...]:
    """The open cart: what was added since the last order and not removed."""
    cart: dict[str, tuple[int, int, int, str | None]] = {}  # sku: pieces in milli, their value, since, category
    for click in clicks:
        if click.name == ORDERED:
            cart.clear()
        for article in click.articles:
            pieces, value, since, category = cart.get(article.sku, (0, 0, click.at, article.category))
            if click.name == ADDED:
                pieces += article.quantity_milli
                value += article.quantity_milli * article.price_minor
            else:
                left = max(0, pieces - article.quantity_milli)
                value, pieces = (value * left // pieces if pieces else 0), left
            if pieces > 0:
                cart[article.sku] = (pieces, value, since, category)
            else:
                cart.pop(article.sku, None)
    if not cart:
        return 0.0, 0.0, _NAN, 0.0
    held = cart.values()
    return (
        sum(pieces for pieces, _, _, _ in held) / 1000,
        sum(value for _, value, _, _ in held) / 100_000,
        (moment.at - min(since for _, _, since, _ in held)) / HOUR,
        float(moment.category is not None and any(category == moment.category for _, _, _, category in held)),
    )


def _purchase_features(members: Sequence[History], moment: Moment) -> tuple[float, ...]:
    at = moment.at
    last = None
    receipts = sold = returned = 0
    days: dict[int, int] = defaultdict(int)
    for history in members:
        for day, net in history.days.items():
            days[day] += net
        for ticket in history.tickets[: bisect_right(history.tickets, at, key=_at)]:
            days[ticket.day] += ticket.net_minor
            if ticket.at <= at - TICKETS_FOR:
                continue
            sold += ticket.sold_minor
            returned += ticket.returned_minor
            if moment.category is not None and moment.category in ticket.categories:
                last = ticket.at if last is None else max(last, ticket.at)
                receipts += ticket.at > at - 180 * DAY
    category = (
        _NAN if last is None else (at - last) / DAY,
        float(receipts),
        _NAN if sold <= 0 else returned / sold,
    )
    bought = sorted(day for day, net in days.items() if net > 0)
    if not bought:
        return *category, 0.0, _NAN, _NAN, _NAN
    first, repeats = bought[0], len(bought) - 1
    today = datetime.fromtimestamp(at // SECOND, moment.zone).toordinal()
    mean = sum(days[day] for day in bought[1:]) / (100 * repeats) if repeats else _NAN
    return *category, float(repeats), (bought[-1] - first) / 7, (today - first) / 7, mean


def _context_features(moment: Moment) -> tuple[float, ...]:
    local = datetime.fromtimestamp(moment.at // SECOND, moment.zone)
    occupancy = _NAN if moment.occupancy is None else float(moment.occupancy)
    return float(local.hour), float(local.weekday()), occupancy
