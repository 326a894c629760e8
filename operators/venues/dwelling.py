"""How a stay in a zone is confirmed and ended: the technology's defaults, the settings, the zone's own word."""

from collections.abc import Mapping

import msgspec

from operators.venues.rings import shape
from schemas.reference import Zone
from schemas.venue import Dwelling

SECOND = 1_000_000
HOUR = 3600 * SECOND
Overrides = Mapping[str, Mapping[str, float]]
"""Settings by technology in upper case (`""` for all): a field of Dwelling to its value."""


def _default(reorder: float, enter_s: float, exit_m: float, exit_s: float, gap_s: float, fresh_s: float) -> Dwelling:
    return Dwelling(
        reorder_us=int(reorder * SECOND),
        enter_margin_m=0.0,
        enter_confirm_us=int(enter_s * SECOND),
        enter_fixes=2,
        exit_margin_m=exit_m,
        exit_confirm_us=int(exit_s * SECOND),
        exit_fixes=2,
        gap_us=int(gap_s * SECOND),
        fresh_us=int(fresh_s * SECOND),
    )


_PRECISE = _default(1, 1, 0.5, 3, 10, 5)
_ANGLE = _default(2, 2, 1.0, 6, 15, 8)
_COARSE = _default(3, 1, 1.0, 8, 30, 15)
DEFAULTS: dict[str, Dwelling] = {
    "UNKNOWN": _PRECISE,
    "UWB": _PRECISE,
    "CAMERA": _PRECISE,
    "BLE_AOA": _ANGLE,
    "BLE_RSSI": _COARSE,
    "WIFI_RTT": _COARSE,
    "GNSS": _COARSE,
    "RFID": msgspec.structs.replace(
        _COARSE,
        reorder_us=2 * SECOND,
        enter_confirm_us=0,
        exit_confirm_us=30 * SECOND,
        gap_us=60 * SECOND,
        fresh_us=30 * SECOND,
    ),
    "SCAN": msgspec.structs.replace(
        _PRECISE, reorder_us=0, enter_confirm_us=0, enter_fixes=1, gap_us=60 * SECOND, fresh_us=60 * SECOND
    ),
}
"""Parameters by technology, for positions; one that has no row of its own takes that of its kind of error."""
SMALLEST_SIDE_M: dict[str, float] = {
    "UNKNOWN": 3,
    "UWB": 3,
    "CAMERA": 3,
    "BLE_AOA": 8,
    "BLE_RSSI": 10,
    "WIFI_RTT": 10,
    "GNSS": 20,
}
"""A zone's side at least: the larger of the table's minimum and twice the p95 error of the technology."""
LONGEST_STAY: dict[str, int] = {"FITTING_ROOM": HOUR, "STORE": 14 * HOUR}
"""After how long a tag counts as left behind, where the kind of zone has its own answer."""
PARAMETERS = tuple(field for field in Dwelling.__struct_fields__ if field != "reorder_us")


def default_of(tech: str) -> Dwelling:
    """Defaults of a technology."""
    return DEFAULTS.get(tech, _PRECISE)


def dwelling(zone: Zone, tech: str, overrides: Overrides | None = None, *, side_m: float | None = None) -> Dwelling:
    """Parameters of a zone for the readings of one technology.

    The zone's own word wins over `[presence.<tech>]`, that over `[presence]`, that over the defaults. No
    margin exceeds a sixth of the zone's side, and `fresh` never exceeds `gap`: a due time could otherwise
    hide behind a closing.

    Args:
        zone: the zone as it stands.
        tech: technology of the readings.
        overrides: what the settings say.
        side_m: the zone's side where the caller has it already; else it is worked out.

    Returns:
        All parameters, nothing left open.
    """
    values: dict[str, float] = msgspec.structs.asdict(default_of(tech))
    for scope in ("", tech):
        values.update((overrides or {}).get(scope, {}))
    if zone.kind in LONGEST_STAY:
        values["max_dwell_us"] = LONGEST_STAY[zone.kind]
    for name in PARAMETERS:
        own = getattr(zone, name)
        if own is not None:
            values[name] = own
    sixth = (shape(zone.rings).side() if side_m is None else side_m) / 6
    values["enter_margin_m"] = min(values["enter_margin_m"], sixth)
    values["exit_margin_m"] = min(values["exit_margin_m"], sixth)
    values["fresh_us"] = min(values["fresh_us"], values["gap_us"])
    return msgspec.convert(values, Dwelling)
