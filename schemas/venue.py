"""The venue as nouns: floors, zones with their parameters, devices. Lengths in metres, durations in µs."""

import msgspec

from schemas.reference import Device, Site, Zone


class Dwelling(msgspec.Struct, frozen=True, kw_only=True):
    """How presence in a zone is confirmed and ended (`presence`, section 7); durations in µs."""

    enter_margin_m: float
    enter_confirm_us: int
    enter_fixes: int
    exit_margin_m: float
    exit_confirm_us: int
    exit_fixes: int
    gap_us: int
    fresh_us: int
    edge_max_us: int = 30_000_000
    acc_cap_m: float = 0.0
    takeover_margin_m: float = 0.0
    max_dwell_us: int = 4 * 3600 * 1_000_000
    reorder_us: int = 1_000_000


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """One level: its ordinal and its outline as rings of (x, y) pairs."""

    floor: float
    rings: list[list[tuple[float, float]]]


class Venue(msgspec.Struct, frozen=True, kw_only=True):
    """A whole shop. `site.site_id` is the id of the shop in the envelope of `site`."""

    site: Site
    floors: list[Floor]
    zones: dict[str, Zone]
    devices: dict[str, Device]
    centroids: dict[str, tuple[float, float]] = {}
    warnings: list[str] = []
