"""Pulse, health page and metrics, without a flow."""

import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from http.client import RemoteDisconnected

import pytest

from flows.causes import told
from flows.health import Meters, Server
from flows.settings import WrongUse
from operators.pulse import Pulse
from operators.state.store import StateBehind
from schemas.items import Batch, Tally


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_alive_while_it_beats(clock):
    pulse = Pulse(clock, 10.0)
    clock.now += 59
    assert pulse.alive
    clock.now += 2
    assert not pulse.alive
    pulse.beat()
    assert pulse.alive


def test_an_epoch_is_durable_when_a_lane_that_gave_its_snapshot_is_asked_again(clock):
    stalls = []
    pulse = Pulse(clock, 1.0, stalls.append)
    assert not pulse.ready
    pulse.durable()
    assert not pulse.ready
    pulse.closes()
    clock.now += 0.5
    pulse.closes()
    clock.now += 0.25
    pulse.durable()
    pulse.durable()
    assert (stalls, pulse.epochs, pulse.ready) == ([0.75], 1, True)
    assert pulse.age == 0.75
    pulse.stop.set()
    assert not pulse.ready


def get(server, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def served():
    meters = Meters(1.0)
    server = Server("127.0.0.1:0", meters)
    yield meters, server
    server.close()


def test_the_page_of_a_flow_that_starts(served):
    meters, server = served
    assert (get(server, "/startup")[0], get(server, "/ready")[0], get(server, "/live")[0]) == (503, 503, 200)
    meters.pulse.flowing = True
    assert (get(server, "/startup")[0], get(server, "/ready")[0]) == (200, 503)
    meters.pulse.closes()
    meters.pulse.durable()
    status, body = get(server, "/ready")
    assert (status, json.loads(body)["epochs"]) == (200, 1)
    assert get(server, "/etc/passwd")[0] == 404


def test_metrics_of_a_batch(served):
    meters, server = served
    items = [Tally("sensing.position", "read", 5), Tally("sensing.position", "late", 2)]
    meters.take(Batch(items, {"heard": 1_000_000, "decode": 1_000_500}))
    meters.watch(lambda: 7, [])
    meters.started({"first": 1, "crash": 2}, 3)
    page = get(server, "/metrics")[1]
    for line in (
        'footfall_input_events_total{topic="sensing.position"} 5.0',
        'footfall_late_events_total{topic="sensing.position"} 2.0',
        'footfall_input_fates_total{fate="late",topic="sensing.position"} 2.0',
        "footfall_epoch_dirty_keys 7.0",
        'footfall_starts_total{cause="crash"} 2.0',
        "footfall_state_rollbacks_total 3.0",
        'footfall_stage_seconds_count{stage="decode"} 1.0',
        'footfall_stage_seconds_count{stage="publish"} 1.0',
    ):
        assert line in page.splitlines(), page


def cut(server, path):
    """Ask, and be gone before the answer."""
    one = socket.create_connection(("127.0.0.1", server.port))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it is a reset
    one.sendall(f"GET {path} HTTP/1.0\r\n".encode())
    one.close()


def test_who_leaves_early_and_what_cannot_be_read_put_no_traceback_into_the_log(served, capfd):
    meters, server = served

    def broken():
        raise KeyError("loyalty:ana-card")

    meters.watch(broken, [])
    cut(server, "/live")
    with pytest.raises(RemoteDisconnected):
        get(server, "/metrics")
    assert get(server, "/live")[0] == 200
    for one in threading.enumerate():
        if "process_request_thread" in one.name:  # connections were taken in order: that of the first is among them
            one.join(5)
    [line] = capfd.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"]) == ("page", "warning")
    assert said["cause"].startswith("KeyError in test_health.py")
    assert "ana" not in line


def test_who_says_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("flows.health._SILENT_S", 0.05)
    server = Server("127.0.0.1:0", Meters(1.0))
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as silent:
        assert silent.recv(1) == b""
    server.close()


def test_an_address_that_is_taken_is_named(served):
    _, server = served
    with pytest.raises(WrongUse, match="free address"):
        Server(f"127.0.0.1:{server.port}", Meters(1.0))


def test_an_address_of_the_newer_kind():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = Server("[::1]:0", Meters(1.0))
    with urllib.request.urlopen(f"http://[::1]:{server.port}/live", timeout=5) as answer:
        assert json.loads(answer.read())["ok"]
    server.close()


def wrapped(error):
    try:
        try:
            raise error  # noqa: TRY301
        except Exception as first:
            raise RuntimeError("error calling on_batch") from first
    except RuntimeError as outer:
        return outer


def test_a_cause_is_told_without_anybodys_data():
    assert told(wrapped(StateBehind("the state of shard 0 was lost"))) == "StateBehind: the state of shard 0 was lost"
    assert told(wrapped(OSError(28, "No space left on device", "/state"))) == "OSError: No space left on device: /state"
    away = StateBehind("the state lies on a disk that does not answer")
    away.__cause__ = OSError(5, "Input/output error")
    assert told(wrapped(away)) == f"StateBehind: {away}", "our words, where there are some, and not a library's"
    secret = told(wrapped(KeyError("loyalty:ana-card")))
    assert secret.startswith("KeyError in test_health.py, line ")
    assert "ana" not in secret
