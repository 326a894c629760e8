"""What `footfall run` was asked for: how to ask for it again, and what of it is refused before anything is touched."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from flows.ports import key_of
from flows.settings import SHARING, Settings, WrongUse, load

LEASH = "FOOTFALL_LEASH"
"""Names the pipe that closes when the supervisor is gone."""
PEERS = "FOOTFALL_PEERS"
"""Addresses of the processes that share the shards of a flow, by number."""
ANEW = "FOOTFALL_ANEW"
"""Set by a supervisor that was told to begin from scratch: its processes find no state, and that is as it should be."""
BEGUN = "FOOTFALL_BEGUN"
"""What the supervisor of such processes found at their start, as JSON: starts by cause, and commits walked back."""
TOPICS_MADE = ("topics", "create", "--apply")
"""Makes missing topics, as words of `Start.beside`."""
_LAST_PORT = 65_535


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

    def again(self, *more: str) -> str:
        """The command that asks for the same and for `more`: that of the supervisor, where there is one."""
        words = ["footfall", "run", self.flow, "--config", str(self.config)]
        if self.processes > 1 or self.process is not None:
            words += ["--processes", str(self.processes)]
        if self.process is not None and LEASH not in os.environ:
            words += ["--process", str(self.process)]
        words += ["--insecure"] if self.insecure else []
        return shlex.join([*words, *(part for one in self.accept_loss for part in ("--accept-loss", one)), *more])

    def beside(self, *words: str) -> str:
        """A command that prepares this start or looks at it: on the same settings, and no more careful than it."""
        whose = ["--flow", self.flow] if words[0] == "doctor" else []
        open_too = ["--insecure"] if self.insecure else []
        return shlex.join(["footfall", *words, "--config", str(self.config), *whose, *open_too])


def refused(start: Start) -> Settings:
    """Read the settings; what cannot run is refused before anything is touched.

    Raises:
        WrongUse: with what to change.
    """
    config, settings = start.config, load(start.config)
    if settings.state.backend != "rocksdb":
        raise WrongUse(f'{config}: backend in [state] must be "rocksdb" for run: a restart would forget everything')
    if start.processes > 1 and start.flow == "store":
        raise WrongUse("--processes must be 1 for store: a shop is one process; run presence and activation apart")
    shards = settings.engine.shards
    if shards > 1 and start.flow == "store":
        raise WrongUse(f"{config}: shards in [engine] must be 1 for store: a shop is one process; got {shards}")
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
    last = port_of(settings, start.processes - 1)
    if start.process is None and last > _LAST_PORT:
        raise WrongUse(
            f"{config}: listen in [metrics] must leave a port for each of {start.processes} processes, counted up from"
            f" {settings.metrics.listen}; the last would be {last}"
        )
    try:
        key_of(settings, start.base, required=True)
    except WrongUse as error:
        raise WrongUse(f"{config}: {error}") from error
    return settings


def port_of(settings: Settings, process: int) -> int:
    """The port of one of several processes on one machine, counted up; 0 is any free one, for each."""
    port = int(settings.metrics.listen.rpartition(":")[2])
    return port + process if port else 0


def listen_of(settings: Settings, process: int | None, *, supervised: bool) -> str:
    """Where a process listens: several under one supervisor on a port each; one in a pod of its own as set."""
    host = settings.metrics.listen.rpartition(":")[0]
    return f"{host}:{port_of(settings, process or 0 if supervised else 0)}"
