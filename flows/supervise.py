"""Several processes of one flow that split its lanes or share its shards: started, and stopped, together.

The supervisor holds the lock of the state directory, and its children inherit it: a start beside orphans of a
killed supervisor is refused too. Children drain when their supervisor is gone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

from flows.causes import journal
from flows.health import listening
from flows.ports import place_of, shards_of
from flows.remedies import remedied
from flows.run import Reach, begun, prepared, taken
from flows.start import ANEW, BEGUN, LEASH, PEERS, Start, listen_of
from operators.state.home import Home
from operators.state.lock import vacant
from operators.state.store import StateFault

STOP_S = 30.0
HURRY_S = 10.0
"""How long the others may take when one has died: who shares shards with it cannot go on, nor always drain."""
_LOOK_S = 0.05


def command_of(start: Start, process: int) -> list[str]:
    """The command line of one process."""
    found = [sys.executable, "-m", "flows.cli", "run", start.flow, "--config", str(start.config)]
    found += ["--processes", str(start.processes), "--process", str(process)]
    found += ["--insecure"] if start.insecure else []
    return found + [part for one in start.accept_loss for part in ("--accept-loss", one)]


def supervise(start: Start, reach: Reach) -> int:
    """Run all processes until they drain, or one of them fails; answers the exit code.

    Raises:
        WrongUse, VenueFault, RulesRefused: refused before any work.
    """
    log = journal(flow=start.flow)
    settings, deployment, _ = prepared(start, reach, lambda _text: None)  # its children say what is to be said of it
    shared = shards_of(settings, start.flow) > 1
    home: Home | None = None
    try:
        vacant(place_of(settings, start.base, start.flow, None))
        for process in range(start.processes):  # tried before the state is touched: a port may be refused
            listening(listen_of(settings, process, supervised=True)).server_close()
        home = taken(start, settings, log)
        if shared:
            starts = begun(home, deployment, start.flow, log)
            home.lend()
    except (StateFault, OSError) as fault:
        log.critical("refused", cause=remedied(fault, start))
        if home is not None:
            home.close()
        return 1
    asked: list[int] = []  # no event: a second signal in the midst of setting it would wait for the first
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda told, _frame: asked.append(told))
    reads, writes = os.pipe()
    environment = {**os.environ, LEASH: str(reads), **({ANEW: "1"} if start.from_scratch else {})}
    if shared:
        environment[BEGUN] = json.dumps(starts)
        environment[PEERS] = " ".join(_addresses(start.processes))
    children = [
        subprocess.Popen(command_of(start, process), pass_fds=(reads, home.lock.fd), env=environment)
        for process in range(start.processes)
    ]
    os.close(reads)
    log.info("supervising", processes=[child.pid for child in children])
    while not asked and all(child.poll() is None for child in children):
        time.sleep(_LOOK_S)
    first = next((child for child in children if child.poll() is not None), None)
    if first is not None and not asked:
        log.critical("process_ended", process=children.index(first), code=first.returncode)
    codes = _stopped(children, STOP_S if asked else HURRY_S)
    os.close(writes)
    if shared and not any(codes):
        home.ends()
    home.close()
    log.info("stopped_all", codes=codes)
    return 2 if 2 in codes else int(any(codes))


def _addresses(count: int) -> list[str]:
    """An address of the loopback for each process, where nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return found


def _stopped(children: list["subprocess.Popen[bytes]"], limit_s: float) -> list[int]:
    """Let all drain, and kill those that do not; answers the exit codes."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    until = time.monotonic() + limit_s
    for child in children:
        try:
            child.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return [child.returncode for child in children]
