"""Every setting can be set: a file that gives each one a value of its own is read back as it was written."""

import re
import shutil
import tomllib
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from flows.deployment import EXAMPLE, Deployment
from flows.settings import BOUNDS, PROFILES, Duration, Settings, WrongUse, described, load
from operators.venues.dwelling import dwelling

SPECIAL = {
    "until": '"2089-01-01"', "start": '"2026-12-05T16:00:00Z"', "url": '"https://registry.example/v7"',
    "bootstrap": '"kafka.example:9093"', "listen": '"0.0.0.0:9500"', "lanes": "16", "shards": "9",
    "min_insync": "2", "max_block": '"7ms"',
}  # fmt: skip


def sample(name: str, hint: Any) -> str:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    kinds = [kind for kind in (get_args(inner) or (inner,)) if kind is not type(None)]
    if name in SPECIAL:
        return SPECIAL[name]
    if Duration in kinds:
        return '"7s"'
    if isinstance(kinds[0], str):
        return f'"{kinds[-1]}"'
    return {bool: "true", int: "3", float: "0.5", str: '"x"'}[kinds[0]]


def lines(profile: str, kind: type[msgspec.Struct] = Settings, at: str = "") -> list[str]:
    found, below = [f"[{at}]"] if at else [], []
    others = {key for keys in PROFILES.values() for key in keys} - set(PROFILES[profile])
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if at == "kafka" and (name in others or name == "profile"):
            found += [f'profile = "{profile}"'] if name == "profile" else []
        elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            below += lines(profile, hint, f"{at}.{name}".strip("."))
        else:
            found.append(f"{name} = {sample(name, hint)}")
    return found + below


@pytest.mark.parametrize("profile", PROFILES)
def test_every_setting_takes_a_value(tmp_path, profile):
    text = "\n".join(lines(profile))
    (tmp_path / "footfall.toml").write_text(text)
    settings = load(tmp_path / "footfall.toml")

    def same(given: Any, found: Any) -> None:
        if isinstance(given, dict):
            for key, value in given.items():
                same(value, getattr(found, key))
        else:
            assert given == (found.text if isinstance(found, Duration) else found)

    same(tomllib.loads(text), settings)


@pytest.mark.parametrize(("key", "value"), [("enter_margin_m", "-1"), ("exit_fixes", "0")])
def test_a_bound_of_an_optional_setting_holds(tmp_path, key, value):
    (tmp_path / "footfall.toml").write_text(f"[presence.uwb]\n{key} = {value}\n")
    with pytest.raises(WrongUse, match=re.escape(f"{key} in [presence.uwb] expected")):
        load(tmp_path / "footfall.toml")


PLAIN = '[kafka]\nbootstrap = "127.0.0.1:9092"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[engine]\nepoch = "0s"', "2: epoch in [engine] must be from 50ms to 10m; got '0s'"),
        ('[engine]\nepoch = "11m"', "2: epoch in [engine] must be from 50ms to 10m; got '11m'"),
        ('[engine]\nlanes = 4\nmax_block = "2h"', "3: max_block in [engine] must be from 1ms to 1s; got '2h'"),
        ('[engine]\nmax_block = "0s"', "2: max_block in [engine] must be from 1ms to 1s; got '0s'"),
        ("[engine]\nshards = 4", "2: shards in [engine] must be 1, or 8 to 64; got 4"),
        ('[engine]\njournal = "polls"', "2: unknown setting journal in [engine]"),
        ('[metrics]\nlisten = "127.0.0.1:70000"', "2: listen in [metrics] must be host:port"),
        (
            f'{PLAIN}username = "ana"',
            "3: username in [kafka] must stand with profile sasl_ssl only; profile is plaintext",
        ),
        (f'{PLAIN}password_file = "p"', "3: password_file in [kafka] must stand with profile sasl_ssl only"),
        (
            f'{PLAIN}ca_file = "ca"',
            "3: ca_file in [kafka] must stand with profile sasl_ssl or mtls or oauthbearer only",
        ),
        (
            '[kafka]\nprofile = "sasl_ssl"\nca_file = "c"\nusername = "u"\npassword_file = "p"\ntoken_url = "https://t"',
            "6: token_url in [kafka] must stand with profile oauthbearer only; profile is sasl_ssl",
        ),
        ('[registry]\nurl = "http://r:1"\nca_file = "c"', "3: ca_file in [registry] must stand with an https url only"),
    ],
)
def test_what_would_be_ignored_or_cannot_be_is_named_with_its_line(tmp_path, text, said):
    (tmp_path / "footfall.toml").write_text(text)
    with pytest.raises(WrongUse) as refused:
        load(tmp_path / "footfall.toml")
    assert f"footfall.toml:{said}" in str(refused.value)


@pytest.mark.parametrize("key", ["epoch", "max_block"])
def test_a_bound_is_told_where_settings_are_told(key):
    told = next(meaning for section, name, _, meaning in described() if (section, name) == ("engine", key))
    least, most = (bound.text for bound in BOUNDS["engine", key])
    assert told.endswith(f"from {least} to {most}")


@pytest.mark.parametrize(
    "text",
    [
        '[kafka]\nbootstrap = "ana:s3cret@host:9092"',
        '[kafka]\nbootstrap = ["ana:s3cret@host:9092"]',
        'kafka = "ana:s3cret@host:9092"',
        (
            '[kafka]\nprofile = "oauthbearer"\ntoken_url = "http://ana:s3cret@host/token"\nca_file = "c"\nclient_id = "i"\n'
            'client_secret_file = "s"'
        ),
        '[registry]\nurl = "http://ana:s3cret@host"',
        '[metrics]\nlisten = "ana:s3cret@host:1"',
        '[kafka]\nstart = "ana:s3cret@host"',
    ],
)
def test_credentials_in_the_wrong_place_are_refused_and_not_repeated(tmp_path, text):
    (tmp_path / "footfall.toml").write_text(text)
    with pytest.raises(WrongUse, match=r"footfall\.toml:[123]: ") as refused:
        load(tmp_path / "footfall.toml")
    assert "s3cret" not in str(refused.value)


def test_parameters_of_a_stay_hold_for_every_technology_but_where_one_has_its_own(tmp_path):
    (tmp_path / "footfall.toml").write_text(
        '[presence]\ngap = "40s"\nexit_margin_m = 0.25\nreorder = "2s"\n[presence.uwb]\ngap = "20s"\n'
    )
    presence = load(tmp_path / "footfall.toml").presence
    assert presence.of("") == {"gap_us": 40_000_000, "exit_margin_m": 0.25}
    assert presence.of("UWB") == {"gap_us": 20_000_000}
    shutil.copytree(EXAMPLE, tmp_path / "shop")
    made = Deployment.load(tmp_path / "shop", tmp_path / "footfall.toml")
    zone = made.venue.zones["offers"]
    ways = {tech: dwelling(zone, tech, made._overrides) for tech in ("UWB", "RFID")}
    assert {tech: (way.gap_us, way.exit_margin_m) for tech, way in ways.items()} == {
        "UWB": (20_000_000, 0.25),
        "RFID": (40_000_000, 0.25),
    }
