"""LightGBM behind three calls: read a model's text, score a row, say why; and one to fit.

The only module that knows the library. A single row goes through its C interface (some 5 µs); should a
release of the library no longer answer there, `Booster.predict` gives the same bits more slowly.
"""

import ctypes
import weakref
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

RAW_SCORE, FLOAT64 = 1, 1
"""Of the C interface: scores as log-odds, rows as doubles."""


class ModelUnavailable(Exception):
    """The library itself cannot be used here; the message is one line and names the remedy."""


def library() -> ModuleType:
    """The library, loaded on first use.

    Raises:
        ModelUnavailable: it is not installed, or not what it needs of the system.
    """
    try:
        import lightgbm
    except ImportError as missing:
        raise ModelUnavailable(f"LightGBM is not installed ({missing}): pip install lightgbm") from missing
    except OSError as missing:
        remedy = "apt-get install libgomp1, or dnf install libgomp" if "gomp" in str(missing) else "reinstall lightgbm"
        raise ModelUnavailable(f"LightGBM does not load ({missing}): {remedy}") from missing
    return lightgbm


class Unparsable(Exception):
    """A text that LightGBM does not read as a model."""


class Trees:
    """A fitted model.

    Args:
        text: the model as LightGBM writes it.
        fast: False to leave the C interface alone.

    Raises:
        Unparsable: the text is no model.
        ModelUnavailable: see `library`.
    """

    def __init__(self, text: str, *, fast: bool = True) -> None:
        lightgbm = library()
        try:
            self._booster: Any = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as broken:
            raise Unparsable(str(broken)) from broken
        self.width = int(self._booster.num_feature())
        self.trees = int(self._booster.num_trees())
        self._single = _SingleRow.over(lightgbm, self._booster, self.width) if fast else None

    @property
    def fast(self) -> bool:
        """Whether single rows take the C interface."""
        return self._single is not None

    def slow(self) -> None:
        """Leave the C interface alone from now on: it did not pass the self-test."""
        self._single = None

    def raw(self, row: Sequence[float]) -> float:
        """Log-odds of one row."""
        if self._single is not None:
            return self._single(row)
        return float(self.raw_many([row])[0])

    def raw_many(self, rows: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of many rows; the same bits as one by one."""
        found: NDArray[np.float64] = self._booster.predict(np.asarray(rows, np.float64), raw_score=True, num_threads=1)
        return found

    def contributions(self, row: Sequence[float]) -> list[float]:
        """How far each feature moved the log-odds of a row, and last the base they started from."""
        found = self._booster.predict(np.asarray([row], np.float64), pred_contrib=True, num_threads=1)
        return [float(weight) for weight in found[0]]


class _SingleRow:
    """A prepared call for one row at a time. It checks nothing: the width is checked here, once a call."""

    def __init__(self, lib: Any, booster: Any, handle: ctypes.c_void_p, width: int) -> None:
        self._booster = booster  # must outlive the handle
        self._predict = lib.LGBM_BoosterPredictForMatSingleRowFast
        self._handle, self._width = handle, width
        self._row, self._score, self._count = (ctypes.c_double * width)(), ctypes.c_double(), ctypes.c_int64()
        self._score_at, self._count_at = ctypes.byref(self._score), ctypes.byref(self._count)
        self._free = weakref.finalize(self, lib.LGBM_FastConfigFree, handle)

    @classmethod
    def over(cls, lightgbm: ModuleType, booster: Any, width: int) -> "_SingleRow | None":
        """Prepare the call; None where this release of the library has no such thing.

        The names used here are private to the library's Python side.
        """
        try:
            lib, handle = lightgbm.basic._LIB, ctypes.c_void_p()
            failed = lib.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster._handle,
                RAW_SCORE,
                0,
                -1,
                FLOAT64,
                ctypes.c_int32(width),
                b"num_threads=1",
                ctypes.byref(handle),
            )
        except (AttributeError, ctypes.ArgumentError):
            return None
        return None if failed or not handle.value else cls(lib, booster, handle, width)

    def __call__(self, row: Sequence[float]) -> float:
        if len(row) != self._width:
            raise ValueError(f"a row of {len(row)} features for a model of {self._width}")
        values: list[ctypes.c_double | float] = [*row]
        self._row[:] = values
        if self._predict(self._handle, self._row, self._count_at, self._score_at):
            raise RuntimeError("LightGBM refused a row")
        return self._score.value


def fit(
    rows: NDArray[np.float64], labels: NDArray[np.float64], names: Sequence[str], settings: dict[str, Any], trees: int
) -> str:
    """Fit a model; the same arguments give the same bytes.

    Args:
        rows: one a line, a column a feature; NaN is missing.
        labels: 0 or 1.
        names: of the columns.
        settings: LightGBM's parameters.
        trees: how many.

    Returns:
        The model's text.
    """
    lightgbm = library()
    data = lightgbm.Dataset(rows, labels, feature_name=list(names), params={"verbosity": -1}, free_raw_data=True)
    text: str = lightgbm.train(settings, data, num_boost_round=trees).model_to_string()
    return text
