"""A cluster that answers errors while a node of it moves: the client's mock of one says them when asked to."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from operators.connectors import access, cluster, tails
from operators.connectors.cluster import Refused
from tests.broker.mock import Admin, Mock
from tests.broker.reading import Reader, Topics

FETCH, COMMIT = 1, 8
POSITION = "sensing.position"


@pytest.fixture
def mock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mock]:
    with Mock(folder / f"mock-{uuid4().hex[:8]}") as one:
        for module in (access, cluster, tails):
            monkeypatch.setattr(module, "AdminClient", partial(Admin, one.control))
        yield one


@pytest.fixture
def topics(mock: Mock) -> Topics:
    made = Topics(mock.bootstrap, "eu.")
    made.admin = Admin(mock.control, {"bootstrap.servers": mock.bootstrap, "log_level": 0})
    made.make(sensing__position=2)
    for partition in range(2):
        made.put(POSITION, partition, range(500))
    return made


def test_errors_that_pass_lose_nothing_and_end_nothing(mock: Mock, topics: Topics) -> None:
    reader = Reader(topics, topics=(POSITION,)).read(1)
    for number, code in enumerate((KafkaError.REQUEST_TIMED_OUT, KafkaError.NETWORK_EXCEPTION)):
        mock.controls().fail(FETCH, [code] * 3)
        for partition in range(2):
            topics.put(POSITION, partition, range(500 + 100 * number, 600 + 100 * number))
        reader.read(1_200 + 200 * number)
    for partition in range(2):
        assert reader.of(POSITION, partition) == [str(number) for number in range(700)]
    reader.close()


def test_a_partition_that_stays_silent_is_not_borne_for_ever(mock: Mock, topics: Topics) -> None:
    reader = Reader(topics, topics=(POSITION,)).read(1_000)
    mock.controls().fail(FETCH, [KafkaError.REQUEST_TIMED_OUT] * 10_000)
    with pytest.raises(Refused, match=r"has not let us read for 3 s: .*timed out"):
        reader.until(lambda: False)
    reader.close()


def test_offsets_that_were_not_taken_are_told_again(mock: Mock, topics: Topics) -> None:
    """Nothing more comes: without that, a lag tool would show all of it as unread for ever."""
    reader = Reader(topics, topics=(POSITION,)).read(1_000)
    outside = Consumer({"bootstrap.servers": mock.bootstrap, "group.id": "footfall.eu", "log_level": 0})
    places = [TopicPartition(f"eu.{POSITION}", partition) for partition in range(2)]
    mock.controls().fail(COMMIT, [KafkaError.GROUP_AUTHORIZATION_FAILED])
    reader.states()
    reader.until(lambda: reader.counters.commit_failures)
    assert [place.offset < 0 for place in outside.committed(places, timeout=10)] == [True, True]
    reader.states()
    reader.until(lambda: [place.offset for place in outside.committed(places, timeout=10)] == [500, 500])
    outside.close()
    reader.close()
