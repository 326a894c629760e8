"""What a volume refuses, told apart from damage: a state on a full disk is whole, and needs space and no copy."""

import errno
import os
import shutil
from pathlib import Path

from operators.state.store import StateFault

_REFUSALS = tuple(
    os.strerror(code)
    for code in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
    )
)
"""How the system says that it is not the file."""


class VolumeFault(StateFault):
    """The system does not let a file of the state be read or written; what is in it may be whole.

    Args:
        path: the file, or the directory it is in.
        said: what the system or a library said.
    """

    def __init__(self, path: Path, said: object) -> None:
        volume = next(one for one in (path.resolve(), *path.resolve().parents) if os.path.ismount(one))
        super().__init__(
            f"{path} cannot be read or written: {said}. The volume at {volume} has"
            f" {shutil.disk_usage(volume).free / 2**20:.1f} MiB free: make space, or mend what is said, and start again;"
            " for that alone no state need be given up"
        )


def refuses(said: str) -> bool:
    """Whether a message tells of the volume, or of what else the system does not allow, and not of what is in a file."""
    return any(refusal in said for refusal in _REFUSALS)
