"""How good scores are, and what makes them honest: measures, calibration, guards against leaks. Numpy only."""

import re
from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]

TELLING_AUC = 0.80
"""A column that ranks this well alone has most likely seen the outcome."""
SHUFFLED_WITHIN = 0.02
_OUTCOME = re.compile(r"(^|_)(id|uuid|token|hash|label|target|outcome|bought|revenue|converted|receipt|score)(_|$)")


class Leak(Exception):
    """The rows know what they must not; the message names the column or the check."""


def auc(scores: Column, labels: Column) -> float:
    """Chance that a buyer scores above a non-buyer; ties count half.

    >>> auc(np.array([.1, .4, .4, .8]), np.array([0., 0., 1., 1.]))
    0.875
    """
    positives = float(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[labels > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Column, labels: Column) -> float:
    """Mean precision over the buyers, from the top score down; ties stand together."""
    order = np.argsort(-scores, kind="stable")
    ranked = labels[order]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(ranked)[last]
    gained = np.diff(np.append(0.0, hits))
    return float((gained * hits / (last + 1)).sum() / labels.sum()) if labels.sum() else float("nan")


def brier(scores: Column, labels: Column) -> float:
    """Mean squared distance from what happened."""
    return float(np.mean((scores - labels) ** 2))


def calibration_error(scores: Column, labels: Column, bins: int = 10) -> float:
    """Mean distance of promised from found share, over bins of equally many rows."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(scores[part].mean() - labels[part].mean()) for part in parts) / len(labels))


def measures(scores: Column, labels: Column) -> dict[str, Any]:
    """All of them for a report, rounded: `bias` is promised over found, less one."""
    share = float(labels.mean()) if len(labels) else 0.0
    tenth = np.argsort(-scores, kind="stable")[: max(1, len(scores) // 10)]
    found = {
        "auc": auc(scores, labels),
        "ap": average_precision(scores, labels),
        "brier": brier(scores, labels),
        "brier_of_prior": share * (1 - share),
        "ece": calibration_error(scores, labels),
        "bias": float(scores.mean()) / share - 1 if share else float("nan"),
        "lift_top_decile": float(labels[tenth].mean()) / share if share else float("nan"),
    }
    rounded = {name: round(value, 6) if value == value else None for name, value in found.items()}  # noqa: PLR0124
    return {"rows": len(labels), "buyers": int(labels.sum()), **rounded}


def isotonic(raw: Column, labels: Column, most: int = 64) -> tuple[list[float], list[float]]:
    """Fit steps that never go down (pool adjacent violators), each drawn to the base rate by one row.

    Args:
        raw: scores to calibrate.
        labels: 0 or 1.
        most: steps at most; those that differ least are joined.

    Returns:
        Thresholds, and one value more: `values[i]` holds up to `thresholds[i]` (out).
    """
    starts, place, counts = np.unique(raw, return_inverse=True, return_counts=True)
    sums = np.bincount(place, labels, len(starts))
    steps = _pool(list(zip(starts.tolist(), sums.tolist(), counts.astype(float).tolist(), strict=True)))
    base = float(labels.mean())
    steps = _pool([(start, bought + base, rows + 1.0) for start, bought, rows in steps])
    while len(steps) > most:
        closest = min(range(1, len(steps)), key=lambda i: (_share(steps[i]) - _share(steps[i - 1]), i))
        steps[closest - 1 : closest + 1] = [_joined(steps[closest - 1], steps[closest])]
    return [start for start, _, _ in steps[1:]], [_share(step) for step in steps]


_Step = tuple[float, float, float]


def _pool(steps: list[_Step]) -> list[_Step]:
    done: list[_Step] = []
    for step in steps:
        done.append(step)
        while len(done) > 1 and _share(done[-2]) >= _share(done[-1]):
            upper = done.pop()
            done[-1] = _joined(done[-1], upper)
    return done


def _share(step: _Step) -> float:
    return step[1] / step[2]


def _joined(lower: _Step, upper: _Step) -> _Step:
    return lower[0], lower[1] + upper[1], lower[2] + upper[2]


def guard_columns(
    names: Sequence[str], rows: NDArray[np.float64], labels: Column, allowed: frozenset[str] = frozenset()
) -> None:
    """Stop at a column that is named like an outcome or an id, or that tells the outcome on its own.

    Args:
        names: of the columns.
        rows: one a line.
        labels: 0 or 1.
        allowed: columns that somebody looked at and vouches for.

    Raises:
        Leak: with the column.
    """
    for place, name in enumerate(names):
        if name in allowed:
            continue
        if _OUTCOME.search(name.lower()):
            raise Leak(f"column {name} is named like an outcome or an id; allow it by name if it is none")
        column = np.where(np.isnan(rows[:, place]), -np.inf, rows[:, place])
        alone = auc(column, labels)
        alone = max(alone, 1 - alone)
        if alone >= TELLING_AUC:
            raise Leak(
                f"column {name} alone has an AUC of {alone:.3f}, {TELLING_AUC:.2f} or more: it has likely seen the outcome"
            )


def guard_shuffled(found: Sequence[float], positives: int, negatives: int) -> None:
    """Stop when a model of shuffled labels ranks at all.

    Args:
        found: AUC of each shuffle.
        positives: buyers among the rows it was measured on.
        negatives: the others.

    Raises:
        Leak: the mean is further from .5 than `SHUFFLED_WITHIN`, or than chance explains on few rows.
    """
    chance = 3 * sqrt((positives + negatives + 1) / (12 * positives * negatives) / len(found))
    mean = sum(found) / len(found)
    if abs(mean - 0.5) > max(SHUFFLED_WITHIN, chance):
        raise Leak(f"with shuffled labels the AUC is {mean:.3f}, expected .5: rows know each other's labels")
