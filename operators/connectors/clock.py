"""The wall clock: read here and nowhere else."""

import os
import time
from pathlib import Path


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


def apart(url: str, ca_file: Path | None = None) -> float | None:
    """Seconds by which this clock is ahead of a server's, to half a second or so; None where it says no time."""
    import ssl
    from email.utils import parsedate_to_datetime
    from urllib.error import HTTPError
    from urllib.request import urlopen

    before = time.time()
    try:
        context = ssl.create_default_context(cafile=ca_file)
        with urlopen(url, timeout=5, context=context) as answer:  # noqa: S310 -- the address stands in the settings
            said = answer.headers.get("Date")
    except HTTPError as error:  # refused, and dated all the same
        said = error.headers.get("Date")
    except OSError:
        return None
    if said is None:
        return None
    return (before + time.time()) / 2 - (parsedate_to_datetime(said).timestamp() + 0.5)  # whole seconds, cut off
