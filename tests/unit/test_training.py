"""Training: the same rows give the same bytes, honest splits, guards that stop, calibration that never falls."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from operators.models.learn import SETTINGS, TooLittle, split_by_time, train_intent
from operators.models.lightgbm import Trees, fit
from operators.models.model import load_model
from operators.models.quality import (
    Leak,
    auc,
    average_precision,
    brier,
    calibration_error,
    guard_columns,
    guard_shuffled,
    isotonic,
)
from operators.models.training import Row
from schemas.features import INDEX, NAMES

D, H = 86400 * 10**6, 3600 * 10**6
START = 1_790_000_000_000_000


def shop_rows(count: int = 1500, seed: int = 7) -> list[Row]:
    """A shop of 60 days: views, an open cart and a long stay make a purchase likelier; the rest is noise and gaps."""
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = []
    for number in range(count):
        features = rng.random(len(NAMES)) * 10
        views, cart, stay = rng.integers(0, 7), float(rng.random() < 0.3), 10 + 80 * rng.random()
        features[INDEX["category_views_7d"]] = views
        features[INDEX["cart_has_category"]] = cart
        features[INDEX["dwell_s"]] = stay
        chance = 1 / (1 + math.exp(2.9 - 0.4 * views - 0.02 * (stay - 10) - 1.7 * cart))
        features[rng.random(len(NAMES)) < 0.1] = np.nan
        rows.append(
            Row(
                at=START + int(60 * D * number / count),
                site_id="mad-01",
                zone_id="shoes",
                visit_id=f"v{number}",
                member=f"loyalty:1:{number % 400}",
                state="ASSERTED",
                features=tuple(float(value) for value in features),
                person=f"p{number % 400}",
                bought=bool(rng.random() < chance),
            )
        )
    return rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_intent(shop_rows(), tmp_path_factory.mktemp("models"), seed=3, horizon_us=D, trees=30)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# -- the artefact


def test_the_same_rows_and_seed_give_the_same_bytes_in_any_order(tmp_path, trained):
    rows = shop_rows()
    again = train_intent(rows[::-1], tmp_path / "again", seed=3, horizon_us=D, trees=30)
    assert contents(trained.folder) == contents(again.folder)
    assert train_intent(rows, tmp_path / "other", seed=4, horizon_us=D, trees=30).version != trained.version


def test_it_finds_the_rule_and_says_how_well(trained):
    assert trained.metrics["auc"] > 0.64
    assert trained.metrics["brier"] < trained.metrics["brier_of_prior"]
    assert trained.metrics["auc_without_group"]["web"] < trained.metrics["auc"]
    assert trained.metrics["auc_without_group"]["value"] == pytest.approx(trained.metrics["auc"], abs=0.04)


def test_a_hundred_golden_rows_some_with_gaps(trained):
    golden = load_model(trained.folder).manifest.golden
    assert len(golden) == 100
    assert sum("nan" in row.features for row in golden) > 10


def test_treated_rows_are_not_learned_from(tmp_path, trained):
    extra = [
        replace(row, visit_id="t" + row.visit_id, bought=not row.bought, treated=True) for row in shop_rows()[:700]
    ]
    rows = split_by_time(shop_rows() + extra, D)
    assert not any(row.treated for row in (*rows.train, *rows.validate, *rows.test))


# -- splits and guards


def test_parts_are_a_horizon_apart():
    split = split_by_time(shop_rows(), 2 * D)
    assert split.validate[0].at - split.train[-1].at > 2 * D
    assert split.test[0].at - split.validate[-1].at > 2 * D


def test_a_short_gap_stops_the_run():
    with pytest.raises(Leak, match="shorter than the horizon"):
        split_by_time(shop_rows(), D, gap_us=H)


def test_too_little_to_judge_by_is_said():
    with pytest.raises(TooLittle, match="no row"):
        split_by_time([], D)
    with pytest.raises(TooLittle, match="buyers"):
        split_by_time([replace(row, bought=False) for row in shop_rows(50)], D)


def test_a_column_that_has_seen_the_outcome_stops_the_run(tmp_path):
    place = INDEX["cart_value"]
    leaking = [
        replace(
            row, features=(*row.features[:place], row.bought + row.features[place] / 30, *row.features[place + 1 :])
        )
        for row in shop_rows()
    ]
    with pytest.raises(Leak, match="cart_value alone has an AUC of"):
        train_intent(leaking, tmp_path, seed=3, horizon_us=D, trees=5)
    assert not list(tmp_path.iterdir())
    train_intent(leaking, tmp_path, seed=3, horizon_us=D, trees=5, allowed=frozenset({"cart_value"}))


def test_a_column_named_like_an_outcome_stops_the_run():
    rows, labels = np.zeros((4, 1)), np.array([0.0, 1.0, 0.0, 1.0])
    for name in ("customer_id", "label", "Revenue", "has_bought"):
        with pytest.raises(Leak, match="named like"):
            guard_columns([name], rows, labels)
    guard_columns(["hidden"], rows, labels)
    guard_columns(["idle_s"], rows, labels)


def test_shuffled_labels_that_rank_stop_the_run():
    guard_shuffled([0.49, 0.51, 0.505], 500, 500)
    with pytest.raises(Leak, match="shuffled"):
        guard_shuffled([0.56, 0.55, 0.57], 5000, 5000)


# -- measures and calibration, against slow readings

SCORED = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=4, max_size=60).filter(
    lambda rows: 0 < sum(bought for _, bought in rows) < len(rows)
)
LAW = settings(derandomize=True, max_examples=150, deadline=None)


def columns(rows):
    return np.array([score / 20 for score, _ in rows]), np.array([float(bought) for _, bought in rows])


@LAW
@given(SCORED)
def test_auc_counts_pairs(rows):
    scores, labels = columns(rows)
    pairs = [
        (a > b) + (a == b) / 2
        for a, x in zip(scores, labels, strict=True)
        if x
        for b, y in zip(scores, labels, strict=True)
        if not y
    ]
    assert auc(scores, labels) == pytest.approx(sum(pairs) / len(pairs))


@LAW
@given(SCORED)
def test_average_precision_walks_down_the_ranks(rows):
    scores, labels = columns(rows)
    total = 0.0
    for level in sorted(set(scores.tolist()), reverse=True):
        above = labels[scores >= level]
        total += labels[scores == level].sum() * above.mean()
    assert average_precision(scores, labels) == pytest.approx(total / labels.sum())


def test_perfect_scores_have_no_error():
    labels = np.array([0.0, 1.0, 1.0, 0.0])
    assert brier(labels, labels) == 0.0
    assert calibration_error(labels, labels) == 0.0


@LAW
@given(SCORED, st.integers(1, 8))
def test_calibration_never_falls_and_keeps_its_bounds(rows, most):
    raw, labels = columns(rows)
    thresholds, values = isotonic(raw, labels, most)
    assert 1 <= len(values) <= most
    assert len(thresholds) == len(values) - 1
    assert values == sorted(values)
    assert thresholds == sorted(set(thresholds))
    assert all(0.0 < value < 1.0 for value in values)


def test_calibration_is_right_where_there_is_much_to_see():
    rng = np.random.Generator(np.random.PCG64(5))
    raw = rng.normal(size=40_000)
    labels = (rng.random(40_000) < 1 / (1 + np.exp(-1 - raw))).astype(float)
    thresholds, values = isotonic(raw, labels)
    found = np.array(values)[np.searchsorted(thresholds, raw, side="right")]
    assert len(values) <= 64
    assert np.abs(found - 1 / (1 + np.exp(-1 - raw))).mean() < 0.02


# -- routes


def test_single_rows_equal_many_rows_to_the_bit():
    rng = np.random.Generator(np.random.PCG64(1))
    rows = rng.normal(size=(3000, 24))
    rows[rng.random(rows.shape) < 0.2] = np.nan
    labels = (np.nan_to_num(rows[:, 0]) + rng.normal(size=3000) > 0).astype(float)
    text = fit(rows, labels, NAMES, {**SETTINGS, "seed": 1}, 60)
    fast, slow = Trees(text), Trees(text, fast=False)
    assert fast.fast
    assert not slow.fast
    together = fast.raw_many(rows).tolist()
    assert [fast.raw(row) for row in rows.tolist()] == together
    assert [slow.raw(row) for row in rows[:300].tolist()] == together[:300]


def test_the_fast_route_checks_the_width_of_a_row(trained):
    model = load_model(trained.folder)
    with pytest.raises(ValueError, match="23 features"):
        model.trees.raw((0.0,) * 23)


def test_reasons_add_up_to_the_raw_score(trained):
    model = load_model(trained.folder)
    for golden in model.manifest.golden[:20]:
        row = tuple(map(float.fromhex, golden.features.split()))
        assert sum(model.trees.contributions(row)) == pytest.approx(model.raw(row), abs=1e-9)
