"""A registry behind TLS and a password: the right ones come in, the wrong ones are told at once what to change."""

import json
import time

import pytest

from tests.broker.doorkeeper import Doorkeeper
from tests.broker.secured import Authority
from tests.broker.test_run import LIMIT_S, done, footfall, shop, until


@pytest.fixture
def door(registry, tmp_path):
    with Doorkeeper(registry, Authority(tmp_path / "authority"), "footfall", "r1ght") as one:
        yield one


def known(folder, door, tmp_path, *, password="r1ght", authority="authority"):
    """Settings of a shop that knows the registry so."""
    settings = folder / "footfall.toml"
    (folder / "password").write_text(password + "\n")
    (folder / "password").chmod(0o400)
    lines = [f'url = "{door.url}"', 'username = "footfall"', 'password_file = "password"']
    if authority:
        lines.append(f'ca_file = "{tmp_path / authority / "ca.pem"}"')
    head, _, rest = settings.read_text().partition("[registry]\n")
    settings.write_text(f"{head}[registry]\n" + "\n".join(lines) + "\n" + rest.partition("\n")[2])
    return str(settings)


WRONG = pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"password": "wr0ng"}, "check username and password_file in [registry]"),
        ({"authority": "other"}, "check url and ca_file in [registry]"),
        ({"authority": None}, "check url and ca_file in [registry]"),
    ],
    ids=["wrong password", "another authority", "the system's authorities"],
)


def test_a_shop_registers_and_runs_and_is_well(tmp_path, broker, prefix, registry, door):
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config = known(folder, door, tmp_path)
    done("topics", "create", "--apply", "--config", config)
    assert json.loads(done("schemas", "register", "--config", config, "--json"))["registered"]
    assert not json.loads(done("schemas", "register", "--config", config, "--json"))["registered"]
    process = footfall("run", "store", "--config", config)
    until(process, "flowing")
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    report = footfall("doctor", "--config", config)
    out, err = report.communicate(timeout=LIMIT_S)
    assert report.returncode == 0, out + err
    assert "of that of the registry" in out + err  # whose clock was asked for over TLS as well
    assert (door.passed > 60, door.refused) == (True, 0)


@WRONG
@pytest.mark.parametrize("command", [("schemas", "register"), ("run", "store")], ids=["register", "run"])
def test_who_is_not_let_in_hears_at_once_what_to_change(
    tmp_path, broker, prefix, registry, door, change, named, command
):
    Authority(tmp_path / "other")
    folder = shop(tmp_path / "shop", broker, registry, prefix)
    config = known(folder, door, tmp_path, **change)
    began = time.monotonic()
    process = footfall(*command, "--config", config)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert named in out + err
    assert "wr0ng" not in out + err
    assert time.monotonic() - began < 30, "before the wait is over"
    assert not door.passed
