"""The two flows apart say what the fused one says."""

import shutil
from pathlib import Path

from tests.flow.replays import run

GARDEN = Path(__file__).parent.parent / "golden" / "garden" / "in"
SAME = ("decision.record", "action.command", "action.outcome", "identity.assignment", "segment.change", "delivered")


def test_presence_then_activation_is_store(tmp_path: Path) -> None:
    """What goes over topics between them is all that one needs of the other."""
    run(GARDEN, tmp_path / "store", deliver=True)
    run(GARDEN, tmp_path / "presence", flow="presence")
    shutil.copytree(GARDEN, tmp_path / "in")
    (tmp_path / "in" / "sensing.position.jsonl").unlink()
    for path in (tmp_path / "presence").glob("presence.*.jsonl"):
        assert path.read_bytes() == (tmp_path / "store" / path.name).read_bytes()
        shutil.copy2(path, tmp_path / "in")
    run(tmp_path / "in", tmp_path / "activation", flow="activation", deliver=True)
    for topic in SAME:
        apart, fused = (tmp_path / name / f"{topic}.jsonl" for name in ("activation", "store"))
        assert apart.read_bytes() == fused.read_bytes(), topic


def test_an_ideal_order_has_nothing_late(tmp_path: Path) -> None:
    """Merged by event time, every row comes in its turn."""
    summary = run(GARDEN, tmp_path / "out", order="event")
    assert summary["in"]["sensing.position"]["late"] == 0


def test_keeping_closes_nothing(tmp_path: Path) -> None:
    """A stay that is open at the last row stays open; nothing that waited is lost."""
    kept = run(GARDEN, tmp_path / "out", end="keep")
    closed = run(GARDEN, tmp_path / "all", end="close")
    assert kept["in"] == closed["in"]
    assert kept["out"]["presence.visit"] <= closed["out"]["presence.visit"]
