"""Whether a record's time can be: not ahead of when it was heard, and not older than its topic keeps."""

from operators.door.ranges import Fault
from schemas.topics import TOPICS
from schemas.types import AnyRecord

SECOND = 1_000_000
HOUR = 3600 * SECOND
LEAD = 2 * SECOND
FIRST_YEAR = 631_152_000 * SECOND
"""1990: no clock that says less is right."""
UNTIL = 3_786_912_000 * SECOND
"""2090."""
END = 253_402_300_799 * SECOND
"""The end of time: the last second of the year 9999."""
_KEPT = {name: END if topic.hours is None else topic.hours * HOUR for name, topic in TOPICS.items()}
_SENSED = frozenset(name for name in TOPICS if name.startswith("sensing."))


def fault_of_clock(record: AnyRecord) -> Fault | None:
    """FUTURE_TIME or TOO_OLD for what no clock says, or None; what is left can be reckoned with in 64 bits."""
    event_time, ingest_time = record.event_time, record.ingest_time
    if 0 <= event_time <= END and 0 <= ingest_time <= END:
        return None
    if max(event_time, ingest_time) > END:
        return "FUTURE_TIME", "event_time and ingest_time must be before the year 10000"
    return "TOO_OLD", "event_time and ingest_time must be after 1970"


def fault_of_time(topic: str, record: AnyRecord, at: int, until: int) -> Fault | None:
    """FUTURE_TIME or TOO_OLD, or None.

    Args:
        topic: where the record stood; only what sensors say is held against the moment it was heard.
        record: as it came.
        at: its event time, corrected by the offset of its source.
        until: an event time at or past it is refused whatever the ingest time says.
    """
    if at > record.ingest_time + LEAD and topic in _SENSED:
        return "FUTURE_TIME", "event_time must be at most 2 s after ingest_time"
    if record.event_time >= until:
        return "FUTURE_TIME", "event_time must be before the end that the settings name"
    if at < FIRST_YEAR or record.ingest_time - at > _KEPT[topic]:
        return "TOO_OLD", "event_time must lie within what the topic keeps, and after 1990"
    return None
