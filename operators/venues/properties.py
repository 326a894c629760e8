"""What the properties of a venue file may say: their names, their values, and the field each becomes."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args
from zoneinfo import ZoneInfo

from operators.venues.hours import Hours
from schemas import durations
from schemas.reference import DeviceKind, LegalBasis, ZoneKind
from schemas.rows import BadShape, instant, single
from schemas.sensing import Tech
from schemas.types import Symbols


class Wrong(Exception):
    """One value that cannot be; the message says what was expected and what was found."""


def nearest(name: str, legal: Iterable[str]) -> str:
    """The legal name that a mistyped one is nearest to, as the end of a message."""
    from rapidfuzz import fuzz, process  # here: a venue that is right needs it nowhere

    found = process.extractOne(name, list(legal), scorer=fuzz.ratio, score_cutoff=50)
    return f" (nearest: {found[0]!r})" if found else ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a text; got {value!r}")
    return value


def _filled(value: Any) -> str:
    if not _text(value):
        raise Wrong("must not be empty")
    return value  # type: ignore[no-any-return]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false; got {value!r}")
    return value


def number(value: Any) -> float:
    """A finite number, rounded as every float is at the door."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Wrong(f"must be a number; got {value!r}")
    return single(float(value))


def _exact(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number(value)
        if not low <= value <= high:
            raise Wrong(f"must be from {low} to {high}; got {value!r}")
        return float(value)

    return read


def _length(value: Any) -> float:
    if number(value) < 0:
        raise Wrong(f"must not be negative; got {value!r}")
    return number(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong(f"must be a whole number; got {value!r}")
    return value


def _count(value: Any) -> int:
    if _whole(value) < 1:
        raise Wrong(f"must be at least 1; got {value!r}")
    return value  # type: ignore[no-any-return]


def _duration(value: Any) -> int:
    try:
        return durations.parse(value)
    except durations.DurationFault as fault:
        raise Wrong(str(fault).removeprefix("a duration ")) from fault


def _stays(value: Any) -> list[int]:
    found = sorted({_duration(each) for each in _listed(value)})
    if found and found[0] == 0:
        raise Wrong("must be durations above 0; got '0s'")
    return found


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Wrong(f"must be a list; got {value!r}")
    return value


def _texts(value: Any) -> list[str]:
    return [_text(each) for each in _listed(value)]


def _capabilities(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Wrong(f"must be an object of texts; got {value!r}")
    return {name: _text(each) for name, each in value.items()}


def _moment(value: Any) -> int:
    try:
        return instant(value)
    except BadShape as wrong:
        raise Wrong(f"must be RFC 3339 or integer microseconds; got {value!r}") from wrong


def _symbol(enum: Any) -> Callable[[Any], str]:
    (found,) = (each for each in get_args(enum) if isinstance(each, Symbols))
    legal = found.symbols[1:]

    def read(value: Any) -> str:
        if value not in legal:
            hint = nearest(value, legal) if isinstance(value, str) else ""
            raise Wrong(f"must be one of {' '.join(legal)}; got {value!r}{hint}")
        return str(value)

    return read


def _time_zone(value: Any) -> str:
    try:
        ZoneInfo(_filled(value))
    except (ValueError, OSError) as error:  # an unknown key is a KeyError and an OSError by turns of the platform
        raise Wrong(f"must be an IANA time zone like 'Europe/Madrid'; got {value!r}") from error
    except KeyError as error:
        raise Wrong(f"must be an IANA time zone like 'Europe/Madrid'; got {value!r}") from error
    return str(value)


def _hours(value: Any) -> list[str]:
    found = _texts(value)
    try:
        Hours(found, "UTC", 0)
    except ValueError as error:
        raise Wrong(f"must be opening hours like 'Mo-Sa 09:00-21:00'; got {value!r}") from error
    return found


Reader = Callable[[Any], Any]
SITE: dict[str, tuple[str, Reader]] = {
    "site_id": ("site_id", _filled),
    "lat_deg": ("lat_deg", _exact(-90, 90)),
    "lon_deg": ("lon_deg", _exact(-180, 180)),
    "bearing_deg": ("bearing_deg", _exact(-360, 360)),
    "time_zone": ("time_zone", _time_zone),
    "opening": ("opening", _hours),
    "currency": ("currency", _text),
    "jurisdiction": ("jurisdiction", _text),
    "legal_basis": ("legal_basis", _symbol(LegalBasis)),
    "revision": ("revision", _whole),
}
_FLOOR: dict[str, tuple[str, Reader]] = {"floor": ("floor", number)}
_ZONE: dict[str, tuple[str, Reader]] = {
    "kind": ("kind", _symbol(ZoneKind)),
    "name": ("name", _text),
    "floor": ("floor", number),
    "category": ("category", _text),
    "exclusive_group": ("exclusive_group", _filled),
    "priority": ("priority", _whole),
    "sensitive": ("sensitive", _flag),
    "valid_from": ("valid_from", _moment),
    "valid_to": ("valid_to", _moment),
    "tech": ("tech", _symbol(Tech)),
    "dwell": ("dwell_us", _stays),
    **{name: (name, _length) for name in ("enter_margin_m", "exit_margin_m", "acc_cap_m", "takeover_margin_m")},
    **{name: (name, _count) for name in ("enter_fixes", "exit_fixes")},
    **{
        name: (f"{name}_us", _duration)
        for name in ("enter_confirm", "exit_confirm", "gap", "fresh", "edge_max", "max_dwell")
    },
}
_DEVICE: dict[str, tuple[str, Reader]] = {
    "kind": ("kind", _symbol(DeviceKind)),
    "zone_id": ("zone_id", _filled),
    "floor": ("floor", number),
    "heading_deg": ("heading_deg", number),
    "view_zones": ("view_zones", _texts),
    "shared": ("shared", _flag),
    "capabilities": ("capabilities", _capabilities),
}
TYPES = {"floor": _FLOOR, "zone": _ZONE, "device": _DEVICE}


def fields_of(
    given: Mapping[str, Any], legal: Mapping[str, tuple[str, Reader]], at: str, faults: list[str]
) -> dict[str, Any]:
    """Read the properties of one thing; null stands for one left out."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in legal:
            faults.append(f"{at}: property must be one of {' '.join(legal)}; got {name!r}{nearest(name, legal)}")
        elif value is not None:
            field, read = legal[name]
            try:
                found[field] = read(value)
            except Wrong as wrong:
                faults.append(f"{at}: {name} {wrong}")
    return found
