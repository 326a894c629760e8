"""The customer's example through the decide core alone: persons and stays are said by hand, rules are the scenario's."""

from pathlib import Path

import pytest

from operators.decide import DecideRule
from operators.rules import load_rules
from operators.venues.venue import load_venue
from schemas import ids
from schemas.derived import DwellReached
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from tests.unit import deciding
from tests.unit.deciding import S, Shop, person

SCENARIO = Path(__file__).resolve().parents[3] / "shared" / "scenarios" / "ana"
ENTERED = 1_796_486_422_600_000
token = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)


@pytest.fixture
def scenario(monkeypatch):
    if not SCENARIO.exists():
        pytest.skip("scenarios/ana is not beside the project")
    venue = load_venue(SCENARIO / "venue.geojson")
    monkeypatch.setattr(deciding, "VENUE", venue)
    return Shop(load_rules(SCENARIO, venue), DecideRule())


def somebody(s, name, tier, granted):
    card = token(f"loyalty:{name}-card")
    others = [token(f"email:{name}@example.com"), token(f"device:{name}-phone"), token(f"tag:{name}-tag")]
    s.link(person(card, *others), at=-3600 * S)
    s.consent(-3600 * S, granted=granted, member=card, language="es")
    s.customer(tier, -3600 * S, member=card)
    s.point(at=-3600 * S, member=card)
    return others[-1]


def stand(s, tag, entered):
    """What presence says of a stay of 45 s."""
    visit = ids.visit("mad-01", tag, "offers", entered)
    fired = entered + 45 * S
    record = DwellReached(
        event_id=ids.dwell(visit, 45 * S), event_time=fired, ingest_time=fired, site_id="mad-01", source_id="presence",
        visit_id=visit, subject_id=tag, zone_id="offers", zone_revision=0, threshold_us=45 * S, entered_at=entered,
        reached_at=fired, fired_at=fired, last_fix_at=fired - 200_000, fix_count=225, quality=0.9955556,
    )  # fmt: skip
    s.hear(record, tag)


def test_ana_is_told_ben_is_not_premium_and_cleo_has_not_agreed(scenario):
    s = scenario
    everything = ("personalisation", "in_store_location", "profiling", "linking", "contact")
    ana = somebody(s, "ana", "gold", everything)
    ben = somebody(s, "ben", "silver", everything)
    cleo = somebody(s, "cleo", "gold", ("in_store_location", "linking", "contact"))
    stand(s, ana, ENTERED)
    stand(s, ben, ENTERED + 8_200_000)
    stand(s, cleo, ENTERED + 22 * S)
    first, second, third = s.decisions
    assert first.event_id == "d0687939-9e7c-5e70-8dc6-1d6af51f4375"
    assert first.anchor_id == first.root == "loyalty:1:wyjlgf47g6fbvkxrmtwq"
    assert first.trigger.id == "0adbce93-c0fb-5368-a21e-cc6dc127be29"
    assert first.trigger.visit_id == "096c71f6-cbd0-54f4-b8d3-9d8a2b85bcae"
    assert first.actions == ["5cwcmbv2vj6pvpdqxgtifzgps6bti7fb", "2mjlne6kl2qzif36zprb6ye42p7csoaf"]
    assert first.candidates[0].campaign_version == "bebd33057f06"
    said = [(each.candidates[0].verdict, each.candidates[0].reason, each.candidates[0].detail) for each in s.decisions]
    assert said == [
        ("FIRED", "NONE", None),
        ("NOT_MATCHED", "CLAUSE_FALSE", "premium"),
        ("SUPPRESSED", "CONSENT_MISSING", "personalisation"),
    ]
    premium = [each.candidates[0].clauses[0] for each in (first, second, third)]
    assert [(row.name, row.value) for row in premium] == [
        ("premium", "TRUE"),
        ("premium", "FALSE"),
        ("premium", "UNKNOWN"),
    ]
    screen, push = s.commands
    at = first.event_time
    assert (screen.channel, screen.target_id, screen.params, screen.expires_at - at) == (
        "SCREEN",
        "screen-7",
        {},
        20 * S,
    )
    assert (push.channel, push.params, push.locale, push.expires_at - at) == (
        "PUSH",
        {"person.tier": "gold"},
        "en",
        60 * S,
    )
