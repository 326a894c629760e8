"""Numbers that cannot be: not finite, or outside what their unit allows. Judged by the name of the field."""

from collections.abc import Callable
from functools import cache
from math import inf, isfinite
from typing import Any, get_args, get_origin

import msgspec

from schemas.rows import hints, unwrapped
from schemas.types import AnyRecord, Avro

Fault = tuple[str, str]
"""Reason and detail; the detail names the field and never the value."""
_COUNTS = frozenset(
    {"count_in", "count_out", "occupancy", "sent", "dropped", "nfc_counter", "fix_count", "gap_count", "attempt"}
)
_SHARES = frozenset({"confidence", "quality", "score"})
_LIMITS: dict[str, tuple[float, float]] = {
    "lat_deg": (-90, 90),
    "lon_deg": (-180, 180),
    "speed_mps": (0, inf),
    "acc_cap_m": (0, inf),
    "birth_year": (1850, 2100),
}


_MOST = 1e12
"""Of minor units, thousandths and counts: sums of ten thousand lines, and of years of receipts, fit 64 bits."""
_LONGEST = 1e15
"""Microseconds of a duration: 31 years."""


def _limits(name: str) -> tuple[float, float] | None:
    if name in _LIMITS:
        return _LIMITS[name]
    if name.endswith(("_minor", "_milli")):
        return -_MOST, _MOST
    if name in _COUNTS:
        return 0, _MOST
    if name.endswith(("_margin_m", "_fixes")):
        return 0, inf
    if name in _SHARES or name.endswith("_share"):
        return 0, 1
    if name.endswith("_dbm"):
        return -130, 20
    if name.endswith("_us") and name != "clock_offset_us":
        return 0, _LONGEST
    return None


Check = Callable[[Any], Fault | None]


def _check(name: str, *, floats: bool, limits: tuple[float, float] | None) -> Check:
    def check(record: Any) -> Fault | None:
        value = getattr(record, name)
        if value is None:
            return None
        for each in value if isinstance(value, list) else (value,):
            if floats and not isfinite(each):
                return "NOT_FINITE", f"{name} must be a finite number"
            if limits is not None and not limits[0] <= each <= limits[1]:
                return "OUT_OF_RANGE", f"{name} must be from {limits[0]:g} to {limits[1]:g}"
        return None

    return check


def _parts(name: str, part: type[msgspec.Struct]) -> Check:
    checks = _checks(part)

    def check(record: Any) -> Fault | None:
        for each in getattr(record, name) or ():
            for one in checks:
                if fault := one(each):
                    return fault
        return None

    return check


def _accuracy(record: Any) -> Fault | None:
    value = record.accuracy_m
    if value is not None and not 0 < value <= 1000:
        return "OUT_OF_RANGE", "accuracy_m must be above 0 and at most 1000"
    return None


def _interval(record: Any) -> Fault | None:
    if record.interval_end < record.interval_start:
        return "OUT_OF_RANGE", "interval_end must not be before interval_start"
    return None


def _rings(record: Any) -> Fault | None:
    if all(isfinite(value) for ring in record.rings for value in ring.xy_m):
        return None
    return "NOT_FINITE", "rings must hold finite numbers"


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


@cache
def _checks(record: type[msgspec.Struct]) -> tuple[Check, ...]:
    """What must be looked at in a record: every field, in order, what is not finite first."""
    finite: list[Check] = []
    within: list[Check] = []
    for name, hint in hints(record).items():
        inner = unwrapped(hint)[0]
        avro = next((each for each in getattr(inner, "__metadata__", ()) if isinstance(each, Avro)), None)
        floats, limits = avro is not None and avro.name in {"float", "double"}, _limits(name)
        if floats:
            finite.append(_check(name, floats=True, limits=None))
        if limits is not None:
            within.append(_check(name, floats=False, limits=limits))
        if name == "rings":
            finite.append(_rings)
        elif get_origin(inner) is list and _is_struct(get_args(inner)[0]):
            within.append(_parts(name, get_args(inner)[0]))
        elif name == "accuracy_m":
            within.append(_accuracy)
        elif name == "interval_end":
            within.append(_interval)
    return (*finite, *within)


def fault_of(record: AnyRecord) -> Fault | None:
    """The first number of a record that cannot be, as a reason and a detail; None when all can."""
    for check in _checks(type(record)):
        if fault := check(record):
            return fault
    return None
