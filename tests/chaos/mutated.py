"""`footfall` changed: with a bug put back that a run on a broker must notice, or on the mock cluster in place of a broker.

python -m tests.chaos.mutated stock-sink run store --config footfall.toml
python -m tests.chaos.mutated on-mock=/tmp/control+naive-read-back run activation --config footfall.toml
"""

import sys
from pathlib import Path
from typing import Any

from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows import cli, joining, supervise
from flows.start import Start
from operators.connectors.files import published
from operators.connectors.guard import Guard
from operators.connectors.outputs import Outputs
from schemas.codec import encode
from schemas.items import Batch
from schemas.keys import key_of
from tests.broker.mock import stand_in


class _StockLane(StatefulSinkPartition[Batch, None]):
    """What the engine brings along: no report of delivery, no look at what is there."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        kafka = {name: value for name, value in outputs.kafka.items() if name != "bootstrap.servers"}
        self._inner = KafkaSink([outputs.kafka["bootstrap.servers"]], None, kafka).build("records", 0, 1)

    def write_batch(self, values: list[Batch]) -> None:
        self._inner.write_batch(
            [
                KafkaSinkMessage(
                    key=key_of(event.topic, event.record).encode(),
                    value=encode(self._outputs.schema_ids[event.topic], event.record),
                    topic=self._outputs.prefix + event.topic,
                )
                for batch in values
                for event in published(batch.items, self._outputs.topics)
            ]
        )

    def snapshot(self) -> None:
        return None


class StockSink(FixedPartitionedSink[Batch, None]):
    """The engine's own sink, in the shape of ours."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self.lanes: dict[int, Any] = {}

    def list_parts(self) -> list[str]:
        return ["out-00"]

    def part_fn(self, item_key: str) -> int:
        return 0

    def former(self) -> list[str]:
        return []

    def outlets(self, keyed: tuple[str, Batch]) -> list[tuple[str, Batch]]:
        return [keyed]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _StockLane:
        return _StockLane(self._outputs)


def _stock_sink() -> None:
    joining.GuardedSink = StockSink  # type: ignore[misc, assignment]


def _naive_read_back() -> None:
    """The snapshot is the end of the topic: what was read back and not said again yet is forgotten."""
    Guard.low = lambda self, place: self._next[place]  # type: ignore[method-assign]


MUTANTS = {"stock-sink": _stock_sink, "naive-read-back": _naive_read_back}


def _changed(names: str) -> None:
    """Change this process as the names say that a + joins."""
    for one in names.split("+"):
        name, _, control = one.partition("=")
        if name == "on-mock":
            stand_in(Path(control))
        else:
            MUTANTS[name]()


def _also_below(names: str) -> None:
    """The children of a supervisor are changed too."""
    command_of = supervise.command_of

    def mutated(start: Start, process: int) -> list[str]:
        python, _, _, *words = command_of(start, process)
        return [python, "-m", "tests.chaos.mutated", names, *words]

    supervise.command_of = mutated


if __name__ == "__main__":
    named = sys.argv.pop(1)
    _changed(named)
    _also_below(named)
    cli.main()
