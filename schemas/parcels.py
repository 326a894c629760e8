"""A micro-batch as bytes: how it goes to another shard, and how what waits is kept.

An exchange between processes takes bytes several times faster than objects, and nothing of ours is pickled.
"""

from typing import Any

import msgspec

from schemas.items import Batch, Event, Item, Linked, Moving, Occupied, Opened, Parcel, Person, Tally, Tick, Touched
from schemas.topics import TOPICS

Packed = tuple[str, bytes]
"""The shard that a batch is for, and the batch."""

_EVENT, _TOUCHED = 0, 1
_PLAIN: tuple[type[Any], ...] = (Tick, Opened, Linked, Moving, Parcel, Occupied, Tally)
"""Kinds that are written as they are; their place, from 2 on, is their number."""
_NUMBERS = {kind: number for number, kind in enumerate(_PLAIN, 2)}
_encode = msgspec.msgpack.Encoder().encode
_batch = msgspec.msgpack.Decoder(tuple[dict[str, int], list[tuple[int, msgspec.Raw]]]).decode
_readers = [msgspec.msgpack.Decoder(kind).decode for kind in _PLAIN]
_records = {name: msgspec.msgpack.Decoder(topic.record).decode for name, topic in TOPICS.items()}
_Fields = tuple[int, int, str, msgspec.Raw, int, int, int | None]
_event = msgspec.msgpack.Decoder(_Fields).decode
_touched = msgspec.msgpack.Decoder(tuple[_Fields, str, Person]).decode


def packed(batch: Batch) -> Packed:
    """A batch as bytes. What no later step has a use for stays behind: data keys, fixes, and how a row came in."""
    rows: list[tuple[int, Any]] = []
    for item in batch.items:
        kind = type(item)
        if kind is Event:
            rows.append((_EVENT, _fields(item)))  # type: ignore[arg-type]
        elif kind is Touched:
            rows.append((_TOUCHED, (_fields(item.event), item.member, item.person)))  # type: ignore[union-attr]
        elif (number := _NUMBERS.get(kind)) is not None:
            rows.append((number, item))
    return batch.shard, _encode((batch.stamps, rows))


def unpacked(parcel: Packed) -> Batch:
    """The batch again."""
    shard, body = parcel
    stamps, rows = _batch(body)
    return Batch([_item(kind, raw) for kind, raw in rows], stamps, shard)


def _fields(event: Event) -> tuple[Any, ...]:
    return event.number, event.clock, event.topic, event.record, event.partition, event.offset, event.index


def _item(kind: int, raw: msgspec.Raw) -> Item:
    if kind == _EVENT:
        return _made(_event(raw))
    if kind == _TOUCHED:
        fields, member, person = _touched(raw)
        return Touched(_made(fields), member, person)
    item: Item = _readers[kind - 2](raw)
    return item


def _made(fields: _Fields) -> Event:
    number, clock, topic, raw, partition, offset, index = fields
    return Event(number, clock, topic, _records[topic](raw), partition, offset, index)
