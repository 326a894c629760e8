"""docs/deploy.md, command by command, against a real broker and registry."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.broker.jars import free_ports

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()
PARTS = {part.split(".", 1)[0]: part for part in re.split(r"(?m)^## ", PAGE)[1:]}
LIMIT_S = 150.0
"""Longer than the feed takes until somebody has stood in a zone for long enough: about 50 s."""


def commands(part, block=0):
    return re.findall(r"(?ms)^```sh\n(.*?)^```", PARTS[part])[block].splitlines()


@pytest.fixture
def said(tmp_path, broker, registry, prefix):
    """Runs a line of the page in a folder of its own, with our addresses in place of the reader's."""
    (port,) = free_ports(1)
    ours = {
        "http://127.0.0.1:8080/apis/ccompat/v7": registry, "127.0.0.1:9092": broker, "127.0.0.1:9464": f"127.0.0.1:{port}",
        "cp -r flows/": f"cp -r {ROOT}/flows/", "partitions = 4": f'partitions = 4\nprefix = "{prefix}"',
    }  # fmt: skip

    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, own in {"footfall": "-m flows.cli ", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {own}"$@"\n')
        (programs / name).chmod(0o700)

    def put(text):
        for theirs, own in ours.items():
            text = text.replace(theirs, own)
        return text

    def start(line):
        return subprocess.Popen(
            put(line) if "|" in line else put(line).split(), shell="|" in line, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def run(line):
        process = start(line)
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    run.start, run.put, run.folder = start, put, tmp_path
    return run


def test_a_reader_of_the_page_ends_up_with_a_running_worker(said):
    for line in commands("1"):
        if line != "make setup":
            assert said(line)[0] == 0, line
    settings = re.search(r"(?ms)^```toml\n(.*?)^```", PARTS["1"])[1]
    (said.folder / "shop" / "footfall.toml").write_text(said.put(settings))
    dwell = said.folder / "shop" / "campaigns" / "offers-premium-dwell.yaml"
    loud = [line for line in dwell.read_text().splitlines() if not line.startswith("  quiet:")]
    dwell.write_text("\n".join(loud) + "\n")  # the page says that nothing is sent at night; this runs at any hour
    for line in commands("2"):
        code, _, err = said(line)
        assert code == 0, f"{line}: {err}"
    (line,) = commands("3")
    worker = said.start(line)
    try:
        feed, *asked = commands("3", 1)
        load = said.start(feed)
        limit = time.monotonic() + LIMIT_S
        for line in asked:
            while (answer := said(line))[0] != 0 or ("metrics" in line and "footfall_actions_total{" not in answer[1]):
                assert worker.poll() is None, worker.stderr.read()
                assert load.poll() in {None, 0}, load.stderr.read()
                assert time.monotonic() < limit, f"{line}: {answer}"
                time.sleep(0.5)
        load.send_signal(signal.SIGTERM)
        _, err = load.communicate(timeout=LIMIT_S)
        assert load.returncode == 0, err
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=LIMIT_S)
        assert worker.returncode == 0, err
        assert '"drained"' in err
    finally:
        worker.kill()
    code, out, err = said(commands("2")[-1])
    assert code == 0, out + err
