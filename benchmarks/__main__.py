"""`make bench`: throughput and latency, a JSON file each, and the README's table.

`latency` goes through a real Kafka broker, which it starts (Java and Maven needed); `live` through no broker.

`python -m benchmarks short` is the form that CI runs (under 3 minutes); it keeps its results apart.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import broker, results
from benchmarks.latency import latency
from benchmarks.throughput import activation, presence

FORMS: dict[str, dict[str, Any]] = {
    "all": {"minutes": 20, "days": 60, "rounds": 3, "seconds": 30.0},
    "short": {"minutes": 3, "days": 10, "rounds": 2, "seconds": 10.0},
}


def main() -> int:
    """Run the benches asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("bench", nargs="?", default="all", choices=("all", "short", "throughput", "live", "latency"))
    parser.add_argument("--rate", type=int, default=1000, help="rows a second for latency")
    asked = parser.parse_args()
    form = FORMS["short" if asked.bench == "short" else "all"]
    command = "make bench" if asked.bench == "all" else f"make bench B={asked.bench}"
    benches: dict[str, Callable[[], dict[str, Any]]] = {}
    if asked.bench == "latency":
        command = f"make bench B=latency RATE={asked.rate}"
        benches["broker"] = lambda: broker.latency(asked.rate, 30.0, command)
    if asked.bench in {"all", "short", "live"}:
        benches["live"] = lambda: latency(asked.rate, form["seconds"], command)
    if asked.bench in {"all", "short", "throughput"}:
        benches["presence"] = lambda: presence(form["minutes"], form["rounds"], command)
        benches["activation"] = lambda: activation(form["days"], form["rounds"], command)
    wrong = []
    for name, bench in benches.items():
        found = bench()
        if found.get("reference_match") is False:
            wrong.append(f"{name}: the flow and the reference must find the same; the figure is void")
        if asked.bench != "short":
            results.say(str(results.written(found)))
    for line in wrong:
        results.say(line)
    if asked.bench != "short" and not wrong:
        results.update_readme()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
