"""What stands in a row is nobody's to read where it was refused: no dead letter, alert or line of the log repeats it."""

import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import orjson
import pytest

from flows.deployment import EXAMPLE
from flows.replay import FLOWS
from schemas.letters import CLEAR_TOPICS
from schemas.rows import hints, unwrapped
from schemas.topics import TOPICS
from schemas.types import Avro
from tests.flow.replays import rows, run

POISONS = (
    "ana.lopez@example.com",
    "+34 600 123 456",
    "Ana López",
    "loyalty:ana-4711",
    "12:9a:3b:44:5c:6d",
    "600123456",
)
RAW = sorted(FLOWS["store"].reads - FLOWS["store"].writes)
T0, S = 1_796_486_400_000_000, 1_000_000
WRONG: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no time": {"event_time": "never"},
    "in the future": {"event_time": T0 + 3_600 * S},
    "for ever": {"event_time": 3_900_000_000 * S},
    "too old": {"event_time": 3 * S},
    "out of range": {"bad numbers": 1e12},
    "elsewhere": {"floor": 77.0},
}
"""What makes a row be refused, at each gate that a row of any topic may meet."""


def sample(hint: Any, text: str, number: float) -> Any:
    """A value of a field's type that holds `text` wherever it can."""
    inner = unwrapped(hint)[0]
    if get_origin(inner) is list:
        return [sample(get_args(inner)[0], text, number)]
    if get_origin(inner) is dict:
        return {text: text}
    if get_origin(inner) is Literal or (isinstance(inner, type) and issubclass(inner, msgspec.Struct)):
        return {name: sample(one, text, number) for name, one in hints(inner).items()}
    mark = next((one for one in get_args(inner)[1:] if isinstance(one, Avro)), None)
    if mark is None:
        return text  # a symbol: one that nobody knows
    kinds = {"string": text, "bytes": "", "boolean": False, "float": number, "double": number}
    return T0 if mark.logical else kinds.get(mark.name, int(number))


def spoilt(topic: str, poison: str, wrong: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each field that can hold a text, and one where all do."""
    record = TOPICS[topic].record
    number = wrong.get("bad numbers", 1)
    others = {name: value for name, value in wrong.items() if name in record.__struct_fields__}
    whole = {name: sample(hint, poison, number) for name, hint in hints(record).items()} | others
    plain = {name: sample(hint, "x", number) for name, hint in hints(record).items()} | {"site_id": None} | others
    if topic == "venue.site":
        whole["site_id"] = None  # what the venue's own topic calls a site is one
    alone = [name for name in whole if whole[name] != plain[name]]
    return [*({**plain, "event_id": f"x-{name}", name: whole[name]} for name in alone), whole]


def strayed(poison: str, shift: int, start: int) -> list[dict[str, Any]]:
    """A source whose clock is `shift` off, under a name that should stand nowhere."""
    return [
        {
            "event_time": T0 + start + i * S // 5 + shift, "ingest_time": T0 + start + i * S // 5, "source_id": poison,
            "subject_id": f"tag:{poison}", "tech": "UWB", "x_m": 12.0, "y_m": 7.0, "floor": 0,
        }
        for i in range(60)
    ]  # fmt: skip


def crowd(poison: str) -> list[dict[str, Any]]:
    """A cookie that stands with so many cards that somebody is told."""
    return [
        {
            "event_time": T0 + n * 3_600 * S, "name": "seen", "site_id": poison, "source_id": poison, "session_id": poison,
            "identifiers": [f"cookie:{poison}", f"login:{poison}-{n}"], "client_created": T0, "client_sent": T0,
        }
        for n in range(40)
    ]  # fmt: skip


def told(folder: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Dead letters and alerts as bytes to search: payloads opened from their base64, those left clear by rule aside."""
    letters, texts = rows(folder, "ops.dead-letter"), []
    for letter in letters:
        clear = letter["origin_topic"] in CLEAR_TOPICS
        kept = [b64decode(letter.pop(name) or "") for name in ("payload", "origin_key")]
        texts += [orjson.dumps(letter)] + ([] if clear else kept)
    return letters, [*texts, *((folder / "ops.alert.jsonl").read_bytes().splitlines())]


@pytest.mark.parametrize("poison", POISONS)
def test_no_letter_and_no_alert_repeats_what_a_row_held(tmp_path, capfd, poison):
    shutil.copytree(EXAMPLE, tmp_path / "in")
    venue = tmp_path / "in" / "venue.geojson"
    venue.write_text(venue.read_text().replace('"legal_basis": "CONSENT"', '"legal_basis": "PSEUDONYMOUS"'))
    for topic in RAW:
        found = [row for wrong in WRONG.values() for row in spoilt(topic, poison, wrong)]
        found += [[poison], poison, {"event_time": T0, "site_id": poison}]
        if topic == "sensing.position":
            found += strayed(poison, 7_200 * S, 0) + strayed(f"{poison} 2", 3 * S, 100 * S)
        if topic == "web.event":
            found += crowd(poison)
        (tmp_path / "in" / f"{topic}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in found))
    run(tmp_path / "in", tmp_path / "out")
    letters, texts = told(tmp_path / "out")
    said = capfd.readouterr()
    assert [text for text in texts if poison.encode() in text] == []
    assert poison not in said.out + said.err
    reasons = {letter["reason"] for letter in letters}
    wanted = {"BAD_SHAPE", "BAD_ID", "UNKNOWN_PLACE", "CLOCK_QUARANTINE", "FUTURE_TIME", "TOO_OLD", "OUT_OF_RANGE"}
    assert wanted <= reasons
    alerts = {row["name"] for row in rows(tmp_path / "out", "ops.alert")}
    assert {"QUARANTINED", "DEGRADED", "identity-hub"} <= alerts
