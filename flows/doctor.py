"""Doctor: what is wrong with a deployment, in words, and what to do. It changes nothing."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows import ports
from flows.deployment import EXAMPLE, Deployment
from flows.joining import lacks, live_topics
from flows.replay import FLOWS
from flows.settings import Settings, WrongUse, load
from flows.tables import declared
from operators.connectors import subjects, topics
from operators.connectors.access import Access, Admin
from operators.connectors.clock import apart
from operators.connectors.outputs import Outputs
from operators.connectors.registry import Registry
from operators.connectors.sink import GuardedSink
from operators.state.home import examined, has_state
from operators.state.lock import holder
from operators.state.mark import is_first, mark_of
from operators.state.store import StateFault

_SCARCE, _TIGHT = 0.10, 0.20
_SKEW_S = 2.0
_CALL_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    well: bool
    about: str
    remedy: str = ""


class Sick(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, about: str, remedy: str) -> None:
        super().__init__(about)
        self.remedy = remedy


def doctor(named: str | None, config: Path, *, insecure: bool = False) -> list[Finding]:
    """Look at everything that a start of a flow needs: the one named, that of the state directory, or store.

    Raises:
        WrongUse: the settings themselves are refused.
    """
    settings, base = load(config), config.parent
    path = base / settings.state.dir
    flow = named or _lives(path)
    looks: list[tuple[str, Callable[[], str]]] = [
        ("key", lambda: _key(settings, base)),
        ("disk", lambda: _disk(path)),
        ("owner", lambda: _owner(path, flow)),
    ]
    for home in _homes(path):
        name = "state" if home == path else f"state of {home.name}"
        looks.append((name, lambda home=home: _state(home, flow, ports.shards_of(settings, flow), config)))  # type: ignore[misc]
    looks += [
        ("broker", lambda: _broker(settings, base, insecure)),
        ("topics", lambda: _topics(settings, base, flow, config, insecure)),
        ("clock", lambda: _clock(settings, base, insecure)),
        ("registry", lambda: _registry(settings, base, flow, config, insecure)),
    ]
    return list(_looked(looks))


def _lives(path: Path) -> str:
    try:
        found = str((mark_of(path) or {}).get("flow"))
    except StateFault:
        found = ""  # told when the state is looked at
    return found if found in FLOWS else "store"


def as_json(found: list[Finding]) -> dict[str, Any]:
    """For machines."""
    return {"well": all(one.well for one in found), "findings": [asdict(one) for one in found]}


def _looked(looks: list[tuple[str, Callable[[], str]]]) -> Iterator[Finding]:
    for what, look in looks:
        try:
            yield Finding(what, True, look())
        except Sick as sick:
            yield Finding(what, False, str(sick), sick.remedy)
        except WrongUse as refused:
            yield Finding(what, False, str(refused), "correct the settings file")
        except Exception as error:  # whatever it is, it is a finding, not the end of the doctor
            yield Finding(what, False, f"{error}" or type(error).__name__, _remedy_of(error))


def _remedy_of(error: Exception) -> str:
    return {
        "BrokerAway": "start the broker, or correct bootstrap in [kafka]",
        "BrokerRefused": "correct the credentials in [kafka], or ask for the right",
        "RegistryAway": "start the registry, or correct url in [registry]",
        "RegistryRefused": "correct url and credentials in [registry]",
    }.get(type(error).__name__, "see what is said")


def _key(settings: Settings, base: Path) -> str:
    _, version, _ = ports.key_of(settings, base, required=True)
    ports.key_kept(settings, base)
    return f"the pseudonym key is there, version {version}"


def _disk(path: Path) -> str:
    at = next(one for one in (path, *path.parents) if one.exists())
    usage = shutil.disk_usage(at)
    free = usage.free / usage.total
    told = f"{usage.free / 2**30:.1f} GiB free, {free:.0%}"
    if free < _SCARCE:
        raise Sick(f"the volume of {path} is nearly full: {told}", "free space, or move [state] dir to another volume")
    return told + (": below 20 %, keep an eye on it" if free < _TIGHT else "")


def _owner(path: Path, flow: str) -> str:
    mark = mark_of(path)
    if mark is None:
        return f"{path} does not exist yet: the first start makes it"
    if mark.get("flow") != flow:
        raise Sick(f"{path} belongs to flow {mark.get('flow')}", "name another dir in [state], or look at that flow")
    pid = holder(path)
    return f"process {pid} runs the flow" if pid else "no process runs the flow"


def _homes(path: Path) -> list[Path]:
    several = sorted(one for one in path.glob("process-*") if one.is_dir())
    return several or [path]


def _state(path: Path, flow: str, shards: int, config: Path) -> str:
    if not path.exists():
        return "none yet"
    if holder(path) is not None or (path.name.startswith("process-") and holder(path.parent) is not None):
        return "in use: state and recovery store can be compared when the flow does not run"
    restart = (
        f"bring state and recovery store back from one backup; or begin anew, which keeps the old directory aside:"
        f" footfall run {flow} --config {config} --from-scratch"
    )
    try:
        example = Deployment.load(EXAMPLE, None, complete=False)  # every deployment has the same tables
        reads = declared(example, flow, shards)
        found = examined(path, ports.chains(flow, shards), ports.end_ids(flow), reads)
    except Exception as error:
        raise Sick(str(error), restart) from error
    if not found.tokens:
        return "state, and no step has committed yet" if has_state(path) else "none yet"
    back = sum(found.back.values())
    return (
        f"a start resumes at epoch {found.resume_epoch}; {found.removed} snapshots that never committed would go,"
        f" {back} commits would be walked back"
    )


def _admin(settings: Settings, base: Path, insecure: bool) -> tuple[Admin, Access]:
    access = ports.broker(settings, base, insecure=insecure)
    admin = Admin(access)
    admin.wait(_CALL_S, lambda _text: None)
    return admin, access


def _broker(settings: Settings, base: Path, insecure: bool) -> str:
    _, access = _admin(settings, base, insecure)
    return f"{access.bootstrap} answers"


def _topics(settings: Settings, base: Path, flow: str, config: Path, insecure: bool) -> str:
    admin, access = _admin(settings, base, insecure)
    names = [*live_topics(flow), *FLOWS[flow].writes]
    prefix = settings.topics.prefix
    wanted = [*topics.wanted(prefix, settings.topics.partitions, names), topics.claims(prefix)]
    planned = topics.plan(admin, wanted, access.bootstrap)
    if lacking := lacks(planned, str(config), first=not (base / settings.state.dir).exists()):
        raise Sick(lacking, f"footfall topics create --config {config} --apply; what differs is yours to decide")
    path = base / settings.state.dir
    if not any(has_state(home) or not is_first(home) for home in _homes(path)) and (
        former := _former(access, flow, prefix)
    ):
        raise Sick(
            f"{flow} has run before on these topics, it has claimed {', '.join(former)}, and its state is not in {path}",
            f"put the volume or a backup back; or begin anew: footfall run {flow} --config {config} --from-scratch",
        )
    return f"{len(planned.there)} topics as they should be"


def _former(access: Access, flow: str, prefix: str) -> list[str]:
    """What a flow of this name has claimed; the first lane is there in every shape of it."""
    outputs = Outputs(
        kafka=access.config(),
        flow=flow,
        schema_ids={},
        sealed=bytes,
        prefix=prefix,
        start_s=_CALL_S,
    )
    return GuardedSink(outputs).former()


def _clock(settings: Settings, base: Path, insecure: bool) -> str:
    reached = ports.registry(settings, base, insecure=insecure)
    found = apart(reached.url, reached.ca_file)
    if found is None:
        return "the registry says no time to compare with"
    if abs(found) > _SKEW_S:
        raise Sick(f"the clock of this machine is {found:+.1f} s from that of the registry", "let NTP set the clock")
    return f"within {_SKEW_S:.0f} s of that of the registry"


def _registry(settings: Settings, base: Path, flow: str, config: Path, insecure: bool) -> str:
    reached = ports.registry(settings, base, insecure=insecure)
    registry = Registry(reached, call_s=_CALL_S, retries=0)
    registry.wait(_CALL_S, lambda _text: None)
    try:
        ids = subjects.ids(registry, sorted(FLOWS[flow].writes), settings.topics.prefix)
    except subjects.NotRegistered as missing:
        raise Sick(str(missing), f"footfall schemas register --config {config}") from missing
    return f"{reached.url} answers, {len(ids)} schemas of ours are registered"
