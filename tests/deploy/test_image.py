"""The image, as far as it can be checked without a container engine: its file, its lock, what goes into it.

`make helm-check` also runs the commands of both stages in a clean virtual environment (a minute).
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.deploy.charts import ROOT, WHOLE, ran, tool

DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = re.split(r"(?m)^FROM ", re.sub(r"\\\n\s*", "", DOCKERFILE))[1:]
FINAL = STAGES[-1]
PINNED = re.compile(r"(?m)^([a-z0-9-]+==\S+) \\$")


def locked(name):
    """Requirements of a lock with their hashes."""
    text = (ROOT / name).read_text()
    return {entry.split(" ", 1)[0]: entry for entry in re.findall(r"(?m)^[a-z0-9].*(?:\n    .*)*", text)}


def test_the_linter_of_dockerfiles_has_nothing_to_say():
    code, out, err = ran(tool("hadolint"), "Dockerfile")
    assert code == 0, out + err


def test_the_final_stage_is_nobody_and_its_entry_is_the_program():
    assert len(STAGES) == 2
    assert "USER 65532:65532" in FINAL
    assert FINAL.index("USER ") < FINAL.index("ENTRYPOINT ")
    assert 'ENTRYPOINT ["footfall"]' in FINAL
    assert "libgomp1" in FINAL
    assert "--from=build" in FINAL
    assert not re.search(r"(?m)^(ADD|RUN pip|COPY (?!--from))", FINAL)
    for setting in ("OMP_NUM_THREADS=1", "MALLOC_ARENA_MAX=2", "RUST_BACKTRACE=0", "PYTHONDONTWRITEBYTECODE=1"):
        assert setting in FINAL
    assert "BYTEWAX" not in DOCKERFILE  # any value of the engine's variable turns its web page on


def test_both_stages_stand_on_one_base_of_glibc():
    assert all(stage.startswith("${PYTHON}") for stage in STAGES)
    base = re.search(r"(?m)^ARG PYTHON=(\S+)$", DOCKERFILE)[1]
    assert base.startswith("python:3.12-slim-")


def test_only_hashed_wheels_are_installed():
    (line,) = re.findall(r"pip install (.*requirements\S+)", DOCKERFILE)
    assert {"--require-hashes", "--no-deps"} <= set(line.split())
    assert "--only-binary :all:" in line
    assert (ROOT / line.split()[-1]).name == "requirements.image.lock"


def test_the_locks_agree_and_name_no_host():
    image, whole = locked("requirements.image.lock"), locked("requirements.lock")
    assert image.items() <= whole.items(), "run  make lock"
    assert all("--hash=sha256:" in entry for entry in image.values())
    assert not re.search(r"https?://|index-url|find-links", "".join(image.values()))
    assert not {name.split("==")[0] for name in image} & {"pytest", "mypy", "ruff", "hypothesis", "pip-tools"}


def test_the_lock_of_the_image_holds_what_the_program_needs():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names, rest = set(), [re.split(r"[\[=<>;~ ]", need, maxsplit=1)[0].lower() for need in wanted]
    assert distribution("footfall")
    names.update(rest)
    pinned = {name.split("==")[0] for name in locked("requirements.image.lock")}
    assert {re.sub(r"[._]", "-", name) for name in names} <= pinned


def test_every_package_is_installed():
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("flows", "operators", "schemas")
        for path in (ROOT / top).rglob("*.py")
        if "example" not in path.parts and "__pycache__" not in path.parts
    }
    assert found == named


def ignored(path):
    """Whether .dockerignore leaves a path out: the last line that matches decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        heads = [str(Path(*path.parts[: depth + 1])) for depth in range(len(path.parts))]
        if any(fnmatch(head, pattern) or fnmatch(Path(head).name, pattern.removeprefix("**/")) for head in heads):
            out = not line.startswith("!")
    return out


def test_what_goes_to_the_builder_is_what_the_image_is_made_of():
    kept = {path.name for path in ROOT.iterdir() if not ignored(path.relative_to(ROOT))}
    copied = set(" ".join(re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", STAGES[0])).split())
    assert copied <= kept
    assert kept <= copied | {"Dockerfile"}
    assert ignored(Path("flows/example/.env"))
    assert ignored(Path("schemas/__pycache__"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The commands of the build stage, in a clean virtual environment."""
    if not WHOLE:
        pytest.skip("a minute long: make helm-check")
    folder = tmp_path_factory.mktemp("image")
    source, venv = folder / "src", folder / "opt"
    source.mkdir()
    for path in ROOT.iterdir():
        if not ignored(path.relative_to(ROOT)):
            leave = shutil.ignore_patterns("__pycache__", "*.key", ".env")
            (shutil.copytree(path, source / path.name, ignore=leave) if path.is_dir() else shutil.copy(path, source))
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    for line in re.findall(r"(?m)^RUN (pip .*)$", STAGES[0]):
        done = subprocess.run(
            line, check=False, shell=True, cwd=source, env={**os.environ, **quiet}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return venv


def test_the_program_runs_on_the_lock_of_the_image_alone(installed, tmp_path):
    environment = {
        "PATH": f"{installed / 'bin'}:/usr/bin:/bin", "HOME": "/tmp", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "RUST_BACKTRACE": "0",
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in installed.rglob("*")}
    for line in (
        "footfall --help",
        "footfall settings",
        "footfall run --help",
        "footfall topics create --help",
        "footfall schemas register --help",
        "footfall doctor --help",
        f"footfall simulate --seed 7 --minutes 1 --out {tmp_path / 'day'}",
        f"footfall replay --in {tmp_path / 'day'} --out {tmp_path / 'out'} --deliver",
        f"footfall campaign lint {tmp_path / 'day'}",
        "python -m flows.feed --help",
    ):
        done = subprocess.run(line.split(), check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert before == {path: path.stat().st_mtime_ns for path in installed.rglob("*")}, "something was written"
    assert not (installed / "bin" / "pip").exists()
    assert "MODEL_UNAVAILABLE" not in (tmp_path / "out" / "summary.json").read_text()
