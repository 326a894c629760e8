"""The pulse of a running flow: what its health and its epoch metrics are read from.

The engine has no metric of an epoch, so source and sink beat here. All times are monotonic seconds that are
handed in: this module reads no clock.
"""

from collections.abc import Callable
from threading import Event, Lock
from typing import Any, TypeVar

T = TypeVar("T")

DRAIN_S = 20.0
"""How long a drain waits for what is outside."""
CLOSE_S = 930.0
"""How long the close of an epoch may take where others share it: as long as an output may wait for the broker."""
EPOCHS_ALIVE = 6
"""Epochs without a heartbeat after which a flow counts as stuck."""


class Unfinished(Exception):
    """A drain was asked for, and what is outside did not take what is left; the next start says it again."""


class Pulse:
    """Heartbeat, epochs and drain of one process; safe to read from another thread.

    Args:
        now: monotonic seconds.
        epoch_s: length of an epoch.
        stalled: is told how long the source stood still for the close of an epoch.
    """

    def __init__(
        self, now: Callable[[], float], epoch_s: float, stalled: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        self._now, self._epoch_s, self._stalled = now, max(epoch_s, 1.0), stalled
        self._gate = Lock()
        self._beat = self._durable = now()
        self._closing: float | None = None
        self.stop = Event()
        self.formed = Event()
        self.failed: BaseException | None = None
        """What failed first in a call of the engine: what fails in threads of its own it does not hand on."""
        self._overdue: float | None = None
        self.shared = False
        """Whether other processes have a part in each epoch: while one of them waits, the engine calls nobody here."""
        self.epochs = 0
        self.flowing = False

    def beat(self, silent: float = 0.0) -> None:
        """Somebody is at work, and may be silent for so many seconds from now."""
        self._beat = self._now() + silent

    def waits(self) -> None:
        """A wait for something outside goes on: a beat, as long as a drain bears it.

        Raises:
            Unfinished: the drain has waited long enough.
        """
        self.beat()
        if not self.stop.is_set():
            return
        self._overdue = self._overdue or self._now() + DRAIN_S
        if self._now() > self._overdue:
            raise Unfinished(
                f"the drain could not be finished: the broker did not take what is left within {DRAIN_S:.0f} s;"
                " nothing is lost, the next start goes on from the last epoch"
            )

    def noted(self, call: Callable[..., T], *given: Any) -> T:
        """Answer a call of the engine, and note what it fails with."""
        try:
            return call(*given)
        except Exception as error:
            if not isinstance(error, StopIteration):
                self.failed = self.failed or error
            raise

    def closes(self) -> None:
        """A lane gave its snapshot: the source stands still from the first one on."""
        with self._gate:
            if self._closing is None:
                self._closing = self._now()

    def durable(self) -> None:
        """A lane that gave its snapshot is asked for more: the epoch of that snapshot is durable."""
        with self._gate:
            if self._closing is None:
                return
            began, self._closing = self._closing, None
        self._durable = began
        self.epochs += 1
        self._stalled(self._now() - began)

    @property
    def age(self) -> float:
        """Seconds since the last durable epoch, or since the start."""
        return self._now() - self._durable

    @property
    def started(self) -> bool:
        """Stores are open, and the first batch has come out at the end."""
        return self.flowing

    @property
    def ready(self) -> bool:
        """An epoch is durable in this execution, and nobody drains."""
        return self.epochs > 0 and not self.stop.is_set()

    @property
    def alive(self) -> bool:
        """The heartbeat is young; who waits for something outside beats meanwhile. Never asks anything outside."""
        now, closing = self._now(), self._closing
        others = self.shared and closing is not None and now - closing < CLOSE_S
        return others or now - self._beat < EPOCHS_ALIVE * self._epoch_s
