"""The simulated shop: the same bytes for a seed, rows that can be read, and a cast that plays its parts."""

import hashlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import orjson
import pytest

from flows import cast
from flows.afternoon import EXAMPLE, LEAD_S, Simulation, opening_moment
from flows.feed import Moved, known
from flows.history import THRESHOLDS_S, history
from flows.live import LiveShop
from flows.purchases import chance
from flows.scenes import SCENES
from flows.sensors import SECOND
from flows.shop import Shop
from flows.simulate import simulate, write_directory
from operators.decisions.arbitration import bucket
from operators.rules.load import FOLDERS, check_rules
from operators.venues.venue import VenueFault, load_venue
from schemas import rows as reading
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from schemas.topics import TOPICS

START = opening_moment("Europe/Madrid")
TWO_MINUTES = "91c4898cc7edafc7"
FIVE_DAYS = "5af1f7e23e3fee31"
"""Recorded once; equal on every supported Python. A change of bytes is a change of the demo: record it anew."""


@cache
def _rows(minutes: float = 2.0) -> list[cast.Row]:
    return list(simulate(7, minutes))


def _digest(rows: list[cast.Row]) -> str:
    found = hashlib.sha256()
    for topic, row in rows:
        found.update(orjson.dumps([topic, row]))
    return found.hexdigest()[:16]


def test_a_seed_gives_the_recorded_bytes_on_every_python() -> None:
    assert _digest(_rows()) == TWO_MINUTES
    assert _digest(list(history(7, 5))) == FIVE_DAYS


def test_another_seed_gives_another_shop() -> None:
    assert _digest(list(simulate(8, 0.5))) != _digest(list(simulate(7, 0.5)))


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    shorter = list(simulate(7, 1.0))
    assert _rows()[: len(shorter)] == shorter


def test_rows_come_in_the_order_of_a_merge() -> None:
    keys = [(row["ingest_time"], TOPICS[topic].rank, topic) for topic, row in _rows()]
    assert keys == sorted(keys)


@pytest.mark.parametrize("rows", [_rows, lambda: list(history(7, 2))], ids=["afternoon", "history"])
def test_every_row_can_be_read_but_the_ones_spoilt_on_purpose(rows: Callable[[], list[cast.Row]]) -> None:
    spoilt = 0
    for topic, row in rows():
        if topic == "crm.contact-point":
            row = {**row, "value_sealed": b""}
            row.pop("value")
        try:
            _, unknown = reading.reader(TOPICS[topic].record)(row)
        except reading.BadShape:
            spoilt += 1
            assert topic == "sensing.position"
            assert row["x_m"] is None
        else:
            assert unknown == 0, topic
    assert spoilt < 30


def test_sensors_repeat_delay_and_spoil_a_few_readings() -> None:
    positions = [row for topic, row in simulate(7, 6.0) if topic == "sensing.position"]
    seen = Counter((row["source_id"], row["seq"]) for row in positions)
    late = [row for row in positions if row["ingest_time"] - row["event_time"] > 20 * SECOND]
    odd = [row for row in positions if not row["subject_id"] or row["site_id"] != "mad-01" or row["x_m"] is None]
    assert 0.002 < sum(count - 1 for count in seen.values()) / len(positions) < 0.02
    assert 0 < len(late) < len(positions) / 500
    assert 0 < len(odd) < len(positions) / 500


def test_the_shop_is_as_busy_as_a_small_shop_on_a_saturday() -> None:
    second = START + LEAD_S * SECOND
    heard = [
        row
        for topic, row in _rows()
        if topic == "sensing.position" and second <= row["event_time"] < second + 10 * SECOND
    ]
    assert 150 <= len(heard) / 10 <= 320
    assert 40 <= len({row["subject_id"] for row in heard}) <= 70


def test_the_cast_stands_in_the_arm_its_part_needs() -> None:
    parts = cast.parts()
    token = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)
    for name, customer in parts.items():
        assert customer.anchor == token(f"loyalty:{customer.card}")
        assert (bucket("offers-premium-dwell", customer.anchor) >= cast.HOLDOUT) == (name != "Dev")
    assert cast.treated(parts["Ana"])


def test_ana_has_stood_in_offers_for_40_seconds_when_the_demo_begins() -> None:
    shop = Shop.read(EXAMPLE / "venue.geojson")
    links = [row for topic, row in _rows() if topic == "identity.link"]
    ana = cast.parts()["Ana"]
    (tag,) = [row["from_id"] for row in links if row["to_id"] == ana.loyalty]
    inside = [
        row["event_time"]
        for topic, row in _rows()
        if topic == "sensing.position"
        and row["subject_id"] == tag
        and shop.zones["offers"].holds(row["x_m"], row["y_m"])
    ]
    assert abs(min(inside) - (START + (LEAD_S - 40) * SECOND)) < SECOND
    assert max(inside) > START + (LEAD_S + 20) * SECOND
    assert {"personalisation", "in_store_location", "profiling", "linking"} <= set(ana.purposes)
    assert ana.tier == "gold"
    assert "push" in ana.channels


def test_every_part_stands_in_offers_from_the_second_its_scene_names() -> None:
    simulation = Simulation(7, faults=False)
    rows = list(simulation.rows(3.0))
    shop, parts = simulation.shop, cast.parts()
    for scene in SCENES:
        if scene.bought or scene.at_s < 0:
            continue
        tags = {
            row["from_id"]
            for topic, row in rows
            if topic == "identity.link" and row["to_id"] == parts[scene.name].loyalty
        }
        inside = [
            (row["event_time"] - START) / SECOND
            for topic, row in rows
            if topic == "sensing.position" and row["subject_id"] in tags and row["event_time"] >= START
            if shop.zones[scene.zone_id].holds(row["x_m"], row["y_m"])
        ]
        assert abs(min(inside) - scene.at_s) < 1.0, scene
        assert max(inside) - min(inside) > min(scene.stay_s, 60.0) - 2.0, scene


def test_what_people_buy_follows_what_they_looked_at() -> None:
    """A model has something to learn: views and stays before a receipt of the category make it likelier."""
    looked: dict[tuple[str, str], int] = {}
    cards: dict[str, str] = {}
    bought: set[tuple[str, str]] = set()
    stays: dict[tuple[str, str], int] = {}
    shop = Shop.read(EXAMPLE / "venue.geojson")
    for topic, row in history(11, 1, visits=1200, people=1200):
        if topic == "crm.customer":
            cards[row["identifiers"][2]] = row["identifiers"][0]
        elif topic == "web.event" and row["name"] == "product_viewed":
            key = (row["identifiers"][1], row["category"])
            looked[key] = looked.get(key, 0) + 1
        elif topic == "pos.receipt":
            bought |= {(row["identifiers"][0], line["category"]) for line in row["lines"]}
        elif topic == "presence.visit" and (category := shop.zones[row["zone_id"]].category):
            stays[cards[row["subject_id"]], category] = row["dwell_us"] // SECOND
    share = {}
    for keen in (False, True):
        of = [key for key in stays if (looked.get(key, 0) >= 3) == keen]
        share[keen] = sum(key in bought for key in of) / len(of)
    assert share[True] > 2.5 * share[False]
    assert 0.05 < sum(key in bought for key in stays) / len(stays) < 0.5
    assert chance(4, 60.0, True) > 5 * chance(0, 20.0, False)


def test_history_tells_each_threshold_that_a_stay_has_reached() -> None:
    rows = list(history(3, 1))
    fired = Counter(row["visit_id"] for topic, row in rows if topic == "presence.dwell")
    shop = Shop.read(EXAMPLE / "venue.geojson")
    for topic, row in rows:
        if topic == "presence.visit" and shop.zones[row["zone_id"]].category:
            assert fired[row["visit_id"]] == sum(after * SECOND <= row["dwell_us"] for after in THRESHOLDS_S)
            assert row["fired_us"] == [after * SECOND for after in THRESHOLDS_S if after * SECOND <= row["dwell_us"]]


def test_the_live_shop_hands_out_every_row_once_and_never_early() -> None:
    shop = LiveShop(7)
    found, elapsed = shop.due(0.0), 0.0
    assert found[-1][1]["ingest_time"] < shop.start
    while elapsed < 5.0:
        elapsed += 0.05
        due = shop.due(elapsed)
        assert all(row["ingest_time"] < shop.now(elapsed) for _, row in due)
        found += due
    assert found == _rows()[: len(found)]
    assert LiveShop(7, speed=2.0).now(1.0) == shop.now(2.0)


def test_the_feed_says_at_once_what_was_known_and_nothing_that_was_sensed() -> None:
    shop = LiveShop(7, lead_s=15)
    past = known(shop)
    assert {"crm.customer", "consent.record", "identity.link", "web.event", "pos.receipt"} <= {one for one, _ in past}
    assert not [topic for topic, _ in past if topic.startswith("sensing.")]
    soon = shop.due(1.0)
    assert "sensing.position" in {topic for topic, _ in soon}
    assert min(row["event_time"] for _, row in soon) > shop.start - SECOND


def test_a_shop_that_is_fed_twice_repeats_its_past_and_not_its_present() -> None:
    once, again = Moved(1_000), Moved(2_000)
    rows = {topic: row for topic, row in known(LiveShop(7, lead_s=15)) if topic in {"web.event", "context.fact"}}
    named = [
        {(topic, past): made.record(topic, row, past=past) for topic, row in rows.items() for past in (True, False)}
        for made in (once, again)
    ]
    same = {place for place, record in named[0].items() if record.event_id == named[1][place].event_id}
    assert same == {("web.event", True)}


def test_a_written_directory_is_the_same_twice_and_holds_the_example(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for name in ("a", "b"):
        written = write_directory(tmp_path / name, 7, 1, progress=lambda done, whole: told.append((done, whole)))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    assert {f"{topic}.jsonl" for topic in written} <= {str(file) for file in files}
    assert {"venue.geojson", "footfall.toml", "campaigns/offers-premium-dwell.yaml", "segments/premium.yaml"} <= {
        str(file) for file in files
    }
    assert told[-1] == (60, 60)


def _edited(folder: Path, *kept: str) -> Path:
    """A copy of the example with these features only."""
    document = orjson.loads((EXAMPLE / "venue.geojson").read_bytes())
    document["features"] = [feature for feature in document["features"] if feature["id"] in kept]
    (folder / "venue.geojson").write_bytes(orjson.dumps(document))
    return folder


@pytest.mark.parametrize(
    "kept", [("store",), ("store", "garden", "checkout", "till-1"), ("store", "entrance", "shoes", "checkout")]
)
def test_people_walk_in_any_shop_that_has_a_store(tmp_path: Path, kept: tuple[str, ...]) -> None:
    topics = Counter(topic for topic, _ in simulate(7, 1.0, example=_edited(tmp_path, *kept)))
    assert topics["sensing.position"] > 1000


def test_a_venue_without_a_store_cannot_be_walked_in(tmp_path: Path) -> None:
    with pytest.raises(VenueFault, match="kind STORE"):
        next(simulate(7, 1.0, example=_edited(tmp_path, "ground", "offers")))


def test_the_example_checks_without_a_word() -> None:
    venue = load_venue(EXAMPLE / "venue.geojson")
    assert not venue.warnings
    files = {f"{kind}/{path.name}": path.read_bytes() for kind in FOLDERS for path in (EXAMPLE / kind).glob("*.yaml")}
    rules, faults = check_rules(files, venue, ["intent"])
    assert rules is not None
    assert not faults
