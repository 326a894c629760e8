"""The profile `oauthbearer` towards a broker that asks for a token, and asks for it again while the flow runs."""

import json
import time

import pytest

from tests.broker.secured import Authority
from tests.broker.skipping import or_skipped
from tests.broker.test_run import LIMIT_S, asked, done, footfall, shop, until
from tests.broker.tokens import Issuer, guarded


@pytest.fixture(scope="module")
def door(folder):
    one = or_skipped(guarded, folder / "bearer")
    with one.kafka:
        yield one


@pytest.fixture
def issuer(tmp_path):
    with Issuer("footfall", "r1ght", Authority(tmp_path / "issuer", "issuer-ca")) as one:
        yield one


def known(folder, door, issuer, *, secret="r1ght", trusts=True):
    """Settings of a shop that fetches its tokens so; it trusts the broker's authority, and the issuer's too."""
    both = [door.authority.file, *([issuer.authority.file] if trusts else [])]
    (folder / "ca.pem").write_text("".join(file.read_text() for file in both))
    settings = folder / "footfall.toml"
    (folder / "secret").write_text(secret + "\n")
    (folder / "secret").chmod(0o400)
    lines = [
        'profile = "oauthbearer"', f'bootstrap = "{door.door}"', 'ca_file = "ca.pem"',
        f'token_url = "{issuer.url}"', 'client_id = "footfall"', 'client_secret_file = "secret"', 'scope = "kafka"',
    ]  # fmt: skip
    head, _, rest = settings.read_text().partition("[kafka]\n")
    settings.write_text(f"{head}[kafka]\n" + "\n".join(lines) + "\n" + rest.partition("\n")[2])
    return str(settings)


def epochs_of(port):
    return json.loads(asked(port, "/live")[1])["epochs"]


def test_a_shop_fetches_its_tokens_and_goes_on_when_they_run_out(tmp_path, registry, prefix, door, issuer):
    folder = shop(tmp_path / "shop", door.door, registry, prefix)
    config = known(folder, door, issuer)
    done("topics", "create", "--apply", "--config", config)
    done("schemas", "register", "--config", config)
    process = footfall("run", "store", "--config", config)
    port = until(process, "listening")["port"]
    until(process, "flowing")
    enough, limit = issuer.given["footfall"] + 6, time.monotonic() + LIMIT_S
    while issuer.given["footfall"] < enough:  # the first ones have run out, and each connection showed new ones
        assert asked(port, "/live")[0] == 200
        assert time.monotonic() < limit
        time.sleep(0.1)
    epochs = epochs_of(port)
    while epochs_of(port) < epochs + 4:
        assert time.monotonic() < limit
        time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert set(issuer.scopes) == {"kafka"}


WRONG = pytest.mark.parametrize("change", [{"secret": "wr0ng"}, {"trusts": False}], ids=["secret", "authority"])


@WRONG
@pytest.mark.parametrize("command", [("topics", "create", "--apply"), ("run", "store")], ids=["create", "run"])
def test_what_gets_no_token_is_said_at_once(tmp_path, registry, prefix, door, issuer, command, change):
    config = known(shop(tmp_path / "shop", door.door, registry, prefix), door, issuer, **change)
    began = time.monotonic()
    process = footfall(*command, "--config", config)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "the broker refuses us for profile oauthbearer; check the files and names in [kafka]" in out + err
    assert "wr0ng" not in out + err
    assert time.monotonic() - began < 30, "before the wait is over"
