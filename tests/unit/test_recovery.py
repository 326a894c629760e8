"""The start of a flow on what a crash left: stale snapshots, rows that are no plain values, and lost halves."""

import os
import pickle
import sqlite3
import sys

import pytest
from bytewax.recovery import init_db_dir

from operators.state import home as homes
from operators.state.home import Home, examined
from operators.state.recovery import LAYOUT, RecoveryFault, clean, examine, plain
from operators.state.store import StateAhead, StateBehind, StateForked
from tests.unit import counting
from tests.unit.counting import CHAINS, ENDS, PART, Crash, counted, half_committed, runs, snapshots, start

path, lived = counting.path, counting.lived


class TestStaleSnapshots:
    """Rows of an epoch that never committed."""

    def test_the_check_removes_exactly_what_was_planted(self, path):
        runs(path, b"ex-zero!", "a", Crash)
        before = snapshots(path)
        half_committed(path, "f.b", 2, None, b"ex-zero!")
        dry = examined(path, CHAINS, ENDS, {})
        assert (dry.removed, dry.back["f.b"]) == (1, 1)
        found = start(path)
        assert (found.removed, found.back, found.resume_epoch) == (1, {"f.a": 0, "f.b": 1}, 2)
        assert snapshots(path) == before
        runs(path, b"ex-one!!", "a", "b")
        assert (counted(path, "f.a"), counted(path, "f.b")) == (1, 1)

    def twice(self, path):
        """Two crashes, each between a snapshot and its frontier; in between, b is not touched in the stale epoch."""
        runs(path, b"ex-zero!", "a", Crash)
        half_committed(path, "f.b", 2, None, b"ex-zero!")
        start(path)
        runs(path, homes_execution(b"ex-one!!"), "a", "a", Crash)
        half_committed(path, "f.b", 3, None, homes_execution(b"ex-one!!"))
        start(path)
        runs(path, homes_execution(b"ex-two!!"), "a", "a", "b")
        return counted(path, "f.a"), counted(path, "f.b")

    def test_two_crashes_count_once(self, path):
        assert self.twice(path) == (2, 1)

    def test_mutant_without_the_check_it_is_refused(self, path, monkeypatch):
        monkeypatch.setattr(homes, "clean", lambda at: (examine(at), 0))
        with pytest.raises(StateForked):
            self.twice(path)

    def test_mutant_without_check_and_execution_it_counts_twice(self, path, monkeypatch):
        """What the other two are for: tokens that only count cannot tell the histories apart."""
        monkeypatch.setattr(homes, "clean", lambda at: (examine(at), 0))
        monkeypatch.setattr(sys.modules[__name__], "homes_execution", lambda _name: b"ex-zero!")
        assert self.twice(path) == (2, 2)


def homes_execution(name):
    return name


class TestWhole:
    """A recovery store that is not what it must be."""

    def test_the_layout_is_that_of_the_engine(self, tmp_path):
        init_db_dir(tmp_path, 1)
        with sqlite3.connect(tmp_path / PART) as part:
            tables = [name for (name,) in part.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {name: tuple(row[1] for row in part.execute(f"PRAGMA table_info({name})")) for name in tables}
        assert found == LAYOUT

    def test_the_engine_is_the_one_whose_layout_is_known(self):
        from importlib.metadata import version

        assert version("bytewax") == "0.21.1"

    def test_a_part_is_missing(self, tmp_path):
        init_db_dir(tmp_path, 2)
        (tmp_path / "part-1.sqlite3").unlink()
        with pytest.raises(RecoveryFault, match="every part once"):
            examine(tmp_path)

    def test_a_part_is_older_than_the_others(self, lived):
        with sqlite3.connect(lived / "recovery" / PART) as part:
            part.execute("UPDATE fronts SET worker_frontier = 1")
            part.execute("UPDATE exs SET resume_epoch = 1")
        with pytest.raises(RecoveryFault, match="older than the others"):
            start(lived)

    def test_a_damaged_part(self, lived):
        file = lived / "recovery" / PART
        file.write_bytes(b"not a database at all" * 100)
        with pytest.raises(RecoveryFault, match="damaged"):
            start(lived)

    def test_another_layout(self, lived):
        with sqlite3.connect(lived / "recovery" / PART) as part:
            part.execute("ALTER TABLE snaps ADD COLUMN more TEXT")
        with pytest.raises(RecoveryFault, match=r"Bytewax 0\.21\.1"):
            start(lived)

    def test_the_dry_run_changes_nothing(self, lived):
        before = snapshots(lived)
        half_committed(lived, "f.b", 99, examined_token(lived, "f.b"), b"ex-zero!")
        assert examined(lived, CHAINS, ENDS, {}).removed == 1
        assert snapshots(lived) == before | {("f.b", 99)}
        assert clean(lived / "recovery")[1] == 1
        assert snapshots(lived) == before


def examined_token(path, step_id):
    return next(row.value for row in examine(path / "recovery").rows if row.step_id == step_id)


def rewritten(path, value):
    """The snapshot of step f.a is another."""
    with sqlite3.connect(path / "recovery" / PART) as part:
        part.execute("UPDATE snaps SET ser_change = ? WHERE step_id = 'f.a'", (pickle.dumps(value),))


class TestPickles:
    """Whoever can write a row must not be able to run code."""

    def test_plain_values_pass(self):
        for value in (("0", b"12345678", 3), 7, None, {"a": [1, 2.5, True]}, ("lanes-1", ((1, "t", -1),))):
            for protocol in range(3, 6):  # bytes need a call before
                assert plain(pickle.dumps(value, protocol), "here") == value

    def test_a_call_is_refused_and_not_made(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "made"),)

        for protocol in range(6):
            with pytest.raises(RecoveryFault, match="never writes"):
                plain(pickle.dumps(Evil(), protocol), "here")
        assert not (tmp_path / "made").exists()

    def test_rubbish_is_refused(self):
        for rubbish in (b"", b"\x80\x04", b"hello", pickle.dumps(7)[:-1]):
            with pytest.raises(RecoveryFault, match="cannot be read"):
                plain(rubbish, "here")

    def test_a_row_that_runs_code_stops_the_start(self, lived):
        rewritten(lived, os.getcwd)
        with pytest.raises(RecoveryFault, match=r"step f\.a.*GLOBAL"):
            start(lived)


class TestHalves:
    """State without its recovery store, recovery store without its state, and both of different times."""

    def test_well_ended_is_well_begun(self, lived):
        found = start(lived)
        assert (found.removed, found.back, found.tokens) == (0, {"f.a": 0, "f.b": 0}, {"f.a": 3, "f.b": 2})

    def test_the_recovery_store_is_missing(self, lived):
        (lived / "recovery").rename(lived.parent / "elsewhere")
        with pytest.raises(RecoveryFault, match="missing"):
            start(lived)
        with pytest.raises(RecoveryFault, match="missing"):
            examined(lived, CHAINS, ENDS, {})

    def test_the_recovery_store_was_made_anew(self, lived):
        (lived / "recovery" / PART).unlink()
        for left in (lived / "recovery").iterdir():
            left.unlink()
        init_db_dir(lived / "recovery", 1)
        with pytest.raises(RecoveryFault, match="knows nothing of it"):
            start(lived)

    def test_the_state_is_missing(self, lived):
        (lived / "0").rename(lived.parent / "elsewhere")
        with pytest.raises(RecoveryFault, match="none beside it"):
            start(lived)

    def test_the_state_is_behind(self, lived):
        rewritten(lived, ("0", b"x", 9))
        with pytest.raises(StateBehind):
            start(lived)

    def test_the_state_is_ahead(self, path):
        runs(path, b"ex-zero!", *["a"] * 12)
        rewritten(path, ("0", b"x", 2))
        with pytest.raises(StateAhead):
            start(path)

    def test_the_state_is_forked(self, lived):
        rewritten(lived, ("0", b"x", 3))
        with pytest.raises(StateForked):
            start(lived)

    def test_no_token_at_all(self, lived):
        rewritten(lived, "hello")
        with pytest.raises(RecoveryFault, match="no token"):
            start(lived)

    def test_a_step_nobody_knows(self, lived):
        home = Home(lived, "f")
        with pytest.raises(RecoveryFault, match=r"f\.b"):
            home.checked({"f.a": (0, ("0",))}, ENDS, {})
        home.close()

    def test_a_step_whose_rows_are_gone(self, lived):
        with sqlite3.connect(lived / "recovery" / PART) as part:
            part.execute("DELETE FROM snaps WHERE step_id = 'f.b'")
        with pytest.raises(RecoveryFault, match=r"f\.b stands at commit 2"):
            start(lived)
