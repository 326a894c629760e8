"""Run: a flow on live topics. It starts on nothing it doubts, drains when asked to, and says why it stopped.

Order of a start: settings, secrets and rules, health page, lock, recovery check, broker and registry, source and sink,
stores (with the first batch). Exit codes: 0 drained, 1 the work failed, 2 wrong use: then nothing was touched.
"""

import gc
import json
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from msgspec.structs import replace
from prometheus_client.registry import Collector

from flows.activation import activation_on_shards
from flows.causes import Log, journal
from flows.deployment import Deployment
from flows.health import Meters, Server
from flows.ports import Ports, chains, end_ids, home_of, place_of, set_aside, shards_of, state_figures, stores
from flows.remedies import remedied
from flows.replay import FLOWS
from flows.scraped import Scraped
from flows.settings import Settings, WrongUse
from flows.start import ANEW, BEGUN, LEASH, PEERS, Start, listen_of, refused
from flows.tables import declared
from operators.connectors.clock import monotonic, process_age, processor_time
from operators.connectors.watched import WatchedSink, WatchedSource
from operators.pulse import Pulse
from operators.state.epochs import EpochStore, execution
from operators.state.home import Home, StateLost, Tenancy
from operators.state.lock import StateUnreachable, vacant
from operators.state.store import StateFault
from schemas.items import Batch

if TYPE_CHECKING:
    from operators.connectors.returns import Returns

FORM_S = 60.0
"""How long they may take to find each other."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Source and sink of a flow, and the deployment that reads what they carry; the way back where it has shards."""

    deployment: Deployment
    source: FixedPartitionedSource[Any, Any]
    sink: FixedPartitionedSink[Any, Any]
    looked_up: tuple[Collector, ...] = ()
    answered: Callable[[], bool] = lambda: True
    unknown: Callable[[], int] = lambda: 0
    returns: "Returns | None" = None
    outlets: Callable[[Any], list[Any]] = lambda keyed: [keyed]
    former: Callable[[], list[str]] = list
    """Which of the outputs somebody has claimed before this process."""


class Drained(Exception):
    """A drain was asked for before the flow began."""


Join = Callable[[Deployment, Pulse, Log], Joined]
"""Waits for what is outside, checks it, and makes source and sink; raises Drained when it is no longer wanted."""
Reach = Callable[[Start, Settings], Join]
"""Reads how to reach what is outside, and asks nothing of it; raises WrongUse."""


def prepared(start: Start, reach: Reach, say: Callable[[str], None]) -> tuple[Settings, Deployment, Join]:
    """All that can be known to be wrong while nothing is touched yet.

    Raises:
        WrongUse, VenueFault, RulesRefused: with what to change.
    """
    settings = refused(start)
    join = reach(start, settings)
    return settings, Deployment.load(start.base, start.config, complete=False, live=True, say=say), join


def taken(start: Start, settings: Settings, log: Log) -> Home:
    """Take the state directory, once the old one is moved aside where that was asked for.

    Raises:
        WrongUse: it can be no directory of ours.
        StateFault: it must not be started on.
    """
    try:
        if start.from_scratch:
            aside = set_aside(settings, start.base, start.flow, process=start.process)
            log.warning("from_scratch", kept=str(aside) if aside else None)
        return home_of(settings, start.base, start.flow, processes=start.processes, process=start.process)
    except StateUnreachable as error:
        raise WrongUse(f"{start.config}: dir in [state]: {error}") from error


def run(start: Start, reach: Reach) -> int:
    """Run one process of a flow until it drains or fails; answers the exit code.

    Raises:
        WrongUse, VenueFault, RulesRefused: refused before any work.
    """
    log = journal(flow=start.flow, process=start.process, execution=execution().hex())
    settings, deployment, join = prepared(start, reach, lambda text: log.warning("deployment", about=text))
    meters = Meters(settings.engine.epoch.us / 1e6)
    meters.pulse.shared = PEERS in os.environ
    _drains(meters.pulse, log)
    _on_leash(meters.pulse)
    with ExitStack() as held:
        try:
            if PEERS not in os.environ:
                vacant(place_of(settings, start.base, start.flow, start.process))
            listen = listen_of(settings, start.process, supervised=LEASH in os.environ)
            server = Server(listen, meters)  # before the state is touched: a port may be refused
            held.callback(server.close)
            log.info("listening", port=server.port)
            shared = Tenancy(start.base / settings.state.dir, leads=start.process == 0) if PEERS in os.environ else None
            home = shared or taken(start, settings, log)
            held.callback(home.close)
            return _flowing(start, deployment, home, meters, join, log)
        except WrongUse:
            raise
        except StateFault as fault:
            log.critical("refused", cause=remedied(fault, start))
        except Exception as error:
            log.critical("stopped", cause=remedied(error, start))
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # the engine's own, which is no Exception
                raise
            if (failed := meters.pulse.failed) is not None:
                log.critical("refused" if isinstance(failed, StateFault) else "stopped", cause=remedied(failed, start))
            else:
                peer = "another process that shares the shards has ended, or " if PEERS in os.environ else ""
                log.critical("stopped", cause=f"{peer}the engine failed: {remedied(error, start)}")
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
    elif start.process == 0 and BEGUN in os.environ:  # one of them tells of it, or it would count for each
        meters.started(*json.loads(os.environ[BEGUN]))
    try:
        joined = join(deployment, pulse, log)
        if home.first:
            _begins(start, home, joined)
    except Drained:
        home.ends()
        log.info("drained", epochs=0)
        return 0
    except Exception:
        home.ends()  # refused before anything was done: the next start comes after no crash
        raise
    seen: list[EpochStore] = []
    meters.watch(lambda: sum(store.dirty for store in seen), [*joined.looked_up, _scraped(joined, home)])

    def take(batch: Batch) -> None:
        if not meters.resumed:
            gc.freeze()  # what a start read stays: the collector need not walk it again
            meters.opened(process_age())
            log.info("flowing", seconds=round(meters.resumed, 3), processor_s=round(processor_time(), 3))
        meters.take(batch)

    own = replace(settings, state=replace(settings.state, dir=str(home.path)))
    ports = Ports(
        topics=WatchedSource(joined.source, pulse),
        records=WatchedSink(joined.sink, pulse, take),
        opened=stores(own, Path(), seen=seen),
        returns=joined.returns,
        outlets=joined.outlets,
        noted=pulse.noted,
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


def _begins(start: Start, home: Home | Tenancy, joined: Joined) -> None:
    """Begin in a state that knows nothing, unless the broker knows of an earlier life.

    Raises:
        StateLost: it does, and nobody has said that this life is to be forgotten.
    """
    if not start.from_scratch and ANEW not in os.environ and (former := joined.former()):
        raise StateLost(start.flow, home.path, former)
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
        doors=joined.deployment.doors,
        deciders=joined.deployment.deciders,
    )


def _drains(pulse: Pulse, log: Log) -> None:
    asked: list[dict[str, Any]] = []

    def heard(number: int, _frame: object) -> None:
        # Nothing is said from here: the log may be in the midst of a line, and wait for itself for ever.
        if asked:
            return  # the first signal may be in the midst of setting the flag, and holds its lock
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
