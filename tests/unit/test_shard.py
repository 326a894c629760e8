"""The adapter between a core and the engine: what it must not do before its first batch, and at the end."""

from operators.engine import Shard
from operators.state.memory import Memory, MemoryStore
from schemas.items import Batch, Tick


class Counting:
    """Counts the batches it was given."""

    def __init__(self, tables):
        self.table = tables.table(1, int)

    def step(self, items):
        self.table.put("n", (self.table.get("n") or 0) + 1)
        return items


class Watched(MemoryStore):
    """A store that says when it is opened."""

    opens = 0

    def open(self, shard):
        self.opens += 1
        super().open(shard)


def shard(memory, resume, execution=b"ex-zero!"):
    made = []

    def opened():
        made.append(Watched(memory, of_execution=execution))
        return made[-1]

    def work(core, batch):
        return [Batch(core.step(batch.items), {**batch.stamps, "count": 5}, batch.shard)]

    return Shard(Counting, work, opened, lambda call, *given: call(*given), resume), made[0]


def batch():
    return Batch([Tick(0, 100)], {"heard": 1})


def test_before_its_first_batch_it_opens_nothing_and_repeats_its_token():
    one, store = shard(Memory(), ("0", b"ex-past!", 9))
    assert one.notify_at() is None
    assert one.on_notify() == ([], False)
    assert one.on_eof() == ([], False)
    assert one.snapshot() == ("0", b"ex-past!", 9)
    assert store.opens == 0


def test_each_batch_goes_through_the_core_and_is_stamped():
    one, store = shard(Memory(), None)
    out, discard = one.on_batch([batch(), batch()])
    assert [found.stamps for found in out] == [{"heard": 1, "count": 5}] * 2
    assert not discard
    assert store.opens == 1
    assert one.notify_at() is None


def test_the_end_of_input_snapshots_twice_and_commits_once():
    one, _ = shard(Memory(), None)
    one.on_batch([batch()])
    first = one.snapshot()
    assert one.on_eof() == ([], False)
    assert one.snapshot() == first == ("0", b"ex-zero!", 1)


def test_what_was_not_committed_by_the_engine_is_done_again_once():
    memory = Memory()
    one, _ = shard(memory, None)
    one.on_batch([batch()])
    committed = one.snapshot()
    one.on_batch([batch()])
    one.snapshot()  # the store is ahead, and then it died
    again, _ = shard(memory, committed, b"ex-one!!")
    again.on_batch([batch()])
    assert again.snapshot() == ("0", b"ex-one!!", 2)
    last, _ = shard(memory, ("0", b"ex-one!!", 2), b"ex-two!!")
    last.on_batch([batch()])
    assert last._core.table.get("n") == 3
