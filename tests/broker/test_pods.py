"""The processes of a cluster: each by itself, with its own volume, as pods of the chart start them."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from flows.simulate import write_directory
from tests.broker.jars import free_ports
from tests.broker.test_run import ROOT, SETTINGS, done, until

LIMIT_S = 90.0


@pytest.fixture
def pods(tmp_path, broker, registry, prefix):
    """Two folders with one settings file each, that differ in the port only because they are on one machine."""
    made = []
    for number, port in enumerate(free_ports(2)):
        folder = tmp_path / f"pod-{number}"
        write_directory(folder, seed=5, minutes=1)
        (folder / ".key").write_text("a key for the broker tests")
        (folder / ".key").chmod(0o400)
        text = SETTINGS.format(broker=broker, registry=registry, prefix=prefix, wait="60s")
        (folder / "footfall.toml").write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        made.append((folder, port))
    return made


def begun(folder, number, count=2):
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", "presence", "--config", str(folder / "footfall.toml"),
         "--processes", str(count), "--process", str(number)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_pods_run_side_by_side_each_where_its_settings_say(pods):
    config = str(pods[0][0] / "footfall.toml")
    done("topics", "create", "--apply", "--config", config)
    done("schemas", "register", "--config", config)
    processes = [begun(folder, number) for number, (folder, _) in enumerate(pods)]
    try:
        for process, (_, port) in zip(processes, pods, strict=True):
            assert until(process, "listening")["port"] == port
            until(process, "flowing")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=5) as answer:
                assert json.loads(answer.read())["ok"]
        processes[1].kill()
        processes[1].wait(LIMIT_S)
        assert processes[0].poll() is None, "one pod does not take the other with it"
        processes[0].send_signal(signal.SIGTERM)
        _, err = processes[0].communicate(timeout=LIMIT_S)
        assert processes[0].returncode == 0, err
    finally:
        for process in processes:
            process.kill()
    assert [sorted(path.name for path in (folder / "state").iterdir()) for folder, _ in pods] == [
        ["process-00"], ["process-01"],
    ]  # fmt: skip
    other = begun(pods[0][0], 0, count=1)
    _, err = other.communicate(timeout=LIMIT_S)
    assert other.returncode == 1
    assert "begun with --processes 2, which is fixed for the life" in err
    beyond = begun(pods[0][0], 2)
    _, err = beyond.communicate(timeout=LIMIT_S)
    assert beyond.returncode == 2
    assert "--process must be 0 to 1" in err
