"""One list of checks, run against every backend of the state."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.state import epochs
from operators.state.epochs import REACH, EpochStore
from operators.state.lock import StateHeld
from operators.state.mark import FORMAT, formatted, mark_of
from operators.state.memory import Memory, MemoryStore
from operators.state.rocks import RocksShard, RocksStore
from operators.state.store import (
    StateAhead,
    StateBehind,
    StateDamaged,
    StateFault,
    StateForked,
    Store,
    Table,
    Tables,
    Token,
    UnknownVersion,
)

Make = Callable[..., EpochStore]
"""Makes a store over what the one before it has committed."""


@pytest.fixture(params=["memory", "rocksdb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    memory, made = Memory(), []

    def store(step: int = 0, execution: bytes = b"1", **options: int) -> EpochStore:
        one: EpochStore = (
            MemoryStore(memory, step=step, of_execution=execution, **options)
            if request.param == "memory"
            else RocksStore(tmp_path / "state", step, of_execution=execution, sync=False, **options)
        )
        made.append(one)
        return one

    yield store
    for one in made:
        one.close()


def opened(store: EpochStore, token: Token | None = None) -> EpochStore:
    store.claim(token)
    store.open("0")
    return store


def values(store: Store) -> dict[bytes, bytes]:
    return dict(store.scan(b""))


def epoch(store: Store, **changes: bytes | None) -> Token:
    for key, value in changes.items():
        store.put(key.encode(), value)
    return store.commit()


def test_reads_what_was_put_before_and_after_the_commit(make: Make) -> None:
    store = opened(make())
    assert store.get(b"a") is None
    store.put(b"a", b"1")
    store.put(b"b", b"2")
    assert store.get(b"a") == b"1"
    store.commit()
    store.put(b"b", None)
    assert store.get_many([b"b", b"a", b"c"]) == [None, b"1", None]
    store.commit()
    assert store.get(b"b") is None
    assert values(store) == {b"a": b"1"}


def test_scan_is_ordered_and_sees_the_open_epoch(make: Make) -> None:
    store = opened(make())
    epoch(store, p1=b"1", p3=b"3", p5=b"5", q=b"9", p=b"0")
    for key, value in {b"p2": b"2", b"p3": None, b"p5": b"55", b"p6": None, b"p7": b"7", b"o": b"x"}.items():
        store.put(key, value)
    assert list(store.scan(b"p")) == [(b"p", b"0"), (b"p1", b"1"), (b"p2", b"2"), (b"p5", b"55"), (b"p7", b"7")]
    assert list(store.scan(b"\xff")) == []
    assert list(store.scan(b"zz")) == []


def test_a_scan_stands_still_while_values_change(make: Make) -> None:
    store = opened(make(max_dirty=2))
    epoch(store, a=b"1", b=b"2", c=b"3")
    seen = []
    for key, value in store.scan(b""):
        seen.append((key, value))
        store.put(key, b"new")
        store.put(key + b"0", b"new")
    assert seen == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


def test_keys_and_values_are_any_bytes(make: Make) -> None:
    store = opened(make())
    odd = {b"": b"", b"\x00": b"\xff" * 300, b"\xff\xff": b"\x00", bytes(range(256)): b"x"}
    for key, value in odd.items():
        store.put(key, value)
    token = store.commit()
    store.close()
    again = opened(make(), token)
    assert values(again) == odd
    assert again.get_many(odd) == list(odd.values())


def test_commit_without_changes_keeps_the_token(make: Make) -> None:
    store = opened(make())
    first = store.commit()
    assert first[2] == 0
    token = epoch(store, a=b"1")
    assert token == ("0", b"1", 1)
    assert store.commit() == token


def test_opens_at_each_of_the_last_tokens_and_no_older_one(make: Make) -> None:
    store = opened(make())
    tokens: list[Token | None] = [None]
    states: list[dict[bytes, bytes]] = [{}]
    for n in range(REACH + 2):
        tokens.append(epoch(store, a=b"%d" % n, **{f"k{n}": b"x"}, **({f"k{n - 2}": None} if n > 2 else {})))
        states.append(values(store))
    store.close()
    with pytest.raises(StateAhead, match="commit 10, the recovery store at 1"):
        opened(make(), tokens[1])
    for back in range(REACH + 1):
        at = len(tokens) - 1 - back
        older = opened(make(), tokens[at])
        assert values(older) == states[at]
        older.close()


def test_nothing_changes_when_the_way_back_is_not_whole(make: Make) -> None:
    store = opened(make())
    tokens = [epoch(store, a=b"%d" % n) for n in range(REACH + 2)]
    store.close()
    for _ in range(2):
        with pytest.raises(StateAhead):
            opened(make(), tokens[0])
    assert opened(make(), tokens[-1]).get(b"a") == b"%d" % (REACH + 1)


def test_a_token_from_the_future_is_refused(make: Make) -> None:
    store = opened(make())
    token = epoch(store, a=b"1")
    store.close()
    with pytest.raises(StateBehind, match="state was lost"):
        opened(make(), (token[0], token[1], 2))


def test_a_token_of_another_history_is_refused(make: Make) -> None:
    """A dead execution committed 2, the engine kept 1; a new execution then committed another 2."""
    store = opened(make(execution=b"old"))
    first = epoch(store, a=b"1")
    stale = epoch(store, a=b"2")
    store.close()
    again = opened(make(execution=b"new"), first)
    right = epoch(again, a=b"3")
    again.close()
    assert right[2] == stale[2]
    with pytest.raises(StateForked, match="different histories"):
        opened(make(), stale)
    assert opened(make(), right).get(b"a") == b"3"


def test_without_a_token_the_store_goes_back_to_its_beginning(make: Make) -> None:
    store = opened(make())
    epoch(store, a=b"1")
    epoch(store, b=b"2")
    store.close()
    again = opened(make())
    assert values(again) == {}
    assert epoch(again, c=b"3")[2] == 1


def test_spills_inside_the_epoch_are_undone(make: Make) -> None:
    store = opened(make())
    token = epoch(store, a=b"1", b=b"1", c=b"1")
    store.close()
    spilling = opened(make(max_dirty=2), token)
    for round_ in range(3):
        for key in (b"a", b"b", b"c", b"d"):
            spilling.put(key, b"round %d" % round_)
            assert spilling.get(key) == b"round %d" % round_
    assert values(spilling) == dict.fromkeys((b"a", b"b", b"c", b"d"), b"round 2")
    spilling.close()  # a crash: the epoch never closed
    assert values(opened(make(), token)) == dict.fromkeys((b"a", b"b", b"c"), b"1")


def test_a_commit_after_spills_can_be_walked_back(make: Make) -> None:
    store = opened(make(max_dirty=2))
    first = epoch(store, a=b"1", b=b"1", c=b"1")
    epoch(store, a=b"2", b=b"2", c=b"2", d=b"2", e=None)
    epoch(store, a=b"3", b=None, f=b"3", a2=b"3", a3=b"3")
    store.close()
    assert values(opened(make(), first)) == dict.fromkeys((b"a", b"b", b"c"), b"1")


def test_spilled_bytes_count_too(make: Make) -> None:
    store = opened(make())
    store._max_bytes = 100
    store.put(b"a", b"x" * 200)
    assert not store._overlay
    assert store.get(b"a") == b"x" * 200


def test_old_undo_is_dropped(make: Make) -> None:
    """Disk does not grow with the number of epochs."""
    store = opened(make(max_dirty=3))
    tokens = []
    for n in range(4 * REACH):
        for key in range(10):
            store.put(b"%d" % key, b"%d" % n)
        tokens.append(store.commit())
        if n == 2 * REACH:  # what an earlier opening left is dropped too
            store.close()
            store = opened(make(max_dirty=3), tokens[-1])
    assert store._medium is not None
    assert sum(1 for _ in store._medium.scan(bytes((0, 1)))) == REACH * 4


def test_steps_of_a_shard_move_apart(make: Make) -> None:
    one, two = opened(make(step=1)), opened(make(step=2))
    first = epoch(one, a=b"1")
    epoch(one, a=b"2")
    kept = epoch(two, a=b"other")
    one.close()
    assert two.get(b"a") == b"other"
    again = opened(make(step=1), first)
    assert values(again) == {b"a": b"1"}
    assert values(two) == {b"a": b"other"}
    two.close()
    assert values(opened(make(step=2), kept)) == {b"a": b"other"}


def test_a_store_can_be_claimed_again(make: Make) -> None:
    store = opened(make())
    token = epoch(store, a=b"1")
    store.put(b"a", b"lost")
    opened(store, token)
    assert store.get(b"a") == b"1"


def test_use_before_open_and_opening_twice_are_errors(make: Make) -> None:
    store = make()
    store.claim(None)
    with pytest.raises(StateFault, match="opened before it is used"):
        store.get(b"a")
    with pytest.raises(StateFault, match="opened before it is used"):
        store.put(b"a", b"1")
    store.open("0")
    with pytest.raises(StateFault, match="opened once after each claim"):
        store.open("0")


def test_tables_over_a_store(make: Make) -> None:
    store = opened(make())
    tables = Tables(store)
    ages: Table[int] = tables.table(1, int)
    lists: Table[list[str]] = tables.table(2, list[str], kept=1)
    ages.put("ana", 41)
    ages.put("ben", 7)
    live = lists.get("x")
    assert live is None
    lists.put("x", ["a"])
    lists.put("y", [])
    tables.commit()
    ages.put("ben", None)
    kept = lists.get("x")
    assert kept is not None
    kept.append("b")
    lists.put("x", kept)
    assert list(ages.items()) == [("ana", 41)]
    token = tables.commit()
    store.close()
    again = Tables(opened(make(), token))
    assert list(again.table(1, int).items()) == [("ana", 41)]
    assert list(again.table(2, list[str]).items()) == [("x", ["a", "b"]), ("y", [])]
    with pytest.raises(UnknownVersion):
        again.table(1, int, version=3).get("ana")


class Model:
    """What a store must hold: the values at every token, by brute force."""

    def __init__(self) -> None:
        self.at: dict[Token | None, dict[bytes, bytes]] = {None: {}}
        self.order: list[Token | None] = [None]
        self.now: dict[bytes, bytes] = {}
        self.floor = 0

    def put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.now.pop(key, None)
        else:
            self.now[key] = value

    def commit(self, token: Token) -> None:
        held = self.order[-1]
        if token != held and token[2] > 0:
            self.order.append(token)
            self.at[token] = dict(self.now)
            self.floor = max(self.floor, token[2] - REACH)

    def reopen(self, back: int) -> Token | None:
        back = min(back, len(self.order) - 1 - self.floor)
        del self.order[len(self.order) - back :]
        self.now = dict(self.at[self.order[-1]])
        return self.order[-1]


def walk(make: Make, rng: random.Random, rounds: int) -> None:
    """Put, delete, read, scan, commit, crash, reopen at an older token; compare every key."""
    model, execution = Model(), 0
    store = opened(make(execution=b"0", max_dirty=rng.choice([1, 2, 5, 1000])))
    for _ in range(rounds):
        what = rng.random()
        key = b"%d" % rng.randrange(12)
        if what < 0.5:
            value = None if rng.random() < 0.3 else b"%d" % rng.randrange(1000)
            store.put(key, value)
            model.put(key, value)
        elif what < 0.6:
            assert store.get(key) == model.now.get(key)
        elif what < 0.65:
            keys = [b"%d" % n for n in range(12)]
            assert store.get_many(keys) == [model.now.get(one) for one in keys]
        elif what < 0.7:
            assert list(store.scan(b"1")) == sorted(p for p in model.now.items() if p[0].startswith(b"1"))
        elif what < 0.85:
            model.commit(store.commit())
        else:
            store.close()
            execution += 1
            target = model.reopen(rng.choice([0, 0, 0, 1, 1, 2, 5]) if rng.random() < 0.9 else 8)
            store = opened(make(execution=b"%d" % execution, max_dirty=rng.choice([1, 2, 5, 1000])), target)
            assert values(store) == model.now
    store.close()


def test_equals_the_model_on_random_walks(make: Make) -> None:
    # one store lives through all walks of its test: the state is wiped by deleting what is left
    rng = random.Random(20261205)
    walk(make, rng, 6_000 if "Memory" in type(make()).__name__ else 2_500)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.integers(min_value=0, max_value=1 << 32))
def test_memory_equals_the_model_on_many_short_walks(seed: int) -> None:
    memory = Memory()

    def make(execution: bytes, max_dirty: int) -> EpochStore:
        return MemoryStore(memory, of_execution=execution, max_dirty=max_dirty)

    walk(make, random.Random(seed), 80)


def test_the_model_catches_parts_undone_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EpochStore._walk_back
    monkeypatch.setattr(
        EpochStore, "_walk_back", lambda self, parts, back: right(self, dict(reversed(parts.items())), back)
    )
    with pytest.raises(AssertionError):
        test_memory_equals_the_model_on_many_short_walks()


def test_the_model_catches_a_token_that_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EpochStore.claim

    def ignoring(self: EpochStore, token: Token | None) -> None:
        right(self, token)
        memory = getattr(self, "memory", None)
        if memory is not None and (held := memory.get(bytes((0, 2)))) is not None:
            import msgspec

            self._target = msgspec.msgpack.decode(held, type=Token)

    monkeypatch.setattr(EpochStore, "claim", ignoring)
    with pytest.raises(AssertionError):
        test_memory_equals_the_model_on_many_short_walks()


def test_what_need_not_be_undone_is_counted_and_not_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is dropped, with all its parts, once it is out of reach."""
    store = opened(make(max_dirty=2))
    for n in range(6):
        store.put(b"%d" % n, b"x")
    token = store.commit()
    store.close()
    monkeypatch.setattr(epochs, "_undo_of", None)
    again = opened(make(max_dirty=2), token)
    assert again._parts[1] == 3
    for n in range(REACH):
        again.put(b"0", b"%d" % n)
        again.commit()
    assert next(again._stored_undo(1), None) is None
    assert next(again._stored_undo(2), None) is not None


class TestRocks:
    """What only a disk can do."""

    def test_one_database_a_shard_and_process(self, tmp_path: Path) -> None:
        one, two = opened(RocksStore(tmp_path / "s", 1)), opened(RocksStore(tmp_path / "s", 2))
        assert one._shard is two._shard
        one.close()
        two.put(b"a", b"1")
        token = two.commit()
        two.close()
        assert (tmp_path / "s" / "0" / "db").resolve() not in RocksShard._open
        again = opened(RocksStore(tmp_path / "s", 2), token)
        assert again.get(b"a") == b"1"
        again.close()

    def test_a_store_leaves_the_mark_to_who_owns_the_directory(self, tmp_path: Path) -> None:
        opened(RocksStore(tmp_path / "s", 1)).close()
        assert mark_of(tmp_path / "s") is None
        (tmp_path / "s" / "FORMAT").write_text("read by nobody here")
        opened(RocksStore(tmp_path / "s", 1)).close()

    def test_a_second_process_is_told_who_is_there(self, tmp_path: Path) -> None:
        store = opened(RocksStore(tmp_path / "s", 1))
        with pytest.raises(StateHeld, match="held by another process"):
            RocksShard(tmp_path / "s" / "0" / "db")
        store.close()

    @pytest.mark.parametrize("content", ['{"format": 2}', "[]", "not json"])
    def test_another_format_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "FORMAT").write_text(content)
        with pytest.raises(StateDamaged, match=r"format 2|must be"):
            formatted(tmp_path)

    def test_a_directory_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(StateDamaged, match="no state directory"):
            formatted(tmp_path)

    def test_a_new_directory_is_marked_once(self, tmp_path: Path) -> None:
        formatted(tmp_path / "s")
        opened(RocksStore(tmp_path / "s", 1)).close()
        formatted(tmp_path / "s")
        assert mark_of(tmp_path / "s") == {"format": FORMAT}

    def test_a_damaged_block_stops_a_scan(self, tmp_path: Path) -> None:
        """A scan that just ends would be a state with half its keys."""
        store = opened(RocksStore(tmp_path / "s", 1))
        rng = random.Random(1)
        for n in range(5_000):
            store.put(b"%06d" % n, rng.randbytes(100))
        token = store.commit()
        assert store._shard is not None
        store._shard._db.flush()
        store.close()
        table = max((tmp_path / "s" / "0" / "db").glob("*.sst"), key=lambda path: path.stat().st_size)
        damaged = bytearray(table.read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        table.write_bytes(damaged)
        again = opened(RocksStore(tmp_path / "s", 1), token)
        with pytest.raises(StateDamaged, match="restore state and recovery store"):
            sum(1 for _ in again.scan(b""))
        again.close()
