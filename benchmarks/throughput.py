"""Throughput from files: presence and activation against a plain loop of the same rules, in the same run."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from benchmarks import loop
from benchmarks.results import result, say
from flows.deployment import EXAMPLE, Deployment
from flows.history import write_history
from flows.replay import Options, replay
from flows.settings import TECHNOLOGIES
from flows.simulate import simulate, write_rows
from operators.connectors.merge import Merge, json_rows
from operators.venues.dwelling import dwelling
from schemas.items import Heard

SEED = 7
ROUNDS = 3


def _clean(source: Path, minutes: int) -> int:
    """A shop whose positions come in order, without delay, repeats or faults; answers how many."""
    rows = simulate(SEED, minutes, faults=False)
    write_rows(source, rows, EXAMPLE, 0, minutes)
    for topic in source.glob("*.jsonl"):
        if topic.stem != "sensing.position":
            topic.unlink()
    path = source / "sensing.position.jsonl"
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    lines.sort(key=lambda row: (row["event_time"], row["subject_id"]))
    seen: dict[tuple[str, int], dict[str, Any]] = {}
    for row in lines:
        seen.setdefault((row["subject_id"], row["event_time"]), {**row, "ingest_time": row["event_time"]})
    kept = list(seen.values())
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in kept))
    replay(Options(source=source, out=source / "first", flow="presence"))
    refused = {
        orjson.loads(line)["origin_offset"]
        for topic in ("ops.dead-letter", "ops.late")
        for line in (source / "first" / f"{topic}.jsonl").read_bytes().splitlines()
    }
    kept = [row for offset, row in enumerate(kept) if offset not in refused]  # the loop has no gates
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in kept))
    return len(kept)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def _interleaved(ours: Callable[[], Any], reference: Callable[[], Any], rounds: int) -> tuple[float, float, Any, Any]:
    """Fastest of each, in turn, so that a busy minute hits both."""
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(_timed(ours))
        theirs.append(_timed(reference))
    return min(one[0] for one in mine), min(one[0] for one in theirs), mine[0][1], theirs[0][1]


def _row(
    bench: str, title: str, unit: str, count: int, seconds: float, reference: float, match: bool, command: str
) -> dict[str, Any]:
    per_s, plain = round(count / seconds), round(count / reference)
    say(f"{title}: {per_s:,} {unit}/s; plain loop {plain:,}/s; ratio {per_s / plain:.2f}; same answer: {match}")
    return result(
        bench,
        title=title,
        unit=unit,
        command=command,
        seed=SEED,
        events=count,
        per_s=per_s,
        reference_match=match,
        settings={"format": "jsonl", "state": "memory", "batch": 512, "broker": "none"},
        reference={"engine": "loop", "title": "plain loop", "per_s": plain, "ratio": round(per_s / plain, 3)},
    )


def presence(minutes: int, rounds: int, command: str) -> dict[str, Any]:
    """Positions to dwells, through decode, the gates, order and the stays."""
    with TemporaryDirectory() as folder:
        source, out = Path(folder) / "in", Path(folder) / "out"
        count = _clean(source, minutes)
        deployment = Deployment.load(source, source / "footfall.toml")
        wanted = dict(deployment.rules.thresholds())
        zones = deployment.venue.zones.values()
        ways = {tech: {zone.zone_id: dwelling(zone, tech) for zone in zones} for tech in TECHNOLOGIES}
        lines = source / "sensing.position.jsonl"
        mine, plain, summary, dwells = _interleaved(
            lambda: replay(Options(source=source, out=out, flow="presence")),
            lambda: loop.presence(lines, deployment.venue, ways, wanted),
            rounds,
        )
        told = Counter(
            orjson.loads(line)["zone_id"] for line in (out / "presence.dwell.jsonl").read_bytes().splitlines()
        )
        del summary
        return _row(
            "throughput-presence", "presence from files", "positions", count, mine, plain, told == dwells, command
        )


def _heard(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    merge = Merge([json_rows(path, "ingest") for path in sorted(source.glob("*.jsonl"))])
    for item in merge.items(0, len(merge)):
        if isinstance(item, Heard):
            yield item.topic, orjson.loads(item.value)


def activation(days: int, rounds: int, command: str) -> dict[str, Any]:
    """Web, till and presence events to decisions, through identity, profile, segments and campaigns."""
    with TemporaryDirectory() as folder:
        source, out = Path(folder) / "in", Path(folder) / "out"
        write_history(source, SEED, days)
        for name in ("offers-premium-dwell",):
            for other in (source / "campaigns").glob("*.yaml"):
                if other.stem != name:
                    other.unlink()
        path = source / "campaigns" / "offers-premium-dwell.yaml"
        kept = [line for line in path.read_text().splitlines() if not line.startswith(("test:", "  quiet:"))]
        path.write_text("\n".join(kept) + "\n")
        deployment = Deployment.load(source, source / "footfall.toml")
        categories = {zone.zone_id: zone.category for zone in deployment.venue.zones.values()}
        rows = list(_heard(source))
        mine, plain, summary, told = _interleaved(
            lambda: replay(Options(source=source, out=out, flow="activation")),
            lambda: loop.activation(_heard(source), categories),
            rounds,
        )
        fired = sum(
            candidate["verdict"] == "FIRED"
            for line in (out / "decision.record.jsonl").read_bytes().splitlines()
            for candidate in orjson.loads(line)["candidates"]
        )
        del summary
        found = _row(
            "throughput-activation",
            "activation from files",
            "events",
            len(rows),
            mine,
            plain,
            fired == told["FIRED"],
            command,
        )
        return {**found, "fired": fired, "fired_by_loop": told["FIRED"]}
