"""Doctor: what is wrong with a deployment, in words, and what to do. It changes nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from flows import doctor_home, doctor_reach, ports
from flows.deployment import Deployment
from flows.findings import Finding, Look, Told, looked, sick
from flows.settings import Settings, load
from flows.start import Start, refused

_SCARCE, _TIGHT = 0.10, 0.20


def doctor(named: str | None, config: Path, *, insecure: bool = False) -> list[Finding]:
    """Look at everything that a start of a flow needs: the one named, that of the state directory, or store.

    Raises:
        WrongUse: the settings themselves are refused.
    """
    return list(looked(_looks(load(config), named, config, insecure=insecure)))


def _looks(settings: Settings, named: str | None, config: Path, *, insecure: bool) -> Iterator[Look]:
    base, path = config.parent, config.parent / settings.state.dir
    flow = named or doctor_home.lives(path)
    start = doctor_home.started(doctor_home.parts(path)[0], flow, config, insecure=insecure)
    yield "key", lambda: _key(settings, base)
    yield "settings", lambda: _settings(start)
    yield "shop", lambda: _shop(start)
    yield "disk", lambda: _disk(path)
    yield from doctor_home.looks(settings, start)
    yield from doctor_reach.looks(settings, start)


def _key(settings: Settings, base: Path) -> str:
    _, version, _ = ports.key_of(settings, base, required=True)
    ports.key_kept(settings, base)
    return f"the pseudonym key is there, version {version}"


def _settings(start: Start) -> str:
    refused(start)
    return f"{start.flow} can be started with them"


def _shop(start: Start) -> str:
    """Venue, rules and model, as a start reads them."""
    said: list[str] = []
    shop = Deployment.load(start.base, start.config, complete=False, live=True, say=said.append)
    told = f"{len(shop.venue.zones)} zones, {len(shop.rules.campaigns)} campaigns"
    if not shop.rules.campaigns:
        said.insert(0, "no campaign is in force, so nothing will be decided and no dwell be told")
    if said:
        raise Told("warn", f"{told}; {'; '.join(said)}")
    return told


def _disk(path: Path) -> str:
    at = next(one for one in (path, *path.parents) if one.exists())
    usage = shutil.disk_usage(at)
    free = usage.free / usage.total
    told = f"{usage.free / 2**30:.1f} GiB free, {free:.0%}"
    if free < _SCARCE:
        raise sick(f"the volume of {path} is nearly full: {told}", "free space, or move [state] dir to another volume")
    if free < _TIGHT:
        raise Told("warn", f"{told}: below 20 %, keep an eye on it")
    return told
