"""Why did she get it, or why not? Answered in words, from the records of a run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.deployment import Deployment, hasher
from flows.settings import WrongUse
from flows.words import in_words, moment_in_words
from schemas.codec import decode_datum, read_file
from schemas.derived import Assignment, Decision, DwellReached, Visit
from schemas.operations import Late
from schemas.pseudonym import subject_tokens
from schemas.rows import BadShape, from_line, instant, reader, to_row, written
from schemas.topics import TOPICS

_CLOCK = re.compile(r"^([0-2]?[0-9]):([0-5][0-9])(?::([0-5][0-9]))?$")
_SECOND = 1_000_000
_NEAR = 120 * _SECOND


@dataclass
class Run:
    """The records of a run that an answer is made of."""

    decisions: list[Decision] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    dwells: list[DwellReached] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> "Run":
        """Read the out directory of a replay."""
        if not (folder / "summary.json").exists():
            raise WrongUse(f"{folder}: must be the out directory of a replay")
        return cls(
            decisions=list(_records(folder, "decision.record")),
            assignments=list(_records(folder, "identity.assignment")),
            visits=list(_records(folder, "presence.visit")),
            dwells=list(_records(folder, "presence.dwell")),
            late=list(_records(folder, "ops.late")),
        )


def _records(folder: Path, topic: str) -> Iterator[Any]:
    record = TOPICS[topic].record
    lines, avro = folder / f"{topic}.jsonl", folder / f"{topic}.avro"
    if lines.exists():
        with lines.open("rb") as file:
            for line in file:
                yield from_line(record, line)
    elif avro.exists():
        schema, rows = read_file(avro)
        for body, _ in rows:
            yield reader(record)(decode_datum(schema, body))[0]


def _moments(run: Run) -> Iterator[int]:
    yield from (one.event_time for one in run.decisions)
    yield from (one.entered_at for one in run.visits)
    yield from (one.event_time for one in run.assignments)


def moment(text: str, run: Run, zone: ZoneInfo) -> tuple[int, int]:
    """A question's instant and its width in µs: RFC 3339, or a clock time of the run's last day.

    Raises:
        WrongUse: it is neither, or the run holds nothing.
    """
    found = _CLOCK.match(text.strip())
    if found is None:
        try:
            return instant(text.strip()), _SECOND
        except BadShape as error:
            raise WrongUse(f"--at must be RFC 3339 or HH:MM; got {text!r}") from error
    newest = max(_moments(run), default=None)
    if newest is None:
        raise WrongUse("--in holds no records to ask")
    day = datetime.fromtimestamp(newest / _SECOND, UTC).astimezone(zone)
    asked = day.replace(hour=int(found[1]), minute=int(found[2]), second=int(found[3] or 0), microsecond=0)
    width = timedelta(seconds=1) if found[3] else timedelta(minutes=1)
    return int(asked.timestamp()) * _SECOND, int(width.total_seconds()) * _SECOND


def members(run: Run, token: str, at: int) -> tuple[set[str], int | None]:
    """All identifiers of the person at an instant, and when the asked one was first known (None: never)."""
    person: dict[str, str] = {}
    known_from = None
    for row in run.assignments:
        if row.identifier == token and known_from is None:
            known_from = row.event_time
        if row.event_time <= at or row.identifier not in person:
            person[row.identifier] = row.person_id
    if token not in person:
        return {token}, known_from
    return {identifier for identifier, owner in person.items() if owner == person[token]}, known_from


def explained(
    folder: Path,
    *,
    person: str,
    at: str,
    campaign: str | None = None,
    config: Path | None = None,
    of: Path | None = None,
) -> dict[str, Any]:
    """Answer one question; `text` holds the words, `records` the decisions it rests on.

    Args:
        folder: out directory of a replay.
        person: raw identifier, namespace:value, or a token.
        at: RFC 3339, or HH:MM by the clock of the shop of `of`, else UTC.
        campaign: only this campaign.
        config: settings file that names the pseudonym key.
        of: the directory that was replayed: its time zone, its settings, the stays its campaigns ask for.

    Raises:
        WrongUse: the question cannot be read.
    """
    local = ZoneInfo("UTC")
    asked: dict[str, set[int]] = {}
    if of is not None:
        beside = of / "footfall.toml"
        config = config or (beside if beside.exists() else None)
        shop = Deployment.load(of, config)
        local = ZoneInfo(shop.venue.site.time_zone)
        asked = {zone_id: set(told) for zone_id, told in shop.rules.thresholds().items()}
    token = subject_tokens(hasher(config)[0])(person)
    run = Run.of(folder)
    start, width = moment(at, run, local)
    own, known_from = members(run, token, start + width)
    hers = [one for one in run.decisions if one.anchor_id in own or one.root in own]
    near = [one for one in hers if start - _NEAR <= one.event_time < start + width + _NEAR]
    exact = [one for one in near if start <= one.event_time < start + width]
    chosen = exact or ([min(near, key=lambda one: abs(one.event_time - start))] if near else [])
    lines: list[str] = []
    for one in chosen:
        lines.extend(_told(one, campaign, local))
    if not chosen:
        lines.append(f"No decision was made about this person around {_clock(start, local)}.")
        lines.extend(_absent(run, own, known_from, start, width, local, asked))
        others = sorted(one.event_time for one in hers)
        if others:
            lines.append(
                "Decisions about this person were made at " + ", ".join(_clock(t, local) for t in others[:5]) + "."
            )
    return {"person": token, "text": "\n".join(lines), "records": [_plain(one) for one in chosen]}


def _clock(at: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at / _SECOND, UTC).astimezone(zone).strftime("%H:%M:%S")


def _told(decision: Decision, campaign: str | None, zone: ZoneInfo) -> Iterator[str]:
    again = "" if decision.attempt == 0 else f" (looked at again: {decision.cause.lower().replace('_', ' ')})"
    yield f"{_clock(decision.event_time, zone)}  the person {moment_in_words(decision.trigger)}{again}"
    for candidate in decision.candidates:
        if campaign is not None and candidate.campaign_id != campaign:
            continue
        yield f"  {in_words(candidate, decision.trigger)}"
        for clause in candidate.clauses:
            seen = f"  ({', '.join(clause.seen)})" if clause.seen else ""
            yield f"      {clause.name}: {clause.value.lower()}{seen}"
        for name, value in candidate.guards.items():
            yield f"      {name}: {value}"
    yield f"  decision {decision.event_id}, from {', '.join(decision.input_ids)}"


def _absent(
    run: Run,
    own: set[str],
    known_from: int | None,
    start: int,
    width: int,
    zone: ZoneInfo,
    asked: dict[str, set[int]],
) -> Iterator[str]:
    """Why no record could exist."""
    stays = [one for one in run.visits if one.subject_id in own]
    if known_from is None and not stays:
        yield "Nothing in this run is known under that identifier."
    elif known_from is not None and known_from > start + width:
        yield f"The identifier became known only at {_clock(known_from, zone)}."
    thresholds = {zone_id: set(told) for zone_id, told in asked.items()}
    for dwell in run.dwells:
        thresholds.setdefault(dwell.zone_id, set()).add(dwell.threshold_us)
    around = [one for one in stays if one.entered_at < start + width and one.left_at >= start]
    for stay in sorted(around, key=lambda one: (one.entered_at, one.zone_id)):
        told = sorted(thresholds.get(stay.zone_id, ()))
        lasted = stay.dwell_us / _SECOND
        span = f"in {stay.zone_id} from {_clock(stay.entered_at, zone)} to {_clock(stay.left_at, zone)}: {lasted:.0f} s"
        missed = [one for one in told if one not in stay.fired_us]
        if missed:
            yield f"The person was {span} of the {missed[0] / _SECOND:.0f} s that are asked for there."
        else:
            yield f"The person was {span}; no campaign asks for a stay there."
    if stays and not around:
        yield "The person was in no zone then."
    for row in run.late:
        if row.subject_id in own and start - _NEAR <= row.event_time < start + width + _NEAR:
            behind = row.late_by_us / _SECOND
            yield f"A reading of {_clock(row.event_time, zone)} came {behind:.1f} s too late (offset {row.origin_offset})."
            return


def _plain(decision: Decision) -> dict[str, Any]:
    row = to_row(decision)
    return {**row, "event_time": written(decision.event_time)}
