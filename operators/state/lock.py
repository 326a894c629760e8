"""One owner of a state directory: an exclusive lock, held for the life of the process and of its children."""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from operators.state.store import StateFault
from operators.state.volume import VolumeFault

OWNER = "owner.lock"
_TRIES, _BETWEEN_S = 20, 0.01
"""A look at the lock shares it for a moment: who takes it does not give up at the first try."""
_UNFIT = {
    errno.EEXIST,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
"""What is wrong with the place itself; a full disk is not, and passes."""


class StateHeld(StateFault):
    """Another process owns the state directory."""


class StateUnreachable(StateFault):
    """The directory cannot be made, or not written in."""


class Lock:
    """Holds `path/owner.lock` until it is released, or until the last process that inherited it has ended.

    The lock lies on the open file, so children that inherit the descriptor hold it on: a start beside
    orphans of a killed supervisor is refused too.

    Raises:
        StateHeld: somebody holds it; names the process.
        StateUnreachable: it cannot be a directory of ours.
        VolumeFault: there is no room for a line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / OWNER
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _UNFIT:
                raise
            raise StateUnreachable(
                f"{path} must be a directory that can be made and written in; {error.strerror}"
            ) from error
        if not _locked(self.fd):
            holder = os.read(self.fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self.fd)
            raise _held(path, holder)
        try:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise VolumeFault(self.path, error.strerror) from error

    def release(self) -> None:
        """Let go of it; the file stays. A second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _locked(fd: int) -> bool:
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(_BETWEEN_S)
        else:
            return True
    return False


def holder(path: Path) -> str | None:
    """The process that holds a state directory, or None. Shares the lock for a moment, and takes nothing."""
    try:
        fd = os.open(path / OWNER, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(fd, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(fd)
    return None


def vacant(path: Path) -> None:
    """Refuse a directory that a process holds; takes nothing, and leaves what else is wrong to who takes it.

    Raises:
        StateHeld: names the process.
    """
    with suppress(OSError):
        if (found := holder(path)) is not None:
            raise _held(path, found)


def _held(path: Path, process: str) -> StateHeld:
    return StateHeld(f"{path} is held by process {process}: stop that one first")
