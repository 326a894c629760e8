"""Every setting can be set: a file that gives each one a value of its own is read back as it was written."""

import re
import tomllib
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from flows.settings import Duration, Settings, WrongUse, load

SPECIAL = {
    "until": '"2089-01-01"', "start": '"2026-12-05T16:00:00Z"', "url": '"https://registry.example/v7"',
    "bootstrap": '"kafka.example:9093"', "listen": '"0.0.0.0:9500"', "lanes": "16", "shards": "1",
    "min_insync": "2",
}  # fmt: skip


def sample(name: str, hint: Any) -> str:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    kinds = [kind for kind in (get_args(inner) or (inner,)) if kind is not type(None)]
    if name in SPECIAL:
        return SPECIAL[name]
    if Duration in kinds:
        return '"7s"'
    if isinstance(kinds[0], str):
        return f'"{kinds[-1]}"' if name != "profile" else '"mtls"'
    return {bool: "true", int: "3", float: "0.5", str: '"x"'}[kinds[0]]


def lines(kind: type[msgspec.Struct] = Settings, at: str = "") -> list[str]:
    found, below = [f"[{at}]"] if at else [], []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            below += lines(hint, f"{at}.{name}".strip("."))
        else:
            found.append(f"{name} = {sample(name, hint)}")
    return found + below


def test_every_setting_takes_a_value(tmp_path):
    text = "\n".join(lines())
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
