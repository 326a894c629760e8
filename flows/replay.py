"""Replay: a directory of topics in, a directory of topics out, the same bytes every time."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from flows.activation import activation
from flows.deployment import Deployment
from flows.ports import Ports, stores
from flows.presence import presence
from flows.settings import WrongUse
from flows.store import store
from operators.connectors.files import LineSink, RowSource
from operators.connectors.merge import Merge, Progress, Rows, avro_rows, json_rows
from operators.state.memory import Memory
from schemas.topics import TOPICS

Build = Callable[[Deployment, Ports], Dataflow]

_REFERENCE = ("venue.site", "venue.zone", "venue.device", "control.release", "control.threshold")
_PRESENCE_IN = frozenset(
    {"consent.record", "identity.link", *_REFERENCE} | {t for t in TOPICS if t.startswith("sensing.")}
)
_PRESENCE_OUT = frozenset({"presence.transition", "presence.dwell", "presence.visit"})
_ACTIVATION_OUT = frozenset(
    {
        "identity.assignment",
        "identity.change",
        "profile.snapshot",
        "segment.change",
        "decision.score",
        "decision.record",
        "action.command",
    }
)
_BOTH_OUT = frozenset({"ops.dead-letter", "ops.alert"})
_RAW = frozenset({"sensing.position", "sensing.position-batch", "sensing.status"})


@dataclass(frozen=True)
class Flow:
    """A flow by name: how it is built, what it reads, what it writes."""

    build: Build
    reads: frozenset[str]
    writes: frozenset[str]


FLOWS = {
    "presence": Flow(presence, _PRESENCE_IN, _PRESENCE_OUT | _BOTH_OUT | {"ops.late"}),
    "activation": Flow(activation, frozenset(TOPICS) - _RAW, _ACTIVATION_OUT | _BOTH_OUT),
    "store": Flow(store, frozenset(TOPICS), _PRESENCE_OUT | _ACTIVATION_OUT | _BOTH_OUT | {"ops.late"}),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `footfall replay` was asked to do."""

    source: Path
    out: Path
    flow: str = "store"
    format: str = "jsonl"
    order: str = "ingest"
    end: str = "close"
    deliver: bool = False
    config: Path | None = None
    batch: int = 512
    recovery: Path | None = None
    memories: dict[str, Memory] = field(default_factory=dict)


def topic_files(folder: Path, *, known_venue: bool) -> list[Path]:
    """The topic files of a replay directory; anything that has no place there is refused."""
    if not folder.is_dir():
        raise WrongUse(f"{folder}: the input of a replay must be a directory")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name
        if path.is_dir() or name.startswith((".", "README", "expected")) or name in {"footfall.toml", "venue.geojson"}:
            continue
        topic = path.stem
        if path.suffix not in {".jsonl", ".avro"} or topic not in TOPICS:
            raise WrongUse(
                f"{path}: a file must be footfall.toml, venue.geojson, or <topic>.jsonl or .avro of a known topic"
            )
        if topic in found:
            raise WrongUse(f"{path}: a topic must have one file; {found[topic].name} is there too")
        if not (known_venue and topic.startswith("venue.")):
            found[topic] = path
    return list(found.values())


def merged(
    folder: Path, order: str, reads: frozenset[str], *, known_venue: bool
) -> tuple[Merge, list[str], dict[int, tuple[str, Any]]]:
    """The rows of a directory as one stream, the topics it has, and the writers' schemas of its Avro files."""
    schemas: dict[int, tuple[str, Any]] = {}
    rows: list[Rows] = []
    for path in topic_files(folder, known_venue=known_venue):
        if path.stem not in reads:
            continue
        if path.suffix == ".jsonl":
            rows.append(json_rows(path, order))
            continue
        try:
            rows.append(avro_rows(path, order, len(schemas) + 1, schemas))
        except (ValueError, EOFError, StopIteration) as error:
            raise WrongUse(f"{path}: an .avro file must be an Avro object container") from error
    return Merge(rows), [one.topic for one in rows], schemas


def replay(
    options: Options, progress: Progress = lambda _done, _total: None, say: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Run a flow over a directory and write its topics and `summary.json`; answers the summary.

    Raises:
        WrongUse: the directory, its settings, venue or rules are refused; nothing was written.
    """
    flow = FLOWS[options.flow]
    config = options.config or (options.source / "footfall.toml")
    deployment = Deployment.load(
        options.source, config if config.exists() or options.config else None, end=options.end, say=say
    )
    known_venue = (options.source / "venue.geojson").exists()
    merge, topics, schemas = merged(options.source, options.order, flow.reads, known_venue=known_venue)
    deployment = deployment.heard_from(schemas)
    writes = flow.writes | ({"action.outcome"} if options.deliver and options.flow != "presence" else frozenset())
    _prepare(options.out, options.source, fresh=options.recovery is None)
    sink = LineSink(options.out, writes, deliver=options.deliver)
    ports = Ports(
        topics=RowSource(merge, size=options.batch, progress=progress),
        records=sink,
        opened=stores(deployment.settings, options.out, options.memories),
        stamp=lambda: 0,
    )
    began = time.perf_counter()
    recovery = None if options.recovery is None else RecoveryConfig(str(options.recovery))
    cli_main(flow.build(deployment, ports), recovery_config=recovery)
    seconds = time.perf_counter() - began
    if options.format == "avro":
        sink.as_avro()
    summary = {
        "flow": options.flow,
        "in": sink.counts(sorted(topics)),
        "out": {topic: sink.rows[topic] for topic in sorted(writes)},
        "sha256": sink.digests(),
        "seconds": round(seconds, 3),
        "events_per_s": round(len(merge) / seconds) if seconds else 0,
    }
    (options.out / "summary.json").write_bytes(
        orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    return summary


def _prepare(out: Path, source: Path, *, fresh: bool) -> None:
    """Make the out folder and take away what an earlier replay left; anything else in it is refused."""
    if out.resolve() == source.resolve():
        raise WrongUse(f"{out}: the out folder must not be the input")
    out.mkdir(parents=True, exist_ok=True)
    if not fresh:
        return
    for path in out.iterdir():
        ours = path.stem in TOPICS or path.name in {"summary.json", "delivered.jsonl", "state"}
        if not ours:
            raise WrongUse(f"{path}: the out folder must be empty or hold an earlier replay")
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
