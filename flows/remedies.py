"""What stopped a run, with the command that mends it: whole, as it must be typed.

Connectors and state say what is wrong; how this run was asked for is known only here.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

from flows.causes import cause, told
from flows.start import Start
from operators.connectors.cluster import RowsGone, TopicsMissing
from operators.connectors.owner import OwnerUnreadable
from operators.connectors.subjects import NotRegistered
from operators.connectors.tails import OutputsMissing, TailGone
from operators.state.home import ChangedShape, NoState
from operators.state.recovery import RecoveryFault
from operators.state.store import StateAhead, StateBehind, StateDamaged, StateFault, StateForked, UnknownVersion

_LOST = (StateAhead, StateBehind, StateDamaged, StateForked, RecoveryFault)
"""What is wrong with the state itself: a new one would be right again."""
_CHANGED = (ChangedShape, UnknownVersion)
"""The state is whole, and this start asks for another."""
_FORGETS = "which keeps the old directory aside and forgets all that was known in it"


def remedied(error: BaseException, start: Start) -> str:
    """What is wrong, and what to do about it where a command helps."""
    first = cause(error)
    said = str(first) if isinstance(first, StateFault) else told(error)
    return ". ".join([said, *_commands(first, start)])


def _commands(first: BaseException, start: Start) -> Iterator[str]:
    if isinstance(first, _LOST) and not isinstance(first, NoState):
        yield f"To look closer: {start.beside('doctor')}"
        yield f"To begin anew, {_FORGETS}: {start.again('--from-scratch')}"
    elif isinstance(first, _CHANGED):
        yield f"To begin anew with what is asked for now, {_FORGETS}: {start.again('--from-scratch')}"
    elif isinstance(first, (TopicsMissing, OutputsMissing)):
        yield f"To make them: {topics_made(start.config, insecure=start.insecure)}"
    elif isinstance(first, OwnerUnreadable):
        yield f"If the topic is missing, to make it: {topics_made(start.config, insecure=start.insecure)}"
    elif isinstance(first, NotRegistered):
        yield f"To register them: {start.beside('schemas', 'register')}"
    elif isinstance(first, (RowsGone, TailGone)) and first.places:
        losses = [word for place in first.places for word in ("--accept-loss", place)]
        yield f"To go on all the same: {start.again(*losses)}"


def topics_made(config: Path | str, *, insecure: bool) -> str:
    """The command that makes missing topics."""
    words = ["footfall", "topics", "create", "--config", str(config), "--apply"]
    return shlex.join([*words, *(["--insecure"] if insecure else [])])
