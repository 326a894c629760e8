"""How old the rows are that wait."""

import time

from tests.broker.reading import Reader, Topics

POSITION = "sensing.position"


def test_rows_that_wait_say_how_old_they_are_and_then_nothing(broker, prefix):
    topics = Topics(broker, prefix)
    topics.make(sensing__position=1)
    topics.put(POSITION, 0, range(3_000), at_ms=int((time.time() - 100) * 1000))
    reader = Reader(topics, topics=(POSITION,), lanes=2, max_batch=10).read(10)
    place, (first, second) = (POSITION, 0), reader.lanes.values()
    first.snapshot()
    at = int(time.time())
    while int(time.time()) == at:  # an epoch closes: rows are fetched, and none is handed on
        assert second.next_batch() == []
    second.snapshot()
    reader.until(lambda: reader.counters.age.get(place, 0.0) > 0)
    assert 100 < reader.counters.age[place] < 160
    reader.read(3_000).until(lambda: reader.counters.age[place] == 0)
    reader.close()
