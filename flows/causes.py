"""What a running flow says: one line of JSON an event on stderr, and the cause of a stop without anybody's data."""

import json
import sys
from pathlib import Path
from typing import Any, Protocol

from operators.connectors.clock import wall
from schemas.rows import written


class Log(Protocol):
    """A log with constant event names."""

    def info(self, event: str, **about: Any) -> Any: ...  # noqa: D102
    def warning(self, event: str, **about: Any) -> Any: ...  # noqa: D102
    def critical(self, event: str, **about: Any) -> Any: ...  # noqa: D102


class _Journal:
    """Three levels and one form; a logging library costs a start more than all its lines cost a run."""

    def __init__(self, bound: dict[str, Any]) -> None:
        self._bound = bound

    def info(self, event: str, **about: Any) -> None:
        self._say("info", event, about)

    def warning(self, event: str, **about: Any) -> None:
        self._say("warning", event, about)

    def critical(self, event: str, **about: Any) -> None:
        self._say("critical", event, about)

    def _say(self, level: str, event: str, about: dict[str, Any]) -> None:
        said = {**self._bound, **about, "event": event, "level": level, "timestamp": written(wall())}
        sys.stderr.write(json.dumps(said, default=repr) + "\n")  # in one piece: lines of threads do not mix
        sys.stderr.flush()


def journal(**bound: Any) -> Log:
    """A log whose lines all carry `bound`; what is None is left out."""
    return _Journal({name: value for name, value in bound.items() if value is not None})


def cause(error: BaseException) -> BaseException:
    """What went wrong, out of the layers that the engine and we wrap around it: in our words, or else the first of all.

    Where a library's error is the cause of one of ours, ours says what to do about it.
    """
    while not _ours(error):
        below = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if below is None:
            break
        error = below
    return error


def _ours(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in {"flows", "operators", "schemas"}


def told(error: BaseException) -> str:
    """One line about an error. A message is repeated only where it is known to hold nobody's data."""
    first = cause(error)
    name, text = type(first).__name__, " ".join(str(first).split())
    if isinstance(first, OSError):
        return f"{name}: {first.strerror or text}{f': {first.filename}' if first.filename else ''}"
    if _ours(first) or type(first).__module__ in {"sqlite3", "cimpl"}:
        return f"{name}: {text}"
    at = first.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return name
    code = at.tb_frame.f_code
    return f"{name} in {Path(code.co_filename).name}, line {at.tb_lineno}, {code.co_name}"
