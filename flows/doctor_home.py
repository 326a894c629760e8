"""The doctor on a state directory: whose it is, whether a start would take it, and what its processes say of themselves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from flows import ports
from flows.deployment import EXAMPLE, Deployment
from flows.findings import Look, sick, unseen
from flows.health import listening
from flows.remedies import changed, lost
from flows.replay import FLOWS
from flows.settings import SHARING, Settings
from flows.start import Start, listen_of
from flows.tables import declared
from operators.state.home import RECOVERY, agreed, examined, has_state
from operators.state.lock import holder
from operators.state.mark import is_first, mark_of
from operators.state.recovery import examine
from operators.state.store import StateFault

_ASK_S = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}  # noqa: S104 -- what others listen on, not we


@dataclass(frozen=True)
class Part:
    """A state directory with a lock of its own; `process` is set where a process was started by itself."""

    path: Path
    process: int | None = None

    @property
    def name(self) -> str:
        """What is said behind the name of a look."""
        return "" if self.process is None else f" of {self.path.name}"

    @property
    def mark(self) -> dict[str, object]:
        """What it says of itself; nothing where it says none, or nobody can read it."""
        try:
            return mark_of(self.path) or {}
        except StateFault:
            return {}

    @property
    def processes(self) -> int:
        """Of how many processes it is one."""
        found = self.mark.get("processes")
        return found if isinstance(found, int) else 1


def _of_processes(path: Path) -> list[Part]:
    found = sorted(one for one in path.glob("process-*") if one.is_dir() and one.name[8:].isdecimal())
    return [Part(one, int(one.name[8:])) for one in found]


def parts(path: Path) -> list[Part]:
    """Those who own something here: one for the whole directory, or one for each process that was started by itself."""
    alone = [] if (path / "FORMAT").exists() else _of_processes(path)
    return alone or [Part(path)]


def lives(path: Path) -> str:
    """The flow that lives here; store where none does."""
    found = next((str(flow) for part in parts(path) if (flow := part.mark.get("flow"))), "")
    return found if found in FLOWS else "store"


def first(path: Path) -> bool:
    """Whether no state is here, so a start would take the topics as they are for those it was meant for."""
    return not any(has_state(home.path) for _, home in _homes(path))


def empty(path: Path) -> bool:
    """Whether nothing here knows of an earlier life: no state, and no start that came as far as its outputs."""
    return first(path) and all(is_first(home.path) for _, home in _homes(path))


def snapshots(path: Path, start: Start) -> Iterator[tuple[Start, Start, dict[str, Any]]]:
    """Each process that would resume from here: the start to ask for, the process itself, its source's snapshots by lane.

    Raises:
        Told: a flow runs from here, so they are its own to read.
    """
    source = ports.end_ids(start.flow)[0]
    for part, home in _homes(path):
        if holder(home.path) is not None:
            raise unseen("in use; a flow that runs says itself what is gone")
        recovery = home.path / RECOVERY
        if recovery.exists():
            rows = {row.key: row.value for row in examine(recovery).rows if row.step_id == source}
            asked = started(part, start.flow, start.config, insecure=start.insecure)
            yield asked, replace(asked, process=home.process), rows


def _homes(path: Path) -> list[tuple[Part, Part]]:
    """Everything here that may hold state, each with the part that it belongs to."""
    return [(part, home) for part in parts(path) for home in (part, *_of_processes(part.path))]


def started(part: Part, flow: str, config: Path, *, insecure: bool) -> Start:
    """The start that this directory was made by."""
    return Start(flow=flow, config=config, processes=part.processes, process=part.process, insecure=insecure)


def looks(settings: Settings, start: Start) -> Iterator[Look]:
    """Everything about the directory and its processes."""
    path, flow = start.base / settings.state.dir, start.flow
    shards = ports.shards_of(settings, flow)
    for part in parts(path):
        again = started(part, flow, start.config, insecure=start.insecure).again("--from-scratch")
        restart = f"begin anew, which keeps the old directory aside: {again}"
        yield f"owner{part.name}", lambda part=part, restart=restart: _owner(part, flow, shards, restart)  # type: ignore[misc]
        homes = [one.path for one in _of_processes(part.path)] or [part.path]
        for home in homes:
            name = "state" if home == path else f"state of {home.name}"
            yield name, lambda home=home, part=part, restart=restart: _state(home, part, flow, shards, restart)  # type: ignore[misc]
        yield f"page{part.name}", lambda part=part: _pages(part, settings, shared=shards > 1)  # type: ignore[misc]


def _owner(part: Part, flow: str, shards: int, restart: str) -> str:
    if not part.path.exists():
        return f"{part.path} does not exist yet: the first start makes it"
    try:
        marked = agreed(part.path, flow, processes=part.processes, shards=shards) is not None
    except StateFault as fault:
        raise sick(str(fault), _remedy(fault, restart)) from fault
    if not marked:
        return f"{part.path} is empty: the first start fills it"
    pid = holder(part.path)
    return f"process {pid} runs the flow" if pid else "no process runs the flow"


def _remedy(error: Exception, restart: str) -> str:
    """A new state helps where this one is of the flow and is lost to it: only such a one would be moved aside."""
    return f"do as it says; or {restart}" if lost(error) or changed(error) else "do as it says"


def _state(path: Path, part: Part, flow: str, shards: int, restart: str) -> str:
    if not path.exists():
        return "none yet"
    if holder(path) is not None or holder(part.path) is not None:
        raise unseen("in use; state and recovery store can be compared when the flow does not run")
    try:
        if path != part.path:
            agreed(path, flow, processes=part.processes, shards=shards)
        example = Deployment.load(EXAMPLE, None, complete=False)  # every deployment has the same tables
        reads = declared(example, flow, shards)
        found = examined(path, ports.chains(flow, shards), ports.end_ids(flow), reads)
    except Exception as error:
        raise sick(str(error), _remedy(error, restart)) from error
    if not found.tokens:
        return "state, and no step has committed yet" if has_state(path) else "none yet"
    back = sum(found.back.values())
    return (
        f"a start resumes at epoch {found.resume_epoch}; {found.removed} snapshots that never committed would go,"
        f" {back} commits would be walked back"
    )


def _pages(part: Part, settings: Settings, *, shared: bool) -> str:
    """What every process of a part says of itself, or whether it could listen where it would."""
    runs = holder(part.path) is not None
    count = SHARING if shared and runs else part.processes  # how many share shards is noted nowhere
    numbers = range(count) if part.process is None else [part.process]
    addresses = [listen_of(settings, number, supervised=part.process is None) for number in numbers]
    if not runs:
        for one in addresses:
            listening(one).server_close()
        return f"free to listen on: {', '.join(addresses)}"
    if addresses[0].endswith(":0"):
        raise unseen("the flow runs, and listens on a port that it chose itself")
    told = [_told(one) for one in addresses]
    if shared:
        told = told[: max(1, sum(one is not None for one in told))]
    silent = [address for address, one in zip(addresses, told, strict=False) if one is None]
    if silent:
        raise sick(
            f"the flow runs, and does not answer on {', '.join(silent)}",
            "see its log; where listen in [metrics] was changed since, it takes hold at the next start",
        )
    said = [f"{address} is {one}" for address, one in zip(addresses, told, strict=False)]
    return "; ".join(said)


def _told(listen: str) -> str | None:
    """What a process of ours says of itself; None where none answers."""
    page, ready = _asked(listen, "/metrics"), _asked(listen, "/ready")
    if page is None or ready is None or "footfall_epoch_age_seconds" not in page[1]:
        return None
    behind, age, epochs = _figures(page[1])
    behind_said = "how far behind is not known" if math.isnan(behind) else f"{behind:.0f} rows behind"
    durable = f"the last durable epoch is {age:.1f} s old" if epochs else "no epoch is durable yet"
    return f"{'ready' if ready[0] == 200 else 'not ready'}, {behind_said}, {durable}"


def _asked(listen: str, path: str) -> tuple[int, str] | None:
    """Status and answer of a page on this machine, never through a proxy; None where nobody answers."""
    host, _, port = listen.rpartition(":")
    connection = HTTPConnection(_EVERYWHERE.get(host, host.strip("[]")), int(port), timeout=_ASK_S)
    try:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return answer.status, answer.read().decode(errors="replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _figures(page: str) -> tuple[float, float, int]:
    """Rows behind over all topics, age of the last durable epoch (s), and how many there were."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    behind, age = sums.get("footfall_input_lag_events", 0.0), sums.get("footfall_epoch_age_seconds", 0.0)
    return behind, age, int(sums.get("footfall_epoch_stall_seconds_count", 0))
