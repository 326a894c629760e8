"""A seeded Saturday of the shop, and what a replay of it from files says: the reference of the runs on a broker.

The replay has no broker, no recovery and no sink in common with them. So that both must say the same, what stands
(consents, links, stock) is known before the shop opens, sensors are honest, readings wait two seconds for each other,
nothing is too old to be spoken of, and history that was not heard is unknown.
"""

import time
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from bytewax.run import cli_main

from flows.afternoon import Simulation
from flows.deployment import Deployment
from flows.joining import live_topics
from flows.ports import Ports, stores
from flows.replay import FLOWS, merged
from flows.sensors import SECOND
from flows.simulate import EXAMPLE, copy_example
from operators.connectors.files import LineSink, RowSource
from schemas.rows import instant, reader
from schemas.topics import REFERENCE, TOPICS

HOUR = 3_600 * SECOND
WEEK = 7 * 24 * HOUR
OUTPUTS = sorted(FLOWS["store"].writes)
READ = frozenset(live_topics("store")) - {"crm.contact-point"}
"""Contact points are sealed on the wire, by whoever holds the key: left out."""
STANDING = REFERENCE & frozenset(READ)
SENSED = frozenset({"sensing.position", "sensing.position-batch"})
APART = 60_000
"""Rows so far apart (µs) have the same order by the microseconds of a file and the milliseconds of a broker."""
INSTANT = 10**15
"""Whole numbers of a row from here on are instants."""
RULES = """
[site]
id = "mad-01"
[pseudonym]
key_file = "{key}"
[campaigns]
stale_after = "400d"
[presence]
reorder = "2s"
"""


class Day:
    """A seeded day of the shop, by the times of its hearing, and what a replay says of it.

    Args:
        folder: where rows, venue, rules and key go.
        seed: draws everything.
        minutes: how long the shop is open.
    """

    def __init__(self, folder: Path, *, seed: int, minutes: float) -> None:
        self.folder = folder
        folder.mkdir()
        copy_example(EXAMPLE, folder)
        (folder / ".key").write_text("a key for the kill loop")
        (folder / ".key").chmod(0o600)
        simulation = Simulation(seed, faults=False)
        now = int(time.time()) * SECOND - HOUR
        moved = (now - simulation.start) // WEEK * WEEK
        self.opening = simulation.start + moved
        self.closing = self.opening + int(minutes * 60 * SECOND)
        standing: list[tuple[int, str, dict[str, Any]]] = []
        before: list[tuple[int, str, dict[str, Any]]] = []
        happening: list[tuple[int, str, dict[str, Any]]] = []
        early = count(self.opening - 600 * SECOND, APART)
        for topic, row in simulation.rows(minutes):
            old = row["ingest_time"] < simulation.start
            if topic not in READ or (old and topic in SENSED):
                continue
            told = {name: one + moved if type(one) is int and one > INSTANT else one for name, one in row.items()}
            if topic not in STANDING:
                (before if old else happening).append((told["ingest_time"], topic, told))
            elif topic != "context.fact" or told["ingest_time"] < self.opening + SECOND:
                at = told["ingest_time"] = next(early)
                told.update({name: min(told[name], at) for name in ("event_time", "valid_from") if name in told})
                standing.append((at, topic, told))
        for _, _, row in before:
            row["ingest_time"] = next(early)
        happening = [(row["ingest_time"], topic, row) for _, topic, row in before] + happening
        self._write([*standing, *happening])
        read = {topic: reader(TOPICS[topic].record) for topic in READ}
        self.standing = [(at, topic, read[topic](row)[0]) for at, topic, row in standing]
        self.happening = [(at, topic, read[topic](row)[0]) for at, topic, row in happening]
        self.events = len(self.standing) + len(self.happening)

    def _write(self, rows: list[tuple[int, str, dict[str, Any]]]) -> None:
        files: dict[str, list[bytes]] = {}
        for _, topic, row in rows:
            files.setdefault(topic, []).append(orjson.dumps(row))
        for topic, lines in files.items():
            (self.folder / f"{topic}.jsonl").write_bytes(b"\n".join(lines) + b"\n")

    @cached_property
    def reference(self) -> dict[str, dict[str, int]]:
        """What a replay of the same rows says: event time by id, by topic."""
        (self.folder / "footfall.toml").write_text(RULES.format(key=".key"))
        flow, out = FLOWS["store"], self.folder.parent / "reference"
        deployment = Deployment.load(self.folder, self.folder / "footfall.toml", complete=False, live=True)
        merge, _, _ = merged(self.folder, "ingest", flow.reads, known_venue=True)
        out.mkdir()
        ports = Ports(
            topics=RowSource(merge, size=512),
            records=LineSink(out, flow.writes),
            opened=stores(deployment.settings, out, {}),
        )
        cli_main(flow.build(deployment, ports))
        found: dict[str, dict[str, int]] = {}
        for topic in OUTPUTS:
            path = out / f"{topic}.jsonl"
            lines = path.read_bytes().splitlines() if path.exists() else []
            found[topic] = {row["event_id"]: instant(row["event_time"]) for row in map(orjson.loads, lines)}
        return found
