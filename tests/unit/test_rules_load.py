"""A directory of rules as a whole: versions, the index, thresholds, and that no file can make it fall over."""

import random
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from operators.rules import RulesRefused, check_rules, lint, load_rules
from operators.rules.campaigns import Campaign
from operators.rules.load import Rules

ANA = {
    "campaigns/offers-premium-dwell.yaml": b"""\
campaign: offers-premium-dwell
owner: store-marketing
about: Extra 10 % for Gold members who linger in Offers
when: {dwell: {zone: offers, at_least: 45s}}
if:
  premium: '"premium" in person.segments'
unless:
  bought: {event: pos.receipt, where: 'zone.category in e.categories', within: 2h}
guard:
  identity: confirmed
  consent: [personalisation, in_store_location]
  caps: {this: 1 per 24h}
do:
  - {channel: screen, target: nearest, template: offer10, ttl: 20s}
  - {channel: push, template: offer10, ttl: 60s, also: true}
""",
    "segments/premium.yaml": b"segment: premium\nenter: 'person.tier == \"gold\"'\n",
    "templates/offer10.yaml": b"""\
template: offer10
fallback_locale: en
parts:
  push:
    en: 'Hi {{ person.first_name | default: "there" }}, for being a {{ person.tier }} member, you get an extra 10 % on what you are looking at'
  screen:
    en: 'Members get an extra 10 % here today'
""",
}
FULL = b"""\
campaign: full
owner: store
about: every part that a campaign may have
priority: 70
group: offers
tags: [offer]
sites: {include: ["mad-*"], exclude: ["mad-07"]}
valid: {from: "2026-12-01T09:00", to: "2026-12-24T20:00"}
when: {dwell: {zone: offers, at_least: 30s}}
facts:
  views_7d: {count: web.event, where: 'e.name == "product_viewed" && e.category == zone.category', within: 7d}
  spend_90d: {sum: pos.receipt, of: total, within: 90d}
if:
  premium: '"premium" in person.segments'
  intent: 'score.intent > 0.6'
  interest: 'facts.views_7d >= 3 || facts.spend_90d > 400.0'
unless:
  bought: {event: pos.receipt, where: 'zone.category in e.categories', within: 2h}
  told: {fired: offers-premium-dwell, within: 1d}
guard:
  identity: confirmed
  consent: [personalisation, in_store_location, profiling]
  caps: {this: 1 per 24h, push: 1 per 4h, tag.offer: 3 per 7d, any: {limit: 2 per calendar day, count: shown}}
  quiet: {venue: "21:00-09:00", person: "22:00-08:00", else: drop}
  stock: {of: zone.category, at_least: 1, max_age: 15m}
  audience: safe
test: {holdout: 10%, metric: basket_value, window: 24h, covariate: spend_90d, expect: 8%}
do:
  - {channel: screen, target: nearest, template: offer10, ttl: 20s}
  - {channel: push, template: offer10, ttl: 60s, fallback_after: 5s}
"""


def rules(**campaigns: str) -> Rules:
    """The rules of Ana's files and of more campaigns, each given by its trigger."""
    files = dict(ANA)
    for name, when in campaigns.items():
        text = f"campaign: {name}\nowner: x\nwhen: {when}\nguard: {{identity: confirmed, consent: [personalisation]}}\n"
        files[f"campaigns/{name}.yaml"] = f"{text}do: [{{channel: push, template: offer10, ttl: 60s}}]\n".encode()
    made, faults = check_rules(files, None)
    assert made is not None, "\n".join(map(str, faults))
    return made


def names(found: list[Campaign]) -> list[str]:
    return [campaign.id for campaign in found]


def test_versions_are_those_of_the_contract() -> None:
    made = rules()
    assert made.campaigns["offers-premium-dwell"].version == "bebd33057f06"
    assert made.segments["premium"].version == "aafd752c4d82"


def test_a_version_moves_with_the_file_and_its_template_but_not_with_what_is_said_about_it() -> None:
    name = "campaigns/offers-premium-dwell.yaml"

    def version(**files: bytes) -> str:
        made, _ = check_rules({**ANA, **files}, None)
        assert made is not None
        return made.campaigns["offers-premium-dwell"].version

    assert version(**{name: ANA[name].replace(b"owner: store-marketing", b"owner: desk # new")}) == "bebd33057f06"
    assert version(**{name: ANA[name].replace(b"45s", b"46s")}) != "bebd33057f06"
    assert version(**{"templates/offer10.yaml": ANA["templates/offer10.yaml"] + b"# x"}) != "bebd33057f06"


def test_every_part_of_a_campaign_is_read() -> None:
    made, faults = check_rules({**ANA, "campaigns/full.yaml": FULL}, None, {"intent"})
    assert made is not None, "\n".join(map(str, faults))
    full = made.campaigns["full"]
    assert (full.priority, full.group, full.tags, full.kind) == (70, "offers", ("offer",), "DWELL")
    assert [clause.name for clause in full.clauses] == ["premium", "intent", "interest"]
    assert [(cap.kind, cap.scope, cap.limit, cap.window_us, cap.calendar, cap.shown) for cap in full.guard.caps] == [
        ("THIS", "this", 1, 86_400_000_000, None, False),
        ("CHANNEL", "push", 1, 4 * 3_600_000_000, None, False),
        ("TAG", "tag.offer", 3, 7 * 86_400_000_000, None, False),
        ("ANY", "any", 2, None, "day", True),
    ]
    assert full.guard.quiet is not None
    assert (full.guard.quiet.venue, full.guard.quiet.person) == ((1260, 540), (1320, 480))
    assert full.test is not None
    assert [(arm.name, arm.first, arm.end) for arm in full.test.arms] == [
        ("control", 0, 1000),
        ("treated", 1000, 10_000),
    ]
    assert (full.test.arm(999), full.test.arm(1000)) == ("control", "treated")
    assert full.facts["views_7d"].key_leaf == "zone.category"
    assert [action.fallback_after_us for action in full.do] == [None, 5_000_000]
    assert full.reads_score
    assert made.reads_score([full])
    assert not made.reads_score([made.campaigns["offers-premium-dwell"]])
    assert (full.at_site("mad-01"), full.at_site("bcn-01"), full.excluded("mad-07")) == (True, False, True)


def test_valid_is_venue_time_and_half_open() -> None:
    made, _ = check_rules({**ANA, "campaigns/full.yaml": FULL}, None)
    assert made is not None
    full, madrid = made.campaigns["full"], ZoneInfo("Europe/Madrid")

    def at(text: str) -> int:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000)

    assert not full.in_force(at("2026-12-01T07:59:59.999999+00:00"), madrid)
    assert full.in_force(at("2026-12-01T08:00:00+00:00"), madrid)
    assert full.in_force(at("2026-12-24T18:59:59+00:00"), madrid)
    assert not full.in_force(at("2026-12-24T19:00:00+00:00"), madrid)


def test_equal_facts_share_an_aggregate_across_files() -> None:
    made, _ = check_rules({**ANA, "campaigns/full.yaml": FULL}, None)
    assert made is not None
    bought = {campaign.unless[0].read.aggregate for campaign in made.campaigns.values() if campaign.unless[0].read}
    assert len(bought) == 1
    assert len(made.plan.aggregates) == 4


def test_the_index_touches_only_what_a_trigger_can_start() -> None:
    made = rules(
        dwell60="{dwell: {zone: offers, at_least: 60s}}",
        door="{entered: {site: any}}",
        shoes="{exited: {zone: shoes}}",
        receipt="{event: {topic: pos.receipt, where: 'e.total > 20.0'}}",
        premium="{segment: {entered: premium}}",
        known="{identified: {in_zone: offers}}",
        anywhere="{identified: {}}",
        gone="{absence: {after: {exited: {site: any}}, without: {event: pos.receipt}, within: 2h}}",
        tour="{sequence: {of: [{dwell: {zone: a, at_least: 5s}}, {event: {topic: sensing.scan}}], within: 3h}}",
    )
    assert names(made.candidates("DWELL", "offers", "mad-01")) == ["dwell60", "offers-premium-dwell"]
    assert names(made.candidates("DWELL", "offers", "mad-01", threshold_us=60_000_000)) == ["dwell60"]
    assert names(made.candidates("DWELL", "shoes", "mad-01")) == []
    assert names(made.candidates("ENTERED", "store", "mad-01")) == ["door"]
    assert names(made.candidates("EXITED", "shoes", "mad-01")) == ["shoes"]
    assert names(made.candidates("EVENT", "pos.receipt", "")) == ["receipt"]
    assert names(made.candidates("SEGMENT", "premium:ENTERED", "")) == ["premium"]
    assert names(made.candidates("SEGMENT", "premium:LEFT", "")) == []
    assert names(made.candidates("IDENTIFIED", "offers", "mad-01")) == ["anywhere", "known"]
    assert names(made.candidates("ABSENCE", "gone", "mad-01")) == ["gone"]
    assert [(one.id, step) for one, step in made.index.steps("EXITED", "store", "mad-01")] == [("gone", 0)]
    assert [(one.id, step) for one, step in made.index.steps("EVENT", "sensing.scan", "mad-01")] == [("tour", 1)]
    assert made.thresholds() == {"a": (5_000_000,), "offers": (45_000_000, 60_000_000)}


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    for name, content in {**ANA, "campaigns/bad.yaml": b"campaign: bad\n", "segments/bad.yaml": b"- 1"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(RulesRefused) as refused:
        load_rules(tmp_path, None)
    assert [(fault.file, fault.code) for fault in refused.value.faults] == [
        ("campaigns/bad.yaml", "E104"),
        ("campaigns/bad.yaml", "E104"),
        ("campaigns/bad.yaml", "E104"),
        ("segments/bad.yaml", "E100"),
    ]


def test_a_directory_without_rules_has_none_in_force(tmp_path: Path) -> None:
    made = load_rules(tmp_path, None)
    assert made.campaigns == {}
    assert made.thresholds() == {}
    assert made.versions.keys() == {"campaigns", "segments", "rules"}


def test_a_file_that_would_be_left_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "README.md").write_text("how we write campaigns")
    load_rules(tmp_path, None)
    (tmp_path / "campaigns" / "offers.yml").write_text("campaign: offers")
    with pytest.raises(RulesRefused) as refused:
        load_rules(tmp_path, None)
    assert [(fault.file, fault.code) for fault in refused.value.faults] == [("campaigns/offers.yml", "E105")]


def test_a_campaign_is_said_in_one_sentence() -> None:
    english = lint(ANA).sentences["offers-premium-dwell"]
    assert english == (
        'When somebody has stood in offers for 45s, and "premium" in person.segments, unless pos.receipt with zone.category in e.categories in the last 2h, send offer10 by'
        " screen for 20s, offer10 by push for 1m too; at most 1 per 24h for this campaign; with consent to"
        " personalisation and in_store_location; identity at least confirmed."
    )
    assert (
        lint(ANA, language="de").sentences["offers-premium-dwell"].startswith("Wenn jemand 45s in offers gestanden hat")
    )


def test_the_versions_of_a_set_move_with_its_members_only() -> None:
    assert rules().versions == rules().versions
    assert rules().versions["campaigns"] != rules(door="{entered: {site: any}}").versions["campaigns"]
    assert rules().versions["segments"] == rules(door="{entered: {site: any}}").versions["segments"]


PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"'",
    b'"',
    b"\n",
    b"  ",
    b"&a",
    b"*a",
    b"!t",
    b"|",
    b">",
    b"-",
    b"%",
    b"\x00",
    b"\xff",
    b"{{",
    b"}}",
    b"{%",
    b"(",
    b")",
    b"45",
    b"e.",
    b"null",
    b"~",
]


def mutated(content: bytes, draw: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at, kind = draw.randrange(len(made) or 1), draw.randrange(5)
        if kind == 0:
            made[at : at + draw.randint(1, 8)] = b""
        elif kind == 1:
            made[at:at] = draw.choice(PIECES)
        elif kind == 2:
            made[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 3:
            end = at + draw.randint(1, 40)
            made[at:at] = made[at:end]
        else:
            other = draw.randrange(len(made) or 1)
            made[at : at + 6], made[other : other + 6] = made[other : other + 6], made[at : at + 6]
    return bytes(made)


@pytest.mark.parametrize("seed", range(4))
def test_no_file_however_damaged_makes_loading_fall_over(seed: int) -> None:
    """150 damaged files a seed: each loads or is refused with a place, and nothing else."""
    draw = random.Random(seed)
    whole = {**ANA, "campaigns/full.yaml": FULL}
    for _ in range(150):
        name = draw.choice(sorted(whole))
        made, faults = check_rules({**whole, name: mutated(whole[name], draw)}, None)
        assert (made is None) == any(fault.refuses for fault in faults)
        for fault in faults:
            assert str(fault)
            assert fault.line >= 1
