"""Dead letters opened for repair: with the deployment key, one file a topic, ready to be fed again."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from flows.ports import key_of
from flows.settings import WrongUse, load
from schemas.codec import decode_datum, read_file
from schemas.letters import CLEAR_TOPICS
from schemas.operations import DeadLetter
from schemas.rows import BadShape, from_line, reader
from schemas.sealing import Unsealable, deployment_key, opener


def _letters(path: Path) -> Iterator[DeadLetter]:
    if path.suffix == ".avro":
        schema, rows = read_file(path)
        for body, _ in rows:
            yield reader(DeadLetter)(decode_datum(schema, body))[0]
        return
    with path.open("rb") as file:
        for line in file:
            yield from_line(DeadLetter, line)


def exported(path: Path, out: Path, *, config: Path | None = None) -> dict[str, int]:
    """Write the payloads of a dead-letter file as `<topic>.jsonl`; answers rows by topic.

    A payload that came as Avro is written as `<topic>.<offset>.bin`. Withheld payloads are left out.

    Raises:
        WrongUse: the file is no dead-letter file, or the key is another one.
    """
    settings = load(config)
    key, _, _ = key_of(settings, config.parent if config else Path(), required=False)
    opened = opener(deployment_key(key))
    lines: dict[str, list[bytes]] = defaultdict(list)
    try:
        letters = list(_letters(path))
    except (OSError, BadShape, ValueError) as error:
        raise WrongUse(f"{path}: must be a readable file of ops.dead-letter") from error
    out.mkdir(parents=True, exist_ok=True)
    for letter in letters:
        if letter.payload is None:
            continue
        try:
            payload = letter.payload if letter.origin_topic in CLEAR_TOPICS else opened(letter.payload)
        except Unsealable as error:
            raise WrongUse(f"{path}: the letters must have been sealed under this deployment's key") from error
        if letter.schema_id is not None:
            (out / f"{letter.origin_topic}.{letter.origin_offset}.bin").write_bytes(payload)
        else:
            lines[letter.origin_topic].append(payload.rstrip(b"\n"))
    for topic, rows in lines.items():
        (out / f"{topic}.jsonl").write_bytes(b"".join(row + b"\n" for row in rows))
    return {topic: len(rows) for topic, rows in lines.items()}
