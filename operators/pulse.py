"""The pulse of a running flow: what its health and its epoch metrics are read from.

The engine has no metric of an epoch, so source and sink beat here. All times are monotonic seconds that are
handed in: this module reads no clock.
"""

from collections.abc import Callable
from threading import Event, Lock

EPOCHS_ALIVE = 6
"""Epochs without a heartbeat after which a flow counts as stuck."""


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
        self.epochs = 0
        self.flowing = False

    def beat(self) -> None:
        """Somebody is at work."""
        self._beat = self._now()

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
        return self._now() - self._beat < EPOCHS_ALIVE * self._epoch_s
