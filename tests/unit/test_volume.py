"""A volume that takes no more: told as that, with where it is, and never as damage that a new state would mend."""

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.deployment import EXAMPLE
from flows.doctor import doctor
from flows.remedies import remedied
from flows.start import Start
from operators.state.home import Home
from operators.state.lock import StateHeld
from operators.state.recovery import RecoveryFault, clean, create, examine
from operators.state.rocks import RocksStore
from operators.state.store import StateDamaged
from operators.state.volume import VolumeFault
from tests.unit.starting import OUTSIDE, ROOT, SETTINGS, settled

CHAINS = {"f.a": (0, ("0",))}
START = Start(flow="store", config=Path("footfall.toml"))
TOLD = r"cannot be read or written: .*\. The volume at /.* has .* MiB free: make space"
ROWS = 300
"""Snapshots of more bytes together than the index of a log takes, so there is room for that and not for their end."""
SHARDED = f"""{SETTINGS}
[engine]
shards = 8
"""


@contextmanager
def full(size=0):
    """No file grows past a size: the system refuses the write as it does on a full volume."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def tmpfs(at):
    """A small volume of its own."""
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(at)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no volume can be mounted here: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def opened(path, token=None):
    store = RocksStore(path, 0)
    store.claim(token)
    try:
        store.open("0")
    except BaseException:
        store.close()
        raise
    return store


def lived(path):
    """A state of one commit, closed; answers its token."""
    home = Home(path, "f")
    home.checked(CHAINS, (), {})
    home.close()
    store = opened(path)
    store.put(b"key", b"value")
    token = store.commit()
    store.close()
    return token


def writes(store):
    for number in range(64):
        store.put(b"%d" % number, os.urandom(1 << 20))
        store.commit()


def fills(volume):
    with (volume / "rest").open("wb", buffering=0) as rest:
        while True:
            rest.write(b"x" * 512)


class TestRecovery:
    """The engine's store, closed as a drain leaves it."""

    @pytest.mark.parametrize("look", [examine, clean])
    def test_it_is_whole_and_is_not_told_as_damaged(self, tmp_path, look):
        create(tmp_path / "recovery")
        with full(), pytest.raises(VolumeFault, match="recovery cannot be read or written: disk I/O error"):
            look(tmp_path / "recovery")
        look(tmp_path / "recovery")

    def test_what_never_committed_cannot_be_deleted(self, tmp_path):
        create(tmp_path / "recovery")
        part = sqlite3.connect(tmp_path / "recovery" / "part-0.sqlite3")
        rows = [("f.a", str(key), 9, b"N." * 1_000) for key in range(ROWS)]
        part.executemany("INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)", rows)
        part.commit()
        part.close()
        with full(32 << 10):
            examine(tmp_path / "recovery")
            with pytest.raises(VolumeFault, match=TOLD):
                clean(tmp_path / "recovery")
        assert clean(tmp_path / "recovery")[1] == ROWS

    def test_it_cannot_be_made(self, tmp_path):
        with full(), pytest.raises(VolumeFault, match="recovery cannot be read or written: ") as refused:
            create(tmp_path / "recovery")
        assert "unwrap" not in str(refused.value)
        create(tmp_path / "recovery")
        assert examine(tmp_path / "recovery").resume == 1

    def test_somebody_else_has_it_open(self, tmp_path, monkeypatch):
        monkeypatch.setattr("operators.state.recovery._LOCKED_S", 0.0)
        create(tmp_path / "recovery")
        other = sqlite3.connect(tmp_path / "recovery" / "part-0.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateHeld, match="held by another process"):
            clean(tmp_path / "recovery")
        other.close()

    def test_what_is_damaged_is_told_as_that(self, tmp_path):
        create(tmp_path / "recovery")
        (tmp_path / "recovery" / "part-0.sqlite3").write_bytes(b"no database" * 1_000)
        with pytest.raises(RecoveryFault, match="is damaged"):
            examine(tmp_path / "recovery")


class TestRocks:
    """The state itself."""

    def test_it_cannot_be_opened(self, tmp_path):
        token = lived(tmp_path)
        with full(), pytest.raises(VolumeFault, match=TOLD):
            opened(tmp_path, token)
        opened(tmp_path, token).close()

    def test_it_cannot_be_written_and_is_let_go_of_all_the_same(self, tmp_path):
        token = lived(tmp_path)
        store = opened(tmp_path, token)
        with full(64 << 10):
            with pytest.raises(VolumeFault, match=TOLD):
                writes(store)
            store.close()
        again = opened(tmp_path, token)
        assert again.get(b"key") == b"value"
        again.close()

    def test_a_file_that_is_missing_is_damage(self, tmp_path):
        token = lived(tmp_path)
        for table in (tmp_path / "0" / "db").glob("MANIFEST-*"):
            table.unlink()
        with pytest.raises(StateDamaged):
            opened(tmp_path, token)

    def test_a_volume_that_is_full_indeed(self, tmp_path):
        with tmpfs(tmp_path / "small") as volume:
            state = volume / "state"
            store = opened(state, lived(state))
            with pytest.raises(VolumeFault, match=f"The volume at {volume} has .* MiB free") as refused:
                writes(store)
            store.close()
            assert "No space left on device" in str(refused.value)
            assert "--from-scratch" not in remedied(refused.value, START)
            with pytest.raises(OSError, match="No space left"):
                fills(volume)
            with pytest.raises(VolumeFault, match=f"The volume at {volume} has 0.0 MiB free"):
                examine(state / "recovery")


class TestNotes:
    """What a directory holds beside its state."""

    def test_a_lock_without_room_for_its_line_is_free_again(self, tmp_path):
        with (
            full(),
            pytest.raises(VolumeFault, match=r"owner\.lock cannot be read or written: File too large\. The volume"),
        ):
            Home(tmp_path, "f")
        Home(tmp_path, "f").close()

    def test_a_mark_that_cannot_be_written_stays_as_it_was(self, tmp_path):
        home = Home(tmp_path, "f")
        before = (tmp_path / "FORMAT").read_text()
        with full(), pytest.raises(VolumeFault, match=r"FORMAT cannot be read or written: "):
            home.joins()
        assert (tmp_path / "FORMAT").read_text() == before
        home.close()

    def test_a_drain_ends_well_also_where_it_cannot_be_noted(self, tmp_path):
        home = Home(tmp_path, "f")
        home.begins()
        with full():
            home.ends()
        assert home.begins() == {"first": 1, "crash": 1}
        home.close()


class TestTold:
    """What a start and the doctor say of it."""

    def test_what_the_engine_says_of_it_while_a_flow_runs(self):
        panic = RuntimeError(
            "(src/run.rs:167:13) called `Result::unwrap()` on an `Err` value: SqliteFailure(Error { code: DiskFull,"
            ' extended_code: 13 }, Some("database or disk is full"))'
        )
        said = remedied(panic, START)
        assert said.startswith(
            "the recovery store cannot be written: database or disk is full. Make space on its volume"
        )
        assert "--from-scratch" not in said

    def test_several_processes_are_not_started_and_nothing_is_offered_that_forgets(self, tmp_path):
        folder = settled(shutil.copytree(EXAMPLE, tmp_path / "shop"), SHARDED)
        command = [sys.executable, "-m", "flows.cli", "run", "activation", "--processes", "2"]

        def small():
            resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, resource.RLIM_INFINITY))

        for _ in ("the recovery store cannot be made", "nor looked at"):
            done = subprocess.run(
                [*command, "--config", str(folder / "footfall.toml")], preexec_fn=small, cwd=ROOT, timeout=120,
                capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            assert done.returncode == 1
            assert "Traceback" not in done.stderr
            refused = json.loads(done.stderr.splitlines()[-1])
            assert refused["event"] == "refused"
            assert "make space" in refused["cause"]
            assert "--from-scratch" not in refused["cause"]
            home = Home(folder / "state", "activation", shards=8)
            home.checked({}, (), {})
            home.close()
        (folder / "footfall.toml").write_text(SHARDED.replace(OUTSIDE, ""))
        with full(16 << 10):
            found = {one.what: one for one in doctor("activation", folder / "footfall.toml")}["state"]
        assert "make space" in found.about
        assert "--from-scratch" not in found.remedy
