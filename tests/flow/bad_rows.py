"""A directory of good rows with bad ones planted among them, and what must become of each.

`python -m tests.flow.bad_rows --rows 1000000` runs it once by hand at that size.
"""

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path
from shutil import copy2, copytree
from typing import Any

import orjson

from flows.deployment import EXAMPLE
from schemas.rows import instant

START = instant("2026-12-05T16:00:00Z")
SECOND = 1_000_000
STEP = SECOND // 5
HOURS_2 = 7_200 * SECOND


class Planted:
    """Rows of `sensing.position` and `web.event`, and the fates they must meet, by topic."""

    def __init__(self, rows: int, seed: int) -> None:
        self._draw = random.Random(seed)
        self.lines: dict[str, list[bytes]] = {"sensing.position": [], "web.event": []}
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.fates: Counter[tuple[str, str]] = Counter()
        self._walk(rows)

    def _put(self, topic: str, row: dict[str, Any] | bytes, fate: str = "applied", reason: str = "") -> None:
        self.lines[topic].append(row if isinstance(row, bytes) else orjson.dumps(row))
        self.fates[topic, fate] += 1
        if reason:
            self.reasons[topic, reason] += 1

    def _walk(self, rows: int) -> None:
        walkers = [[10 + 2.0 * i, 8.0, 0.02 * (i + 1)] for i in range(8)]
        seq = tick = 0
        while sum(map(len, self.lines.values())) < rows:
            at = START + tick * STEP
            for number, walker in enumerate(walkers):
                walker[0] += walker[2]
                if not 8 < walker[0] < 30:
                    walker[2] = -walker[2]
                seq += 1
                good = {
                    "event_time": at,
                    "ingest_time": at + 40_000,
                    "source_id": "uwb-1",
                    "seq": seq,
                    "subject_id": f"walker-{number}",
                    "tech": "UWB",
                    "x_m": round(walker[0], 3),
                    "y_m": walker[1],
                    "floor": 0,
                }
                self._put("sensing.position", good)
                if tick > 50 and self._draw.random() < 0.25:
                    seq += 1
                    self._bad(good, seq)
            self._put(
                "web.event", {"event_time": at, "name": "product_viewed", "identifiers": [f"cookie:c{tick % 50}"]}
            )
            if self._draw.random() < 0.3:
                self._bad_web(at)
            if tick % 5 == 0:
                self._quarantined(at, tick // 5)
            tick += 1

    def _quarantined(self, at: int, seq: int) -> None:
        """A source whose clock is two hours ahead: a time-zone fault."""
        row = {
            "event_time": at + HOURS_2,
            "ingest_time": at + 40_000,
            "source_id": "ble-9",
            "seq": seq,
            "subject_id": "lost",
        }
        row |= {"tech": "BLE_AOA", "x_m": 10, "y_m": 8, "floor": 0}
        self._put("sensing.position", row, "dead", "CLOCK_QUARANTINE")

    def _bad(self, good: dict[str, Any], seq: int) -> None:
        row = {**good, "seq": seq, "event_time": good["event_time"] + 20_000}
        topic = "sensing.position"
        kind = self._draw.randrange(14)
        if kind == 0:
            self._put(topic, b"\x00\x01 nonsense {", "dead", "BAD_SHAPE")
        elif kind == 1:
            self._put(topic, b"[1, 2]", "dead", "BAD_SHAPE")
        elif kind == 2:
            missing = self._draw.choice(("event_time", "subject_id", "x_m", "y_m", "floor"))
            self._put(topic, {name: value for name, value in row.items() if name != missing}, "dead", "BAD_SHAPE")
        elif kind == 3:
            wrong = self._draw.choice(("event_time", "subject_id", "x_m", "floor"))
            self._put(topic, {**row, wrong: self._draw.choice(([1], {"a": 1}, True))}, "dead", "BAD_SHAPE")
        elif kind == 4:
            self._put(topic, orjson.dumps({**row, "x_m": 0}).replace(b'"x_m":0', b'"x_m":NaN'), "dead", "NOT_FINITE")
        elif kind == 5:
            self._put(topic, {**row, "x_m": 400.0}, "dead", "OFF_FLOOR")
        elif kind == 6:
            self._put(topic, {**row, "floor": 7}, "dead", "UNKNOWN_PLACE")
        elif kind == 7:
            self._put(topic, {**row, "site_id": "nowhere"}, "dead", "UNKNOWN_PLACE")
        elif kind == 8:
            self._put(topic, {**row, "event_time": instant("2099-01-01T00:00:00Z")}, "dead", "FUTURE_TIME")
        elif kind == 9:
            self._put(topic, {**row, "event_time": 1}, "dead", "TOO_OLD")
        elif kind == 10:
            self._put(topic, {**row, "subject_id": "x" * 9_000}, "dead", "OVERSIZE")
        elif kind == 11:
            self._put(
                topic, {**row, "subject_id": self._draw.choice(("", "loyalty:", "email:nobody"))}, "dead", "BAD_ID"
            )
        elif kind == 12:
            self._put(topic, {**row, "accuracy_m": -1.0}, "dead", "OUT_OF_RANGE")
        else:
            self._put(topic, good, "duplicate")

    def _bad_web(self, at: int) -> None:
        row = {"event_time": at, "name": "page", "identifiers": ["cookie:c1"]}
        topic = "web.event"
        kind = self._draw.randrange(6)
        if kind == 0:
            self._put(topic, b"<html>", "dead", "BAD_SHAPE")
        elif kind == 1:
            self._put(topic, {"event_time": at}, "dead", "BAD_SHAPE")
        elif kind == 2:
            self._put(topic, {**row, "identifiers": ["unknown:1"]}, "dead", "BAD_ID")
        elif kind == 3:
            self._put(topic, {**row, "properties": {"mail": "somebody@example.com"}}, "dead", "PERSONAL_DATUM")
        elif kind == 4:
            self._put(topic, {**row, "event_time": 0, "ingest_time": at}, "dead", "TOO_OLD")
        else:
            self._put(topic, {**row, "event_id": "00000000-0000-4000-8000-000000000001"}, self._again())

    def _again(self) -> str:
        seen, self._seen = getattr(self, "_seen", False), True
        return "duplicate" if seen else "applied"

    def write(self, folder: Path) -> Path:
        """Write it as a replay directory in the example's venue."""
        folder.mkdir(parents=True, exist_ok=True)
        copy2(EXAMPLE / "venue.geojson", folder)
        for name in ("campaigns", "segments", "templates"):
            copytree(EXAMPLE / name, folder / name)
        for topic, lines in self.lines.items():
            (folder / f"{topic}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        return folder

    def compare(self, summary: dict[str, Any], letters: Counter[tuple[str, str]]) -> list[str]:
        """Where a replay differs from what was planted, in words."""
        found = []
        for topic, fates in summary["in"].items():
            if fates["read"] != sum(fates[name] for name in ("applied", "duplicate", "late", "dead")):
                found.append(f"{topic}: read must equal the sum of its fates; got {fates}")
            found.extend(
                f"{topic}: {fate} must be {self.fates[topic, fate]}; got {fates[fate]}"
                for fate in ("applied", "duplicate", "late", "dead")
                if fates[fate] != self.fates[topic, fate]
            )
        if letters != self.reasons:
            found.append(f"reasons must be {sorted(self.reasons.items())}; got {sorted(letters.items())}")
        return found


def letters_of(out: Path) -> Counter[tuple[str, str]]:
    """Dead letters of a replay by topic and reason."""
    rows = map(orjson.loads, (out / "ops.dead-letter.jsonl").read_bytes().splitlines())
    return Counter((row["origin_topic"], row["reason"]) for row in rows)


def main() -> None:
    """Run once by hand."""
    from tests.flow.replays import run

    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planted = Planted(asked.rows, asked.seed)
        source = planted.write(Path(folder) / "in")
        summary = run(source, Path(folder) / "out")
        print(summary["in"], f"{summary['seconds']} s")
        print("\n".join(planted.compare(summary, letters_of(Path(folder) / "out"))) or "as planted")


if __name__ == "__main__":
    main()
