"""The wall clock: read here and nowhere else."""

import os
import time


def wall() -> int:
    """Now, µs UTC."""
    return time.time_ns() // 1000


def monotonic() -> float:
    """Seconds that never go back."""
    return time.monotonic()


def process_age() -> float:
    """Seconds since this process was started, its imports included."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 -- no file to keep
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def processor_time() -> float:
    """Seconds of processor that this process has used."""
    return time.process_time()
