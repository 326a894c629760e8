"""The doctor on directories that are not well; broker and registry are looked at elsewhere."""

import json
import math
import shlex
import shutil
import socket

import pytest
from prometheus_client import Gauge
from typer.testing import CliRunner

from flows.cli import app
from flows.deployment import EXAMPLE
from flows.doctor import doctor
from flows.doctor_home import snapshots
from flows.findings import as_json
from flows.health import Meters, Server
from flows.ports import home_of
from flows.settings import load
from flows.start import Start
from operators.state.home import Home
from operators.state.rocks import RocksStore
from tests.answering import Answer, Answering

ENDS = ("store.topics", "store.records")
SETTINGS = '[pseudonym]\nkey_file = ".key"\n[state]\nbackend = "rocksdb"\n[metrics]\nlisten = "127.0.0.1:{port}"\n'


class Registry(Answer):
    """Knows no subject, and says what time it is."""

    def do_GET(self):  # noqa: N802 -- a name of the library
        if self.path == "/subjects":
            self.say(200, [])
        else:
            self.say(404, {"error_code": 40401, "message": "none"})


@pytest.fixture
def port():
    """A port of the loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture
def config(tmp_path, port):
    shutil.copytree(EXAMPLE, tmp_path / "shop")
    (tmp_path / "shop" / ".key").write_text("a key")
    (tmp_path / "shop" / ".key").chmod(0o400)
    path = tmp_path / "shop" / "footfall.toml"
    path.write_text(SETTINGS.format(port=port))
    return path


@pytest.fixture
def lived(config):
    """A state directory whose first step has committed twice, and whose recovery store knows nothing of it."""
    state = config.parent / "state"
    home = Home(state, "store")
    home.checked({"store.decode": (0, ("0",))}, ENDS, {})
    store = RocksStore(state, 0)
    store.claim(None)
    store.open("0")
    for number in (b"1", b"2"):
        store.put(b"key", number)
        store.commit()
    store.close()
    home.close()
    return state


def found(config, what, flow=None):
    return next(one for one in doctor(flow, config) if one.what == what)


def told(config, text):
    """Add to the settings, or change a line of them."""
    key = text.partition(" = ")[0]
    lines = [text if line.startswith(f"{key} = ") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines if text in lines else [*lines, text]) + "\n")


def test_a_deployment_that_never_ran(config, port):
    assert found(config, "key").well
    assert found(config, "disk").well
    assert found(config, "settings").about == "store can be started with them"
    assert found(config, "shop").word != "WRONG"
    assert found(config, "page").about == f"free to listen on: 127.0.0.1:{port}"
    assert found(config, "state").about == "none yet"
    assert not found(config, "broker").well
    assert "bootstrap" in found(config, "broker").about
    assert found(config, "topics").word == found(config, "rights").word == "open"
    assert not as_json(doctor(None, config))["well"]


def test_state_that_the_recovery_store_does_not_know(config, lived):
    state = found(config, "state")
    assert not state.well
    assert "knows nothing of it" in state.about
    assert "--from-scratch" in state.remedy
    (lived / "recovery").rename(lived.parent / "elsewhere")
    assert "missing" in found(config, "state").about


def test_a_flow_that_runs_is_left_alone(config, lived):
    home = Home(lived, "store")
    assert "runs the flow" in found(config, "owner").about
    assert found(config, "state").word == "open"
    home.close()


def test_schemas_that_are_not_registered_are_told_with_a_command_to_type(config):
    with Answering(Registry) as server:
        config.write_text(f'{config.read_text()}[registry]\nurl = "{server.url}"\n')
        there = config.parent.rename(config.parent.parent / "a shop") / config.name
        [one] = [one for one in doctor("presence", there, insecure=True) if one.what == "registry"]
    assert "presence.dwell-value" in one.about
    assert shlex.split(one.remedy) == ["footfall", "schemas", "register", "--config", str(there), "--insecure"]


def test_what_is_wrong_is_told_once(config):
    (config.parent / ".key").unlink()
    assert not found(config, "key").well
    assert found(config, "settings").about == "not looked at: see key"


def test_a_process_of_presence_in_a_pod_of_its_own(config):
    state = config.parent / "state" / "process-01"
    home = Home(state, "presence", processes=2)
    home.checked({"presence.decode": (0, ("0",))}, ("presence.topics", "presence.records"), {})
    assert "runs the flow" in found(config, "owner of process-01").about
    assert found(config, "state of process-01").word == "open"
    home.close()
    said = {one.what: one for one in doctor(None, config)}
    assert said["settings"].about == "presence can be started with them"
    assert said["owner of process-01"].about == "no process runs the flow"
    assert said["state of process-01"].well
    assert "owner" not in said
    store = RocksStore(state, 0)
    store.open("0")
    store.close()
    (state / "recovery").rename(config.parent / "elsewhere")
    assert "missing" in found(config, "state of process-01").about
    (config.parent / "state" / "process-00").mkdir()
    assert found(config, "owner of process-00").well
    (config.parent / "state" / "process-00" / "FORMAT").write_text('{"format": 0, "flow": "presence"}')
    assert not found(config, "owner of process-00").well


@pytest.mark.parametrize("alone", [False, True])
def test_what_is_gone_is_written_off_by_the_start_that_is_asked_for(config, alone):
    state = config.parent / "state"
    if not alone:
        Home(state, "presence", processes=2).close()
    for number in range(2):
        home = Home(state / f"process-{number:02d}", "presence", processes=2)
        home.checked({}, (), {})
        home.close()
    start = Start(flow="presence", config=config, processes=2)
    found = [(again.process, own.process) for again, own, _ in snapshots(state, start)]
    assert found == ([(0, 0), (1, 1)] if alone else [(None, 0), (None, 1)])


@pytest.mark.parametrize(
    ("mark", "named"),
    [
        ({"format": 999}, "has format 999; this program reads format"),
        ({"flow": "activation", "shards": 8}, "was begun with shards = 8 in [engine]"),
    ],
)
def test_a_state_that_a_start_would_not_take(config, mark, named):
    Home(config.parent / "state", "store").close()
    path = config.parent / "state" / "FORMAT"
    path.write_text(json.dumps(json.loads(path.read_text()) | mark))
    owner = found(config, "owner")
    assert not owner.well
    assert named in owner.about
    assert "--from-scratch" in owner.remedy


def test_the_state_of_another_flow_is_not_moved_aside(config):
    Home(config.parent / "state", "store").close()
    owner = {one.what: one for one in doctor("presence", config)}["owner"]
    assert "belongs to flow store, not to presence: name another dir" in owner.about
    assert "--from-scratch" not in owner.remedy


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('backend = "memory"', 'must be "rocksdb" for run'),
    ],
)
def test_settings_that_a_start_would_not_take(config, text, named):
    told(config, text)
    assert named in found(config, "settings").about


def test_a_shop_without_a_venue_or_without_campaigns(config):
    shutil.rmtree(config.parent / "campaigns")
    assert found(config, "shop").word == "warn"
    assert "no campaign is in force" in found(config, "shop").about
    (config.parent / "venue.geojson").unlink()
    assert not found(config, "shop").well


def test_a_port_that_somebody_else_has(config, port):
    with socket.create_server(("127.0.0.1", port)):
        assert "must be a free address of this machine" in found(config, "page").about


def test_a_flow_that_runs_says_how_it_is(config, port, lived):
    home, meters = Home(lived, "store"), Meters(10.0)
    silent = found(config, "page")
    assert not silent.well
    assert f"does not answer on 127.0.0.1:{port}" in silent.about
    server = Server(f"127.0.0.1:{port}", meters)
    try:
        lag = Gauge("footfall_input_lag_events", "as a source tells it", ["topic"], registry=meters.registry)
        lag.labels("sensing.position").set(3)
        lag.labels("web.event").set(4)
        said = found(config, "page")
        assert said.well
        assert said.about == f"127.0.0.1:{port} is not ready, 7 rows behind, no epoch is durable yet"
        lag.labels("web.event").set(math.nan)
        assert "not ready, how far behind is not known" in found(config, "page").about
        lag.labels("web.event").set(4)
        meters.pulse.closes()
        meters.pulse.durable()
        assert "is ready, 7 rows behind, the last durable epoch is " in found(config, "page").about
    finally:
        server.close()
        home.close()


def test_the_clock_is_compared_with_the_registry_itself_or_not_looked_at(config, port, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Answering(Registry) as server:
        told(config, f'[registry]\nurl = "{server.url}"')
        assert found(config, "clock").about == "within 2 s of that of the registry"
    clock = found(config, "clock")
    assert clock.word == "open"
    assert clock.about.startswith("not looked at: it is compared with that of the registry: ")
    assert "does not answer" in clock.about


@pytest.mark.parametrize("process", [None, 1])
def test_a_key_under_which_everybody_is_a_stranger(config, process):
    base = config.parent
    flow = "store" if process is None else "presence"
    home_of(load(config), base, flow, processes=1 if process is None else 2, process=process).close()
    assert found(config, "key").well
    (base / ".key").chmod(0o600)
    (base / ".key").write_text("another key")
    assert not found(config, "key").well
    assert "Put key_file and key_version in [pseudonym] back" in found(config, "key").about


def test_the_command_says_what_to_do_and_exits_with_one(config, lived):
    said = CliRunner().invoke(app, ["doctor", "--config", str(config)])
    assert said.exit_code == 1
    assert "WRONG" in said.output
    assert "to do:" in said.output
