"""Do structs, .avsc files, released versions and their corpus agree? Needs no network.

Released versions lie in `released/<record>/<n>.avsc`, append-only, each with a corpus of encoded records.
`python -m schemas.check --release` writes the next version of every record that has changed.
"""

import random
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import orjson

from schemas import avsc
from schemas.codec import decode_datum
from schemas.rows import reader
from schemas.topics import TOPICS, Topic

RELEASED = Path(__file__).parent / "released"
CORPUS = 8
"""Encoded records kept for each released version."""


def faults() -> list[str]:
    """Everything that disagrees, in words; empty when all is well."""
    found = []
    for topic in TOPICS.values():
        path = avsc.FOLDER / f"{topic.name}.avsc"
        if not path.exists() or path.read_bytes() != avsc.text(topic.name):
            found.append(f"{path.name}: the file must equal its struct; run python -m schemas.avsc")
        found.extend(_released_faults(topic))
    known = {f"{name}.avsc" for name in TOPICS}
    found.extend(f"{path.name}: no such topic" for path in sorted(avsc.FOLDER.iterdir()) if path.name not in known)
    return found


def versions(topic: Topic) -> list[dict[str, Any]]:
    """Released schemas of a topic's record, oldest first."""
    folder = RELEASED / topic.record.__name__
    paths = sorted(folder.glob("*.avsc"), key=lambda path: int(path.stem)) if folder.exists() else []
    return [orjson.loads(path.read_bytes()) for path in paths]


def _released_faults(topic: Topic) -> Iterator[str]:
    released, current = versions(topic), avsc.schema_of(topic.name)
    if not released or released[-1] != current:
        yield f"{topic.name}: the newest released version must equal the struct; run python -m schemas.check --release"
    for number, old in enumerate(released, 1):
        for new_number, new in [*enumerate(released[number:], number + 1), (0, current)]:
            name = f"version {new_number}" if new_number else "the struct"
            yield from (f"{topic.name}: {rule} between version {number} and {name}" for rule in incompatible(old, new))
        yield from _corpus_faults(topic, number, old, [*released, current])


def _corpus_faults(topic: Topic, number: int, writer: dict[str, Any], readers: list[dict[str, Any]]) -> Iterator[str]:
    path = RELEASED / topic.record.__name__ / f"{number}.corpus.jsonl"
    if not path.exists():
        yield f"{topic.name}: version {number} must have its corpus {path.name}"
        return
    parsed = fastavro.parse_schema(avsc.plain(writer))
    for line in path.read_bytes().splitlines():
        body = b64decode(orjson.loads(line)["body"])
        ours = reader(topic.record)(decode_datum(parsed, body))[0]  # type: ignore[arg-type]
        for schema in readers:
            seen = fastavro.schemaless_reader(BytesIO(body), parsed, fastavro.parse_schema(avsc.plain(schema)))
            if schema is readers[-1] and seen != msgspec.to_builtins(ours, builtin_types=(bytes,)):
                yield f"{topic.name}: a record of version {number} must read the same by projection and by Avro"
                return


def incompatible(old: Any, new: Any, at: str = "") -> list[str]:
    """What breaks FULL compatibility between two schemas, in words."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type"):
        kind = old["type"]
        if kind == "record":
            return _records(old, new, at)
        if kind == "enum":
            kept = new["symbols"][: len(old["symbols"])]
            return (
                []
                if kept == old["symbols"] or old["symbols"][: len(new["symbols"])] == new["symbols"]
                else [f"{at}: symbols may only be appended"]
            )
        if kind == "array":
            return incompatible(old["items"], new["items"], f"{at}[]")
        if kind == "map":
            return incompatible(old["values"], new["values"], f"{at}{{}}")
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [fault for a, b in zip(old, new, strict=True) for fault in incompatible(a, b, at)]
    return [] if old == new else [f"{at}: the type must stay"]


def _records(old: dict[str, Any], new: dict[str, Any], at: str) -> list[str]:
    if (old.get("namespace"), old["name"]) != (new.get("namespace"), new["name"]):
        return [f"{at or old['name']}: the name must stay"]
    before, after = ({field["name"]: field for field in schema["fields"]} for schema in (old, new))
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    found = [f"{at}.{name}: a field without a default may not go" for name in gone if "default" not in before[name]]
    found += [f"{at}.{name}: a new field must have a default" for name in come if "default" not in after[name]]
    for name in before.keys() & after.keys():
        found.extend(incompatible(before[name]["type"], after[name]["type"], f"{at}.{name}"))
    return sorted(found)


def sample(schema: Any, draw: random.Random, named: dict[str, Any], depth: int = 0) -> Any:
    """A datum of a schema, drawn at random: for the corpus and for tests."""
    if isinstance(schema, list):
        return sample(draw.choice(schema), draw, named, depth)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, dict | list):
        return sample(kind, draw, named, depth)
    if kind in {"record", "enum"}:
        named[schema["name"]] = schema
        named[schema["name"].rsplit(".", 1)[-1]] = schema
    if kind == "record":
        return {field["name"]: sample(field["type"], draw, named, depth + 1) for field in schema["fields"]}
    if kind == "enum":
        return draw.choice(schema["symbols"])
    if kind == "array":
        return [sample(schema["items"], draw, named, depth + 1) for _ in range(draw.randint(0, 3))]
    if kind == "map":
        return {f"k{i}": sample(schema["values"], draw, named, depth + 1) for i in range(draw.randint(0, 3))}
    simple: dict[str, Callable[[], Any]] = {
        "null": lambda: None,
        "boolean": lambda: draw.random() < 0.5,
        "int": lambda: draw.randint(-(1 << 31), (1 << 31) - 1),
        "long": lambda: draw.randint(0, 4_000_000_000_000_000),
        "float": lambda: draw.randint(-4096, 4096) / 8,
        "double": lambda: draw.uniform(-1e6, 1e6),
        "string": lambda: "".join(draw.choices("abcdefgé中0123", k=draw.randint(0, 12))),
        "bytes": lambda: draw.randbytes(draw.randint(0, 9)),
    }
    if kind in simple:
        return simple[kind]()
    return sample(named[kind.rsplit(".", 1)[-1]], draw, named, depth)


def release() -> list[str]:
    """Write the next version, with its corpus, of every record that differs from its newest one."""
    done = []
    for topic in TOPICS.values():
        released = versions(topic)
        if released and released[-1] == avsc.schema_of(topic.name):
            continue
        number, folder = len(released) + 1, RELEASED / topic.record.__name__
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.avsc").write_bytes(avsc.text(topic.name))
        draw = random.Random(f"{topic.name} {number}")
        lines = []
        for _ in range(CORPUS):
            out = BytesIO()
            fastavro.schemaless_writer(out, avsc.parsed(topic.name), sample(avsc.parsed(topic.name), draw, {}))
            lines.append(orjson.dumps({"body": b64encode(out.getvalue()).decode()}, option=orjson.OPT_APPEND_NEWLINE))
        (folder / f"{number}.corpus.jsonl").write_bytes(b"".join(lines))
        done.append(f"{topic.record.__name__} {number}")
    return done


if __name__ == "__main__":
    if "--release" in sys.argv:
        print("\n".join(release()))
    else:
        print("\n".join(faults()))
