"""A model in service: `models/<name>/<version>/model.txt` and `manifest.json`, checked before it may score.

The text is LightGBM's own and nothing else: no pickle, nothing that runs. The manifest says what the model
is, what it learned from and what it must answer: a hundred golden rows have to come out to the last bit.
"""

import hashlib
import json
from bisect import bisect_right
from pathlib import Path
from typing import Any, Literal

import msgspec

from operators.models.lightgbm import Trees, Unparsable, release
from schemas.features import FEATURE_HASH, NAMES

FORMAT = 1
LARGEST = 64 * 1024 * 1024
STEPS = 64
GOLDEN = 100


class ModelRefused(Exception):
    """A model that may not score; the message says what was expected and what was found."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Log-odds to a share of buyers: steps that never go down.

    `values[i]` holds from `thresholds[i - 1]` (in) to `thresholds[i]` (out).
    """

    thresholds: list[float]
    values: list[float]

    def __call__(self, raw: float) -> float:
        """Share of buyers among people of these log-odds."""
        return self.values[bisect_right(self.thresholds, raw)]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row (hex floats, one space between) and what it scored."""

    features: str
    raw: str
    score: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands beside a model."""

    format: int
    kind: Literal["intent"]
    name: str
    version: str
    sha256: str
    size: int
    feature_hash: str
    features: list[str]
    objective: Literal["binary"]
    lightgbm: str
    calibration: Calibration
    horizon_us: int
    label: str
    topics: list[str]
    times: dict[str, list[str]]
    rows: dict[str, int]
    seed: int
    trees: int
    settings: dict[str, Any]
    metrics: dict[str, Any]
    golden: list[Golden]


class Model(msgspec.Struct, frozen=True):
    """A model that passed its checks."""

    manifest: Manifest
    trees: Trees

    @property
    def name(self) -> str:
        """Its name: what campaigns call `score.<name>`."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Twelve hex digits over text and manifest."""
        return self.manifest.version

    def raw(self, features: tuple[float, ...]) -> float:
        """Log-odds."""
        return self.trees.raw(features)

    def score(self, features: tuple[float, ...]) -> float:
        """Calibrated share, 0..1."""
        return self.manifest.calibration(self.trees.raw(features))

    def strongest(self, features: tuple[float, ...], most: int = 5) -> list[tuple[str, float]]:
        """The features that moved the log-odds furthest, furthest first."""
        weights = self.trees.contributions(features)[:-1]
        ranked = sorted(range(len(weights)), key=lambda place: (-abs(weights[place]), place))
        return [(self.manifest.features[place], weights[place]) for place in ranked[:most] if weights[place]]


def version_of(text: bytes, manifest: dict[str, Any]) -> str:
    """Version of a model: over its text and everything in the manifest but the version itself."""
    body = {name: value for name, value in manifest.items() if name != "version"}
    written = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return hashlib.blake2b(text + b"\0" + written).hexdigest()[:12]


def load_model(folder: Path) -> Model:
    """Read a model and hold it to its manifest.

    Args:
        folder: `.../<name>/<version>`.

    Returns:
        The model, self-tested.

    Raises:
        ModelRefused: something is not as it must be.
        ModelUnavailable: LightGBM cannot be used here; no fault of the model.
    """
    manifest, text = _read(folder)
    try:
        trees = Trees(text.decode())
    except (Unparsable, UnicodeDecodeError) as broken:
        raise ModelRefused(f"{folder}: model.txt is no LightGBM model: {broken}") from broken
    if trees.width != len(NAMES):
        raise ModelRefused(f"{folder}: expected a model of {len(NAMES)} features, found one of {trees.width}")
    model = Model(manifest, trees)
    _golden(folder, model)
    return model


def _read(folder: Path) -> tuple[Manifest, bytes]:
    """Everything that can be checked before native code sees the text."""
    for name in ("manifest.json", "model.txt"):
        if not (folder / name).is_file():
            raise ModelRefused(f"{folder}: expected a file {name}, found none")
        if (folder / name).stat().st_size > LARGEST:
            raise ModelRefused(f"{folder}: {name} is over {LARGEST // 1024 // 1024} MiB")
    written, text = (folder / "manifest.json").read_bytes(), (folder / "model.txt").read_bytes()
    try:
        manifest = msgspec.json.decode(written, type=Manifest)
        version = version_of(text, json.loads(written))
    except (msgspec.MsgspecError, ValueError) as broken:
        raise ModelRefused(f"{folder}: manifest.json: {broken}") from broken
    found = _text_says(text)
    for what, expected, is_ in (
        ("format", FORMAT, manifest.format),
        ("name", folder.parent.name, manifest.name),
        ("size", manifest.size, len(text)),
        ("sha256", manifest.sha256, hashlib.sha256(text).hexdigest()),
        ("version", manifest.version, version),
        ("version", folder.name, manifest.version),
        ("number of features", len(NAMES), len(manifest.features)),
        ("features", " ".join(NAMES), " ".join(manifest.features)),
        ("feature hash", FEATURE_HASH, manifest.feature_hash),
        ("feature names in model.txt", " ".join(NAMES), found.get("feature_names")),
        ("objective in model.txt", manifest.objective, found.get("objective", "").split(" ")[0]),
        ("classes in model.txt", "1", found.get("num_class")),
        ("LightGBM major version", release().split(".")[0], manifest.lightgbm.split(".")[0]),
        ("golden rows", GOLDEN, len(manifest.golden)),
    ):
        if expected != is_:
            raise ModelRefused(f"{folder}: {what}: expected {expected}, found {is_}")
    _calibration(folder, manifest.calibration)
    return manifest, text


def _text_says(text: bytes) -> dict[str, str]:
    """The head of a model's text: `name=value` lines up to the first empty one."""
    head = text[:65536].split(b"\n\n", 1)[0].decode(errors="replace")
    return dict(line.split("=", 1) for line in head.splitlines() if "=" in line)


def _calibration(folder: Path, steps: Calibration) -> None:
    values, thresholds = steps.values, steps.thresholds
    if not 1 <= len(values) <= STEPS or len(thresholds) != len(values) - 1:
        raise ModelRefused(
            f"{folder}: calibration: expected 1 to {STEPS} values and one threshold less,"
            f" found {len(values)} and {len(thresholds)}"
        )
    if values != sorted(values) or thresholds != sorted(set(thresholds)) or values[0] < 0.0 or values[-1] > 1.0:
        raise ModelRefused(f"{folder}: calibration: expected steps from 0 to 1 that never go down, found others")


def _golden(folder: Path, model: Model) -> None:
    """Single row, many rows and the manifest must agree to the bit; only the single row may be given up."""
    try:
        rows = [tuple(map(float.fromhex, golden.features.split())) for golden in model.manifest.golden]
        expected = [(float.fromhex(golden.raw), float.fromhex(golden.score)) for golden in model.manifest.golden]
    except (ValueError, OverflowError) as broken:
        raise ModelRefused(f"{folder}: golden rows: expected hex floats: {broken}") from broken
    for number, row in enumerate(rows):
        if len(row) != len(NAMES):
            raise ModelRefused(f"{folder}: golden row {number}: expected {len(NAMES)} features, found {len(row)}")
    together = [float(raw) for raw in model.trees.raw_many(rows)]
    if model.trees.fast and [model.trees.raw(row) for row in rows] != together:
        model.trees.slow()
    for number, (raw, (raw_expected, score_expected)) in enumerate(zip(together, expected, strict=True)):
        score = model.manifest.calibration(raw)
        if raw != raw_expected or score != score_expected:
            raise ModelRefused(
                f"{folder}: golden row {number}: expected {raw_expected.hex()} and {score_expected.hex()},"
                f" found {raw.hex()} and {score.hex()}"
            )
