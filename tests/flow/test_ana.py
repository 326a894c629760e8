"""The customer's example, row for row: Premium, Offers, 45 s."""

import random
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.rows import instant
from tests.flow.replays import rows, run, shared

T0 = instant("2026-12-05T16:00:00Z")
ANA, BEN, CLEO = "ana", "ben", "cleo"
TAGS = {ANA: "tag:1:3z2kiuxszjrwxxxf6a7q"}
DWELL = orjson.loads(
    '{"event_id":"0adbce93-c0fb-5368-a21e-cc6dc127be29","event_time":"2026-12-05T16:01:07.600000Z","ingest_time":"2026-12-05T16:01:07.600000Z","site_id":"mad-01","source_id":"presence","visit_id":"096c71f6-cbd0-54f4-b8d3-9d8a2b85bcae","subject_id":"tag:1:3z2kiuxszjrwxxxf6a7q","zone_id":"offers","zone_revision":0,"threshold_us":45000000,"entered_at":"2026-12-05T16:00:22.600000Z","reached_at":"2026-12-05T16:01:07.600000Z","fired_at":"2026-12-05T16:01:07.600000Z","last_fix_at":"2026-12-05T16:01:07.400000Z","fix_count":225,"quality":0.9955556}'
)
ANCHOR = "loyalty:1:wyjlgf47g6fbvkxrmtwq"
SCREEN, PUSH = "5cwcmbv2vj6pvpdqxgtifzgps6bti7fb", "2mjlne6kl2qzif36zprb6ye42p7csoaf"


@pytest.fixture(scope="module")
def source() -> Path:
    return shared("scenarios", "ana")


@pytest.fixture(scope="module")
def out(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ana")
    run(source, folder, deliver=True)
    return folder


def _seconds(row: dict[str, Any], name: str) -> float:
    return (instant(row[name]) - T0) / 1e6


def test_dwell_is_told_during_the_stay(out: Path) -> None:
    """One a person, at entered_at + 45 s; ana's row as a whole."""
    found = rows(out, "presence.dwell")
    assert found[0] == DWELL
    assert [_seconds(row, "fired_at") for row in found] == [67.6, 75.8, 89.6]
    assert all(row["fired_at"] == row["reached_at"] and row["threshold_us"] == 45_000_000 for row in found)


def test_decisions_say_why(out: Path) -> None:
    """Fired, a clause that is false, a consent that is missing."""
    found = [(row["candidates"][0], row) for row in rows(out, "decision.record")]
    told = [
        (c["verdict"], c["reason"], c["detail"], {x["name"]: x["value"] for x in c["clauses"]}["premium"])
        for c, _ in found
    ]
    assert told == [
        ("FIRED", "NONE", None, "TRUE"),
        ("NOT_MATCHED", "CLAUSE_FALSE", told[1][2], "FALSE"),
        ("SUPPRESSED", "CONSENT_MISSING", "personalisation", "UNKNOWN"),
    ]
    ana = found[0][1]
    assert ana["event_id"] == "d0687939-9e7c-5e70-8dc6-1d6af51f4375"
    assert (ana["anchor_id"], ana["root"], ana["attempt"], ana["cause"]) == (ANCHOR, ANCHOR, 0, "TRIGGER")
    assert ana["trigger"] == {
        "kind": "DWELL",
        "id": DWELL["event_id"],
        "zone_id": "offers",
        "visit_id": DWELL["visit_id"],
        "reached_at": "2026-12-05T16:01:07.600000Z",
    }
    assert (ana["score"], ana["reasons"], ana["actions"]) == (None, [], [SCREEN, PUSH])
    assert (ana["input_ids"], ana["source_id"], ana["site_id"]) == ([DWELL["event_id"]], "activation", "mad-01")
    assert (ana["event_time"], ana["ingest_time"]) == (DWELL["event_time"], DWELL["ingest_time"])
    assert set(ana["candidates"][0]["guards"]) <= {"identity", "consent", "stock", "audience", "quiet", "caps"}
    assert set(ana["versions"]) == {"campaigns", "segments", "model", "rules"} or set(ana["versions"]) <= {
        "campaigns",
        "segments",
        "model",
        "rules",
    }


def test_commands_hold_no_name_and_no_text(out: Path) -> None:
    """Two for ana, none for anybody else."""
    screen, push = rows(out, "action.command")
    assert screen == {
        "event_id": SCREEN,
        "event_time": "2026-12-05T16:01:07.600000Z",
        "ingest_time": "2026-12-05T16:01:07.600000Z",
        "site_id": "mad-01",
        "source_id": "activation",
        "campaign_id": "offers-premium-dwell",
        "campaign_version": "bebd33057f06",
        "step": "0",
        "decision_id": "d0687939-9e7c-5e70-8dc6-1d6af51f4375",
        "anchor_id": ANCHOR,
        "visit_id": DWELL["visit_id"],
        "channel": "SCREEN",
        "target_id": "screen-7",
        "template_id": "offer10",
        "locale": "en",
        "params": {},
        "purpose": "personalisation",
        "consent_epoch": screen["consent_epoch"],
        "waits_for": None,
        "while_present": True,
        "not_before": None,
        "expires_at": "2026-12-05T16:01:27.600000Z",
        "priority": 50,
    }
    assert len(screen["consent_epoch"]) == 12
    assert (push["event_id"], push["channel"], push["step"], push["purpose"]) == (PUSH, "PUSH", "1", "contact")
    assert (push["target_id"], push["params"], push["while_present"]) == (ANCHOR, {"person.tier": "gold"}, False)
    assert push["expires_at"] == "2026-12-05T16:02:07.600000Z"


def test_texts_are_delivered(out: Path) -> None:
    """The screen says no name, the phone does."""
    assert [(row["channel"], row["target"], row["text"]) for row in rows(out, "delivered")] == [
        ("SCREEN", "screen-7", "Members get an extra 10 % here today"),
        (
            "PUSH",
            "push-token-of-ana",
            "Hi Ana, for being a gold member, you get an extra 10 % on what you are looking at",
        ),
    ]
    assert [row["status"] for row in rows(out, "action.outcome")] == ["SENT", "SENT"]


def test_visits_and_transitions(out: Path) -> None:
    """Twelve stays, each entered and left, none shorter than its confirmation."""
    visits = rows(out, "presence.visit")
    zones = sorted(row["zone_id"] for row in visits)
    assert zones == ["entrance"] * 4 + ["offers"] * 3 + ["shoes"] * 2 + ["store"] * 3
    assert all(row["dwell_us"] >= 1_000_000 for row in visits)
    assert all(row["fired_us"] == ([45_000_000] if row["zone_id"] == "offers" else []) for row in visits)
    assert len(rows(out, "presence.transition")) == 24
    stays = sorted(
        (_seconds(row, "entered_at"), _seconds(row, "left_at")) for row in visits if row["zone_id"] == "offers"
    )
    assert [stay[0] for stay in stays] == [22.6, 30.8, 44.6]
    assert [round(stay[1]) for stay in stays] == [117, 141, 125]


def test_identifiers_are_on_one_anchor(out: Path) -> None:
    """Card, e-mail, phone and tag of each, no change after the fact; one of them is premium."""
    last = {row["identifier"]: row for row in rows(out, "identity.assignment")}
    assert len(last) == 12
    by_anchor: dict[str, list[str]] = {}
    for name, row in last.items():
        assert row["person_id"] == row["anchor_id"] == row["root"]
        by_anchor.setdefault(row["anchor_id"], []).append(name.split(":")[0])
    assert {tuple(sorted(names)) for names in by_anchor.values()} == {("device", "email", "loyalty", "tag")}
    assert all(anchor.startswith("loyalty:") for anchor in by_anchor)
    assert rows(out, "identity.change") == rows(out, "decision.score") == []
    (premium,) = rows(out, "segment.change")
    assert (premium["person_id"], premium["segment_id"], premium["kind"]) == (ANCHOR, "premium", "ENTERED")
    assert premium["segment_version"] == "aafd752c4d82"


def test_every_row_has_one_fate(out: Path) -> None:
    """read = applied + duplicate + late + dead, and what came late or dead says so."""
    summary = orjson.loads((out / "summary.json").read_bytes())
    assert summary["in"]["sensing.position"] == {"read": 2107, "applied": 2103, "duplicate": 1, "late": 1, "dead": 2}
    for topic, fates in summary["in"].items():
        assert fates["read"] == fates["applied"] + fates["duplicate"] + fates["late"] + fates["dead"]
        assert topic == "sensing.position" or fates["read"] == fates["applied"]
    assert [row["late_by_us"] for row in rows(out, "ops.late")] == [29_750_000]
    assert [(row["reason"], row["stage"]) for row in rows(out, "ops.dead-letter")] in (
        [("OFF_FLOOR", "ADMIT"), ("BAD_SHAPE", "DECODE")],
        [("BAD_SHAPE", "DECODE"), ("OFF_FLOOR", "ADMIT")],
    )


def test_no_plain_value_leaves(out: Path) -> None:
    """Only delivered.jsonl may hold a name or an address."""
    for path in out.iterdir():
        if path.name == "delivered.jsonl":
            continue
        text = path.read_bytes()
        for plain in (b"ana-card", b"ana@example.com", b"ana-phone", b"ana-tag", b"push-token-of-ana", b'"Ana"'):
            assert plain not in text, f"{path.name} holds {plain!r}"


def test_twice_is_the_same_bytes(source: Path, out: Path, tmp_path: Path) -> None:
    """Every file but the two timing values, whatever the size of a micro-batch."""
    run(source, tmp_path, deliver=True, batch=37)
    first, second = (orjson.loads((folder / "summary.json").read_bytes()) for folder in (out, tmp_path))
    assert first["sha256"] == second["sha256"]
    assert {**first, "seconds": 0, "events_per_s": 0} == {**second, "seconds": 0, "events_per_s": 0}


def test_arrival_order_changes_nothing_but_ingest_time(source: Path, out: Path, tmp_path: Path) -> None:
    """The same rows under shuffled arrival, up to 0.4 s of delay."""
    draw = random.Random(11)
    shutil.copytree(source, tmp_path / "in")
    path = tmp_path / "in" / "sensing.position.jsonl"
    moved = []
    for line in path.read_bytes().splitlines():
        try:
            row = orjson.loads(line)
            row["ingest_time"] = (row.get("ingest_time") or row["event_time"]) + draw.randrange(400_000)
            moved.append(orjson.dumps(row))
        except (ValueError, KeyError, TypeError):
            moved.append(line)
    path.write_bytes(b"\n".join(moved) + b"\n")
    run(tmp_path / "in", tmp_path / "out", deliver=True)
    for topic in ("presence.visit", "presence.dwell", "presence.transition", "decision.record", "action.command"):
        strip = [{**row, "ingest_time": None} for row in rows(out, topic)]
        again = [{**row, "ingest_time": None} for row in rows(tmp_path / "out", topic)]
        assert sorted(strip, key=orjson.dumps) == sorted(again, key=orjson.dumps), topic


def test_avro_says_the_same(source: Path, out: Path, tmp_path: Path) -> None:
    """Both forms of the output hold equal records."""
    from flows.explain import _records

    run(source, tmp_path, format="avro", deliver=True)
    for topic in ("presence.visit", "decision.record", "action.command", "ops.dead-letter"):
        assert list(_records(tmp_path, topic)) == list(_records(out, topic))
