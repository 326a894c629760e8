"""A broker and a registry to try things with: `python -m tests.broker`, until Ctrl-C. What they held goes with them."""

import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from tests.broker.jars import DidNotStart, NotHere
from tests.broker.kafka import Kafka
from tests.broker.registry import Registry


def main() -> None:
    """Start both, say what to put into the settings, and wait."""
    with tempfile.TemporaryDirectory(prefix="footfall-broker-") as made:
        folder = Path(made)
        with Kafka(folder / "kafka") as kafka, Registry(folder / "registry") as registry:
            print(f'[kafka]\nbootstrap = "{kafka.bootstrap}"\n\n[registry]\nurl = "{registry.url}"', flush=True)
            while True:
                signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            main()
    except (NotHere, DidNotStart) as error:
        sys.exit(str(error))
