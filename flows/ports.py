"""Ports: what a flow reads from and writes to. The only place that opens connectors and state."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytewax.inputs import Source
from bytewax.outputs import Sink

from flows.settings import Settings, WrongUse, fault_of_brokers
from operators.connectors.clock import wall
from operators.state.aside import set_aside as moved_aside
from operators.state.epochs import EpochStore
from operators.state.home import Chain, Home, Key, same_key
from operators.state.mark import formatted, mark_of
from operators.state.memory import Memory, MemoryStore
from operators.state.rocks import RocksShard, RocksStore
from operators.state.store import Store
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, fingerprint
from schemas.shards import ALONE, SHARDS

if TYPE_CHECKING:  # a replay or a demo needs no broker, and starts the sooner without its client
    from operators.connectors.access import Access
    from operators.connectors.registry import RegistryAccess
    from operators.connectors.returns import Returns

STEPS = ("decode", "admit", "dwell", "occupancy", "stitch", "person", "deliver", "gather", "homes")
"""Numbers of steps in the state, by place; never reordered, only added to."""
_BY_SHARD = frozenset({"decode", "admit", "person"})
"""Steps that every shard has, where activation has several: the first by lanes, and there are as many."""
FLOW_STEPS = {
    "presence": ("decode", "admit", "dwell"),
    "activation": ("decode", "admit", "occupancy", "stitch", "person", "deliver"),
    "store": ("decode", "admit", "dwell", "occupancy", "stitch", "person", "deliver"),
}
"""Steps by flow; with the flow's name before them they key the recovery store, and are never renamed."""
SHARDED = ("decode", "admit", "gather", "occupancy", "stitch", "homes", "person")
"""Those of activation over several shards."""
ENDS = ("topics", "records")
"""Names of source and sink."""
_RETURNS = "returns"
"""Name of the source by which shards of activation send to each other."""


def shards_of(settings: Settings, flow: str) -> int:
    """How many virtual shards a flow has; only activation may have several."""
    return settings.engine.shards if flow == "activation" else 1


def chains(flow: str, shards: int) -> dict[str, Chain]:
    """Number in the state and shards of every step of a flow, by step id."""
    if shards == 1:
        return {f"{flow}.{name}": (STEPS.index(name), (ALONE,)) for name in FLOW_STEPS[flow]}
    several = SHARDS[:shards]
    return {f"{flow}.{name}": (STEPS.index(name), several if name in _BY_SHARD else (ALONE,)) for name in SHARDED}


def end_ids(flow: str) -> tuple[str, ...]:
    """Step ids of sources and sink."""
    return tuple(f"{flow}.{name}" for name in (*ENDS, *([_RETURNS] if flow == "activation" else ())))


@dataclass(frozen=True)
class Ports:
    """Source and sink of micro-batches, the stores of the steps, and the stamp clock.

    Where there are several shards, also the way back between them, and what deals a shard's batch over the lanes of
    the sink.
    """

    topics: Source[Any]
    records: Sink[Any]
    opened: Callable[[str], Callable[[], Store]]
    stamp: Callable[[], int] = wall
    returns: "Returns | None" = None
    outlets: Callable[[Any], list[Any]] = lambda keyed: [keyed]
    noted: Callable[..., Any] = lambda call, *given: call(*given)
    """Answers the calls that the engine makes of a step, and may note what one fails with."""


def key_of(settings: Settings, base: Path, *, required: bool) -> tuple[bytes, int, bool]:
    """Pseudonym key, its version, and whether it is the published example.

    Where a key is `required`, by a flow that runs, its file must be closed to others, as that of any secret.
    """
    named = settings.pseudonym.key_file
    if named is None:
        if required:
            raise WrongUse("[pseudonym] key_file must name a key; the example key is for demos and replays only")
        return EXAMPLE_KEY, EXAMPLE_VERSION, True
    path = base / named
    try:
        key = (_closed(path) if required else path).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise WrongUse(f"{path}: the pseudonym key must be readable; {error.strerror}") from error
    if not 0 < len(key) <= 64:
        raise WrongUse(f"{path}: the pseudonym key must hold 1 to 64 bytes; got {len(key)}")
    return key, settings.pseudonym.key_version, False


def broker(settings: Settings, base: Path, *, bootstrap: str | None = None, insecure: bool = False) -> "Access":
    """The broker of the settings, secrets read; `bootstrap` and `insecure` come from the command line."""
    from operators.connectors.access import Access

    kafka = settings.kafka
    named = bootstrap or kafka.bootstrap
    if named is None:
        raise WrongUse("bootstrap in [kafka] must name a broker, host:port")
    if fault := fault_of_brokers(named):
        raise WrongUse(f"--bootstrap {fault}")  # that of the settings was looked at as they were read
    key_file = _file(base, kafka.key_file)
    access = Access(
        bootstrap=named,
        profile=kafka.profile,
        mechanism=kafka.mechanism,
        ca_file=_file(base, kafka.ca_file),
        username=kafka.username,
        password=_secret(base, kafka.password_file),
        certificate_file=_file(base, kafka.certificate_file),
        key_file=key_file and _closed(key_file),
        key_password=_secret(base, kafka.key_password_file),
        token_url=kafka.token_url,
        client_id=kafka.client_id,
        client_secret=_secret(base, kafka.client_secret_file),
        scope=kafka.scope,
    )
    if access.profile == "plaintext" and not (access.loopback or insecure):
        raise WrongUse(f"profile in [kafka] must not be plaintext towards {named}: only to the loopback, or --insecure")
    if access.profile == "oauthbearer" and access.tells_secret:
        raise WrongUse(f"token_url in [kafka] must be https, but on the loopback; got {access.token_url}")
    return access


def registry(settings: Settings, base: Path, *, url: str | None = None, insecure: bool = False) -> "RegistryAccess":
    """The registry of the settings, its secret read; `url` and `insecure` come from the command line."""
    from operators.connectors.registry import RegistryAccess

    named = url or settings.registry.url
    if named is None:
        raise WrongUse("url in [registry] must name a schema registry")
    access = RegistryAccess(
        url=named,
        ca_file=_file(base, settings.registry.ca_file),
        username=settings.registry.username,
        password=_secret(base, settings.registry.password_file),
    )
    if access.tells_secret and not insecure:
        raise WrongUse(
            f"url in [registry] must be https where a password goes with it: plain only to the loopback, or --insecure;"
            f" got {named}"
        )
    return access


def _file(base: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    path = base / name
    if not path.is_file():
        raise WrongUse(f"{path}: the file that a setting names must be there")
    return path


def _closed(path: Path) -> Path:
    """The file of a secret, which others must not be able to read.

    Its group may: a pod is given a mounted Secret through the group of its volume.
    """
    if path.stat().st_mode & 0o007:
        raise WrongUse(f"{path}: a secret must not be open to everybody; chmod 0400 {path}")
    return path


def _secret(base: Path, name: str | None) -> str | None:
    """A secret from its file."""
    path = _file(base, name)
    if path is None:
        return None
    try:
        return _closed(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path}: a secret must be readable text; {type(error).__name__}") from error


def stores(
    settings: Settings,
    base: Path,
    memories: dict[str, Memory] | None = None,
    *,
    seen: list[EpochStore] | None = None,
) -> Callable[[str], Callable[[], Store]]:
    """Stores by step, in memory (kept in `memories` for a resume) or in RocksDB under `[state] dir`.

    Every store made is put in `seen`, for the metrics.

    Raises:
        StateDamaged: the directory is of another layout, or something else.
    """
    held = {} if memories is None else memories
    if settings.state.backend == "rocksdb":
        formatted(base / settings.state.dir)

    def made(step: str) -> EpochStore:
        number = STEPS.index(step)
        if settings.state.backend == "rocksdb":
            return RocksStore(base / settings.state.dir, number, sync=settings.state.sync)
        return MemoryStore(held.setdefault(step, Memory()), step=number)

    def of(step: str) -> Callable[[], Store]:
        def opened() -> Store:
            store = made(step)
            if seen is not None:
                seen.append(store)
            return store

        return opened

    return of


def state_figures() -> dict[str, tuple[int, int]]:
    """Estimated keys and bytes of the state this process has open, by shard."""
    return RocksShard.measured()


def place_of(settings: Settings, base: Path, flow: str, process: int | None) -> Path:
    """The state directory of a flow, or that of one of its processes, each with a state of its own.

    Processes that share their shards share one directory: it does not matter how many they are.
    """
    path = base / settings.state.dir
    return path if process is None or shards_of(settings, flow) > 1 else path / f"process-{process:02}"


def key_kept(settings: Settings, base: Path) -> None:
    """Compare the pseudonym key with the one that the state directory was begun under.

    Raises:
        ChangedShape: it is another.
    """
    path = base / settings.state.dir
    for one in (path, *sorted(path.glob("process-*"))):
        same_key(one, mark_of(one) or {}, _known_by(settings, base))


def _known_by(settings: Settings, base: Path) -> Key:
    key, version, _ = key_of(settings, base, required=True)
    return version, fingerprint(key)


def home_of(settings: Settings, base: Path, flow: str, *, processes: int = 1, process: int | None = None) -> Home:
    """Take the state directory of a flow or of one of its processes, which notes of how many it is one."""
    path, shards = place_of(settings, base, flow, process), shards_of(settings, flow)
    shape = {"shards": shards} if shards > 1 else {"processes": processes}
    return Home(path, flow, key=_known_by(settings, base), **shape)


def set_aside(settings: Settings, base: Path, flow: str, *, process: int | None = None) -> Path | None:
    """Move a state directory out of the way, or that of one process, for a start from scratch; None if there was none.

    Raises:
        StateHeld, StateUnreachable, ForeignState, NoState: nothing was moved.
    """
    whole, path = base / settings.state.dir, place_of(settings, base, flow, process)
    stamp = datetime.fromtimestamp(wall() / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = whole.name if path == whole else f"{whole.name}.{path.name}"
    aside = whole.with_name(f"{name}.before-{stamp}")
    return aside if moved_aside(path, aside, flow) else None
