"""Where reading on would be wrong, the Kafka source stops and says what to do."""

import pytest

from operators.connectors import pump
from operators.connectors.access import BrokerAway
from operators.connectors.cluster import Refused, RowsGone
from tests.broker.jars import free_ports
from tests.broker.reading import Reader, Topics

POSITION = "sensing.position"


@pytest.fixture
def topics(broker, prefix):
    return Topics(broker, prefix)


def read_once(topics, rows=10, **rule):
    """Put and read rows of one partition; the states after them."""
    topics.make(sensing__position=1)
    topics.put(POSITION, 0, range(rows))
    reader = Reader(topics, topics=(POSITION,), lanes=1, **rule).read(rows)
    states = reader.states()
    reader.close()
    return states


def test_rows_that_are_gone_are_never_skipped_in_silence(topics):
    states = read_once(topics)
    topics.put(POSITION, 0, range(10, 30))
    topics.forget(POSITION, 0, 25)
    with pytest.raises(Refused, match=r"position:0: offset 10 is wanted, the broker has 25 to 30: rows are gone"):
        Reader(topics, states, topics=(POSITION,), lanes=1).tick()
    accepted = Reader(topics, states, topics=(POSITION,), lanes=1, accept_loss=frozenset({(POSITION, 0)}))
    accepted.read(5).tick()
    assert accepted.of(POSITION, 0) == [str(number) for number in range(25, 30)]
    assert [loss[:4] for loss in accepted.counters.lost] == [(POSITION, 0, 10, 25)]
    assert any("loss accepted" in said for said in accepted.said)
    accepted.close()


@pytest.mark.parametrize("accept", [False, True])
def test_rows_that_go_while_the_flow_starts_are_not_skipped_either(topics, accept):
    states = read_once(topics)
    topics.put(POSITION, 0, range(10, 30))
    losses = frozenset({(POSITION, 0)}) if accept else frozenset()
    reader = Reader(topics, states, topics=(POSITION,), lanes=1, accept_loss=losses)
    topics.forget(POSITION, 0, 25)  # after the source has looked
    if accept:
        assert reader.read(5).tick().rows[0].offset == 25
        assert reader.states()["lane-00"][3][0][2] == 30
        reader.close()
    else:
        with pytest.raises(Refused, match="offset 10 is wanted, the broker has 25 to 30"):
            reader.tick()


def test_a_topic_made_again_is_another_topic(topics):
    states = read_once(topics)
    topics.drop(POSITION)
    topics.remake(sensing__position=1)
    topics.put(POSITION, 0, range(100, 140))  # longer than the stored offset: the broker would not mind
    with pytest.raises(Refused, match=r"position:0: the topic was deleted and made again \(id .+ then, .+ now\)"):
        Reader(topics, states, topics=(POSITION,), lanes=1).tick()
    accepted = Reader(topics, states, topics=(POSITION,), lanes=1, accept_loss=frozenset({(POSITION, 0)}))
    assert accepted.read(40).of(POSITION, 0)[0] == "100"
    accepted.close()


def test_all_that_is_gone_is_named_at_once(topics):
    topics.make(sensing__position=4, web__event=3)
    for partition in range(4):
        topics.put(POSITION, partition, range(10))
    rule = {"topics": (POSITION, "web.event")}
    reader = Reader(topics, **rule).read(40)
    states = reader.states()
    reader.close()
    for partition in (1, 3):
        topics.put(POSITION, partition, range(10))
        topics.forget(POSITION, partition, 15)
    topics.drop("web.event")
    topics.remake(web__event=4)
    with pytest.raises(RowsGone) as gone:
        Reader(topics, states, **rule).tick()
    assert gone.value.places == (
        *(f"{POSITION}:{part}" for part in (1, 3)),
        *(f"web.event:{part}" for part in range(4)),
    )
    accepted = frozenset((topic, int(part)) for topic, _, part in (one.partition(":") for one in gone.value.places))
    reader = Reader(topics, states, **rule, accept_loss=accepted).read(10)
    topics.drop("web.event")
    topics.remake(web__event=2)
    with pytest.raises(RowsGone) as gone:  # what was written off was another loss
        Reader(topics, reader.states(), **rule, accept_loss=accepted - {("web.event", 1)}).tick()
    assert gone.value.places == ("web.event:1",)
    reader.close()


def test_a_topic_made_again_while_it_is_read(topics):
    topics.make(sensing__position=1)
    topics.put(POSITION, 0, range(5))
    reader = Reader(topics, topics=(POSITION,), lanes=1, refresh_s=0.3).read(5)
    topics.drop(POSITION)
    topics.remake(sensing__position=1)
    with pytest.raises(Refused, match="deleted and made again"):
        reader.tick(1_000)


def test_a_topic_that_is_gone_is_borne_for_a_while(topics):
    topics.make(sensing__position=1, web__event=1)
    reader = Reader(topics, topics=(POSITION, "web.event"), lanes=1, refresh_s=0.3, bound_s=1.5).tick()
    topics.drop(POSITION)
    with pytest.raises(Refused, match=r"not let us read for 2 s: .*missing on it: .*sensing\.position"):
        reader.tick(1_000)


def test_a_missing_topic_is_named(topics):
    topics.make(sensing__position=1)
    with pytest.raises(Refused, match=r"missing on the broker: .*web\.event$"):
        Reader(topics, topics=(POSITION, "web.event"))


def test_a_broker_that_is_away_is_waited_for_and_then_named(topics):
    topics.broker = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(BrokerAway, match=rf"{topics.broker}: no broker answers after \d+ s"):
        Reader(topics, topics=(POSITION,), wait_s=1.0)


def test_lanes_are_for_life(topics):
    states = read_once(topics)
    with pytest.raises(Refused, match="the number of lanes is fixed"):
        Reader(topics, states, topics=(POSITION,), lanes=2)


def test_topics_read_together_are_cut_alike(topics):
    topics.make(sensing__position=2, sensing__scan=3)
    with pytest.raises(Refused, match=r"equally many partitions: sensing\.position 2, sensing\.scan 3"):
        Reader(topics, topics=(POSITION, "sensing.scan"), together=frozenset({POSITION, "sensing.scan"}))


def test_mutant_offsets_that_reset_themselves(topics, monkeypatch):
    """The client's default: the jump over what is gone is told to nobody."""
    monkeypatch.setitem(pump._READER, "auto.offset.reset", "earliest")
    states = read_once(topics)
    topics.put(POSITION, 0, range(10, 30))
    reader = Reader(topics, states, topics=(POSITION,), lanes=1)
    topics.forget(POSITION, 0, 25)
    assert reader.read(5).rows[0].offset == 25
    assert not reader.counters.lost
    reader.close()
