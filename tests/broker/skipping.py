"""A test whose service cannot be made on this machine is skipped, and says what is missing."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.broker.jars import NotHere

Made = TypeVar("Made")


def or_skipped(make: Callable[..., Made], *given: object) -> Made:
    """What `make` makes of what is given; the test is skipped where Java or Maven is missing."""
    try:
        return make(*given)
    except NotHere as missing:
        pytest.skip(str(missing))
