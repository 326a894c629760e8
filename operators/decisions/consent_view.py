"""How far the word on consents reaches: what its sources have said of themselves."""

from operators.state.store import Tables
from schemas.reference import Consent
from schemas.sensing import SourceStatus

_SILENT = -1


class ConsentView:
    """The watermarks of the sources that send consents.

    A source that says nothing of itself is taken to be up to date. By event time alone, so that a replay agrees.

    Args:
        limit_us: how far a trigger may be ahead of the view.
        tables: where watermarks are kept.
        number: of the table.
    """

    def __init__(self, limit_us: int, tables: Tables, number: int) -> None:
        self._limit = limit_us
        self._table = tables.table(number, int)
        self._marks: dict[str, int] = dict(self._table.items())

    def heard(self, record: Consent | SourceStatus) -> None:
        """A consent, or how a source is."""
        source = record.source_id
        before = self._marks.get(source)
        if isinstance(record, Consent):
            mark = _SILENT if before is None else before
        elif before is None or record.watermark is None:
            return
        else:
            mark = max(before, record.watermark)
        if mark != before:
            self._marks[source] = mark
            self._table.put(source, mark)

    @property
    def least(self) -> int | None:
        """The watermark that is farthest back; None where no source speaks of itself."""
        return min((mark for mark in list(self._marks.values()) if mark != _SILENT), default=None)

    def stale(self, at: int) -> bool:
        """Whether some source of consents lies too far behind an instant."""
        return any(mark != _SILENT and at - mark > self._limit for mark in self._marks.values())
