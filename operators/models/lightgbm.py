"""LightGBM behind three calls: read a model's text, score a row, say why; and one to fit.

The only module that knows the library. A model is served through the C interface that LightGBM documents
(https://lightgbm.readthedocs.io/en/stable/C-API.html): some 5 µs a row, and a start without the Python side, which
brings SciPy along. That side only fits.
"""

import ctypes
import weakref
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RAW_SCORE, CONTRIBUTIONS, FLOAT64 = 1, 3, 1
"""Of the C interface: scores as log-odds, what each feature gave to one, and rows as doubles."""
_ONE_THREAD = b"num_threads=1"
_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(lambda _text: None)
"""Takes what the library would print on stdout; it must live as long as the library."""


class ModelUnavailable(Exception):
    """The library itself cannot be used here; the message is one line and names the remedy."""


def _folder() -> Path:
    spec = find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise ModelUnavailable("LightGBM is not installed: pip install lightgbm")
    return Path(spec.origin).parent


def _unusable(missing: OSError) -> ModelUnavailable:
    remedy = "apt-get install libgomp1, or dnf install libgomp" if "gomp" in str(missing) else "reinstall lightgbm"
    return ModelUnavailable(f"LightGBM does not load ({missing}): {remedy}")


@cache
def library() -> ctypes.CDLL:
    """The C interface, loaded on first use; it writes nothing to stdout.

    Raises:
        ModelUnavailable: it is not installed, or not what it needs of the system.
    """
    found = sorted((_folder() / "lib").glob("lib_lightgbm.*"))
    if not found:
        raise ModelUnavailable("LightGBM is installed without its library: reinstall lightgbm")
    try:
        lib = ctypes.CDLL(str(found[0]))
    except OSError as missing:
        raise _unusable(missing) from missing
    lib.LGBM_GetLastError.restype = ctypes.c_char_p
    lib.LGBM_RegisterLogCallback(_SILENT)
    return lib


def release() -> str:
    """Release of the library, as it says itself.

    Raises:
        ModelUnavailable: see `library`.
    """
    try:
        return (_folder() / "VERSION.txt").read_text().strip()
    except OSError as missing:
        raise _unusable(missing) from missing


class Unparsable(Exception):
    """A text that LightGBM does not read as a model."""


class _Booster:
    """A model in the library's memory, freed with this."""

    def __init__(self, text: str) -> None:
        self.lib, self.handle, trees = library(), ctypes.c_void_p(), ctypes.c_int()
        if self.lib.LGBM_BoosterLoadModelFromString(text.encode(), ctypes.byref(trees), ctypes.byref(self.handle)):
            raise Unparsable(self._said())
        self._free = weakref.finalize(self, self.lib.LGBM_BoosterFree, self.handle)

    def _said(self) -> str:
        said: bytes = self.lib.LGBM_GetLastError()
        return said.decode(errors="replace")

    def number(self, of: str) -> int:
        """A whole number that the library knows about the model."""
        found = ctypes.c_int()
        self._done(getattr(self.lib, of)(self.handle, ctypes.byref(found)))
        return found.value

    def predict(self, rows: NDArray[np.float64], what: int, width: int) -> NDArray[np.float64]:
        """`width` numbers a row."""
        rows = np.ascontiguousarray(rows, np.float64)
        found, count = np.empty((len(rows), width)), ctypes.c_int64()
        self._done(
            self.lib.LGBM_BoosterPredictForMat(
                self.handle,
                rows.ctypes.data_as(ctypes.c_void_p),
                FLOAT64,
                ctypes.c_int32(rows.shape[0]),
                ctypes.c_int32(rows.shape[1]),
                1,  # a row after the other
                what,
                0,
                -1,
                _ONE_THREAD,
                ctypes.byref(count),
                found.ctypes.data_as(ctypes.c_void_p),
            )
        )
        return found

    def _done(self, failed: int) -> None:
        if failed:
            raise RuntimeError(f"LightGBM: {self._said()}")


class Trees:
    """A fitted model.

    Args:
        text: the model as LightGBM writes it.
        fast: False to give single rows the way of many.

    Raises:
        Unparsable: the text is no model.
        ModelUnavailable: see `library`.
    """

    def __init__(self, text: str, *, fast: bool = True) -> None:
        self._booster = _Booster(text)
        self.width = self._booster.number("LGBM_BoosterGetNumFeature")
        self.trees = self._booster.number("LGBM_BoosterNumberOfTotalModel")
        self._single = _SingleRow.over(self._booster, self.width) if fast else None

    @property
    def fast(self) -> bool:
        """Whether single rows take a prepared call."""
        return self._single is not None

    def slow(self) -> None:
        """Leave the prepared call alone from now on: it did not pass the self-test."""
        self._single = None

    def raw(self, row: Sequence[float]) -> float:
        """Log-odds of one row."""
        if self._single is not None:
            return self._single(row)
        return float(self.raw_many([row])[0])

    def raw_many(self, rows: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of many rows; the same bits as one by one."""
        return self._booster.predict(self._checked(rows), RAW_SCORE, 1)[:, 0]

    def contributions(self, row: Sequence[float]) -> list[float]:
        """How far each feature moved the log-odds of a row, and last the base they started from."""
        found = self._booster.predict(self._checked([row]), CONTRIBUTIONS, self.width + 1)
        return [float(weight) for weight in found[0]]

    def _checked(self, rows: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows as the library reads them: it would read past the end of one that is too narrow."""
        found = np.asarray(rows, np.float64)
        if len(found) and found.shape[1:] != (self.width,):
            raise ValueError(f"rows of shape {found.shape[1:]} for a model of {self.width}")
        return found.reshape(-1, self.width)


class _SingleRow:
    """A prepared call for one row at a time. It checks nothing: the width is checked here, once a call."""

    def __init__(self, booster: _Booster, handle: ctypes.c_void_p, width: int) -> None:
        self._booster = booster  # must outlive the handle
        self._predict = booster.lib.LGBM_BoosterPredictForMatSingleRowFast
        self._handle, self._width = handle, width
        self._row, self._score, self._count = (ctypes.c_double * width)(), ctypes.c_double(), ctypes.c_int64()
        self._score_at, self._count_at = ctypes.byref(self._score), ctypes.byref(self._count)
        self._free = weakref.finalize(self, booster.lib.LGBM_FastConfigFree, handle)

    @classmethod
    def over(cls, booster: _Booster, width: int) -> "_SingleRow | None":
        """Prepare the call; None where this release of the library has no such thing."""
        handle = ctypes.c_void_p()
        try:
            failed = booster.lib.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster.handle,
                RAW_SCORE,
                0,
                -1,
                FLOAT64,
                ctypes.c_int32(width),
                _ONE_THREAD,
                ctypes.byref(handle),
            )
        except AttributeError:
            return None
        return None if failed or not handle.value else cls(booster, handle, width)

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

    Raises:
        ModelUnavailable: see `library`.
    """
    library()  # what it lacks is told in words
    import lightgbm

    data = lightgbm.Dataset(rows, labels, feature_name=list(names), params={"verbosity": -1}, free_raw_data=True)
    text: str = lightgbm.train(settings, data, num_boost_round=trees).model_to_string()
    return text
