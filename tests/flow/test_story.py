"""The demo's story through the whole flow: each person with a part gets what the part says, and a reason."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cast import parts
from flows.simulate import simulate, write_directory
from operators.state.memory import Memory
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from tests.flow.replays import rows, run

SEED, MINUTES = 7, 2.3
OFFERS = "offers-premium-dwell"
STORY = {
    "Ana": ("FIRED", "NONE", None),
    "Ben": ("NOT_MATCHED", "CLAUSE_FALSE", "premium"),
    "Cleo": ("SUPPRESSED", "CONSENT_MISSING", "personalisation"),
    "Dev": ("HELD_OUT", "HELD_OUT", "bucket 909"),
    "Eve": ("FIRED", "NONE", None),
    "Gus": ("SUPPRESSED", "UNLESS_MATCHED", "bought"),
    "Hana": ("SUPPRESSED", "CAP_THIS", "this: 1 per 24h"),
}
"""What the offers campaign says of each, the last time it is asked."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Memory]]:
    """The out folder of the story, and the state it left."""
    folder = tmp_path_factory.mktemp("story")
    write_directory(folder / "in", SEED, MINUTES)
    memories: dict[str, Memory] = {}
    run(folder / "in", folder / "out", deliver=True, memories=memories)
    return folder / "out", memories


def _candidates(out: Path, campaign: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    token = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)
    names = {token(customer.loyalty): name for name, customer in parts().items()}
    anchors = {row["identifier"]: row["anchor_id"] for row in rows(out, "identity.assignment")}
    for record in rows(out, "decision.record"):
        for candidate in record["candidates"]:
            who = names.get(anchors.get(record["anchor_id"], record["anchor_id"]))
            if candidate["campaign_id"] == campaign and who is not None:
                yield who, record, candidate


def test_everybody_gets_what_her_part_says(told: tuple[Path, dict[str, Memory]]) -> None:
    found = {who: (one["verdict"], one["reason"], one["detail"]) for who, _, one in _candidates(told[0], OFFERS)}
    assert {who: found[who] for who in STORY} == STORY


def test_ana_is_told_five_seconds_after_the_demo_begins(told: tuple[Path, dict[str, Memory]]) -> None:
    (at,) = [record["event_time"] for who, record, _ in _candidates(told[0], OFFERS) if who == "Ana"]
    assert "2026-12-05T16:01:04" < at < "2026-12-05T16:01:06"
    texts = {
        (row["channel"], row["target"], row["text"]) for row in rows(told[0], "delivered") if row["at"][:19] == at[:19]
    }
    assert ("SCREEN", "screen-7", "Members get an extra 10 % here today") in texts
    hers = "Hi Ana, as a gold member you get an extra 10 % on what you are looking at"
    assert ("PUSH", f"push-of-{parts()['Ana'].card}", hers) in texts


def test_who_pairs_her_tag_in_mid_stay_is_told_from_then_on(told: tuple[Path, dict[str, Memory]]) -> None:
    hers = [(record["cause"], one["verdict"]) for who, record, one in _candidates(told[0], OFFERS) if who == "Ivy"]
    assert hers[-1] == ("IDENTIFIED", "FIRED")


def test_who_left_without_buying_has_an_email_two_hours_later(told: tuple[Path, dict[str, Memory]]) -> None:
    ((record, one),) = [
        (record, one) for who, record, one in _candidates(told[0], "left-without-buying") if who == "Finn"
    ]
    assert (record["trigger"]["kind"], one["verdict"]) == ("ABSENCE", "FIRED")
    assert record["event_time"][:16] == "2026-12-05T16:01"
    assert any(row["channel"] == "EMAIL" and "Dear Finn" in row["text"] for row in rows(told[0], "delivered"))


def test_the_model_is_for_the_one_who_looked_at_shoes_last_night(told: tuple[Path, dict[str, Memory]]) -> None:
    ((record, one),) = [(record, one) for who, record, one in _candidates(told[0], "shoes-intent") if who == "Jana"]
    assert one["verdict"] == "FIRED"
    assert record["score"] > 0.3
    assert record["reasons"]


def test_no_plain_value_stands_anywhere_but_in_what_was_delivered(told: tuple[Path, dict[str, Memory]]) -> None:
    """Cards, addresses, phones, tags, push tokens and names of everybody, in outputs and in state."""
    out, memories = told
    plain: set[bytes] = set()
    names: set[bytes] = set()
    for topic, row in simulate(SEED, MINUTES):
        if topic == "crm.contact-point":
            (names if row["kind"] == "NAME" else plain).add(row["value"].encode())
        for one in (*row.get("identifiers", ()), row.get("subject_id"), row.get("from_id"), row.get("identifier")):
            if one:
                plain.add(one.partition(":")[2].encode())
    assert len(plain) > 800
    said = (out / "delivered.jsonl").read_bytes()
    held = [path.read_bytes() for path in sorted(out.iterdir()) if path.name != "delivered.jsonl"]
    for memory in memories.values():
        held += [key + b" " + value for key, value in memory.scan(b"")]
    everything = b"\n".join(held)
    name = re.compile(rb"(?<![A-Za-z0-9+/=_-])(?:" + b"|".join(sorted(names)) + rb")(?![A-Za-z0-9+/=_-])")
    assert [one for one in sorted(plain) if one in everything] == []
    assert name.findall(everything) == []
    assert any(one in said for one in plain)
    assert name.search(said)
