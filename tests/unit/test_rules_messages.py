"""Every code of the checks has a message that is fixed to the letter: where, what, and how to put it right."""

from pathlib import Path

import pytest

from operators.rules import check_rules
from operators.rules.faults import Fault
from schemas.reference import Site, Zone
from schemas.venue import Venue

GOLDEN = Path(__file__).parent.parent / "golden" / "lint"

CAMPAIGN = """\
campaign: offers
owner: store
when: {dwell: {zone: offers, at_least: 45s}}
facts:
  spend: {sum: pos.receipt, of: total, within: 90d}
if:
  rich: 'facts.spend > 400.0'
guard:
  identity: confirmed
  consent: [personalisation, in_store_location]
  caps: {this: 1 per 24h}
do:
  - {channel: screen, target: nearest, template: hello, ttl: 20s}
  - {channel: push, template: hello, ttl: 60s, also: true}
"""
TEMPLATE = """\
template: hello
fallback_locale: en
parts:
  screen: {en: 'Members get 10 %'}
  push: {en: 'Hi {{ person.first_name | default: "there" }}'}
"""
SEGMENT = """\
segment: premium
enter: 'person.tier == "gold"'
"""


def zone(name: str, **more: object) -> Zone:
    return Zone(event_time=0, site_id="mad-01", zone_id=name, floor=0.0, rings=[], **more)  # type: ignore[arg-type]


def venue() -> Venue:
    site = Site(
        event_time=0,
        site_id="mad-01",
        lat_deg=40.0,
        lon_deg=-3.0,
        time_zone="Europe/Madrid",
        opening=["Mo-Su 10:00-20:00"],
    )
    zones = [
        zone("offers", kind="OFFER", category="offers"),
        zone("staff-wc", sensitive=True),
        zone("store", kind="STORE"),
    ]
    return Venue(site=site, floors=[], zones={one.zone_id: one for one in zones}, devices={})


def files(**changes: str) -> dict[str, bytes]:
    named = {
        "campaign": "campaigns/offers.yaml",
        "template": "templates/hello.yaml",
        "segment": "segments/premium.yaml",
    }
    texts = {"campaign": CAMPAIGN, "template": TEMPLATE, "segment": SEGMENT} | changes
    return {named[key]: text.encode() for key, text in texts.items()}


def campaign(old: str, new: str) -> dict[str, str]:
    assert old in CAMPAIGN
    return {"campaign": CAMPAIGN.replace(old, new)}


def template(old: str, new: str) -> dict[str, str]:
    assert old in TEMPLATE
    return {"template": TEMPLATE.replace(old, new)}


def segment(old: str, new: str) -> dict[str, str]:
    assert old in SEGMENT
    return {"segment": SEGMENT.replace(old, new)}


CASES: dict[str, dict[str, str]] = {
    "E100-equal-keys": campaign("owner: store", "owner: store\nowner: desk"),
    "E100-alias": campaign("owner: store", "owner: &o store\ngroup: *o"),
    "E100-tag": campaign("owner: store", "owner: !name store"),
    "E100-not-yaml": campaign("when: {dwell", "when: {{dwell"),
    "E101-unknown-key": campaign("owner: store", "ower: store"),
    "E101-unknown-trigger": campaign("{dwell:", "{dwel:"),
    "E101-unknown-cap": campaign("{this: 1 per 24h}", "{pusch: 1 per 24h}"),
    "E102-enum": campaign("identity: confirmed", "identity: confirmd"),
    "E102-channel": campaign("channel: push", "channel: pusch"),
    "E102-purpose": campaign("[personalisation,", "[personalization,"),
    "W503-contact-named": campaign("[personalisation,", "[personalisation, contact,"),
    "E102-topic": campaign("sum: pos.receipt", "sum: pos.reciept"),
    "E102-priority": campaign("owner: store", "owner: store\npriority: 101"),
    "E102-list": campaign("owner: store", "owner: store\ntags: offer"),
    "E103-bare-number": campaign("at_least: 45s", "at_least: 45"),
    "E103-unit": campaign("ttl: 20s", "ttl: 20sec"),
    "E103-cap": campaign("1 per 24h", "1 a day"),
    "E103-quiet": campaign("caps:", 'quiet: {venue: "21-09"}\n  caps:'),
    "E104-missing": campaign(", ttl: 20s", ""),
    "E104-two-triggers": campaign("at_least: 45s}}", "at_least: 45s}, entered: {zone: offers}}"),
    "E104-of": campaign(", of: total", ""),
    "E105-other-name": campaign("campaign: offers", "campaign: offer"),
    "E105-bad-id": campaign("campaign: offers", "campaign: Offers!"),
    "E106-zone": campaign("zone: offers", "zone: ofers"),
    "E106-segment": campaign("{dwell: {zone: offers, at_least: 45s}}", "{segment: {entered: premum}}"),
    "E106-campaign": campaign("{sum: pos.receipt, of: total, within: 90d}", "{fired: ofers, within: 7d}"),
    "E107-long-window": campaign("within: 90d", "within: 91d"),
    "E107-holdout": campaign("owner: store", "owner: store\ntest: {holdout: 60%}"),
    "E201-unknown-field": campaign("facts.spend >", 'person.teir == "gold" && facts.spend >'),
    "E201-fact": campaign("facts.spend >", "facts.spent >"),
    "E201-no-event": campaign("facts.spend > 400.0", "e.total > 3.0"),
    "E201-segment-place": segment("person.tier ==", "zone.category =="),
    "E202-int-double": campaign("> 400.0", "> 400"),
    "E202-not-bool": campaign("facts.spend > 400.0", "facts.spend"),
    "E202-string-int": campaign("facts.spend > 400.0", "person.tier == 3"),
    "E202-syntax": campaign("facts.spend > 400.0", "facts.spend > "),
    "E203-matches": campaign("facts.spend > 400.0", 'person.tier.matches("g.*")'),
    "E203-timestamp": campaign(
        "facts.spend > 400.0", 'timestamp("2026-12-05T00:00:00Z") > timestamp("2026-12-04T00:00:00Z")'
    ),
    "E203-unkeyed": campaign("of: total,", "of: total, where: 'zone.category != e.currency',"),
    "E301-clause": campaign("[personalisation, in", "[in"),
    "E301-template": template('{{ person.first_name | default: "there" }}', "{{ score.intent }}"),
    "E301-display-name": {
        **template("  screen: {en: 'Members get 10 %'}", "  screen_personal: {en: '{{ person.first_name }}, come'}"),
    },
    "E302-sensitive": campaign("zone: offers", "zone: staff-wc"),
    "E302-candidate": campaign("identity: confirmed", "identity: candidate"),
    "E302-screen-part": template("'Members get 10 %'", "'{{ person.tier }} members get 10 %'"),
    "E302-audience-any": {
        **campaign("consent: [personalisation, in", "audience: any\n  consent: [display_name, personalisation, in"),
        **template("  push:", "  screen_personal: {en: '{{ person.first_name | default: \"you\" }}'}\n  push:"),
    },
    "E302-label": {
        **campaign("channel: push", "channel: label"),
        **template("  push:", "  label: {en: '{{ person.tier }}'}\n  push:"),
    },
    "E401-template": campaign("{channel: push, template: hello", "{channel: push, template: helo"),
    "E401-part": campaign("channel: push", "channel: email"),
    "E401-variable": template("person.first_name", "person.frist_name"),
    "E401-tag": template("'Members get 10 %'", "'{% for a in b %}{% endfor %}'"),
    "E401-filter": template("| default:", "| append:"),
    "E401-fallback": template("push: {en:", "push: {es:"),
    "W501-segment": campaign("facts.spend >", '"premum" in person.segments && facts.spend >'),
    "W401-null": template("'Hi {{", "'{{ person.tier }} {{"),
    "W503-unused-fact": campaign("facts.spend > 400.0", 'person.tier == "gold"'),
    "W503-cap": campaign("{this: 1 per 24h}", "{this: 2 per 24h, any: 1 per 24h}"),
    "W503-channel-cap": campaign("{this: 1 per 24h}", "{this: 1 per 24h, email: 1 per 24h}"),
    "W503-hold": campaign("caps:", 'quiet: {venue: "21:00-09:00", else: hold, at_most: 12h}\n  caps:'),
    "W503-never-open": campaign("caps:", 'quiet: {venue: "09:00-21:00"}\n  caps:'),
}


def found(name: str) -> list[Fault]:
    return check_rules(files(**CASES[name]), venue(), {"intent"})[1]


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_message_says_where_what_and_how(name: str) -> None:
    faults = found(name)
    assert name.split("-", maxsplit=1)[0] in {fault.code for fault in faults}
    assert "\n".join(map(str, faults)) + "\n" == (GOLDEN / f"{name}.txt").read_text()


def test_the_base_of_all_cases_is_free_of_faults() -> None:
    rules, faults = check_rules(files(), venue(), {"intent"})
    assert rules is not None
    assert faults == []


@pytest.mark.parametrize("name", sorted(name for name in CASES if name.startswith("E")))
def test_a_set_with_one_error_is_refused_whole(name: str) -> None:
    rules, _ = check_rules(files(**CASES[name]), venue(), {"intent"})
    assert rules is None


@pytest.mark.parametrize("name", sorted(name for name in CASES if name.startswith("W")))
def test_a_warning_refuses_nothing(name: str) -> None:
    rules, faults = check_rules(files(**CASES[name]), venue(), {"intent"})
    assert rules is not None
    assert rules.warnings == faults != []


def test_a_message_reads_as_the_campaign_page_shows_it() -> None:
    """The page's own example: line 18, column 10, a literal without its point."""
    text = CAMPAIGN.replace("if:\n  rich: 'facts.spend > 400.0'", "if:\n" + "\n" * 11 + "  rich: 'person.ltv > 500'")
    faults = check_rules(files(campaign=text), venue())[1]
    assert str(faults[-1]).splitlines() == [
        "campaigns/offers.yaml:18:10: E202 person.ltv is a double, 500 is an int",
        "   18 |   rich: 'person.ltv > 500'",
        "      |          ^^^^^^^^^^^^^^^^ CEL does not mix the two",
        "   fix: write 500.0   (footfall campaign lint --fix does it)",
    ]


def test_a_message_for_a_machine_has_the_same_parts() -> None:
    (fault,) = found("E202-int-double")
    assert fault.as_json() == {
        "file": "campaigns/offers.yaml",
        "line": 7,
        "column": 10,
        "code": "E202",
        "what": "facts.spend is a double, 400 is an int",
        "source": "  rich: 'facts.spend > 400'",
        "note": "CEL does not mix the two",
        "fix": "write 400.0   (footfall campaign lint --fix does it)",
    }


def test_a_screen_whose_only_part_is_personal_needs_the_purpose_of_one() -> None:
    changed = template("  screen: {en: 'Members get 10 %'}", "  screen_personal: {en: 'Back again'}")
    assert [fault.code for fault in check_rules(files(**changed), venue())[1]] == ["E301"]
    asked = campaign("[personalisation,", "[display_name, personalisation,")
    assert check_rules(files(**changed, **asked), venue())[1] == []


def test_nothing_written_is_a_part_left_out() -> None:
    rules, _ = check_rules(files(**campaign("owner: store", "owner: store\ntest:\nunless: ~\ntags:")), venue())
    assert rules is not None
    assert rules.campaigns["offers"].test is None
