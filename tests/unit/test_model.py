"""A model that is not what its manifest says does not score, and the refusal says what was expected and found."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from operators.models.learn import train_intent
from operators.models.lightgbm import ModelUnavailable, Trees, Unparsable, library
from operators.models.model import LARGEST, ModelRefused, load_model, version_of
from operators.models.training import Row
from schemas.features import NAMES

HOUR = 3600 * 10**6


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    rng = np.random.Generator(np.random.PCG64(1))
    rows = []
    for number, features in enumerate(rng.random((700, len(NAMES)))):
        bought = bool(rng.random() < 0.2 + 0.4 * features[8])
        rows.append(
            Row(number * HOUR, "s", "shoes", f"v{number}", "m", "ASSERTED", tuple(features.tolist()), "p", bought)
        )
    return train_intent(rows, tmp_path_factory.mktemp("good"), seed=1, horizon_us=HOUR, trees=8).folder


def forged(good: Path, out: Path, change=None, text=None, *, sign=True) -> Path:
    """A copy with another manifest or text; `sign` writes the hashes that would make it look right."""
    manifest = json.loads((good / "manifest.json").read_text())
    written = (good / "model.txt").read_bytes() if text is None else text
    if text is not None and sign:
        manifest |= {"sha256": hashlib.sha256(written).hexdigest(), "size": len(written)}
    if change is not None:
        change(manifest)
    if sign:
        manifest["version"] = version_of(written, manifest)
    folder = out / "intent" / manifest["version"]
    folder.mkdir(parents=True)
    (folder / "model.txt").write_bytes(written)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def put(*path, value):
    def change(manifest):
        here = manifest
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value

    return change


def swapped(manifest):
    names = manifest["features"]
    names[0], names[1] = names[1], names[0]


def off_by_one_bit(manifest):
    golden = manifest["golden"][7]
    raw = float.fromhex(golden["raw"])
    golden["raw"] = math.nextafter(raw, 9).hex()


def falling(manifest):
    values = manifest["calibration"]["values"]
    values[0], values[-1] = values[-1], values[0]


BAD = {
    "text changed": (None, b"tree\nversion=v4\n\n", False, "size: expected"),
    "version is not of the content": (put("seed", value=99), None, False, "version: expected"),
    "another registry": (put("feature_hash", value="00"), None, True, "feature hash: expected .* found 00"),
    "another order": (swapped, None, True, "features: expected dwell_s zone_stays"),
    "a feature short": (lambda m: m["features"].pop(), None, True, "number of features: expected 24, found 23"),
    "another objective": (put("objective", value="lambdarank"), None, True, "lambdarank"),
    "another kind": (put("kind", value="prices"), None, True, "prices"),
    "another format": (put("format", value=2), None, True, "format: expected 1, found 2"),
    "another name": (put("name", value="ltv"), None, True, "name: expected intent, found ltv"),
    "another major version": (put("lightgbm", value="9.0.0"), None, True, "major version: expected 4, found 9"),
    "a golden bit": (off_by_one_bit, None, True, "golden row 7: expected -?0x"),
    "golden rows short": (lambda m: m["golden"].pop(), None, True, "golden rows: expected 100, found 99"),
    "a golden row too narrow": (put("golden", 3, "features", value="0x1p0"), None, True, "golden row 3: expected 24"),
    "golden rows in words": (put("golden", 3, "raw", value="high"), None, True, "hex floats"),
    "calibration that falls": (falling, None, True, "never go down"),
    "calibration over 1": (put("calibration", "values", -1, value=1.5), None, True, "never go down"),
    "too many steps": (
        put("calibration", value={"thresholds": [float(n) for n in range(70)], "values": [n / 71 for n in range(71)]}),
        None, True, "1 to 64 values",
    ),
    "an unknown field": (put("pickle", value="gASV"), None, True, "unknown field `pickle`"),
    "a field short": (lambda m: m.pop("horizon_us"), None, True, "missing required field `horizon_us`"),
    "no model at all": (None, b"tree\nnum_class=1\nobjective=binary sigmoid:1\nfeature_names=@NAMES@\n\nrubbish", True, "no LightGBM model"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_artefact_is_refused_with_the_reason(good, tmp_path, fault):
    change, text, sign, message = BAD[fault]
    if text is not None:
        names = json.loads((good / "manifest.json").read_text())["features"]
        text = text.replace(b"@NAMES@", " ".join(names).encode())
    with pytest.raises(ModelRefused, match=message):
        load_model(forged(good, tmp_path, change, text, sign=sign))


def test_the_good_one_passes_and_is_fast(good):
    model = load_model(good)
    assert model.trees.fast
    assert model.version == good.name


def test_a_flipped_byte_is_refused(good, tmp_path):
    text = bytearray((good / "model.txt").read_bytes())
    text[len(text) // 2] ^= 1
    with pytest.raises(ModelRefused, match="sha256: expected"):
        load_model(forged(good, tmp_path, None, bytes(text), sign=False))


def test_a_copy_under_another_version_is_refused(good, tmp_path):
    folder = forged(good, tmp_path)
    with pytest.raises(ModelRefused, match="version: expected"):
        load_model(folder.rename(folder.parent / "0123456789ab"))


def test_missing_files_and_rubbish(tmp_path, good):
    with pytest.raises(ModelRefused, match=r"expected a file manifest\.json"):
        load_model(tmp_path)
    folder = forged(good, tmp_path)
    (folder / "manifest.json").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelRefused, match=r"manifest\.json"):
        load_model(folder)


def test_an_oversize_text_is_not_even_read(good, tmp_path):
    folder = forged(good, tmp_path)
    with (folder / "model.txt").open("r+b") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ModelRefused, match="over 64 MiB"):
        load_model(folder)


def test_a_fast_route_that_answers_otherwise_is_given_up(good, monkeypatch):
    monkeypatch.setattr("operators.models.lightgbm._SingleRow.__call__", lambda self, row: 0.125)
    model = load_model(good)
    monkeypatch.undo()
    assert not model.trees.fast
    golden = model.manifest.golden[5]
    assert model.raw(tuple(map(float.fromhex, golden.features.split()))).hex() == golden.raw


def test_reading_a_model_says_nothing_on_stdout_and_a_narrow_row_is_not_read_past_its_end(good, capfd):
    model = load_model(good)
    with pytest.raises(ValueError, match="for a model of 24"):
        model.trees.raw_many([(0.0,) * 23])
    assert model.trees.raw_many([]).tolist() == []
    with pytest.raises(Unparsable):
        Trees("tree\nrubbish")
    assert capfd.readouterr().out == ""


def test_a_system_without_libgomp_is_told_the_remedy_in_one_line(monkeypatch):
    def without(path):
        raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")

    library.cache_clear()
    monkeypatch.setattr("ctypes.CDLL", without)
    with pytest.raises(ModelUnavailable, match="apt-get install libgomp1") as told:
        library()
    assert "\n" not in str(told.value)
