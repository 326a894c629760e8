"""What a text looks like: an address or a number of a person, or a name that somebody gave a thing."""

import re
from ipaddress import ip_address
from typing import Any

_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_PHONE = re.compile(r"(?:\+|00)[0-9][0-9 ()./-]{6,}[0-9]")
_MAC = re.compile(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)
_CARD = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}")
_NAME = re.compile(r"(?![0-9._-]{7})[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def personal(value: Any) -> bool:
    """Whether a text holds what looks like an e-mail, phone, card, MAC or IP address."""
    if not isinstance(value, str):
        return False
    if _EMAIL.search(value) or _PHONE.search(value) or _MAC.search(value):
        return True
    if any(_luhn(re.sub(r"[ -]", "", found)) for found in _CARD.findall(value)):
        return True
    try:
        ip_address(value.strip())
    except ValueError:
        return False
    return not value.strip().isdecimal()


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def named_thing(text: str) -> bool:
    """Whether a text is a name as things have it, `uwb-1` or `gate.north`: short, and neither address nor number.

    >>> named_thing("uwb-1"), named_thing("ana@example.com"), named_thing("loyalty:ana-1"), named_thing("600123456")
    (True, False, False, False)
    """
    return _NAME.fullmatch(text) is not None and not personal(text)
