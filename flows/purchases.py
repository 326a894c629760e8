"""What people look at on the web and buy in the shop: one rule ties both, so that there is something to learn.

The chance to buy from a category grows with the views of the evening before, with an open cart that holds
it, and with the time one stands there. `chance` is that rule; a model can find it and nothing more.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp
from random import Random
from typing import Any

from flows.cast import Customer, Row

SECOND = 1_000_000
PRICES = {"offers": 1990, "shoes": 5990, "garden": 1490, "clothing": 3490, "books": 1590}
"""Usual price by category, in minor units; a category not named here costs 2490."""
_ORDINARY = 2490


@dataclass
class Looking:
    """What one person did on the web before coming: views by category, and the open cart: sku by category."""

    views: dict[str, int] = field(default_factory=dict)
    cart: dict[str, str] = field(default_factory=dict)


def chance(views: int, dwell_s: float, in_cart: bool) -> float:
    """Chance to buy from a category.

    >>> round(chance(0, 20.0, False), 2), round(chance(5, 90.0, True), 2)
    (0.06, 0.92)
    """
    return 1.0 / (1.0 + exp(2.9 - 0.4 * min(views, 6) - 0.02 * (dwell_s - 10.0) - 1.7 * in_cart))


def dwell_s(rng: Random, interest: float, usual: float = 22.0) -> float:
    """How long one stands before a category: longer the more one wants it."""
    return usual * (0.4 + rng.random()) + 85.0 * interest * rng.random()


def browse(rng: Random, customer: Customer, evening: int, before: Looking | None = None) -> tuple[Looking, list[Row]]:
    """A customer's web session in the four hours after `evening`, if there was one.

    What still lies in the cart from the session `before` is taken out first.
    """
    looking, rows = Looking(), list[Row]()
    at = evening + int(rng.random() * 4 * 3600) * SECOND
    session = _session(customer, evening)
    for category, sku in before.cart.items() if before else ():
        rows.append(_web(rng, customer, session, at, "product_removed", category, sku))
        at += 2 * SECOND
    for category, interest in customer.interests:
        seen = int(7 * interest * rng.random() + 0.5) if rng.random() < 0.7 else 0
        for _ in range(seen):
            at += int(8 + 60 * rng.random()) * SECOND
            rows.append(_web(rng, customer, session, at, "product_viewed", category))
        if seen:
            looking.views[category] = seen
        if seen >= 2 and rng.random() < 0.45:
            at += int(5 + 20 * rng.random()) * SECOND
            looking.cart[category] = f"{category}-{int(rng.random() * 40):02d}"
            rows.append(_web(rng, customer, session, at, "product_added", category, looking.cart[category]))
    return looking, rows


def keen(rng: Random, customer: Customer, evening: int) -> tuple[Looking, list[Row]]:
    """The session of somebody who wants what she likes most: five views of it, and one in the cart."""
    category, _ = max(customer.interests, key=lambda one: one[1])
    looking, session = Looking({category: 5}, {category: f"{category}-07"}), _session(customer, evening)
    rows = [
        _web(rng, customer, session, evening + minute * 60 * SECOND, "product_viewed", category) for minute in range(5)
    ]
    at = evening + 300 * SECOND
    return looking, [*rows, _web(rng, customer, session, at, "product_added", category, looking.cart[category])]


def _session(customer: Customer, at: int) -> str:
    """Name of a session; it says nothing of whose it is."""
    return blake2b(f"{customer.card} {at}".encode(), digest_size=8).hexdigest()


def _web(
    rng: Random, customer: Customer, session: str, at: int, name: str, category: str, sku: str | None = None
) -> Row:
    delay = int(50_000 + 200_000 * rng.random())
    sku = sku or f"{category}-{int(rng.random() * 40):02d}"
    item = {"sku": sku, "category": category, "quantity_milli": 1000, "price_minor": PRICES.get(category, _ORDINARY)}
    return "web.event", {
        "event_time": at,
        "ingest_time": at + delay,
        "site_id": "",
        "source_id": "web",
        "name": name,
        "identifiers": [customer.device, customer.loyalty],
        "session_id": session,
        "client_created": at,
        "client_sent": at + 20_000,
        "path": f"/{category}/{sku}",
        "category": category,
        "items": [item],
        "currency": "EUR",
    }


def in_store_view(rng: Random, customer: Customer, at: int, category: str) -> Row:
    """A look at the app while standing before the shelf."""
    return _web(rng, customer, _session(customer, at), at, "product_viewed", category)


def receipt(
    rng: Random,
    site: str,
    currency: str,
    till: str,
    at: int,
    number: str,
    day: str,
    categories: list[str],
    card: str | None,
) -> Row:
    """A finished ticket with one or two lines a category."""
    lines: list[dict[str, Any]] = []
    for category in categories:
        for _ in range(1 + (rng.random() < 0.3)):
            price = int(PRICES.get(category, _ORDINARY) * (0.6 + 0.8 * rng.random()) / 10) * 10 + 9
            lines.append(
                {
                    "line_no": len(lines) + 1,
                    "kind": "SALE",
                    "sku": f"{category}-{int(rng.random() * 40):02d}",
                    "category": category,
                    "quantity_milli": 1000,
                    "line_total_minor": price,
                }
            )
    return "pos.receipt", {
        "event_time": at,
        "ingest_time": at + int(100_000 + 300_000 * rng.random()),
        "site_id": site,
        "source_id": till,
        "receipt_id": f"{site}-{till}-{day}-{number}",
        "workstation_id": till,
        "business_date": day,
        "kind": "SALE",
        "identifiers": [card] if card else [],
        "currency": currency,
        "total_minor": sum(line["line_total_minor"] for line in lines),
        "lines": lines,
    }
