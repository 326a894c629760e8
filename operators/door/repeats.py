"""Whether an event id was heard before: the last ids of each topic."""

from collections import deque

from operators.state.store import Tables


class Repeats:
    """The last ids of each topic; the oldest makes room for the newest.

    Args:
        tables: where they are kept.
        number: number of the table.
        most: how many are kept of one topic.
    """

    def __init__(self, tables: Tables, number: int, most: int) -> None:
        self._table = tables.table(number, int)
        self._most = most
        self._order: dict[str, deque[str]] = {}
        for key, _ in sorted(self._table.items(), key=lambda pair: pair[1]):
            self._order.setdefault(key.partition("|")[0], deque()).append(key)

    def seen(self, topic: str, event_id: str, number: int) -> bool:
        """Whether the id was heard on the topic; a new one is remembered under its row number."""
        if not event_id:
            return False
        key = f"{topic}|{event_id}"
        if self._table.get(key) is not None:
            return True
        self._table.put(key, number)
        order = self._order.setdefault(topic, deque())
        order.append(key)
        if len(order) > self._most:
            self._table.put(order.popleft(), None)
        return False
