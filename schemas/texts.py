"""What was handed to a channel: the only item that holds personal text, and it goes to no topic."""

import msgspec
import orjson

from schemas.rows import written


class Delivered(msgspec.Struct, frozen=True):
    """A rendered text for a device or an address; `at` in µs."""

    number: int
    clock: int
    at: int
    channel: str
    target: str
    text: str
    campaign_id: str
    action_id: str


def delivered_line(item: Delivered) -> bytes:
    """The line of `delivered.jsonl`."""
    row = {
        "at": written(item.at),
        "channel": item.channel,
        "target": item.target,
        "text": item.text,
        "campaign_id": item.campaign_id,
        "action_id": item.action_id,
    }
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
