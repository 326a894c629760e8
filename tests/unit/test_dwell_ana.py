"""The customer's example: three people, one shop, and the rows an independent program made of it."""

import json
from pathlib import Path

import pytest

from operators.dwell import Dwell, DwellRule
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas.derived import DwellReached, Transition, Visit
from schemas.items import Event, Fix
from schemas.pseudonym import EXAMPLE_KEY, subject_tokens, tokens
from schemas.reference import Consent, Link, Purpose
from schemas.venue import Venue
from tests.oracles.presence import END_MARK, Rectangles, S, due, dwelling, rect, site

SCENARIO = Path(__file__).resolve().parents[3] / "shared" / "scenarios" / "ana"
ANA = "tag:1:3z2kiuxszjrwxxxf6a7q"
token = tokens(EXAMPLE_KEY, 1)
subject = subject_tokens(token)


@pytest.fixture(scope="module")
def records():
    if not SCENARIO.is_dir():
        pytest.skip(f"the scenario is not beside the project: {SCENARIO.parent.name}/{SCENARIO.name}")
    zones = {}
    for feature in json.loads((SCENARIO / "venue.geojson").read_text())["features"]:
        told = feature["properties"]
        if told["type"] == "zone":
            (x0, y0), _, (x1, y1), *_ = feature["geometry"]["coordinates"][0]
            longest = {"max_dwell_us": 14 * 3600 * S} if told["kind"] == "STORE" else {}
            zones[feature["id"]] = rect(feature["id"], x0, y0, x1, y1, kind=told["kind"], **longest)
    where = site(site_id="mad-01", time_zone="Europe/Madrid", opening=["Mo-Su 09:00-22:00"], legal_basis="CONSENT")
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    venue = Venue(site=where, floors=[], zones=zones, devices={})
    rule = DwellRule(venue, dwelling, lambda zone: (45 * S,) if zone.zone_id == "offers" else ())
    core = Dwell(rule, Rectangles(zones.values()), Tables(store))
    return [item.record for item in core.step([*reference(), *fixes(), END_MARK]) if isinstance(item, Event)]


def rows(topic):
    for line in (SCENARIO / f"{topic}.jsonl").read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def reference():
    for row in rows("consent.record"):
        purposes = [Purpose(**purpose) for purpose in row["purposes"]]
        yield due(Consent(event_time=row["event_time"], identifier=token(row["identifier"]), purposes=purposes))
    for row in rows("identity.link"):
        ends = {"from_id": token(row["from_id"]), "to_id": token(row["to_id"])}
        yield due(Link(event_time=row["event_time"], valid_from=row["valid_from"], method=row["method"], **ends))


def fixes():
    seen, newest, taken = set(), 0, []
    for row in rows("sensing.position"):
        t, who = (
            row["event_time"],
            row["source_id"],
        )
        bad = (who, row.get("seq")) in seen or newest - t > 10 * S or not -5 <= row["x_m"] <= 35
        seen.add((who, row.get("seq")))
        newest = max(newest, t)
        if not bad:
            at = {"event_time": t, "ingest_time": row.get("ingest_time", t), "clock": t}
            taken.append(
                Fix(
                    number=0, subject_id=subject(row["subject_id"]), tech=row["tech"], x_m=row["x_m"], y_m=row["y_m"],
                    floor=row["floor"], accuracy_m=row["accuracy_m"], **at,
                )
            )  # fmt: skip
    return sorted(taken, key=lambda fix: fix.event_time)


def test_the_whole_row_of_her_dwell_is_the_one_expected(records):
    told = [r for r in records if isinstance(r, DwellReached)]
    assert len(told) == 3
    (hers,) = [r for r in told if r.subject_id == ANA]
    t0 = 1_796_486_400 * S
    assert hers == DwellReached(
        event_id="0adbce93-c0fb-5368-a21e-cc6dc127be29",
        event_time=t0 + 67_600_000,
        ingest_time=t0 + 67_600_000,
        site_id="mad-01",
        source_id="presence",
        visit_id="096c71f6-cbd0-54f4-b8d3-9d8a2b85bcae",
        subject_id=ANA,
        zone_id="offers",
        zone_revision=0,
        threshold_us=45 * S,
        entered_at=t0 + 22_600_000,
        reached_at=t0 + 67_600_000,
        fired_at=t0 + 67_600_000,
        last_fix_at=t0 + 67_400_000,
        fix_count=225,
        quality=hers.quality,
    )
    assert f"{hers.quality:.7f}" == "0.9955556"


def test_twelve_visits_and_twenty_four_transitions(records):
    visits = [r for r in records if isinstance(r, Visit)]
    by_zone = sorted((v.zone_id, v.subject_id) for v in visits)
    count = {zone: sum(z == zone for z, _ in by_zone) for zone, _ in by_zone}
    assert count == {"store": 3, "offers": 3, "entrance": 4, "shoes": 2}
    assert sum(isinstance(r, Transition) for r in records) == 24
    assert min(v.dwell_us for v in visits) >= S
    stays = {(v.subject_id, v.zone_id): v for v in visits}
    hers = stays[ANA, "offers"]
    assert hers.fired_us == [45 * S]
    t0 = 1_796_486_400 * S
    assert (hers.entered_at - t0, hers.left_at - t0) == (22_600_000, 117_000_000)
    assert sorted((v.entered_at - t0, v.left_at - t0) for v in visits if v.zone_id == "offers")[1:] == [
        (30_800_000, 141_000_000),
        (44_600_000, 124_600_000),
    ]
