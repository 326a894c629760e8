"""R1 and R2 of `activation` on files: the crowd of `crowd`, judged by its oracle as well as by an undisturbed run."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from flows.deployment import Deployment
from tests.chaos.crowd import SECOND, Crowd, Row, deployed
from tests.chaos.expected import expected
from tests.chaos.kills import Loop, at_random, right_after, some_place, well

MORE = '\n[campaigns]\nstale_after = "400d"\n[model]\ndir = "none"\n'


def r1(seed: int, *, long: bool) -> dict[str, Any]:
    """Kills at random moments."""
    return _looped(seed, at_random, people=20_500 if long else 150, kills=100 if long else 6)


def r2(seed: int, *, long: bool) -> dict[str, Any]:
    """Kills again and again, right after each resume."""
    return _looped(seed, right_after, people=4_000 if long else 150, kills=100 if long else 6)


def _looped(seed: int, disturb: Any, *, people: int, kills: int) -> dict[str, Any]:
    crowd = Crowd(seed, people, start=(int(time.time()) - 3 * 3_600) * SECOND)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, config = folder / "crowd", folder / "crowd" / "footfall.toml"
        source.mkdir()
        deployed(source)
        config.write_text('[pseudonym]\nkey_file = ".key"\n')
        campaigns = Deployment.load(source, config).rules.campaigns
        rows = _written(source, crowd)
        wanted = expected(rows, {name: campaign.version for name, campaign in campaigns.items()})
        loop = Loop(folder, source, seed=seed, flow="activation", more=MORE)
        result = loop.disturbed("disturbed", kills, disturb, pause_ms=2, place=some_place)
        told = [orjson.loads(line) for line in (folder / "disturbed" / "decision.record.jsonl").open("rb")]
        actions = {
            orjson.loads(line)["event_id"] for line in (folder / "disturbed" / "action.command.jsonl").open("rb")
        }
    verdicts = {row["event_id"]: (row["candidates"][0]["verdict"], row["candidates"][0]["reason"]) for row in told}
    oracle = {
        "actions": len(wanted.actions),
        "lost": len(wanted.actions - actions),
        "invented": len(actions - wanted.actions),
        "decisions": len(wanted.decisions),
        "decisions_differ": len(wanted.decisions.items() ^ verdicts.items()),
        "decisions_doubled": len(told) - len(verdicts),
    }
    as_expected = not any(oracle[name] for name in ("lost", "invented", "decisions_differ", "decisions_doubled"))
    return {"events": loop.events, "people": people, **result, "oracle": oracle, "passed": well(result) and as_expected}


def _written(folder: Path, crowd: Crowd) -> Iterator[Row]:
    """The crowd's rows, each written on its way."""
    files: dict[str, Any] = {}
    for at, topic, record in crowd.rows():
        file = files.get(topic) or files.setdefault(topic, (folder / f"{topic}.jsonl").open("wb"))
        file.write(orjson.dumps(msgspec.to_builtins(record)) + b"\n")
        yield at, topic, record
    for file in files.values():
        file.close()
