"""Moving a state directory out of the way, for a start from scratch: only a directory of the flow itself, held by nobody."""

from contextlib import suppress
from pathlib import Path

from operators.state.home import foreign, has_parts, mark_of, unmarked
from operators.state.lock import OWNER, Lock, vacant
from operators.state.store import StateDamaged


def set_aside(path: Path, to: Path, flow: str) -> bool:
    """Move the directory of a flow, with those of its processes, to another place; whether there was one.

    Raises:
        StateHeld, StateUnreachable: a process lives in it; it is no directory.
        ForeignState, NoState: it is not this flow's to move. Nothing was moved.
    """
    if not path.exists():
        return False
    lock = Lock(path)
    try:
        processes = sorted(path.glob("process-*/"))
        for home in (path, *processes):
            if home != path:
                vacant(home)
            with suppress(StateDamaged):  # a mark that cannot be read is a reason to begin anew
                found = mark_of(home)
                if found is not None and found.get("flow") != flow:
                    raise foreign(home, found, flow)
        strange = sorted(one.name for one in path.iterdir() if one.name != OWNER)
        if not strange:
            return False
        if not any(has_parts(home) for home in (path, *processes)):
            raise unmarked(path, strange)
        path.rename(to)
    finally:
        lock.release()
    return True
