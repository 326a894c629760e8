"""The start of a flow on what a crash left: stale snapshots, foreign stores, lost halves, and the lock."""

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from bytewax.testing import TestingSink

from operators.state import home as homes
from operators.state.aside import set_aside
from operators.state.home import ForeignState, Home, NoState, examined, mark_of
from operators.state.lock import Lock, StateHeld, StateUnreachable, holder, vacant
from operators.state.recovery import LAYOUT, RecoveryFault, clean, examine, plain
from operators.state.rocks import RocksShard, RocksStore
from operators.state.store import StateAhead, StateBehind, StateDamaged, StateFault, StateForked, UnknownVersion
from schemas.pseudonym import fingerprint

STEPS = {"f.a": 0, "f.b": 1}
CHAINS = {name: (number, ("0",)) for name, number in STEPS.items()}
ENDS = ("f.in", "f.out-a", "f.out-b")
PART = "part-0.sqlite3"


LIVE = []
"""Stores that are open; a crash lets go of them."""


class Crash(Exception):
    """The process dies here."""


class _Script(StatefulSourcePartition):
    def __init__(self, script, at):
        self.script, self.at = script, at or 0

    def next_batch(self):
        if self.at == len(self.script):
            raise StopIteration
        if self.script[self.at] is Crash:
            raise Crash
        self.at += 1
        return [("0", self.script[self.at - 1])]

    def snapshot(self):
        return self.at


class Script(FixedPartitionedSource):
    """One item an epoch; `Crash` is where the process dies."""

    def __init__(self, *script):
        self.script = script

    def list_parts(self):
        return ["script"]

    def build_part(self, step_id, for_part, resume_state):
        return _Script(self.script, resume_state)


class Count(StatefulBatchLogic):
    """Counts what it is given, in a store tied to epochs."""

    def __init__(self, store, resume):
        self.store, self.resume, self.opened = store, resume, False
        store.claim(resume)

    def on_batch(self, values):
        if not self.opened:
            self.store.open("0")
            self.opened = True
        add(self.store, len(values))
        return [], False

    def on_notify(self):
        return [], False

    def on_eof(self):
        return [], False

    def notify_at(self):
        return None

    def snapshot(self):
        return self.store.commit() if self.opened else self.resume


def add(store, how_many):
    before = int(store.get(b"n") or b"0")
    store.put(b"n", b"%d" % (before + how_many))


def flow(path, execution, *script):
    """Two steps, of which each item touches one."""
    made = Dataflow("f")
    items = op.input("in", made, Script(*script))
    sink = TestingSink([])
    for name in ("a", "b"):
        of = op.filter(f"of-{name}", items, lambda pair, name=name: pair[1] == name)

        def build(resume, number=STEPS[f"f.{name}"]):
            LIVE.append(RocksStore(path, number, of_execution=execution))
            return Count(LIVE[-1], resume)

        op.output(f"out-{name}", op.stateful_batch(name, of, build), sink)
    return made


def runs(path, execution, *script):
    """Run until the script ends or crashes."""
    try:
        cli_main(
            flow(path, execution, *script),
            epoch_interval=timedelta(0),
            recovery_config=RecoveryConfig(str(path / "recovery")),
        )
    except Exception as error:
        while error is not None and not isinstance(error, (Crash, StateFault)):
            error = error.__cause__
        if not isinstance(error, Crash):
            raise error from None
    finally:
        for store in LIVE:
            store.close()
        LIVE.clear()


def snapshots(path):
    with sqlite3.connect(path / "recovery" / PART) as part:
        return set(part.execute("SELECT step_id, snap_epoch FROM snaps"))


def half_committed(path, step_id, epoch, claimed, execution):
    """The store has committed an epoch and its snapshot is written, but not the frontier: then it died."""
    store = RocksStore(path, STEPS[step_id], of_execution=execution)
    store.claim(claimed)
    store.open("0")
    add(store, 1)
    token = store.commit()
    store.close()
    with sqlite3.connect(path / "recovery" / PART) as part:
        part.execute(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, '0', ?, ?)",
            (step_id, epoch, pickle.dumps(token, 4)),
        )
    return token


def counted(path, step_id):
    shard = RocksShard(path / "0" / "db", read_only=True)
    return int(dict(shard.scan(bytes([STEPS[step_id], 0])))[bytes([STEPS[step_id], 0]) + b"n"])


def start(path):
    """The check of a start, and let go."""
    home = Home(path, "f")
    try:
        return home.checked(CHAINS, ENDS, {})
    finally:
        home.close()


@pytest.fixture
def path(tmp_path):
    start(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def lived(path):
    """Three items of a, two of b, well ended."""
    runs(path, b"ex-zero!", "a", "b", "a", "b", "a")
    return path


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
        with sqlite3.connect(lived / "recovery" / PART) as part:
            part.execute("UPDATE snaps SET ser_change = ? WHERE step_id = 'f.a'", (pickle.dumps(os.getcwd),))
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
        with sqlite3.connect(lived / "recovery" / PART) as part:
            part.execute("UPDATE snaps SET ser_change = ? WHERE step_id = 'f.a'", (pickle.dumps(("0", b"x", 9)),))
        with pytest.raises(StateBehind):
            start(lived)

    def test_the_state_is_ahead(self, path):
        runs(path, b"ex-zero!", *["a"] * 12)
        with sqlite3.connect(path / "recovery" / PART) as part:
            part.execute("UPDATE snaps SET ser_change = ? WHERE step_id = 'f.a'", (pickle.dumps(("0", b"x", 2)),))
        with pytest.raises(StateAhead):
            start(path)

    def test_the_state_is_forked(self, lived):
        with sqlite3.connect(lived / "recovery" / PART) as part:
            part.execute("UPDATE snaps SET ser_change = ? WHERE step_id = 'f.a'", (pickle.dumps(("0", b"x", 3)),))
        with pytest.raises(StateForked):
            start(lived)

    def test_no_token_at_all(self, lived):
        with sqlite3.connect(lived / "recovery" / PART) as part:
            part.execute("UPDATE snaps SET ser_change = ? WHERE step_id = 'f.a'", (pickle.dumps("hello"),))
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

    def test_a_directory_of_something_else(self, tmp_path):
        (tmp_path / "photo.jpg").write_bytes(b"")
        with pytest.raises(StateDamaged, match="photo"):
            Home(tmp_path, "f")

    @pytest.mark.parametrize(("flow_name", "processes"), [("g", 1), ("f", 2)])
    def test_a_directory_of_another_deployment(self, lived, flow_name, processes):
        with pytest.raises(ForeignState):
            Home(lived, flow_name, processes=processes)
        Home(lived, "f").close()


class TestKey:
    """The pseudonym key that a state was begun under."""

    OLD, NEW = fingerprint(b"a key"), fingerprint(b"another key")

    def test_the_same_key_goes_on(self, path):
        Home(path, "f", key=(1, self.OLD)).close()
        Home(path, "f", key=(1, self.OLD)).close()
        assert b"a key" not in (path / "FORMAT").read_bytes()

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ((1, NEW), "the pseudonym key, version 1, is not the one .* begun under, version 1: .* Put key_file and"),
            ((2, NEW), "the pseudonym key, version 2, is not the one .* begun under, version 1: .* Put key_file and"),
            ((2, OLD), r"key_version in \[pseudonym\] is 2, and .* was begun with 1 and the same key"),
        ],
    )
    def test_another_is_refused_and_the_old_one_goes_on_as_before(self, path, key, said):
        Home(path, "f", key=(1, self.OLD)).close()
        before = (path / "FORMAT").read_bytes()
        with pytest.raises(ForeignState, match=said):
            Home(path, "f", key=key)
        assert (path / "FORMAT").read_bytes() == before
        Home(path, "f", key=(1, self.OLD)).close()

    def test_a_state_of_before_there_was_a_mark_of_the_key_gets_one(self, tmp_path):
        path = tmp_path / "eight"
        Home(path, "f", shards=8).close()
        before = mark_of(path)
        Home(path, "f", shards=8, key=(1, self.OLD)).close()
        assert mark_of(path) == before | {"key_version": 1, "key_fingerprint": self.OLD}
        with pytest.raises(ForeignState):
            Home(path, "f", shards=8, key=(1, self.NEW))


class TestAside:
    """A directory that is moved out of the way is the flow's own, and nobody's at that moment."""

    def test_a_directory_of_the_flow_goes_with_all_that_is_in_it(self, lived, tmp_path):
        before = sorted(one.name for one in lived.iterdir())
        assert set_aside(lived, tmp_path / "kept", "f")
        assert sorted(one.name for one in (tmp_path / "kept").iterdir()) == before
        assert not lived.exists()

    def test_also_one_that_has_lost_its_mark_or_cannot_read_it(self, lived, tmp_path):
        (lived / "FORMAT").write_text("{")
        assert set_aside(lived, tmp_path / "kept", "f")
        (tmp_path / "kept" / "FORMAT").unlink()
        assert set_aside(tmp_path / "kept", tmp_path / "again", "f")

    def test_where_there_is_nothing_nothing_is_moved(self, tmp_path):
        path = tmp_path / "never"
        assert not set_aside(path, path.with_name("kept"), "f")
        Lock(path).release()
        assert not set_aside(path, path.with_name("kept"), "f")

    @pytest.mark.parametrize("part", [".", "process-01"])
    def test_not_that_of_another_flow(self, tmp_path, part):
        path = tmp_path / "other"
        Home(path / part, "g", processes=2).close()
        with pytest.raises(ForeignState, match="belongs to flow g, not to f"):
            set_aside(path, path.with_name("kept"), "f")
        assert path.exists()

    @pytest.mark.parametrize("part", [".", "process-01"])
    def test_not_one_that_is_lived_in(self, tmp_path, part):
        path = tmp_path / "held"
        Home(path / "process-00", "f", processes=2).close()
        held = Home(path / part, "f", processes=2) if part != "." else Lock(path)
        with pytest.raises(StateHeld):
            set_aside(path, path.with_name("kept"), "f")
        assert path.exists()
        held.release() if isinstance(held, Lock) else held.close()

    def test_not_one_of_something_else(self, tmp_path):
        path = tmp_path / "album"
        path.mkdir()
        (path / "photo.jpg").write_bytes(b"")
        with pytest.raises(NoState, match=r"photo\.jpg and no FORMAT"):
            set_aside(path, path.with_name("kept"), "f")
        assert path.exists()

    @pytest.mark.parametrize("place", ["/proc/footfall", "file", "file/below"])
    def test_a_place_where_no_directory_can_be(self, tmp_path, place):
        (tmp_path / "file").write_text("")
        with pytest.raises(StateUnreachable, match="must be a directory that can be made and written in"):
            Home(tmp_path / place, "f")
        vacant(tmp_path / place)


class TestOwner:
    """One owner, and starts that are counted."""

    def test_a_second_start_is_refused_and_names_the_first(self, path):
        first = Home(path, "f")
        with pytest.raises(StateHeld, match=str(os.getpid())):
            Home(path, "f")
        assert holder(path) == str(os.getpid())
        first.close()
        assert holder(path) is None
        Home(path, "f").close()

    def test_a_child_that_inherited_it_holds_it_on(self, path):
        lock = Lock(path)
        wait = "import sys; sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE, pass_fds=(lock.fd,))
        lock.release()
        with pytest.raises(StateHeld):
            Lock(path)
        child.communicate()
        Lock(path).release()

    def test_starts_by_cause(self, path):
        home = Home(path, "f")
        assert home.begins() == {"first": 1}
        assert home.begins() == {"first": 1, "crash": 1}
        home.ends()
        assert home.begins() == {"first": 1, "crash": 1, "drained": 1}
        home.close()


class TestVersions:
    """What the mark says of the tables is compared before anything is touched."""

    def checked(self, path, reads):
        home = Home(path, "f")
        try:
            home.checked(CHAINS, ENDS, {"f.a": reads, "f.b": {}})
        finally:
            home.close()

    def noted(self, path):
        return json.loads((path / "FORMAT").read_text())["tables"]["f.a"]

    def test_a_newer_state_is_refused_with_its_table_and_left_as_it_is(self, path):
        runs(path, b"ex-zero!", "a", Crash)
        self.checked(path, {1: (1,), 2: (1, 2)})
        half_committed(path, "f.b", 2, None, b"ex-zero!")
        before = (path / "FORMAT").read_text(), snapshots(path)
        with pytest.raises(
            UnknownVersion, match=r"table 2 of f\.a .* version 2, this program reads version 1: run the"
        ):
            self.checked(path, {1: (1,), 2: (1,)})
        with pytest.raises(UnknownVersion, match=r"table 2 of f\.a .* reads no such table: run the newer"):
            self.checked(path, {1: (1,)})
        with pytest.raises(UnknownVersion):
            examined(path, CHAINS, ENDS, {"f.a": {1: (1,)}})
        assert ((path / "FORMAT").read_text(), snapshots(path)) == before

    def test_an_older_state_is_read_where_there_is_a_way_and_both_versions_are_noted(self, lived):
        self.checked(lived, {1: (1,)})
        self.checked(lived, {1: (1, 2), 5: (3,)})
        assert self.noted(lived) == {"1": [1, 2], "5": [3]}
        with pytest.raises(
            UnknownVersion, match=r"may have values of version 1, .* run a program that reads version 1"
        ):
            self.checked(lived, {1: (2, 3), 5: (3,)})
        assert self.noted(lived) == {"1": [1, 2], "5": [3]}

    def test_a_state_from_before_marks_named_tables_gets_them(self, lived):
        mark = json.loads((lived / "FORMAT").read_text())
        del mark["tables"]
        (lived / "FORMAT").write_text(json.dumps(mark))
        with pytest.raises(UnknownVersion):
            self.checked(lived, {1: (2,)})
        self.checked(lived, {1: (1, 2)})
        assert self.noted(lived) == {"1": [1, 2]}
        assert json.loads((lived / "FORMAT").read_text()) == mark | {"tables": {"f.a": {"1": [1, 2]}, "f.b": {}}}

    def test_a_new_state_holds_what_is_written_now(self, path):
        self.checked(path, {1: (1,)})
        self.checked(path, {1: (4, 5)})
        assert self.noted(path) == {"1": [5]}

    def test_a_mark_that_makes_no_sense(self, lived):
        (lived / "FORMAT").write_text(json.dumps(json.loads((lived / "FORMAT").read_text()) | {"tables": {"f.a": 1}}))
        with pytest.raises(StateDamaged, match="mark"):
            self.checked(lived, {1: (1,)})


def test_step_ids_are_those_of_the_golden_file():
    from flows.ports import FLOW_STEPS, chains, end_ids

    golden = (Path(__file__).parents[1] / "golden" / "step_ids.txt").read_text().split("\n")[:-1]
    found = [*((flow, 1) for flow in FLOW_STEPS), ("activation", 8)]
    shipped = [
        " ".join((name, str(number), *(shards if shards != ("0",) else ())))
        for of in found
        for name, (number, shards) in chains(*of).items()
    ]
    shipped += [name for flow in FLOW_STEPS for name in end_ids(flow)]
    assert shipped == golden


def test_tables_are_those_of_the_golden_file(tmp_path):
    """A line that changes is a state on disk that changes; each flow's are the same in every deployment."""
    from flows.deployment import EXAMPLE, Deployment
    from flows.ports import FLOW_STEPS
    from flows.tables import declared

    def told(deployment):
        for of in [*((flow, 1) for flow in FLOW_STEPS), ("activation", 8)]:
            for step, tables in declared(deployment, *of).items():
                for table, reads in sorted(tables.items()):
                    yield " ".join((step, str(table), *map(str, reads)))

    golden = (Path(__file__).parents[1] / "golden" / "tables.txt").read_text().split("\n")[:-1]
    assert list(told(Deployment.load(EXAMPLE, None))) == golden
    shutil.copy(EXAMPLE / "venue.geojson", tmp_path)
    (tmp_path / "models").mkdir()
    bare = Deployment.load(tmp_path, None)
    assert (bare.model, bare.rules.campaigns, bare.rules.segments) == (None, {}, {})
    assert list(told(bare)) == golden
