"""Where the secret for a token may go."""

import pytest

from flows import ports
from flows.settings import WrongUse, load

SETTINGS = """
[kafka]
bootstrap = "broker:9093"
profile = "oauthbearer"
ca_file = "ca.pem"
token_url = "{url}"
client_id = "footfall"
client_secret_file = "secret"
"""


def known(folder, url):
    for name in ("ca.pem", "secret"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o400)
    (folder / "footfall.toml").write_text(SETTINGS.format(url=url))
    return load(folder / "footfall.toml")


@pytest.mark.parametrize("url", ["http://issuer/token", "http://10.0.0.1:80/token", "issuer/token"])
def test_a_secret_does_not_travel_in_clear(tmp_path, url):
    with pytest.raises(WrongUse, match=r"token_url in \[kafka\] must be https, but on the loopback; got"):
        ports.broker(known(tmp_path, url), tmp_path)


@pytest.mark.parametrize(
    "url", ["https://issuer/token", "http://127.0.0.1:80/token", "http://localhost/token", "http://[::1]:8/t"]
)
def test_it_travels_over_tls_and_on_this_machine(tmp_path, url):
    assert ports.broker(known(tmp_path, url), tmp_path).token_url == url
