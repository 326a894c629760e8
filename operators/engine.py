"""The one place where a core meets Bytewax: an item is a micro-batch, a key is a virtual shard.

Everything a step decides is in its core; here stand only the calls the engine makes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic
from msgspec.structs import replace

from operators.state.store import Store, Tables, Token
from schemas.items import Batch, Item
from schemas.parcels import Packed, packed, unpacked
from schemas.shards import ALONE, SHARDS

Opened = Callable[[], Store]
"""Makes the store of one step; it is opened with the first batch, when the shard is known."""
Stamp = Callable[[], int]
"""The wall clock of the process in µs, handed in by the ports; only latency is measured with it."""

Noted = Callable[..., Any]
"""Answers a call with its arguments, and notes what it fails with."""


class Steps(Protocol):
    """What the ports lend to every step."""

    @property
    def opened(self) -> Callable[[str], Opened]: ...
    @property
    def stamp(self) -> Stamp: ...
    @property
    def noted(self) -> Noted: ...


class Core(Protocol):
    """What a step does: items in merged order in, items out. It keeps its memory in the tables it was given."""

    def step(self, items: list[Item]) -> list[Item]: ...


class Dealer(Protocol):
    """What a step does whose items go to several shards: items in merged order in, items by number of shard out."""

    def deal(self, items: Sequence[Item]) -> list[list[Item]]: ...


C = TypeVar("C")
Out = TypeVar("Out")


class Shard(StatefulBatchLogic[Any, Out, Token], Generic[C, Out]):
    """One virtual shard of one step: the core and its tables, nothing else.

    Always answers False (a discarded logic would come back as if new) and closes nothing at the end of
    input: a drain is no end of a stay.

    Args:
        made: builds the core over its tables.
        work: what comes of one batch.
        opened: makes the store.
        noted: answers the calls of the engine.
        resume: where the state stood, as the engine knows it.
    """

    def __init__(
        self,
        made: Callable[[Tables], C],
        work: Callable[[C, Batch], list[Out]],
        opened: Opened,
        noted: Noted,
        resume: Token | None,
    ) -> None:
        self._made, self._work, self._noted, self._resume = made, work, noted, resume
        self._tables = Tables(opened())
        self._tables.store.claim(resume)
        self._core: C | None = None

    def on_batch(self, values: list[Batch | Packed]) -> tuple[list[Out], bool]:
        return self._noted(self._worked, values), False

    def _worked(self, values: list[Batch | Packed]) -> list[Out]:
        batches = [value if isinstance(value, Batch) else unpacked(value) for value in values]
        if self._core is None:
            self._tables.open(batches[0].shard)
            self._core = self._made(self._tables)
        return [out for batch in batches for out in self._work(self._core, batch)]

    def on_notify(self) -> tuple[list[Out], bool]:
        return [], False

    def on_eof(self) -> tuple[list[Out], bool]:
        return [], False

    def notify_at(self) -> None:
        """Only ticks of the source move time."""

    def snapshot(self) -> Token | None:  # type: ignore[override]
        committed: Token | None = self._resume if self._core is None else self._noted(self._tables.commit)
        return committed


def step(
    step_id: str, up: "KeyedStream[Batch] | KeyedStream[Packed]", made: Callable[[Tables], Core], ports: Steps
) -> KeyedStream[Batch]:
    """Run a core as a step of a flow.

    Args:
        step_id: public name of the step; it keys the recovery state and never changes.
        up: micro-batches by shard, in merged order.
        made: builds the core over its tables.
        ports: opens the step's store, and reads the wall clock for its latency.

    Returns:
        The micro-batches, each with what the step derived.
    """

    def work(core: Core, batch: Batch) -> list[Batch]:
        items = core.step(batch.items)
        return [Batch(items, {**batch.stamps, step_id: ports.stamp()}, batch.shard)]

    return op.stateful_batch(step_id, up, partial(Shard, made, work, ports.opened(step_id), ports.noted))


def together(step_id: str, up: KeyedStream[Batch]) -> KeyedStream[Packed]:
    """Bring the batches of all lanes to the one shard that sees everything, as bytes: they may cross processes."""
    return op.map(step_id, up, lambda keyed: (ALONE, packed(replace(keyed[1], shard=ALONE))))


def dealt(step_id: str, up: KeyedStream[Batch], made: Callable[[Tables], Dealer], ports: Steps) -> KeyedStream[Packed]:
    """Run a core that deals items to shards; the batches go to them as bytes.

    Args:
        step_id: public name of the step.
        up: micro-batches of the one shard that sees everything.
        made: builds the core over its tables.
        ports: opens the step's store.
    """

    def work(core: Dealer, batch: Batch) -> list[Packed]:
        shares = enumerate(core.deal(batch.items))
        return [packed(Batch(items, batch.stamps, SHARDS[number])) for number, items in shares if items]

    found = op.stateful_batch(step_id, up, partial(Shard, made, work, ports.opened(step_id), ports.noted))
    return op.map(f"{step_id}-to", found, lambda keyed: (keyed[1][0], keyed[1]))
