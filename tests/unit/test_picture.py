"""The live picture: it draws in any size, shows who was told and who was not, and ends with what to edit."""

import io
from functools import cache

import pytest
from rich.console import Console

from flows.afternoon import EXAMPLE
from flows.cast import parts
from flows.live import LiveShop
from flows.picture import NEXT, Picture, Teller, lines, summary
from flows.plan import Plan
from flows.shopstate import UNHEARD_US, ShopState
from operators.venues.venue import load_venue
from schemas import rows as reading
from schemas.derived import Assignment, Candidate, Decision, Transition, Trigger
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from schemas.sensing import Position
from schemas.venue import Venue

TOKEN = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)
SECOND = 1_000_000


@cache
def _venue() -> Venue:
    return load_venue(EXAMPLE / "venue.geojson")


def _state() -> ShopState:
    shop = LiveShop(7)
    state = ShopState(names={TOKEN(card): name for card, name in shop.names.items()}, of_s=60.0)
    read = reading.reader(Position)
    for topic, row in shop.due(6.0):
        if topic == "identity.link":
            anchor = TOKEN(row["to_id"])
            state.take(
                Assignment(
                    event_time=0, identifier=TOKEN(row["from_id"]), person_id=anchor, anchor_id=anchor, root=anchor,
                    state="ASSERTED", confidence=1.0, rule_version="1", version=1,
                )
            )  # fmt: skip
        elif topic == "sensing.position" and row["subject_id"] and row["x_m"] is not None:
            state.take(read({**row, "subject_id": TOKEN(row["subject_id"])})[0])
    state.at_clock(shop.now(6.0))
    people = parts()
    state.delivered(
        state.now - SECOND, "SCREEN", "screen-7", "Members get an extra 10 %", "offers", people["Ana"].anchor
    )
    state.delivered(state.now, "PUSH", "push-of-ana", "Hi Ana, an extra 10 % for you", "offers", people["Ana"].anchor)
    state.take(_decision(people["Ben"].anchor, "NOT_MATCHED", "CLAUSE_FALSE", state.now))
    state.take(_decision(TOKEN("tag:trolley"), "NOT_MATCHED", "CLAUSE_FALSE", state.now))
    state.latencies = {"decode": (0.21, 0.8), "decision": (3.9, 111.2)}
    state.counts = {"positions": 22_787, "actions": 2, "late": 3}
    return state


def _decision(anchor: str, verdict: str, reason: str, at: int) -> Decision:
    return Decision(
        event_time=at, anchor_id=anchor, root=anchor, attempt=0, cause="TRIGGER",
        trigger=Trigger(kind="DWELL", id="x", zone_id="offers"),
        candidates=[Candidate(campaign_id="offers-premium-dwell", campaign_version="1", verdict=verdict, reason=reason)],
    )  # fmt: skip


def _drawn(width: int, height: int, state: ShopState) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), record=True, force_terminal=True)
    picture = Picture(_venue(), console)
    picture.update(state)
    console.print(picture, height=height)
    return console.export_text()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (100, 24), (40, 12)])
def test_it_draws_in_any_size(width: int, height: int) -> None:
    drawn = _drawn(width, height, _state()).splitlines()
    assert len([line for line in drawn if line.strip()]) <= height
    assert max(map(len, drawn)) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_it_shows_who_was_told_and_who_was_not_and_why(width: int, height: int) -> None:
    drawn = _drawn(width, height, _state())
    assert "Hi Ana" in drawn
    assert "NOT_MATCHED" not in drawn
    assert "the condition" in drawn
    assert "Ben" in drawn
    assert "Offers" in drawn
    assert "decision 3.9/111" in drawn
    assert "17:01:06" in drawn
    assert "★" in drawn


def test_people_whom_no_campaign_was_meant_for_share_a_line() -> None:
    state = _state()
    for anchor in list(state.names)[:5]:
        state.take(_decision(anchor, "NOT_MATCHED", "CLAUSE_FALSE", state.now))
    drawn = _drawn(120, 40, state)
    assert drawn.count("the condition") == 1
    assert " + 3 " in drawn


def test_an_empty_state_is_drawn_too() -> None:
    assert "nothing yet" in _drawn(80, 24, ShopState())


def test_strangers_are_counted_and_not_listed() -> None:
    state = _state()
    assert state.reasons["CLAUSE_FALSE"] == 2
    assert [refused.who for refused in state.refusals] == ["Ben"]


def test_a_stay_that_began_with_a_stranger_is_told_of_the_person_she_turned_out_to_be() -> None:
    state = _state()
    ana = parts()["Ana"].anchor
    tag = next(identifier for identifier, anchor in state.anchors.items() if anchor == ana)
    state.delivered(state.now, "PUSH", "x", "Hi Ana", "offers", tag)
    state.take(_decision(tag, "SUPPRESSED", "CAP_THIS", state.now))
    assert (state.actions[0].who, state.refusals[0].who) == ("Ana", "Ana")


def test_occupancy_follows_the_transitions() -> None:
    state = ShopState()
    for kind in ("ENTER", "ENTER", "EXIT"):
        state.take(_transition(kind))
    assert state.occupancy == {"offers": 0}


def _transition(kind: str) -> Transition:
    return Transition(
        event_time=1, visit_id="v", subject_id="tag:1:x", zone_id="offers", zone_revision=0, kind=kind, at=1,
        reason="CROSSED", tech="UWB",
    )  # fmt: skip


def test_who_has_fallen_silent_leaves_the_picture() -> None:
    state = _state()
    assert len(state.people) > 30
    state.at_clock(state.now + UNHEARD_US + 2 * SECOND)
    assert not state.people
    assert "★" not in Plan(_venue()).draw(60, 20, state).plain


def test_somebody_followed_is_named_before_anything_is_decided_about_her() -> None:
    state = _state()
    state.noted.clear()
    assert "Ana" not in Plan(_venue()).draw(120, 40, state).plain
    state.followed = frozenset({parts()["Ana"].anchor})
    assert "●Ana" in Plan(_venue()).draw(120, 40, state).plain.replace(" ", "")


def test_plain_lines_say_each_thing_once() -> None:
    state, teller = _state(), Teller(_venue())
    first = teller.lines(state)
    assert any("PUSH" in line and "to Ana: Hi Ana" in line for line in first)
    assert any("NOTHING for Ben" in line for line in first)
    assert not teller.lines(state)
    state.take(_decision(parts()["Cleo"].anchor, "SUPPRESSED", "CONSENT_MISSING", state.now))
    assert len(teller.lines(state)) == 1
    assert lines(state, _venue())[-1].endswith("NOTHING for Cleo: offers-premium-dwell: consent is missing")


def test_the_summary_names_the_three_files_to_edit_next() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(summary(_state()))
    text = console.export_text()
    for path, _ in NEXT:
        assert path in text
        assert (EXAMPLE.parent.parent / path).exists()
