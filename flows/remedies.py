"""What stopped a run, with the command that mends it: whole, as it must be typed.

Connectors and state say what is wrong; how this run was asked for is known only here.
"""

from collections.abc import Iterable, Iterator

from flows.causes import cause, told
from flows.start import TOPICS_MADE, Start
from operators.connectors.cluster import OtherLanes, RowsGone, TopicsMissing
from operators.connectors.owner import OwnerUnreadable
from operators.connectors.subjects import NotRegistered
from operators.connectors.tails import OtherOutputs, OutputsMissing, TailGone
from operators.state.home import ChangedShape, NoState, StateLost
from operators.state.recovery import RecoveryFault, of_engine
from operators.state.store import StateAhead, StateBehind, StateDamaged, StateFault, StateForked, UnknownVersion

_LOST = (StateAhead, StateBehind, StateDamaged, StateForked, StateLost, RecoveryFault)
"""What is wrong with the state itself: a new one would be right again."""
_CHANGED = (ChangedShape, OtherLanes, OtherOutputs, UnknownVersion)
"""The state is whole, and of another shape than this start asks for."""
_FORGETS = "which keeps the old directory aside and forgets all that was known in it"


def remedied(error: BaseException, start: Start) -> str:
    """What is wrong, and what to do about it where a command helps."""
    first = cause(error)
    if (refusal := of_engine(first)) is not None:
        return f"the recovery store cannot be written: {refusal}. Make space on its volume, or mend what is said, and start again"
    said = str(first) if isinstance(first, StateFault) else told(error)
    return ". ".join([said, *_commands(first, start)])


def lost(error: BaseException) -> bool:
    """Whether a new state would be right again where this one is not."""
    return isinstance(error, _LOST) and not isinstance(error, NoState)


def changed(error: BaseException) -> bool:
    """Whether the state is whole, and of another shape than this start asks for."""
    return isinstance(error, _CHANGED)


def _commands(first: BaseException, start: Start) -> Iterator[str]:
    if lost(first):
        yield f"To look closer: {start.beside('doctor')}"
        yield f"To begin anew, {_FORGETS}: {start.again('--from-scratch')}"
    elif changed(first):
        yield f"To begin anew all the same, {_FORGETS}: {start.again('--from-scratch')}"
    elif isinstance(first, (TopicsMissing, OutputsMissing)):
        yield f"To make them: {start.beside(*TOPICS_MADE)}"
    elif isinstance(first, OwnerUnreadable):
        yield f"If the topic is missing, to make it: {start.beside(*TOPICS_MADE)}"
    elif isinstance(first, NotRegistered):
        yield f"To register them: {start.beside('schemas', 'register')}"
    elif isinstance(first, (RowsGone, TailGone)) and first.places:
        yield written_off(first.places, start)


def written_off(places: Iterable[str], start: Start) -> str:
    """How a start goes on without the rows of these partitions."""
    losses = [word for place in places for word in ("--accept-loss", place)]
    return f"To go on all the same: {start.again(*losses)}"
