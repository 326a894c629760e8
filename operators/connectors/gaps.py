"""Rows that a person wrote off, told among the rows that were read: an alert `input-gap` for each loss.

The alert goes out in the epoch whose snapshot first has the new place. So either both are kept, or the next start
finds the same loss again and says the same id, which the sink does not write twice.
"""

from operators.connectors.reading import Counters, Loss
from schemas import ids
from schemas.items import Event, Item
from schemas.operations import Alert

NAME = "input-gap"


class Gaps:
    """What was lost and is not told yet; one for all lanes of a process.

    Args:
        site_id: the site of the flow.
        flow: its name, which is the source of the alert.
        counters: where losses are noted.
    """

    def __init__(self, site_id: str, flow: str, counters: Counters) -> None:
        self._site_id, self._flow, self._counters = site_id, flow, counters
        self._told = 0

    def before(self, items: list[Item], clock: int) -> list[Item]:
        """The items, after an alert for each loss since the last call; `clock` is the wall clock in µs."""
        if self._told == len(self._counters.lost):
            return items
        fresh, self._told = self._counters.lost[self._told :], len(self._counters.lost)
        number = getattr(items[0], "number", 0) if items else 0
        return [*(Event(number, clock, "ops.alert", self._alert(loss, clock)) for loss in fresh), *items]

    def _alert(self, loss: Loss, clock: int) -> Alert:
        place = (loss.topic, loss.topic_id, loss.partition, loss.lane, loss.wanted, loss.to)
        known = loss.to > loss.wanted and not loss.made_again
        why = "the topic was made again" if loss.made_again else "rows are gone"
        return Alert(
            event_id=ids.alert(NAME, self._flow, *place),
            event_time=clock,
            ingest_time=clock,
            site_id=self._site_id,
            source_id=self._flow,
            name=NAME,
            severity="WARN",
            stage="SOURCE",
            cause=f"{loss.topic}:{loss.partition} lane {loss.lane}: {why} and were written off; offset {loss.wanted}"
            f" was wanted, reading went on at {loss.to}",
            value=float(loss.to - loss.wanted) if known else None,
        )
