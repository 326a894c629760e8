"""Run: a flow on live topics. It starts on nothing it doubts, drains when asked to, and says why it stopped.

Order of a start: settings and rules, lock, recovery check, health page, broker and registry, source and sink,
stores (with the first batch). Exit codes: 0 drained, 1 the work failed, 2 wrong use.
"""

import gc
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from msgspec.structs import replace

from flows.activation import activation_on_shards
from flows.causes import Log, journal, told
from flows.deployment import Deployment
from flows.health import Age, Counts, Lag, Meters, Server
from flows.ports import Ports, chains, end_ids, home_of, key_of, set_aside, shards_of, state_figures, stores
from flows.replay import FLOWS
from flows.scraped import Scraped
from flows.settings import SHARING, Settings, WrongUse, load
from flows.tables import declared
from operators.connectors.clock import monotonic, process_age, processor_time
from operators.connectors.watched import WatchedSink, WatchedSource
from operators.pulse import Pulse
from operators.state.epochs import EpochStore, execution
from operators.state.home import Home, StateLost, Tenancy
from operators.state.store import StateFault
from schemas.items import Batch

if TYPE_CHECKING:
    from operators.connectors.returns import Returns

LEASH = "FOOTFALL_LEASH"
"""Names the pipe that closes when the supervisor is gone."""
PEERS = "FOOTFALL_PEERS"
"""Addresses of the processes that share the shards of a flow, by number."""
ANEW = "FOOTFALL_ANEW"
"""Set by a supervisor that was told to begin from scratch: its processes find no state, and that is as it should be."""
FORM_S = 60.0
"""How long they may take to find each other."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What `footfall run` was asked for; `process` is set in one of several."""

    flow: str
    config: Path
    processes: int = 1
    process: int | None = None
    from_scratch: bool = False
    insecure: bool = False
    accept_loss: tuple[str, ...] = ()

    @property
    def base(self) -> Path:
        """The directory of the settings: venue, rules and models lie there."""
        return self.config.parent


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Source and sink of a flow, and the deployment that reads what they carry; the way back where it has shards."""

    deployment: Deployment
    source: FixedPartitionedSource[Any, Any]
    sink: FixedPartitionedSink[Any, Any]
    lag: Lag = dict
    age: Age = dict
    counts: Counts = dict
    answered: Callable[[], bool] = lambda: True
    unknown: Callable[[], int] = lambda: 0
    prepare: Callable[[list[Any]], None] = lambda _batches: None
    returns: "Returns | None" = None
    outlets: Callable[[Any], list[Any]] = lambda keyed: [keyed]
    former: Callable[[], list[str]] = list
    """Which of the outputs somebody has claimed before this process."""


class Drained(Exception):
    """A drain was asked for before the flow began."""


class Join(Protocol):
    """Waits for what is outside, checks it, and makes source and sink."""

    def __call__(self, start: Start, deployment: Deployment, pulse: Pulse, log: Log) -> Joined:
        """Join."""
        ...


def refused(start: Start) -> Settings:
    """Read the settings; what cannot run is refused before anything is touched.

    Raises:
        WrongUse: with what to change.
    """
    settings = load(start.config)
    if settings.state.backend != "rocksdb":
        raise WrongUse(
            f'{start.config}: backend in [state] must be "rocksdb" for run: a restart would forget everything'
        )
    if start.processes > 1 and start.flow == "store":
        raise WrongUse("--processes must be 1 for store: a shop is one process; run presence and activation apart")
    shards = settings.engine.shards
    if 1 < shards < SHARING:
        raise WrongUse(f"{start.config}: shards in [engine] must be 1, or {SHARING} to 64; got {shards}")
    if shards > 1 and start.flow == "store":
        raise WrongUse(f"{start.config}: shards in [engine] must be 1 for store: a shop is one process; got {shards}")
    if start.processes > 1 and start.flow == "activation":
        if shards == 1:
            raise WrongUse(
                "--processes must be 1 for activation with one shard: one shard has one owner. With shards = 8 in"
                " [engine], set before its first start, up to 8 processes may share it"
            )
        if start.processes > SHARING:
            raise WrongUse(f"--processes must be at most {SHARING} for activation; got {start.processes}")
        if start.process is not None and PEERS not in os.environ:
            raise WrongUse("--process is for presence: processes of activation are started by --processes alone")
    if start.process is not None and not 0 <= start.process < start.processes:
        raise WrongUse(
            f"--process must be 0 to {start.processes - 1} of --processes {start.processes}; got {start.process}"
        )
    if start.flow == "presence" and start.processes > settings.engine.lanes:
        raise WrongUse(f"--processes must be at most lanes in [engine], {settings.engine.lanes}; got {start.processes}")
    key_of(settings, start.base, required=True)
    return settings


def listen_of(settings: Settings, process: int | None, *, supervised: bool = True) -> str:
    """Where a process listens: several under one supervisor on a port each, counted up; one in a pod of its own as set."""
    host, _, port = settings.metrics.listen.rpartition(":")
    return f"{host}:{int(port) + (process or 0) * supervised if int(port) else 0}"


def run(start: Start, join: Join) -> int:
    """Run one process of a flow until it drains or fails; answers the exit code.

    Raises:
        WrongUse, VenueFault, RulesRefused: refused before any work.
    """
    log = journal(flow=start.flow, process=start.process, execution=execution().hex())
    settings = refused(start)
    deployment = Deployment.load(
        start.base, start.config, complete=False, live=True, say=lambda text: log.warning("deployment", about=text)
    )
    if start.from_scratch and start.process is None:
        aside = set_aside(settings, start.base)
        log.warning("from_scratch", kept=str(aside) if aside else None)
    home: Home | Tenancy
    try:
        if PEERS in os.environ:
            home = Tenancy(start.base / settings.state.dir, leads=start.process == 0)
        else:
            home = home_of(settings, start.base, start.flow, processes=start.processes, process=start.process)
    except StateFault as fault:
        log.critical("refused", cause=remedied(fault, start))
        return 1
    meters = Meters(settings.engine.epoch.us / 1e6)
    _drains(meters.pulse, log)
    _on_leash(meters.pulse)
    server = Server(listen_of(settings, start.process, supervised=LEASH in os.environ), meters)
    log.info("listening", port=server.port)
    try:
        return _flowing(start, deployment, home, meters, join, log)
    except StateFault as fault:
        log.critical("refused", cause=remedied(fault, start))
    except WrongUse:
        raise
    except Exception as error:
        log.critical("stopped", cause=told(error))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the engine's own, which is no Exception
            raise
        peer = "another process that shares the shards has ended, or " if PEERS in os.environ else ""
        log.critical("stopped", cause=f"{peer}the engine failed: {told(error)}")
    finally:
        server.close()
        home.close()
    return 1


def begun(home: Home, deployment: Deployment, flow: str, log: Log) -> tuple[dict[str, int], int]:
    """Check a home before anything of a flow starts in it; answers its starts by cause, and commits to walk back.

    Raises:
        StateFault: it must not start.
    """
    shards = shards_of(deployment.settings, flow)
    checked = home.checked(chains(flow, shards), end_ids(flow), declared(deployment, flow, shards))
    starts = home.begins()
    back = sum(checked.back.values())
    log.info(
        "start",
        starts=starts,
        resume_epoch=checked.resume_epoch,
        rows_removed=checked.removed,
        tokens=checked.tokens,
        walked_back=back,
    )
    return starts, back


def _flowing(start: Start, deployment: Deployment, home: Home | Tenancy, meters: Meters, join: Join, log: Log) -> int:
    settings, pulse = deployment.settings, meters.pulse
    if isinstance(home, Home):
        meters.started(*begun(home, deployment, start.flow, log))
    try:
        joined = join(start, deployment, pulse, log)
    except Drained:
        home.ends()
        log.info("drained", epochs=0)
        return 0
    if home.first:
        _begins(start, settings, home, joined)
    seen: list[EpochStore] = []
    meters.watch(dirty=lambda: sum(store.dirty for store in seen), lag=joined.lag, age=joined.age, counts=joined.counts)
    meters.registry.register(_scraped(joined, home))

    def take(batch: Batch) -> None:
        if not meters.resumed:
            gc.freeze()  # what a start read stays: the collector need not walk it again
            meters.opened(process_age())
            log.info("flowing", seconds=round(meters.resumed, 3), processor_s=round(processor_time(), 3))
        meters.take(batch)

    own = replace(settings, state=replace(settings.state, dir=str(home.path)))
    ports = Ports(
        topics=WatchedSource(joined.source, pulse, joined.prepare),
        records=WatchedSink(joined.sink, pulse, take),
        opened=stores(own, Path(), seen=seen),
        returns=joined.returns,
        outlets=joined.outlets,
    )
    os.environ["RUST_BACKTRACE"] = "0"
    build = FLOWS[start.flow].build if joined.returns is None else activation_on_shards
    peers = os.environ[PEERS].split(" ") if PEERS in os.environ else None
    if peers is not None:
        _comes_together(pulse, log)
    cli_main(
        build(joined.deployment, ports),
        process_id=None if peers is None else start.process,
        addresses=peers,
        epoch_interval=timedelta(microseconds=settings.engine.epoch.us),
        recovery_config=RecoveryConfig(str(home.recovery)),
    )
    home.ends()
    log.info("drained", epochs=pulse.epochs)
    return 0


def _begins(start: Start, settings: Settings, home: Home | Tenancy, joined: Joined) -> None:
    """Begin in a state that knows nothing, unless the broker knows of an earlier life.

    Raises:
        StateLost: it does, and nobody has said that this life is to be forgotten.
    """
    if not start.from_scratch and ANEW not in os.environ and (former := joined.former()):
        raise StateLost(
            f"{start.flow} has run before on these topics, it has claimed {', '.join(former)}, and its state is not in"
            f" {home.path}: put the volume or a backup back. Whoever begins without it forgets every stay, profile and"
            f" cap, and reads from start in [kafka], {settings.kafka.start!r}"
        )
    home.joins()


def _scraped(joined: Joined, home: Home | Tenancy) -> Scraped:
    model, rules = joined.deployment.model, joined.deployment.rules
    return Scraped(
        volumes={"state": home.path, "recovery": home.recovery},
        state=state_figures,
        answered=joined.answered,
        unknown=joined.unknown,
        model=(model.version, model.manifest.sha256) if model is not None else None,
        rules=rules.versions["rules"],
    )


def _drains(pulse: Pulse, log: Log) -> None:
    asked: list[dict[str, Any]] = []

    def heard(number: int, _frame: object) -> None:
        # Nothing is said from here: the log may be in the midst of a line, and wait for itself for ever.
        asked.append({"signal": signal.Signals(number).name, "at": round(monotonic(), 3)})
        pulse.stop.set()

    def say() -> None:
        pulse.stop.wait()
        log.info("drain", **(asked[0] if asked else {"at": round(monotonic(), 3)}))

    signal.signal(signal.SIGTERM, heard)
    signal.signal(signal.SIGINT, heard)
    Thread(target=say, name="drain", daemon=True).start()


def _on_leash(pulse: Pulse) -> None:
    """Drain when the supervisor is gone: its end of the pipe closes with it."""
    named = os.environ.get(LEASH)
    if named is None:
        return

    def wait() -> None:
        os.read(int(named), 1)
        pulse.stop.set()

    Thread(target=wait, name="leash", daemon=True).start()


def _comes_together(pulse: Pulse, log: Log) -> None:
    """End this process when the engine waits in vain for the others: it waits for ever, and hears no signal."""

    def watch() -> None:
        until = monotonic() + FORM_S
        while not pulse.formed.wait(1.0):
            if pulse.stop.is_set():
                log.info("drained", epochs=0)
                os._exit(0)
            if monotonic() > until:
                log.critical(
                    "stopped", cause=f"the processes that share the shards are not all there after {FORM_S:.0f} s"
                )
                os._exit(1)

    Thread(target=watch, name="forming", daemon=True).start()


def remedied(fault: StateFault, start: Start) -> str:
    """What is wrong with a state, and what to do."""
    return (
        f"{fault}. To look closer: footfall doctor --config {start.config}. To begin anew, which keeps the"
        f" old directory aside: footfall run {start.flow} --config {start.config} --from-scratch"
    )
