"""What a state directory says of itself: its key, whose it is, its starts, its tables; and how it is moved aside."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from operators.state.aside import set_aside
from operators.state.home import ForeignState, Home, NoState, Tenancy, examined
from operators.state.lock import Lock, StateHeld, StateUnreachable, holder, vacant
from operators.state.mark import mark_of, put_mark
from operators.state.store import StateDamaged, UnknownVersion
from schemas.pseudonym import fingerprint
from tests.unit import counting
from tests.unit.counting import CHAINS, ENDS, Crash, half_committed, runs, snapshots

path, lived = counting.path, counting.lived


class TestDeployment:
    """The flow that a directory is of, and among how many processes."""

    def test_a_directory_of_something_else(self, tmp_path):
        (tmp_path / "photo.jpg").write_bytes(b"")
        with pytest.raises(StateDamaged, match="photo"):
            Home(tmp_path, "f")

    @pytest.mark.parametrize(("flow_name", "processes"), [("g", 1), ("f", 2)])
    def test_a_directory_of_another_deployment(self, lived, flow_name, processes):
        with pytest.raises(ForeignState):
            Home(lived, flow_name, processes=processes)
        Home(lived, "f").close()


class TestMark:
    """How a directory's word about itself outlives a loss of power."""

    def test_it_is_on_the_volume_before_it_takes_its_name_and_then_the_name_and_only_where_it_changes(
        self, tmp_path, monkeypatch
    ):
        done = []
        sync, replace = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda fd: (done.append(Path(f"/proc/self/fd/{fd}").resolve()), sync(fd)))
        monkeypatch.setattr(Path, "replace", lambda one, to: (done.append(to.name), replace(one, to))[1])
        put_mark(tmp_path, {"format": 1})
        put_mark(tmp_path, {"format": 1})
        assert done == [tmp_path / "FORMAT.new", "FORMAT", tmp_path]


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


class TestFirst:
    """Whether claims on the outputs can be those of an earlier start from here."""

    def first(self, path, *, joins=False):
        home = Home(path, "f")
        try:
            home.checked(CHAINS, ENDS, {})
            found = home.first
            if joins:
                home.joins()
            return found
        finally:
            home.close()

    def test_a_start_that_was_refused_is_followed_by_a_first_one(self, tmp_path):
        assert self.first(tmp_path / "new")
        assert self.first(tmp_path / "new", joins=True)
        assert not self.first(tmp_path / "new")

    def test_a_state_with_snapshots_is_no_first_one_whatever_its_mark_says(self, lived):
        assert "joined" not in json.loads((lived / "FORMAT").read_text())
        assert not self.first(lived)
        assert json.loads((lived / "FORMAT").read_text())["joined"] is True

    def test_of_those_who_share_a_state_one_looks_for_all(self, path):
        assert [Tenancy(path, leads=leads).first for leads in (True, False)] == [True, False]
        Tenancy(path, leads=True).joins()
        assert not Tenancy(path, leads=True).first


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
        assert json.loads((lived / "FORMAT").read_text()) == mark | {
            "tables": {"f.a": {"1": [1, 2]}, "f.b": {}},
            "joined": True,
        }

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
