"""Bugs put back: the tests that are there for them must fail. More stand beside what they spoil, as test_mutant_*."""

import pytest

import tests.contract.test_stores as stores
import tests.unit.test_shard as shards
from operators.decode import Decode
from operators.engine import Shard
from operators.state.rocks import ReadOptions, RocksShard, _above
from schemas.items import Event
from tests.flow.bad_rows import Planted, letters_of
from tests.flow.replays import run

Fails = (AssertionError, pytest.fail.Exception)
"""What a test that fails raises; the second where nothing was raised that should have been."""


def test_mutant_a_scan_that_does_not_ask_for_its_status(tmp_path, monkeypatch):
    """It just ends at the damage: a state with some of its keys."""

    def scan(self, prefix):
        bounds = ReadOptions()
        if (above := _above(prefix)) is not None:
            bounds.set_iterate_upper_bound(above)
        cursor = self._db.iter(bounds)
        cursor.seek(prefix)
        while cursor.valid():
            yield cursor.key(), cursor.value()
            cursor.next()

    monkeypatch.setattr(RocksShard, "scan", scan)
    with pytest.raises(Fails):
        stores.TestRocks().test_a_damaged_block_stops_a_scan(tmp_path)


def test_mutant_a_swallowed_decode_error(tmp_path, monkeypatch):
    """Nobody hears of the row: the counts do not close and its reason is missing."""
    planted = Planted(2_000, seed=1)
    source = planted.write(tmp_path / "in")
    step = Decode.step
    assert planted.compare(run(source, tmp_path / "right"), letters_of(tmp_path / "right")) == []

    def swallowing(self, items):
        return [item for item in step(self, items) if not (isinstance(item, Event) and item.topic == "ops.dead-letter")]

    monkeypatch.setattr(Decode, "step", swallowing)
    assert planted.compare(run(source, tmp_path / "wrong"), letters_of(tmp_path / "wrong"))


def test_mutant_a_timer_that_is_due_when_a_shard_resumes(monkeypatch):
    """The engine would ring it in an epoch of its own, below the one that is resumed."""
    monkeypatch.setattr(Shard, "notify_at", lambda self: 0 if self._resume else None)
    with pytest.raises(Fails):
        shards.test_before_its_first_batch_it_opens_nothing_and_repeats_its_token()


def test_mutant_a_shard_that_is_discarded(monkeypatch):
    """It would come back as if it were new."""
    on_batch = Shard.on_batch
    monkeypatch.setattr(Shard, "on_batch", lambda self, values: (on_batch(self, values)[0], True))
    with pytest.raises(Fails):
        shards.test_each_batch_goes_through_the_core_and_is_stamped()


def test_mutant_the_end_of_input_ends_something(monkeypatch):
    """A drain is no end of a stay."""
    monkeypatch.setattr(Shard, "on_eof", lambda self: self.on_batch([shards.batch()]))
    with pytest.raises(Fails):
        shards.test_the_end_of_input_snapshots_twice_and_commits_once()
