"""A directory that says of itself that a flow has run from it, and holds no state: refused, and not begun anew in silence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from flows import doctor_home
from flows.deployment import EXAMPLE
from flows.doctor import doctor
from flows.remedies import remedied
from flows.start import Start
from operators.state.home import ForeignState, Home, StateLost, Tenancy, examined
from operators.state.lock import Lock, StateHeld, holder
from operators.state.mark import formatted, mark_of
from operators.state.recovery import RecoveryFault
from operators.state.rocks import RocksStore
from operators.state.store import TOGETHER
from tests.unit.starting import OUTSIDE, ROOT, SETTINGS, settled

CHAINS = {"f.a": (0, ("0",))}


def start(path, *, joins=False, processes=1):
    """The check of a start, and as far as the outputs where it `joins`; whether it is a first one."""
    home = Home(path, "f", processes=processes)
    try:
        home.checked(CHAINS, (), {})
        first = home.first
        if joins:
            home.joins()
        return first
    finally:
        home.close()


def commits(path):
    store = RocksStore(path, 0)
    store.claim(None)
    store.open("0")
    store.put(b"key", b"value")
    store.commit()
    store.close()


@pytest.fixture
def joined(tmp_path):
    """A state directory of a flow that has run."""
    path = tmp_path / "state"
    start(path, joins=True)
    commits(path)
    return path


@pytest.fixture
def shop(tmp_path):
    """A shop whose broker is away."""
    return settled(shutil.copytree(EXAMPLE, tmp_path / "shop"))


def loses(path):
    """State and recovery store go, and all that is small stays."""
    shutil.rmtree(path / "0")
    shutil.rmtree(path / "recovery")


class TestGone:
    """Nothing is left but what the directory says of itself."""

    def test_a_start_and_a_dry_run_refuse_it_and_leave_it_as_it_is(self, joined):
        loses(joined)
        before = mark_of(joined)
        for refused in (lambda: start(joined), lambda: examined(joined, CHAINS, (), {})):
            with pytest.raises(StateLost, match=r"f has run before, .*FORMAT says so, and its state is not in "):
                refused()
        assert mark_of(joined) == before
        assert not (joined / "recovery").exists()

    def test_it_is_told_with_what_to_do(self, joined):
        loses(joined)
        with pytest.raises(StateLost) as lost:
            start(joined)
        said = remedied(lost.value, Start(flow="store", config=Path("footfall.toml")))
        assert TOGETHER in said
        assert said.endswith("footfall run store --config footfall.toml --from-scratch")

    def test_the_directory_of_a_replay_is_not_one_of_a_run(self, tmp_path):
        formatted(tmp_path)
        with pytest.raises(ForeignState, match="is the state of a replay, not of f: name another dir"):
            Home(tmp_path, "f")

    def test_that_of_one_process_of_several(self, tmp_path):
        for process in ("process-00", "process-01"):
            start(tmp_path / process, joins=True, processes=2)
            commits(tmp_path / process)
        loses(tmp_path / "process-01")
        assert not start(tmp_path / "process-00", processes=2)
        with pytest.raises(StateLost, match="process-01"):
            start(tmp_path / "process-01", processes=2)

    def test_one_half_is_told_as_before(self, joined):
        shutil.rmtree(joined / "recovery")
        with pytest.raises(RecoveryFault, match="there is state beside it"):
            start(joined)

    def test_a_start_that_never_came_to_its_outputs_is_begun_again(self, tmp_path):
        assert start(tmp_path)
        shutil.rmtree(tmp_path / "recovery")
        assert start(tmp_path)
        assert (tmp_path / "recovery").exists()

    def test_a_crash_before_the_first_epoch_is_no_loss(self, joined):
        shutil.rmtree(joined / "0")
        assert not start(joined)


class TestLock:
    """A look at who holds a directory, beside a start."""

    def test_a_look_stops_no_start(self, tmp_path):
        Lock(tmp_path).release()
        over = Event()

        def looks():
            while not over.is_set():
                holder(tmp_path)

        others = [Thread(target=looks) for _ in range(2)]
        for one in others:
            one.start()
        try:
            for _ in range(200):
                Lock(tmp_path).release()
        finally:
            over.set()
            for one in others:
                one.join()

    def test_who_holds_it_is_named_by_its_own_number(self, tmp_path):
        lock = Lock(tmp_path)
        with pytest.raises(StateHeld, match=f"held by process {os.getpid()}: "):
            Lock(tmp_path)
        lock.release()


class TestDoctor:
    """What the doctor says of it, and of a directory that a refused start has made."""

    def test_it_says_what_a_start_says(self, shop):
        (shop / "footfall.toml").write_text(SETTINGS.replace(OUTSIDE, ""))
        state = shop / "state"
        home = Home(state, "store")
        home.checked({"store.decode": (0, ("0",))}, ("store.topics", "store.records"), {})
        home.joins()
        home.close()
        assert {one.what: one for one in doctor(None, shop / "footfall.toml")}["state"].well
        shutil.rmtree(state / "recovery")
        found = {one.what: one for one in doctor(None, shop / "footfall.toml")}["state"]
        assert not found.well
        assert "store has run before, " in found.about
        assert "--from-scratch" in found.remedy

    def test_a_directory_without_state_is_a_first_start_also_where_one_was_refused(self, tmp_path):
        path = tmp_path / "state"
        assert doctor_home.first(path)
        start(path)
        assert doctor_home.first(path)
        assert doctor_home.empty(path)
        start(path, joins=True)
        assert doctor_home.first(path)
        assert not doctor_home.empty(path)
        commits(path)
        assert not doctor_home.first(path)
        assert not doctor_home.empty(path)


def test_processes_that_share_a_state_are_not_started_on_one_that_is_gone(shop):
    with (shop / "footfall.toml").open("a") as settings:
        settings.write("[engine]\nshards = 8\n")
    command = [sys.executable, "-m", "flows.cli", "run", "activation", "--config", str(shop / "footfall.toml")]

    def ran():
        done = subprocess.run(
            [*command, "--processes", "2"], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]

    assert any(line["event"] == "supervising" for line in ran()[1])
    Tenancy(shop / "state", leads=True).joins()
    shutil.rmtree(shop / "state" / "recovery")
    code, said = ran()
    assert code == 1
    assert [line["event"] for line in said] == ["refused"]
    assert "activation has run before, " in said[0]["cause"]
    assert said[0]["cause"].endswith("--processes 2 --from-scratch")
