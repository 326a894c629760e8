"""`footfall train intent` from a recorded directory, and the model that is shipped with the example."""

import json
from pathlib import Path

import pytest

from flows.deployment import EXAMPLE
from flows.history import write_history
from flows.replay import Options, replay
from flows.simulate import write_directory
from flows.train import HORIZON_US, recorded_rows, ship, train
from operators.models.features import features_hash
from operators.models.learn import train_intent
from operators.models.model import load_model
from operators.models.quality import Leak


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def quiet(_done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def past(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("past")
    write_history(folder, 3, 14)
    return folder


@pytest.fixture(scope="module")
def rows(past):
    return recorded_rows(past, quiet)


def test_a_directory_gives_the_same_model_twice(past, tmp_path):
    told = []
    first = train(past, tmp_path / "a", seed=5, trees=10, progress=lambda done, total: told.append((done, total)))
    again = train(past, tmp_path / "b", seed=5, trees=10)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first["version"] == again["version"]
    assert told[-1][0] == told[-1][1] > 10_000
    assert load_model(Path(first["path"])).version == first["version"]
    assert first["metrics"]["auc"] > 0.6


def test_rows_are_of_known_persons_with_their_web_and_receipts(rows):
    assert len(rows) > 2000
    assert all(row.person.startswith("loyalty:1:") and row.member.startswith("device:1:") for row in rows)
    assert 0.05 < sum(row.bought for row in rows) / len(rows) < 0.4
    assert len({features_hash(row.features) for row in rows}) > 0.9 * len(rows)


def test_training_reproduces_every_vector_that_service_scored(tmp_path):
    write_directory(tmp_path / "day", 3, 4.0)
    replay(Options(source=tmp_path / "day", out=tmp_path / "out"))
    with (tmp_path / "out" / "decision.score.jsonl").open() as file:
        scored = [(row["visit_id"], row["features_hash"]) for row in map(json.loads, file)]
    seen = {(row.visit_id, features_hash(row.features)) for row in recorded_rows(tmp_path / "day", quiet, 0)}
    assert len(scored) >= 5
    assert [one for one in scored if one not in seen] == []


def test_the_shipped_model_passes_its_checks_and_is_small():
    (folder,) = (EXAMPLE / "models" / "intent").iterdir()
    model = load_model(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000
    assert model.trees.trees == 40
    assert model.manifest.metrics["auc"] > 0.7


@pytest.mark.slow
def test_the_shipped_model_is_what_its_command_makes(tmp_path):
    ship(tmp_path)
    assert contents(tmp_path) == contents(EXAMPLE / "models")


def test_a_gap_shorter_than_the_horizon_never_trains(rows, tmp_path):
    with pytest.raises(Leak, match="shorter"):
        train_intent(rows, tmp_path, seed=1, horizon_us=HORIZON_US, gap_us=1)
