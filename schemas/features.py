"""The registry of features: what a score may look at, in the order models read it.

Append-only. A changed meaning is a new name at the end; a feature that no model uses stays where it is.
`FEATURE_HASH` names the registry (all but its prose): models and scores carry it, so that a model is never
fed numbers that mean something else than what it learned from.
"""

import hashlib

import msgspec

STAY, WEB, CART, PURCHASES, VALUE, CONTEXT = "stay", "web", "cart", "purchases", "value", "context"
"""Groups: what one refusal, or one silent source, takes away together."""


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One number about one person at one moment.

    `missing` is what stands there when no fact is known: 0 for counts, NaN for ages and means. A purpose
    that is not granted always gives NaN. `purposes` are beside `profiling`, without which there is no score.
    """

    name: str
    group: str
    unit: str
    window: str
    source: str
    purposes: tuple[str, ...]
    missing: str
    definition: str


def _group(group: str, source: str, purposes: tuple[str, ...], *rows: tuple[str, str, str, str, str]) -> list[Feature]:
    return [
        Feature(
            name=name, group=group, unit=unit, window=window, source=source, purposes=purposes, missing=missing,
            definition=definition,
        )
        for name, unit, window, missing, definition in rows
    ]  # fmt: skip


FEATURES: tuple[Feature, ...] = (
    *_group(
        STAY,
        "presence.transition presence.dwell presence.visit",
        ("in_store_location",),
        ("dwell_s", "s", "stay", "NaN", "how long the stay that the trigger is about has lasted"),
        ("zone_stays_visit", "count", "store visit", "0", "stays in the trigger's zone in this store visit"),
        ("category_dwell_s_30d", "s", "30 d", "0", "time in zones of the trigger's category, open stays included"),
        ("visit_s", "s", "store visit", "NaN", "time since the store visit began: stays less than 30 min apart"),
        ("zones_visit", "count", "store visit", "0", "different zones of this store visit"),
        ("visits_90d", "count", "90 d", "0", "store visits with a stay that began in the window, this one included"),
    ),
    *_group(
        WEB,
        "web.event",
        (),
        ("web_age_min", "min", "30 d", "NaN", "time since the newest web event"),
        ("views_7d", "count", "7 d", "0", "views of products and product lists"),
        ("category_views_7d", "count", "7 d", "0", "of these, those of the trigger's category"),
        ("web_sessions_7d", "count", "7 d", "0", "different web sessions"),
    ),
    *_group(
        CART,
        "web.event",
        (),
        ("cart_items", "pieces", "30 d", "0", "pieces added to the cart, neither removed nor ordered"),
        ("cart_value", "100 minor units", "30 d", "0", "what they cost, at the price they were added at"),
        ("cart_age_h", "h", "30 d", "NaN", "time since the oldest article still in the cart was added"),
        ("cart_has_category", "0 or 1", "30 d", "0", "whether the cart holds the trigger's category"),
    ),
    *_group(
        PURCHASES,
        "pos.receipt",
        (),
        ("category_days_since", "d", "365 d", "NaN", "time since the category was last bought"),
        ("category_purchases_180d", "count", "180 d", "0", "receipts with goods of the category"),
        ("return_share_365d", "share", "365 d", "NaN", "value brought back by value sold"),
    ),
    *_group(
        VALUE,
        "pos.receipt",
        (),
        ("rfm_x", "count", "all", "0", "purchase days after the first; a purchase day has a net above zero"),
        ("rfm_recency_w", "weeks", "all", "NaN", "from the first purchase day to the last"),
        ("rfm_age_w", "weeks", "all", "NaN", "from the first purchase day to today"),
        ("rfm_mean_value", "100 minor units", "all", "NaN", "mean net of the purchase days after the first"),
    ),
    *_group(
        CONTEXT,
        "venue",
        (),
        ("hour", "h", "now", "NaN", "hour of the day at the venue, 0-23"),
        ("weekday", "day", "now", "NaN", "day of the week at the venue, Monday is 0"),
        ("zone_occupancy", "count", "now", "NaN", "subjects in the trigger's zone"),
    ),
)
NAMES = tuple(feature.name for feature in FEATURES)
INDEX = {name: place for place, name in enumerate(NAMES)}


def places(group: str) -> tuple[int, ...]:
    """Where the features of a group stand in a vector."""
    return tuple(place for place, feature in enumerate(FEATURES) if feature.group == group)


def registry_hash(features: tuple[Feature, ...]) -> str:
    """Name a registry by everything but its prose.

    Args:
        features: in order.

    Returns:
        32 hex digits.
    """
    rows = [[f.name, f.group, f.unit, f.window, f.source, list(f.purposes), f.missing] for f in features]
    return hashlib.blake2b(msgspec.json.encode(rows), digest_size=16).hexdigest()


FEATURE_HASH = registry_hash(FEATURES)
