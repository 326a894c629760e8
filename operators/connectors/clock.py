"""The wall clock: read here and nowhere else."""

import time


def wall() -> int:
    """Now, µs UTC."""
    return time.time_ns() // 1000


def monotonic() -> float:
    """Seconds that never go back."""
    return time.monotonic()
