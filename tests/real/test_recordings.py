"""Presence and the guards of training on real recordings; skipped where those are not beside the project."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import presence_quality as quality
from benchmarks.recordings import DATA, NOISES, noisy, pedestrians, rows, sampled, walks
from operators.models.quality import Leak, auc, guard_columns

UCY, UWB = DATA / "ucy_zara_students_pedestrians.csv.gz", DATA / "uwb_pozyx_dynamic.csv.gz"
TAG, COUNTER = DATA / "uwb_vs_peoplecounter_uwb.csv.gz", DATA / "uwb_vs_peoplecounter_xovis.csv.gz"
SHOPPERS = DATA / "web_online_shoppers_intention.csv.gz"
pytestmark = pytest.mark.real


def need(*files: Path) -> None:
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        pytest.skip(f"no recording {', '.join(missing)} in {DATA.name}")


def holds(lines) -> None:
    below = [f"{line.row} {line.what}: {line.found}, bar {line.bar}" for line in lines if line.holds is False]
    assert not below, below


def test_b4_exclusive_tiles_over_a_known_way():
    need(UWB)
    holds(quality.known_ways(UWB))


def test_b7_a_clock_two_hours_off_is_quarantined_and_named():
    need(TAG, COUNTER)
    lines = list(quality.wrong_zone(TAG, COUNTER))
    assert "tag-hub" in lines[0].found
    holds(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", [quality.walkers, quality.out_of_order, quality.clocks_apart], ids=["B1-B3", "B5", "B6"]
)
def test_walkers(row):
    need(UCY)
    holds(row(UCY))


@pytest.mark.slow
def test_b9_random_walks():
    holds(quality.random_walks())


def test_readings_are_what_the_files_hold():
    need(UCY, UWB)
    tracks = pedestrians(UCY)
    assert sum(len(track.t) for track in tracks) == pytest.approx(26_870, abs=50)
    assert all((np.diff(track.t) > 0).all() for track in tracks)
    assert len(walks(UWB)) == 6


def test_noise_is_of_the_size_it_says():
    need(UCY)
    rng = np.random.Generator(np.random.PCG64(0))
    tracks = pedestrians(UCY)[:200]
    offs, lost, total = [], 0, 0
    for track in tracks:
        clean, found = sampled(track, 5.0), noisy(track, NOISES["UWB"], rng)
        lost, total = lost + len(clean.t) - len(found.t), total + len(clean.t)
        offs.append(found.x - np.interp(found.t, clean.t, clean.x))
    off = np.abs(np.concatenate(offs))
    assert lost / total == pytest.approx(0.02, abs=0.005)
    assert np.median(off) == pytest.approx(0.6745 * 0.15, rel=0.1)
    assert (off > 1.0).mean() == pytest.approx(0.01 * 0.84, abs=0.004)


def test_a_column_that_leaks_the_outcome_stops_a_training():
    need(SHOPPERS)
    table = list(rows(SHOPPERS))
    labels = np.array([row["Revenue"].upper() == "TRUE" for row in table], float)
    names = ["ExitRates", "BounceRates", "ProductRelated", "ProductRelated_Duration", "Administrative", "PageValues"]
    columns = np.array([[float(row[name]) for name in names] for row in table])
    assert auc(columns[:, -1], labels) == pytest.approx(0.863, abs=0.005)
    with pytest.raises(Leak, match=r"PageValues alone has an AUC of 0\.86"):
        guard_columns(names, columns, labels)
    guard_columns(names, columns, labels, allowed=frozenset({"PageValues"}))
