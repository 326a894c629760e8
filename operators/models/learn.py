"""`train intent`: rows in, a model with its manifest out; the same rows and seed give the same bytes."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from operators.models.lightgbm import Trees, fit, release
from operators.models.model import FORMAT, GOLDEN, STEPS, Calibration, Golden, load_model, version_of
from operators.models.quality import Leak, auc, guard_columns, guard_shuffled, isotonic, measures
from operators.models.training import TOPICS, Row
from schemas.features import CART, FEATURE_HASH, NAMES, PURCHASES, STAY, VALUE, WEB, places

Rows = NDArray[np.float64]
SETTINGS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.06,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
DROPPED = 0.1
"""Share of training rows that lose a group, so that a refusal is nothing new to the model."""
SHUFFLES = 5
LABEL = "a pos.receipt or order_completed with the zone's category within the horizon"


class TooLittle(Exception):
    """Not enough rows to learn from and to judge by; the message says where and how many."""


class Trained(msgspec.Struct, frozen=True):
    """Where the model went, and how it did on the newest rows."""

    folder: Path
    version: str
    metrics: dict[str, Any]


class Split(msgspec.Struct, frozen=True):
    """Rows by time, one horizon apart, so that no label of one part was open when the next began."""

    train: list[Row]
    validate: list[Row]
    test: list[Row]


def split_by_time(rows: Sequence[Row], horizon_us: int, gap_us: int | None = None) -> Split:
    """Oldest to train on, then validate, the newest fifth to test; rows in the gaps are left out.

    Args:
        rows: labelled, horizon passed.
        horizon_us: of the label.
        gap_us: between the parts; the horizon when left out.

    Raises:
        Leak: the gap is shorter than the horizon.
        TooLittle: a part has no buyer or nobody else.
    """
    gap = horizon_us if gap_us is None else gap_us
    if gap < horizon_us:
        raise Leak(f"a gap of {gap} µs is shorter than the horizon of {horizon_us} µs: labels reach across")
    ordered = sorted(rows, key=lambda row: (row.at, row.visit_id, row.features[0]))
    if not ordered:
        raise TooLittle("no row whose horizon has passed: a longer recording or a shorter horizon is needed")
    middle, newest = ordered[len(ordered) * 6 // 10].at, ordered[len(ordered) * 8 // 10].at
    split = Split(
        [row for row in ordered if row.at < middle - gap and not row.treated],
        [row for row in ordered if middle <= row.at < newest - gap and not row.treated],
        [row for row in ordered if row.at >= newest and not row.treated],
    )
    for name, part in (("train", split.train), ("validate", split.validate), ("test", split.test)):
        buyers = sum(row.bought for row in part)
        if not 0 < buyers < len(part):
            raise TooLittle(f"{name}: {len(part)} rows with {buyers} buyers; both kinds are needed")
    return split


def train_intent(
    rows: Sequence[Row],
    out: Path,
    *,
    seed: int,
    horizon_us: int,
    trees: int = 100,
    name: str = "intent",
    allowed: frozenset[str] = frozenset(),
    gap_us: int | None = None,
) -> Trained:
    """Fit, calibrate, judge and write an intent model.

    Args:
        rows: of `TrainingTap.rows`.
        out: folder of models; the artefact goes to `out/name/version`.
        seed: of every draw.
        horizon_us: of the label.
        trees: how many.
        name: of the model.
        allowed: columns that may rank well alone.
        gap_us: between the parts of the split; the horizon when left out.

    Returns:
        Where it is and how it did.

    Raises:
        Leak: a guard stopped the run.
        TooLittle: see `split_by_time`.
    """
    split = split_by_time(rows, horizon_us, gap_us)
    (train, bought), (validate, validate_bought), (test, test_bought) = map(
        _columns, (split.train, split.validate, split.test)
    )
    guard_columns(NAMES, train, bought, allowed)
    settings = {**SETTINGS, "seed": seed, "min_data_in_leaf": min(40, max(1, len(train) // 40))}
    _shuffled(np.concatenate([train, validate]), np.concatenate([bought, validate_bought]), len(train), settings, seed)

    text = fit(_without_groups(train, seed), bought, NAMES, settings, trees)
    model = Trees(text)
    calibration = Calibration(*isotonic(model.raw_many(validate), validate_bought, STEPS))
    scores = _scores(model, calibration, test)
    seen = {row.person for row in split.train}
    new = np.array([row.person not in seen for row in split.test])
    metrics = {
        **measures(scores, test_bought),
        "of_new_persons": measures(scores[new], test_bought[new]) if new.any() else None,
        "auc_without_group": {
            group: round(auc(_scores(model, calibration, _blank(test, group)), test_bought), 6)
            for group in (STAY, WEB, CART, PURCHASES, VALUE)
        },
    }
    parts = {"train": split.train, "validate": split.validate, "test": split.test}
    body: dict[str, Any] = {
        "format": FORMAT,
        "kind": "intent",
        "name": name,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "size": len(text.encode()),
        "feature_hash": FEATURE_HASH,
        "features": list(NAMES),
        "objective": "binary",
        "lightgbm": release(),
        "calibration": msgspec.to_builtins(calibration),
        "horizon_us": horizon_us,
        "label": LABEL,
        "topics": list(TOPICS),
        "times": {part: [_instant(found[0].at), _instant(found[-1].at)] for part, found in parts.items()},
        "rows": {part: len(found) for part, found in parts.items()},
        "seed": seed,
        "trees": trees,
        "settings": settings,
        "metrics": metrics,
        "golden": [msgspec.to_builtins(golden) for golden in _golden(model, calibration, test)],
    }
    version = version_of(text.encode(), body)
    folder = out / name / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_bytes(text.encode())
    written = json.dumps({**body, "version": version}, sort_keys=True, indent=1, allow_nan=False)
    (folder / "manifest.json").write_text(written + "\n", encoding="utf-8")
    load_model(folder)  # what is handed over has passed the checks it will meet
    return Trained(folder, version, metrics)


def _columns(rows: list[Row]) -> tuple[Rows, Rows]:
    return np.array([row.features for row in rows], np.float64), np.array([row.bought for row in rows], np.float64)


def _without_groups(rows: Rows, seed: int) -> Rows:
    """A copy in which each group is missing from a tenth of the rows."""
    rng, blanked = np.random.Generator(np.random.PCG64(seed)), rows.copy()
    for group in (STAY, WEB, CART, PURCHASES, VALUE):
        hit = np.flatnonzero(rng.random(len(rows)) < DROPPED)
        blanked[hit[:, None], places(group)] = np.nan
    return blanked


def _blank(rows: Rows, group: str) -> Rows:
    blanked = rows.copy()
    blanked[:, places(group)] = np.nan
    return blanked


def _scores(model: Trees, calibration: Calibration, rows: Rows) -> Rows:
    return np.array([calibration(float(raw)) for raw in model.raw_many(rows)])


def _shuffled(rows: Rows, labels: Rows, train: int, settings: dict[str, Any], seed: int) -> None:
    """Fit on labels dealt out anew, judged on such labels: nothing may be left to rank by."""
    rng, found = np.random.Generator(np.random.PCG64(seed + 1)), []
    positives = 0
    for _ in range(SHUFFLES):
        dealt = rng.permutation(labels)
        model = Trees(fit(rows[:train], dealt[:train], NAMES, settings, 20))
        found.append(auc(model.raw_many(rows[train:]), dealt[train:]))
        positives += int(dealt[train:].sum())
    positives //= SHUFFLES
    guard_shuffled(found, max(1, positives), max(1, len(labels) - train - positives))


def _golden(model: Trees, calibration: Calibration, rows: Rows) -> list[Golden]:
    """A hundred rows spread over the newest, each tenth of them with a group missing."""
    golden = []
    for number in range(GOLDEN):
        row = rows[number * len(rows) // GOLDEN]
        if number % 10 == 0:
            row = _blank(row[None, :], (STAY, WEB, CART, PURCHASES, VALUE)[number // 10 % 5])[0]
        raw = model.raw(row.tolist())
        golden.append(Golden(" ".join(map(float.hex, row.tolist())), raw.hex(), calibration(raw).hex()))
    return golden


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
