"""The doctor on directories that are not well; broker and registry are looked at elsewhere."""

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.doctor import as_json, doctor
from flows.ports import home_of
from flows.settings import load
from operators.state.home import Home
from operators.state.rocks import RocksStore

ENDS = ("store.topics", "store.records")


@pytest.fixture
def config(tmp_path):
    (tmp_path / ".key").write_text("a key")
    (tmp_path / ".key").chmod(0o400)
    path = tmp_path / "footfall.toml"
    path.write_text('[pseudonym]\nkey_file = ".key"\n[state]\nbackend = "rocksdb"\n')
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


def found(config, what):
    return next(one for one in doctor(None, config) if one.what == what)


def test_a_deployment_that_never_ran(config):
    assert found(config, "key").well
    assert found(config, "disk").well
    assert found(config, "state").about == "none yet"
    assert not found(config, "broker").well
    assert "bootstrap" in found(config, "broker").about
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
    assert found(config, "state").well
    home.close()


def test_a_key_that_is_not_there(config):
    (config.parent / ".key").unlink()
    assert not found(config, "key").well


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
