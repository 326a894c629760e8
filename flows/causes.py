"""What a running flow says: one line of JSON an event on stderr, and the cause of a stop without anybody's data."""

import logging
import sys
from pathlib import Path
from typing import Any, Protocol, cast

import structlog


class Log(Protocol):
    """A log with constant event names."""

    def info(self, event: str, **about: Any) -> Any: ...  # noqa: D102
    def warning(self, event: str, **about: Any) -> Any: ...  # noqa: D102
    def critical(self, event: str, **about: Any) -> Any: ...  # noqa: D102


def journal(**bound: Any) -> Log:
    """A log whose lines all carry `bound`; what is None is left out."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    return cast("Log", structlog.get_logger(**{name: value for name, value in bound.items() if value is not None}))


def cause(error: BaseException) -> BaseException:
    """The first thing that went wrong: the engine wraps an error once a layer."""
    while (below := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = below
    return error


def told(error: BaseException) -> str:
    """One line about an error. A message is repeated only where it is known to hold nobody's data."""
    first = cause(error)
    name, text = type(first).__name__, " ".join(str(first).split())
    if isinstance(first, OSError):
        return f"{name}: {first.strerror or text}{f': {first.filename}' if first.filename else ''}"
    if type(first).__module__.partition(".")[0] in {"flows", "operators", "schemas", "sqlite3", "cimpl"}:
        return f"{name}: {text}"
    at = first.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return name
    code = at.tb_frame.f_code
    return f"{name} in {Path(code.co_filename).name}, line {at.tb_lineno}, {code.co_name}"
