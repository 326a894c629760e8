"""Bad input is a value: each kind meets the fate that is named for it, and the flow goes on."""

from pathlib import Path

from tests.flow.bad_rows import Planted, letters_of
from tests.flow.replays import run


def test_every_bad_row_among_ten_thousand_meets_its_fate(tmp_path: Path) -> None:
    """read = applied + duplicate + late + dead for each topic, and each reason as often as it was planted."""
    planted = Planted(10_000, seed=1)
    summary = run(planted.write(tmp_path / "in"), tmp_path / "out")
    assert planted.compare(summary, letters_of(tmp_path / "out")) == []
