"""Who hands on what, in which order and in which epoch; and what the order of lanes would do to a core."""

import random
from collections import Counter

import pytest
from confluent_kafka import Message

from operators.connectors.backlog import Part, release
from operators.connectors.hands import Hands
from schemas.items import Event, Fix, Heard, Opened, Tally, Tick
from schemas.sensing import Position
from tests.broker.test_source_admit import door

POSITION = "sensing.position"
OPENING = 1_780_000_000_000_000


def part(number, lanes):
    return Part(POSITION, POSITION, number, number % lanes, 7, "id", 0, 0)


def row(one, offset):
    return one, Message(topic=POSITION, partition=one.partition, offset=offset, value=b"%d" % offset)


def of_lanes(lanes, *, keyed, here=None):
    hands = Hands(lanes, lanes if here is None else len(here), keyed=keyed)
    for lane in range(lanes) if here is None else here:
        hands.add(lane)
    return hands


def numbered(items):
    return [(item.partition, item.offset, item.number) for item in items if isinstance(item, Heard)]


def test_plain_lanes_are_one_stream_that_whoever_comes_first_hands_on():
    hands, count = of_lanes(2, keyed=False), Counter()
    zero, one = part(0, 2), part(1, 2)
    hands.tick(100)
    hands.give([row(one, 0), row(zero, 0), row(one, 1)])
    items = hands.take(1, 150, count)
    assert items[0] == Tick(-1, 100)
    assert numbered(items) == [(1, 0, 0), (0, 0, 1), (1, 1, 2)]
    assert (zero.next, one.next, hands.counter, count) == (1, 2, 3, {POSITION: 3})
    assert hands.empty()
    assert hands.take(0, 160, count) == []


def test_keyed_lanes_hand_on_their_own_rows_under_numbers_of_their_own():
    hands, count = of_lanes(4, keyed=True, here=(1, 3)), Counter()
    one, three = part(1, 4), part(3, 4)
    hands.opened()
    hands.tick(100)
    hands.give([row(three, 0), row(one, 0), row(three, 1)])
    first = hands.take(1, 150, count)
    assert first[:2] == [Opened(1 - 4, 150, 1), Tick(1 - 4, 100, lane=1)]
    assert numbered(first) == [(1, 0, 1)]
    assert (one.next, three.next) == (1, 0)
    assert not hands.empty()
    hands.tick(200)
    second = hands.take(3, 250, count)
    assert [item.clock for item in second[:3]] == [250, 100, 200]
    assert numbered(second) == [(3, 0, 7), (3, 1, 11)]
    assert hands.empty()
    assert hands.take(1, 260, count) == [Tick(9, 200, lane=1)]


def test_an_epoch_that_only_some_lanes_have_closed_takes_no_rows_of_others():
    hands = of_lanes(3, keyed=False)
    assert hands.together()
    hands.closed(0)
    hands.called(1)
    assert not hands.together(), "lane 1 is still in the epoch that lane 0 has closed"
    hands.closed(1)
    hands.closed(2)
    assert not hands.together()
    hands.called(2)
    assert hands.together(), "the engine calls a lane again when all have closed"


def test_lanes_that_are_not_here_yet_or_no_more_are_waited_for():
    hands = Hands(2, 2, keyed=False)
    hands.add(1)
    assert not hands.together()
    hands.add(0)
    assert hands.together()
    assert not hands.drop(1)
    assert not hands.together()
    assert hands.drop(0)


def readings(seed):
    """Two gateways hear the same four tags in turn; each partition holds two tags. (arrival ms, partition, record)."""
    rng, found = random.Random(seed), []
    for beat in range(80):
        for tag in range(4):
            at = OPENING + beat * 100_000 + tag * 7_000
            delay = rng.randrange(90_000)
            record = Position(
                event_time=at, ingest_time=at + delay, site_id="s1", source_id=f"g{(beat + tag) % 2}", seq=4 * beat + tag,
                subject_id=f"tag:1:{tag}", tech="UWB", x_m=20.0 + tag, y_m=20.0, floor=0.0,
            )  # fmt: skip
            found.append(((at + delay) // 1_000, tag % 2, record))
    return sorted(found, key=lambda one: one[0])


def through(rows, lanes, *, keyed=False):
    """Fates and fixes of a backlog, handed on by so many lanes."""
    parts = [part(number, lanes) for number in range(2)]
    records = {}
    for at_ms, number, record in rows:
        offset = parts[number].read
        records[number, offset] = record
        parts[number].heard(at_ms, offset, row(parts[number], offset)[1], 1)
    hands, core, count = of_lanes(lanes, keyed=keyed), door(), Counter()
    fates, fixes, clock = Counter(), [], rows[-1][0] * 1_000 + 3_600_000_000
    while released := release([one for one in parts if one.queue], [], 200, lambda _: False, apart=keyed):
        hands.give(released)
        for lane in range(lanes):
            heard = hands.take(lane, clock, count)
            out = core.step(
                [
                    Event(at, one.clock, one.topic, records[one.partition, one.offset], one.partition, one.offset)
                    for at, one in enumerate(heard)
                ]
            )
            for item in out:
                if isinstance(item, Tally):
                    fates[item.fate] += item.count
                elif isinstance(item, Fix):
                    fixes.append((item.subject_id, item.event_time))
    return fates, fixes


@pytest.mark.parametrize("lanes", [2, 3, 16])
def test_a_core_hears_the_same_from_one_lane_and_from_many(lanes):
    for seed in range(10):
        rows = readings(seed)
        assert through(rows, lanes) == through(rows, 1)


def test_mutant_lane_by_lane_a_probation_ends_before_another_and_readings_are_late():
    """Two sources are tried at the same time: who is believed first decides what of the other's is late."""
    differ = [seed for seed in range(10) if through(readings(seed), 2, keyed=True) != through(readings(seed), 1)]
    assert differ
