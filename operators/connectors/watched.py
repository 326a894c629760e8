"""A source and a sink as they are, with an ear on them: beats, epochs, the drain, and what came out."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from operators.pulse import Pulse
from schemas.items import Batch
from schemas.parcels import Packed, unpacked


class _Part(StatefulSourcePartition[Any, Any]):
    def __init__(self, part: StatefulSourcePartition[Any, Any], pulse: Pulse) -> None:
        self._part, self._pulse, self._closed = part, pulse, False

    def next_batch(self) -> list[Any]:
        self._pulse.beat()
        if self._closed:
            self._closed = False
            self._pulse.durable()
        if self._pulse.stop.is_set():
            raise StopIteration
        return list(self._pulse.noted(self._part.next_batch))

    def next_awake(self) -> datetime | None:
        return self._part.next_awake()

    def snapshot(self) -> Any:
        self._pulse.closes()
        self._closed = True
        return self._pulse.noted(self._part.snapshot)

    def close(self) -> None:
        self._part.close()


class WatchedSource(FixedPartitionedSource[Any, Any]):
    """Drains when the pulse says stop, so that nothing is left to replay: the end of a lane closes its epoch.

    Args:
        source: what is watched.
        pulse: is told of beats and epochs.
    """

    def __init__(self, source: FixedPartitionedSource[Any, Any], pulse: Pulse) -> None:
        self._source, self._pulse = source, pulse

    def list_parts(self) -> list[str]:
        return self._source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> _Part:
        self._pulse.beat()
        self._pulse.formed.set()
        return _Part(self._pulse.noted(self._source.build_part, step_id, for_part, resume_state), self._pulse)


class _Out(StatefulSinkPartition[Batch | Packed, Any]):
    def __init__(self, part: StatefulSinkPartition[Batch, Any], pulse: Pulse, take: Callable[[Batch], None]) -> None:
        self._part, self._pulse, self._take = part, pulse, take

    def write_batch(self, values: list[Batch | Packed]) -> None:
        batches = [value if isinstance(value, Batch) else unpacked(value) for value in values]
        self._pulse.noted(self._part.write_batch, batches)
        self._pulse.flowing = True
        for batch in batches:
            self._take(batch)

    def snapshot(self) -> Any:
        return self._pulse.noted(self._part.snapshot)

    def close(self) -> None:
        self._part.close()


class WatchedSink(FixedPartitionedSink[Batch | Packed, Any]):
    """Hands on every batch, also one that came as bytes, and tells `take` of it once it is written."""

    def __init__(self, sink: FixedPartitionedSink[Batch, Any], pulse: Pulse, take: Callable[[Batch], None]) -> None:
        self._sink, self._pulse, self._take = sink, pulse, take

    def list_parts(self) -> list[str]:
        return self._sink.list_parts()

    def part_fn(self, item_key: str) -> int:
        return self._sink.part_fn(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> _Out:
        self._pulse.beat()
        part = self._pulse.noted(self._sink.build_part, step_id, for_part, resume_state)
        return _Out(part, self._pulse, self._take)
