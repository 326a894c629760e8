"""A small flow that counts in stores tied to epochs, its runs and crashes, and a look at what they leave."""

import pickle
import sqlite3
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from bytewax.testing import TestingSink

from operators.state.home import Home
from operators.state.rocks import RocksShard, RocksStore
from operators.state.store import StateFault

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
    """A state directory that a start has checked and nothing has run in yet."""
    start(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def lived(path):
    """The same after three items of a and two of b, well ended."""
    runs(path, b"ex-zero!", "a", "b", "a", "b", "a")
    return path
