"""The one place where a core meets Bytewax: an item is a micro-batch, a key is a virtual shard.

Everything a step decides is in its core; here stand only the calls the engine makes.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.state.store import Store, Tables, Token
from schemas.items import Batch, Item

Opened = Callable[[], Store]
"""Makes the store of one step; it is opened with the first batch, when the shard is known."""
Stamp = Callable[[], int]
"""The wall clock of the process in µs, handed in by the ports; only latency is measured with it."""


class Steps(Protocol):
    """What the ports lend to every step."""

    @property
    def opened(self) -> Callable[[str], Opened]: ...
    @property
    def stamp(self) -> Stamp: ...


class Core(Protocol):
    """What a step does: items in merged order in, items out. It keeps its memory in the tables it was given."""

    def step(self, items: list[Item]) -> list[Item]: ...


class Shard(StatefulBatchLogic[Batch, Batch, Token]):
    """One virtual shard of one step: the core and its tables, nothing else.

    Always answers False (a discarded logic would come back as if new) and closes nothing at the end of
    input: a drain is no end of a stay.
    """

    def __init__(
        self, name: str, made: Callable[[Tables], Core], opened: Opened, stamp: Stamp, resume: Token | None
    ) -> None:
        self._name, self._made, self._stamp, self._resume = name, made, stamp, resume
        self._tables = Tables(opened())
        self._tables.store.claim(resume)
        self._core: Core | None = None

    def on_batch(self, values: list[Batch]) -> tuple[list[Batch], bool]:
        if self._core is None:
            self._tables.store.open("0")
            self._core = self._made(self._tables)
        out = []
        for batch in values:
            items = self._core.step(batch.items)
            out.append(Batch(items, {**batch.stamps, self._name: self._stamp()}))
        return out, False

    def on_notify(self) -> tuple[list[Batch], bool]:
        return [], False

    def on_eof(self) -> tuple[list[Batch], bool]:
        return [], False

    def notify_at(self) -> None:
        """Only ticks of the source move time."""

    def snapshot(self) -> Token | None:  # type: ignore[override]
        return self._resume if self._core is None else self._tables.commit()


def step(step_id: str, up: KeyedStream[Batch], made: Callable[[Tables], Core], ports: Steps) -> KeyedStream[Batch]:
    """Run a core as a step of a flow.

    Args:
        step_id: public name of the step; it keys the recovery state and never changes.
        up: micro-batches by shard, in merged order.
        made: builds the core over its tables.
        ports: opens the step's store, and reads the wall clock for its latency.

    Returns:
        The micro-batches, each with what the step derived.
    """
    return op.stateful_batch(step_id, up, partial(Shard, step_id, made, ports.opened(step_id), ports.stamp))
