"""The services of compose.yaml as processes: their commands, their settings, against a real broker and registry.

What a container adds (its file system, its user, its network) is not here.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from shutil import copytree

import orjson
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 150.0
"""Longer than the feed takes until somebody has stood in a zone for long enough: about 50 s."""
SERVICES = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())["services"]


class Stack:
    """Runs a service as compose would, with container paths and addresses put to ours."""

    def __init__(self, folder, broker, registry, prefix):
        self.etc, self.var = folder / "etc", folder / "var"
        copytree(ROOT / "flows" / "example", self.etc)
        self.var.mkdir()
        ours = (ROOT / "helm" / "compose" / "footfall.toml").read_text()
        ours = ours.replace("partitions = 4", f'partitions = 4\nprefix = "{prefix}"').replace("kafka:9092", broker)
        ours = ours.replace("http://registry:8080/apis/ccompat/v7", registry).replace("0.0.0.0:9464", "127.0.0.1:0")
        (self.etc / "footfall.toml").write_text(self.here(ours) + '\n[engine]\nepoch = "1s"\n')

    def here(self, text):
        return text.replace("/etc/footfall", str(self.etc)).replace("/var/lib/footfall", str(self.var))

    def start(self, name):
        service = SERVICES[name]
        words = [*service.get("entrypoint", ["footfall"]), *service["command"]]
        program = {"footfall": [sys.executable, "-m", "flows.cli"], "python": [sys.executable]}[words[0]]
        return subprocess.Popen(
            [*program, *map(self.here, words[1:])], cwd=self.etc, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def ends(self, name):
        process = self.start(name)
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        return err


def listening(process):
    for line in process.stderr:
        if line.startswith("{") and (said := orjson.loads(line))["event"] == "listening":
            return said["port"]
    raise AssertionError("it never listened")


def answer(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def actions(port):
    page = answer(port, "/metrics")[1]
    return [line for line in page.splitlines() if line.startswith("footfall_actions_total{")]


@pytest.fixture
def stack(tmp_path, broker, registry, prefix):
    return Stack(tmp_path, broker, registry, prefix)


def test_the_stack_prepares_itself_acts_on_its_load_and_drains(stack):
    for _ in range(2):  # the second time there is nothing to do
        topics, schemas, _ = (stack.ends(name) for name in ("topics", "schemas", "key"))
    assert " 0 missing, 0 differ" in topics
    assert "0 registered" in schemas
    key = stack.var / "pseudonym.key"
    assert key.stat().st_mode & 0o777 == 0o400
    worker = stack.start("footfall")
    port = listening(worker)
    load = stack.start("simulate")
    try:
        limit = time.monotonic() + LIMIT_S
        while not (answer(port, "/ready")[0] == 200 and actions(port)):
            assert worker.poll() is None, worker.stderr.read()
            assert load.poll() is None, load.stderr.read()
            assert time.monotonic() < limit, answer(port, "/metrics")[1]
            time.sleep(0.2)
        for process in (load, worker):
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, err
    finally:
        for process in (load, worker):
            process.kill()


@pytest.mark.parametrize("name", ["footfall", "simulate"])
def test_what_is_not_prepared_says_which_command_is_missing(stack, name):
    stack.ends("key")
    process = stack.start(name)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert ("footfall topics create" if name == "footfall" else "footfall schemas register") in err
