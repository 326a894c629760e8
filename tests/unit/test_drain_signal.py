"""A signal may come at any moment: in the midst of a line of the log, of a wait, or of the signal before it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUSY = """
import os, signal, sys
from threading import get_ident

class Interrupted:
    def __init__(self, stream):
        self.stream, self.inside = stream, None
    def write(self, text):
        if self.inside == get_ident():
            raise RuntimeError("reentrant call")  # as the stream of a pipe does
        self.inside = get_ident()
        if "busy" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        self.inside = None
        return self.stream.write(text)
    def flush(self):
        self.stream.flush()

sys.stderr = Interrupted(sys.stderr)
from flows.causes import journal
from flows.run import _drains
from operators.pulse import Pulse

log, pulse = journal(flow="store"), Pulse(lambda: 0.0, 1.0)
_drains(pulse, log)
log.info("busy")
log.info("after")
assert pulse.stop.is_set()
sys.stdin.read()
"""


def test_a_signal_in_the_midst_of_a_line_of_the_log_drains():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    events = {}
    try:
        while "after" not in events or "drain" not in events:
            said = process.stderr.readline()
            assert said.startswith("{"), said + process.stderr.read()
            events[json.loads(said)["event"]] = json.loads(said)
    finally:
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert events["drain"]["signal"] == signal.SIGTERM.name


WITHIN = """
import os, signal, sys
from flows.causes import journal
from flows.joining import resolved
from flows.run import _drains
from operators.connectors.registry import RegistryAway
from operators.pulse import Pulse

def hook(_frame, event, called):
    if (event, getattr(called, "__name__", "")) in MOMENTS:
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)

class Away:
    def resolve(self, _values):
        raise RegistryAway("nobody answers")

log, pulse = journal(flow="store"), Pulse(lambda: 0.0, 1.0)
_drains(pulse, log)
"""
WAITS = """
MOMENTS = ("c_call", "sleep"), ("c_call", "acquire")  # the second: an event waits, and holds the lock of its flag
log.info("waiting")
sys.setprofile(hook)
assert not resolved([], Away(), pulse, log)
"""
AGAIN = """
MOMENTS = ("c_return", "__enter__"),  # the flag is being set, and its lock is held
sys.setprofile(hook)
os.kill(os.getpid(), signal.SIGTERM)
assert sys.getprofile() is None
"""


@pytest.mark.parametrize("script", [WAITS, AGAIN], ids=["wait", "signal before"])
def test_a_signal_in_the_midst_of_a_wait_or_of_another_signal_does_not_hang(script):
    process = subprocess.run(
        [sys.executable, "-c", f"{WITHIN}{script}assert pulse.stop.is_set()"],
        cwd=ROOT, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
