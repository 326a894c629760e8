"""What the door writes of what it does not let through in time: late rows, and alerts on sources."""

from operators.door.clocks import Held, Notice, Source
from schemas import ids
from schemas.codec import encode_body
from schemas.operations import Alert, Late
from schemas.personal import named_thing

LATE_BY, ALERT_BY = "presence", "activation"


def late(held: Held, mark: int) -> Late:
    """A reading behind `mark`, whole: its body after hashing, without a frame."""
    t, _, _, _, index, topic, partition, offset, reading = held
    return Late(
        event_id=ids.late(topic, partition, offset, "" if index < 0 else index),
        event_time=t,
        ingest_time=max(t, reading.ingest_time),
        site_id=reading.site_id,
        source_id=LATE_BY,
        origin_topic=topic,
        origin_partition=partition,
        origin_offset=offset,
        subject_id=reading.subject_id,
        late_by_us=mark - t,
        watermark=mark,
        payload=encode_body("sensing.position", reading),
    )


def alert(source: Source, at: int, notice: Notice, held: Held | None) -> Alert:
    """A source's clock went wrong, or right again, when the reading heard at `at` was judged.

    A source is named where its id is a name as things have it. Any other may be anybody's address or number: then the
    place of one of its readings, `held`, leads to it, by the row itself or by `footfall dead-letter export`.
    """
    if named_thing(source.source_id):
        who = f"source {source.source_id!r}"
    elif held is not None:
        who = f"the source of {held[5]}:{held[6]}, offset {held[7]},"
    else:
        who = "a source whose readings are not kept"
    grave = notice.name == "QUARANTINED" and not notice.cleared
    return Alert(
        event_id=ids.alert(source.site_id, source.source_id, notice.name, at, notice.cleared),
        event_time=at,
        ingest_time=at,
        site_id=source.site_id,
        source_id=ALERT_BY,
        name=notice.name,
        severity="PAGE" if grave else "WARN",
        stage="ADMIT",
        cause=f"clock of {who} is {abs(notice.value):.3f} s {'ahead' if notice.value < 0 else 'behind'}",
        value=notice.value,
        limit=notice.limit,
        cleared=notice.cleared,
    )
