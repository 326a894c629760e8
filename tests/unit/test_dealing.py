"""Several processes that share nothing: who reads a partition, who writes it, and what becomes of a topic that grows."""

import pytest

from operators.connectors import outputs as outputs_module
from operators.connectors.cluster import Refused, Seen, Shape
from operators.connectors.dealing import process_of, stays
from operators.connectors.guard import Pending
from operators.connectors.outlet import Lane
from operators.connectors.outputs import Opened, Outputs
from operators.connectors.placing import Placing
from operators.connectors.reading import FORMAT, Counters, SourceRule
from operators.connectors.sink import GuardedSink, _dealt
from operators.connectors.tails import Output, OutputChanged, TailGone
from schemas import ids
from schemas.derived import Transition
from schemas.items import Batch, Event, Tick
from schemas.keys import partition_of
from schemas.letters import letter
from schemas.parcels import unpacked
from schemas.shards import SHARDS

POSITION, CONSENT, MOVES, LATE, LETTERS = (
    "sensing.position", "consent.record", "presence.transition", "ops.late", "ops.dead-letter",
)  # fmt: skip
HOUR = 3_600_000_000
MONDAY = 1_796_486_400_000_000
NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
WAYS = [(16, 4, 2), (16, 16, 3), (16, 32, 3), (16, 24, 5), (16, 32, 4), (4, 8, 3), (16, 2, 3), (16, 12, 1)]


def seen(*, end=0, **counts):
    """Topics that nothing was deleted from, with so many rows in each partition."""
    shapes = {name.replace("__", "."): Shape("id", count) for name, count in counts.items()}
    places = [(name, part) for name, shape in shapes.items() for part in range(shape.partitions)]
    return Seen(1, shapes, (), dict.fromkeys(places, 0), dict.fromkeys(places, end))


def placing(lanes, processes, own, *, dealt=None, states=None):
    mine = tuple(lane for lane in range(lanes) if process_of(lane, lanes, processes) == own)
    rule = SourceRule(
        flow="presence", client={}, topics=(POSITION, CONSENT), reference=frozenset({CONSENT}), lanes=lanes,
        own=mine, processes=processes, dealt=dealt or {},
    )  # fmt: skip
    return placed(rule, states or {})


def placed(rule, states, asked=None):
    """Lanes of a rule with their states; `asked` takes what they ask the broker, which has row 50 at every time."""

    def at(parts, time):
        assert time == MONDAY
        asked.extend(parts)
        return dict.fromkeys(parts, 50)

    made = Placing(rule, Counters(), lambda _text: None, at)
    for lane in rule.lanes_here:
        made.resume(lane, states.get(lane))
    return made


class Log:
    """Tails of partitions: (first offset, end) by place."""

    def __init__(self, at=None):
        self.at = at or {}

    def lows(self, parts):
        return {part: self.at.get(part, (0, 0))[0] for part in parts}

    def ends(self, parts):
        return {part: self.at.get(part, (0, 0))[1] for part in parts}

    def read(self, bases, _found, *, patience_s):
        assert patience_s
        return self.ends(bases)


def lane_of(processes, own, counts, *, lanes=16, dealt=None, log=None, resume=None):
    """The sink's lane of a process, on topics that nobody serves."""
    made = Outputs(
        kafka=NOWHERE, flow="presence", schema_ids={topic: 7 + number for number, topic in enumerate(counts)},
        sealed=lambda data: data, lanes=processes, mine=(own,), source_lanes=lanes, dealt=dealt or {}, settle_s=0.0,
    )  # fmt: skip
    found = {topic: _dealt(made, topic, Output("id", count, 1_000_000, False)) for topic, count in counts.items()}
    opened = Opened(found, log or Log(), None, {}, lambda _lane: None, {})
    return Lane(made, opened, own, resume)


@pytest.mark.parametrize(("lanes", "partitions", "processes"), WAYS)
def test_a_process_writes_the_partitions_that_it_reads(lanes, partitions, processes):
    written = []
    for own in range(processes):
        parts = placing(lanes, processes, own).parts(seen(sensing__position=partitions))
        lane = lane_of(processes, own, {MOVES: partitions}, lanes=lanes)
        assert lane._parts(MOVES) == sorted(number for _, number in parts)
        written += lane._parts(MOVES)
        lane.abandon()
    assert sorted(written) == list(range(partitions))


def test_every_process_needs_a_partition_of_its_own_for_what_it_refuses():
    with pytest.raises(OutputChanged, match=r"ops.late has 2 partitions .*kafka-topics.sh .*--partitions 3"):
        lane_of(3, 0, {MOVES: 12, LATE: 2})
    for own in range(3):
        lane = lane_of(3, own, {MOVES: 12, LATE: 3})
        assert lane._parts(LATE) == [own]
        lane.abandon()


def refused(topic, partition, offset=0):
    found = letter(
        topic=topic, partition=partition, offset=offset, index=None, event_time=1, ingest_time=1, site_id="s",
        stage="DECODE", reason="BAD_SHAPE", detail="d", payload=b"{}", sealed=lambda data: data,
    )  # fmt: skip
    return Event(0, 1, LETTERS, found)


def test_a_reference_row_that_all_read_is_refused_by_one():
    said = []
    for own in range(3):
        lane = lane_of(3, own, {LETTERS: 12})
        for partition in range(4):
            said += [partition for _ in [lane._fresh(refused(CONSENT, partition), {})] if _ is not None]
        mine = [part for part in range(12) if process_of(part, 16, 3) == own]
        assert lane._fresh(refused(POSITION, mine[0]), {}) is not None
        lane.abandon()
    assert sorted(said) == [0, 1, 2, 3]


def test_keys_stay_with_their_process_or_a_topic_must_not_grow():
    assert stays(24, 12, 16, 1)
    assert stays(25, 12, 16, 1)
    assert stays(24, 12, 16, 4)
    assert not stays(18, 12, 16, 4), "a key of partition 0 may be in 6 now, or in 12"
    assert not stays(24, 12, 16, 3), "partition 12 is of lane 12, partition 20 of lane 4"
    assert stays(24, 12, 12, 3)


def state(lane, count, lanes=16):
    parts = tuple((POSITION, part, 0, "id") for part in range(count) if part % lanes == lane)
    return (FORMAT, lanes, 0, parts)


def test_a_topic_that_was_read_before_may_have_grown():
    grown, dealt = seen(sensing__position=24, consent__record=12), {POSITION: 12, CONSENT: 12}
    states = {lane: state(lane, 12) for lane in range(16)}
    one = placing(16, 1, 0, dealt=dealt, states=states)
    one.fits(grown)
    parts = one.parts(grown)
    assert sum(topic == POSITION for topic, _ in parts) == 24
    with pytest.raises(Refused, match="partitions must be 12; it is 24; set partitions = 24"):
        placing(16, 1, 0, dealt=dealt).parts(grown)


EVENT, COUNT = "web.event", "sensing.count"


def sharded(own, start, states, *, topics=(EVENT,)):
    """A process of activation over eight shards, whose keys are dealt over four partitions."""
    rule = SourceRule(
        flow="activation", client={}, topics=topics, lanes=8, own=own, keyed=True, dealt={EVENT: 4}, start=start
    )  # fmt: skip
    return placed(rule, states, asked=[])


def lane_state(lane, counts):
    """A lane that has read 10 rows of each of its partitions."""
    places = [(topic, part, 10, "id") for topic, count in counts.items() for part in range(count) if part % 8 == lane]
    return (FORMAT, 8, 0, tuple(places))


@pytest.mark.parametrize("start", ["earliest", "latest", MONDAY])
def test_what_grew_while_nobody_ran_is_read_from_its_first_row_whoever_gets_it(start):
    grown = seen(end=100, web__event=8)
    for lane in range(8):
        made = sharded((lane,), start, {lane: lane_state(lane, {EVENT: 4})})
        made.fits(grown)
        (part,) = made.parts(grown).values()
        assert (part.partition, part.next, part.read) == (lane, 10 if lane < 4 else 0, part.next)


@pytest.mark.parametrize(("start", "begin"), [("earliest", 0), ("latest", 100), (MONDAY, 50)])
def test_a_topic_that_a_newer_version_reads_begins_where_a_first_start_does(start, begin):
    both = seen(end=100, web__event=4, sensing__count=8)
    begun = {}
    for own in ((0, 1, 2, 3, 4), (5, 6, 7)):
        states = {lane: lane_state(lane, {}) for lane in own}
        made = sharded(own, start, states, topics=(EVENT, COUNT))
        begun |= {place: part.next for place, part in made.parts(both).items()}
    of_event = {place: offset for place, offset in begun.items() if place[0] == EVENT}
    of_count = [begun[COUNT, part] for part in range(8)]
    assert set(of_event.values()) == {begin}
    assert of_count == [begin] * 5 + [0] * 3, "who has none of its first partitions cannot know, and skips nothing"


def test_a_new_topic_of_another_count_is_refused_by_those_who_can_know_that_it_is_new():
    wrong = seen(web__event=8)
    for lane in range(8):
        for states in ({}, {lane: lane_state(lane, {})}):
            made = sharded((lane,), "earliest", states)
            if lane < 4 or not states:
                with pytest.raises(Refused, match="partitions must be 4; it is 8"):
                    made.parts(wrong)
            else:
                made.parts(wrong)


def test_only_of_what_nobody_has_read_is_asked_where_it_begins():
    asked = []
    rule = SourceRule(
        flow="store", client={}, topics=(EVENT, COUNT, CONSENT), reference=frozenset({CONSENT}), lanes=8, start=MONDAY
    )
    states = {lane: lane_state(lane, {EVENT: 4, CONSENT: 2}) for lane in range(8)}
    grown = seen(end=100, web__event=6, sensing__count=2, consent__record=3)
    placed(rule, states, asked).parts(grown)
    assert asked == [(COUNT, 0), (COUNT, 1)]


def test_a_topic_whose_keys_would_change_process_is_refused_when_it_grows():
    dealt = {POSITION: 12, CONSENT: 12}
    placing(16, 4, 0, dealt=dealt).fits(seen(sensing__position=24))
    placing(16, 3, 0, dealt=dealt).fits(seen(consent__record=24))
    with pytest.raises(Refused, match=r"sensing.position has 24 partitions.*dealt over 12 to 3 processes.*Copy it"):
        placing(16, 3, 0, dealt=dealt).fits(seen(sensing__position=24))


def moved(number):
    record = Transition(
        event_id=ids.transition(str(number), "ENTER"), event_time=MONDAY, ingest_time=MONDAY, site_id="mad-01",
        source_id="presence", visit_id=str(number), subject_id=f"tag:1:{number}", zone_id="offers", zone_revision=0,
        kind="ENTER", at=MONDAY, reason="CROSSED", tech="UWB",
    )  # fmt: skip
    return Event(number, MONDAY, MOVES, record)


@pytest.mark.parametrize("dealt", [{}, {MOVES: 4}])
def test_an_output_that_has_grown_is_written_as_before(dealt):
    first = lane_of(1, 0, {MOVES: 4}, dealt=dealt)
    snapshot = first.snapshot()
    first.abandon()
    again = lane_of(1, 0, {MOVES: 8}, dealt=dealt, resume=snapshot)
    for number in range(50):
        out = again._fresh(moved(number), {})
        assert out.partition == partition_of(f"mad-01|tag:1:{number}", 4)
    assert again.snapshot()[2][0][2] == 4
    again.abandon()


def test_another_count_in_the_settings_is_refused_and_named():
    first = lane_of(1, 0, {MOVES: 8}, dealt={MOVES: 4})
    snapshot = first.snapshot()
    first.abandon()
    with pytest.raises(OutputChanged, match=r"would be dealt over 8 partitions, and were over 4: .*Set partitions = 4"):
        lane_of(1, 0, {MOVES: 8}, dealt={MOVES: 8}, resume=snapshot)


def test_a_first_start_on_an_output_that_has_grown_is_refused():
    made = Outputs(
        kafka=NOWHERE, flow="presence", schema_ids={MOVES: 7}, sealed=lambda data: data, dealt={MOVES: 4}, owner=False
    )
    sink = GuardedSink(made)
    sink._opened, sink._grown = object(), ["presence.transition: partitions must be 4; it is 8"]
    with pytest.raises(OutputChanged, match="partitions must be 4; it is 8"):
        sink.build_part("presence.records", "out-00", None)


@pytest.fixture
def monday(monkeypatch):
    monkeypatch.setattr(outputs_module, "wall", lambda: MONDAY)


def left_over(*, ticked, pending_at, end=120, written=0):
    """A snapshot of a life that read ids back at 100 to 119 and was not told one of them again."""
    lane = lane_of(1, 0, {MOVES: 1, LATE: 1}, log=Log(at={(LATE, 0): (0, end)}))
    lane.guard.found((LATE, 0), "x", Pending(100, pending_at, b""))
    if ticked:
        lane.write_batch([Batch([Tick(0, pending_at + HOUR)])])
    for number in range(written):
        lane.guard.written((LATE, 0), end + number)
    snapshot = lane.snapshot()
    lane.abandon()
    assert lane.guard.low((LATE, 0)) == 100
    return snapshot


def starts(snapshot, low, end=120):
    lane = lane_of(1, 0, {MOVES: 1, LATE: 1}, log=Log(at={(LATE, 0): (low, end)}), resume=snapshot)
    lane.abandon()
    return lane.guard.low((LATE, 0))


def test_retention_may_take_what_nobody_says_again(monday):
    snapshot = left_over(ticked=True, pending_at=MONDAY - 36 * HOUR)
    assert starts(snapshot, low=120) == 120


def test_what_the_flow_wrote_itself_must_still_be_there(monday):
    snapshot = left_over(ticked=True, pending_at=MONDAY - 36 * HOUR)
    with pytest.raises(TailGone, match=r"ops.late:0 \(read from 100, it begins at 121\)"):
        starts(snapshot, low=121, end=130)


def test_an_id_that_may_still_be_said_again_must_still_be_there(monday):
    with pytest.raises(TailGone):
        starts(left_over(ticked=False, pending_at=MONDAY - 36 * HOUR), low=120)
    with pytest.raises(TailGone):
        starts(left_over(ticked=True, pending_at=MONDAY - 2 * HOUR), low=120)


class Shards:
    """The lanes of a flow over two shards, of which lane 1 has read an id back that nobody says again."""

    def __init__(self, low=100, resume=None):
        made = Outputs(
            kafka=NOWHERE, flow="activation", schema_ids={LATE: 7}, sealed=lambda data: data, lanes=2, owner=False,
            settle_s=0.0,
        )  # fmt: skip
        opened = Opened(
            {LATE: Output("id", 2, 1_000_000, False)}, Log(at={(LATE, 1): (low, 120)}), None, {}, lambda _lane: None, {}
        )
        self.sink = GuardedSink(made)
        self.sink._opened = opened
        self.lanes = {name: Lane(made, opened, number, resume) for number, name in enumerate(self.sink.list_parts())}
        self.last = self.lanes["out-01"]

    def tick(self, shard, clock):
        dealt = self.sink.outlets((SHARDS[shard], Batch([Tick(0, clock)], shard=SHARDS[shard])))
        for name, part in dealt:
            self.lanes[name].write_batch([unpacked(part)])
        return len(dealt)


def test_a_lane_that_shards_deal_to_is_through_when_all_of_them_are(monday):
    here, pending_at = Shards(), MONDAY - 36 * HOUR
    here.last.guard.found((LATE, 1), "x", Pending(100, pending_at, b""))
    assert here.tick(0, pending_at + 30 * HOUR) == 2
    with pytest.raises(TailGone):
        Shards(low=120, resume=here.last.snapshot())
    here.tick(1, pending_at + HOUR)
    snapshot = here.last.snapshot()
    assert here.last.guard.low((LATE, 1)) == 100, "not a day over for the shard that is behind"
    assert Shards(low=120, resume=snapshot).last.guard.low((LATE, 1)) == 120
    here.tick(1, pending_at + 30 * HOUR)
    here.last.snapshot()
    assert here.last.guard.low((LATE, 1)) == 120


def test_other_lanes_are_told_of_a_clock_once_a_second(monday):
    here = Shards()
    assert [here.tick(0, MONDAY + step * 100_000) for step in range(11)] == [2, *[1] * 9, 2]
    assert here.tick(1, MONDAY + 100_000) == 2


def test_a_snapshot_of_the_layout_before_is_read_and_trusted_no_further(monday):
    old = (1, 1, ((LATE, "id", 1, ((0, 100),)), (MOVES, "id", 1, ((0, 0),))))
    assert starts(old, low=0) == 120
    with pytest.raises(TailGone):
        starts(old, low=120)


def test_a_quiet_day_ends_the_wait_for_what_nobody_says_again():
    lane = lane_of(1, 0, {LATE: 1}, log=Log(at={(LATE, 0): (0, 120)}))
    lane.guard.found((LATE, 0), "x", Pending(100, MONDAY, b""))
    for hour, low in ((23, 100), (25, 120)):
        lane.write_batch([Batch([Tick(0, MONDAY + hour * HOUR)])])
        lane.snapshot()
        assert lane.guard.low((LATE, 0)) == low
    lane.abandon()
