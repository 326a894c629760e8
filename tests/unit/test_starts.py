"""What a start must not import: each of these was once a tenth of a start or more, and none of them is needed for it."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest

from flows.simulate import write_directory
from tests.unit.starting import ROOT, SETTINGS, settled

NEVER = {
    "lightgbm": "a model is served through the C interface",
    "scipy": "comes with the Python side of LightGBM",
    "rapidfuzz": "spells what is wrong; a start has nothing wrong",
    "confluent_kafka.schema_registry": "the registry is asked over the standard library's client",
    "structlog": "a log has three levels and one form",
    "flows.simulate": "makes days",
    "flows.train": "makes models",
}
OF_A_WORKER = {
    "pydantic": "typer reads options with it; those of `run` are read by the standard library",
    "rich": "draws for people",
    "flows.demo": "another verb",
    "flows.doctor": "another verb",
}
OF_FILES = {"confluent_kafka": "a replay needs no broker"}


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    folder = tmp_path_factory.mktemp("day")
    write_directory(folder, seed=5, minutes=1)
    return settled(folder)


def started(*words, options=()):
    return subprocess.run(
        [sys.executable, *options, "-m", "flows.cli", *map(str, words)],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def imported(*words):
    """Names of all modules that the command imported, and what else it said."""
    done = started(*words, options=("-X", "importtime"))
    lines = done.stderr.splitlines()
    names = {found[1] for line in lines if (found := re.match(r"import time: +\d+ \| +\d+ \| +(\S+)$", line))}
    return names, "\n".join(line for line in lines if not line.startswith("import time:"))


def named(names, barred):
    """Which of the barred are there, each with why it need not be."""
    return {one: why for one, why in barred.items() if any(name == one or name.startswith(f"{one}.") for name in names)}


def test_a_worker_that_waits_for_its_broker_has_imported_nothing_heavy(day):
    names, said = imported("run", "store", "--config", day / "footfall.toml")
    assert "BrokerAway: 127.0.0.1:1: the broker does not answer" in said, "the start did not come as far as the broker"
    assert {"flows.run", "confluent_kafka", "operators.connectors.registry", "liquid", "numpy"} <= names
    assert named(names, NEVER | OF_A_WORKER) == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "required: flow, --config"),
        (("shop", "--config", "x"), "invalid choice: 'shop'"),
        (("presence", "--config", "x", "--processes", "0"), "--processes: must be 1 or more: up to lanes in [engine]"),
        (("store", "--config", "x", "--accept-loss", "nonsense"), "--accept-loss: must be TOPIC:PARTITION, such as"),
        (("store", "--config", "x", "--accept-loss", "web.event:x"), "--accept-loss: must be TOPIC:PARTITION, such as"),
        (("presence", "--config", "x", "--process", "first"), "--process: invalid int value"),
        (("store", "--config", "x", "--unheard"), "unrecognized arguments: --unheard"),
    ],
)
def test_wrong_words_are_wrong_use(words, told):
    done = started("run", *words)
    assert done.returncode == 2
    assert told in done.stderr


def test_help_of_run_is_a_verb_like_any_other():
    done = started("run", "--help")
    assert done.returncode == 0
    assert "until SIGTERM drains it" in done.stdout
    assert "--accept-loss TOPIC:PARTITION" in done.stdout
    assert "--process " not in done.stdout
    assert "run " in started("--help").stdout


def test_a_replay_has_imported_nothing_heavy(day, tmp_path):
    names, said = imported("replay", "--in", day, "--out", tmp_path / "out")
    assert "summary.json holds the digests" in said
    assert "flows.store" in names
    assert named(names, NEVER | OF_FILES) == {}


def asked(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def test_processes_that_share_a_state_tell_of_its_starts_once(day, tmp_path):
    """The supervisor notes a start; their pages are there while they wait for the broker."""
    folder = shutil.copytree(day, tmp_path / "shop", ignore=shutil.ignore_patterns("state*"))
    text = SETTINGS.replace('wait = "1s"', 'wait = "60s"') + "[engine]\nshards = 8\n"
    (folder / "footfall.toml").write_text(text)
    command = [sys.executable, "-m", "flows.cli", "run", "activation", "--processes", "2"]
    with subprocess.Popen(
        [*command, "--config", str(folder / "footfall.toml")], stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as running:  # fmt: skip
        assert running.stderr is not None
        pages = {}
        try:
            ports, waiting = {}, set()
            for line in running.stderr:
                said = json.loads(line)
                if said["event"] == "listening":
                    ports[said["process"]] = said["port"]
                if said["event"] == "waiting":
                    waiting.add(said["process"])
                if waiting == {0, 1}:
                    pages = {process: asked(port).splitlines() for process, port in ports.items()}
                    break
        finally:
            running.terminate()
            running.stderr.read()
    assert 'footfall_starts_total{cause="first"} 1.0' in pages[0]
    assert not any(line.startswith("footfall_starts_total{") for line in pages[1])
    for page in pages.values():
        assert "footfall_state_rollbacks_total 0.0" in page
