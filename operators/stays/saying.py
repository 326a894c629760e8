"""What presence says of a stay: it was entered, it has lasted, it is over.

The time of a record is when it was decided; its bounds are back-dated and have fields of their own.
"""

from struct import Struct

from operators.stays.stay import Figures, State, Stay
from operators.stays.subject import Subject
from schemas import ids
from schemas.derived import DwellReached, Transition, Visit
from schemas.items import Due, Event, Fix, Item, Watermark
from schemas.types import AnyRecord

STALE_QUALITY = 10_000_000
"""A threshold told later than this after it was reached says nothing of the stay any more, µs."""
_SOURCE = "presence"
_FLOAT = Struct("<f")


class Saying:
    """Makes the records of one site and collects them in `out`, each with number and clock of the `cause`."""

    def __init__(self, site_id: str) -> None:
        self._site = site_id
        self.out: list[Item] = []
        self.cause: Fix | Due | Watermark = Watermark(0, 0, 0)

    def opened(self, subject: str, zone_id: str, stay: Stay, reason: str, t: int, ingest: int) -> None:
        """Open a confirmed candidate at the start of its run, as decided at `t`."""
        stay.state, stay.entered_at, stay.cut = State.IN, stay.run, None
        stay.reason = reason or ("FIRST_HEARD" if stay.first_heard else "CROSSED")
        stay.visit_id = ids.visit(self._site, subject, zone_id, stay.entered_at)
        self._transition(subject, zone_id, stay, "ENTER", stay.entered_at, stay.reason, t, ingest)

    def fired(self, subject: str, zone_id: str, stay: Stay, s: Subject, upto: int, fired_at: int) -> None:
        """Tell every pending threshold that was reached by `upto`."""
        while stay.pending and stay.entered_at + stay.pending[0] <= upto:
            after, stay.pending, stay.held = stay.pending[0], stay.pending[1:], False
            stay.fired.append(after)
            observed = s.at - stay.entered_at - stay.lost_us
            stale = fired_at - stay.entered_at - after > STALE_QUALITY
            self._add(
                "presence.dwell",
                DwellReached(
                    event_id=ids.dwell(stay.visit_id, after),
                    event_time=fired_at,
                    ingest_time=max(fired_at, s.ingest),
                    site_id=self._site,
                    source_id=_SOURCE,
                    visit_id=stay.visit_id,
                    subject_id=subject,
                    zone_id=zone_id,
                    zone_revision=stay.revision,
                    threshold_us=after,
                    entered_at=stay.entered_at,
                    reached_at=stay.entered_at + after,
                    fired_at=fired_at,
                    last_fix_at=s.at,
                    fix_count=s.count - stay.base,
                    quality=0.0 if stale else _single(observed / (fired_at - stay.entered_at)),
                ),
            )

    def closed(self, subject: str, zone_id: str, stay: Stay, reason: str, t: int, ingest: int, kept: Figures) -> None:
        """End a stay at `kept.at`, as decided at `t`: the exit, then the whole visit."""
        self._transition(subject, zone_id, stay, "EXIT", kept.at, reason, t, ingest)
        dwell = kept.at - stay.entered_at
        self._add(
            "presence.visit",
            Visit(
                event_id=ids.visit_record(stay.visit_id, 0),
                event_time=t,
                ingest_time=max(t, ingest),
                site_id=self._site,
                source_id=_SOURCE,
                visit_id=stay.visit_id,
                subject_id=subject,
                zone_id=zone_id,
                zone_revision=stay.revision,
                entered_at=stay.entered_at,
                left_at=kept.at,
                dwell_us=dwell,
                observed_us=max(0, dwell - kept.lost_us),
                fix_count=kept.fixes,
                gap_count=kept.gap_count,
                max_gap_us=kept.max_gap_us,
                enter_reason=stay.reason,
                exit_reason=reason,
                fired_us=stay.fired,
                tech=stay.tech,
                revision=0,
            ),
        )

    def _transition(
        self, subject: str, zone_id: str, stay: Stay, kind: str, at: int, reason: str, t: int, ingest: int
    ) -> None:
        self._add(
            "presence.transition",
            Transition(
                event_id=ids.transition(stay.visit_id, kind),
                event_time=t,
                ingest_time=max(t, ingest),
                site_id=self._site,
                source_id=_SOURCE,
                visit_id=stay.visit_id,
                subject_id=subject,
                zone_id=zone_id,
                zone_revision=stay.revision,
                kind=kind,
                at=at,
                reason=reason,
                tech=stay.tech,
            ),
        )

    def _add(self, topic: str, record: AnyRecord) -> None:
        self.out.append(Event(self.cause.number, self.cause.clock, topic, record))


def _single(value: float) -> float:
    """Rounded to single precision, as it will be on the wire."""
    single: float = _FLOAT.unpack(_FLOAT.pack(value))[0]
    return single
