"""What `footfall run` refuses: before it touches anything, with the code that is promised, and with words that help."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli import _words_of_run, app
from flows.deployment import EXAMPLE
from flows.joining import kafka
from flows.remedies import remedied
from flows.run import prepared
from flows.settings import WrongUse, load
from flows.start import LEASH, Start
from flows.supervise import command_of
from operators.connectors.cluster import OtherLanes, RowsGone, TopicsMissing
from operators.connectors.owner import OwnerUnreadable
from operators.connectors.subjects import NotRegistered
from operators.connectors.tails import OtherOutputs, OutputsMissing, TailGone, TopicsAnew
from operators.state.home import ChangedShape, ForeignState, Home, NoState
from operators.state.lock import Lock, StateHeld, StateUnreachable
from operators.state.recovery import RecoveryFault
from operators.state.store import StateAhead, StateBehind, StateDamaged, StateForked, UnknownVersion
from tests.unit.starting import ROOT, settled


@pytest.fixture
def shop(tmp_path):
    """A shop whose broker is away."""
    folder = tmp_path / "a shop"
    folder.mkdir()
    for name in ("campaigns", "segments", "templates"):
        shutil.copytree(EXAMPLE / name, folder / name)
    shutil.copy(EXAMPLE / "venue.geojson", folder)
    return settled(folder)


def changed(folder, old, new):
    text = (folder / "footfall.toml").read_text()
    assert old in text
    (folder / "footfall.toml").write_text(text.replace(old, new))


def asked(folder, flow="store", **more):
    return Start(flow=flow, config=folder / "footfall.toml", **more)


def ran(folder, flow, *words):
    """Run to the end: exit code, what was said as events, and what in plain words."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", flow, "--config", str(folder / "footfall.toml"), *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = done.stderr.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return done.returncode, events, "\n".join(line for line in lines if not line.startswith("{"))


def understood(command):
    """What the command line reads in a command that we printed."""
    group, (_, *words) = get_command(app), shlex.split(command)
    while hasattr(group, "commands"):
        group = group.commands[words.pop(0)]
    return group.make_context(None, words).params


def lived(path, flow, **shape):
    """A directory that a flow has begun."""
    home = Home(path, flow, **shape)
    home.begins()
    home.ends()
    home.close()
    return path


def names(path):
    return sorted(one.name for one in path.iterdir())


class TestRemedies:
    """What is said after what is wrong."""

    START = Start(
        flow="presence", config=Path("a shop/footfall.toml"), processes=2, insecure=True, accept_loss=("web.event:0",)
    )
    AGAIN = "footfall run presence --config 'a shop/footfall.toml' --processes 2 --insecure --accept-loss web.event:0"

    @pytest.mark.parametrize("kind", [StateAhead, StateBehind, StateDamaged, StateForked, RecoveryFault])
    def test_a_state_that_is_lost_may_be_begun_anew(self, kind):
        said = remedied(kind("it is lost"), self.START)
        assert "begin anew, which keeps the old directory aside and forgets all that was known in it: " in said
        assert said.endswith(f"{self.AGAIN} --from-scratch")
        assert "footfall doctor --config 'a shop/footfall.toml' --flow presence --insecure" in said

    @pytest.mark.parametrize("kind", [ChangedShape, OtherLanes, OtherOutputs, UnknownVersion])
    def test_what_was_changed_on_purpose_may_too_and_is_told_what_that_forgets(self, kind):
        said = remedied(kind("it was begun with another"), self.START)
        assert "all the same" in said
        assert "forgets all" in said
        assert said.endswith("--from-scratch")

    @pytest.mark.parametrize("kind", [StateHeld, StateUnreachable, ForeignState, NoState])
    def test_what_a_new_state_would_not_mend_is_not_offered_one(self, kind):
        assert remedied(kind("it is somebody else's"), self.START) == "it is somebody else's"

    @pytest.mark.parametrize(
        ("error", "command"),
        [
            (TopicsMissing("x"), "footfall topics create --apply --config 'a shop/footfall.toml' --insecure"),
            (OutputsMissing("x"), "footfall topics create --apply --config 'a shop/footfall.toml' --insecure"),
            (OwnerUnreadable("x"), "footfall topics create --apply --config 'a shop/footfall.toml' --insecure"),
            (NotRegistered("x"), "footfall schemas register --config 'a shop/footfall.toml' --insecure"),
            (RowsGone({"a:1": "x", "b:2": "y"}), f"{AGAIN} --accept-loss a:1 --accept-loss b:2"),
            (TailGone("x", ("a:1", "b:2")), f"{AGAIN} --accept-loss a:1 --accept-loss b:2"),
            (TopicsAnew("x", ("a:0", "a:1")), f"{AGAIN} --accept-loss a:0 --accept-loss a:1"),
        ],
    )
    def test_a_command_is_whole(self, error, command):
        assert remedied(error, self.START).endswith(command)

    def test_a_command_of_run_is_understood_by_run(self, monkeypatch):
        said = self.START.again("--from-scratch", "--accept-loss", "pos.receipt:3")
        read = _words_of_run(shlex.split(said)[2:])
        assert (read.flow, read.config, read.processes, read.insecure, read.from_scratch, read.accept_loss) == (
            "presence", self.START.config, 2, True, True, ["web.event:0", "pos.receipt:3"]
        )  # fmt: skip

    @pytest.mark.parametrize("words", [("doctor",), ("schemas", "register"), ("topics", "create", "--apply")])
    def test_a_command_beside_it_is_understood_and_as_open(self, words):
        asked = understood(self.START.beside(*words))
        assert (asked["config"], asked["insecure"]) == (self.START.config, True)
        assert asked.get("flow", "presence") == "presence"
        assert not understood(Start(flow="presence", config=Path("c")).beside(*words))["insecure"]

    def test_one_of_a_cluster_is_started_again_as_itself_and_a_child_as_its_supervisor(self, monkeypatch):
        one = Start(flow="presence", config=Path("c.toml"), processes=2, process=1)
        assert one.again().endswith("--processes 2 --process 1")
        monkeypatch.setenv(LEASH, "3")
        assert one.again().endswith("--processes 2")

    def test_a_child_does_not_move_the_state_aside_again(self):
        assert "--from-scratch" not in command_of(Start(flow="presence", config=Path("c"), from_scratch=True), 0)


class TestSettings:
    """What settings alone show to be wrong."""

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ('bootstrap = "127.0.0.1:1"', "", r"footfall.toml: bootstrap in \[kafka\] must name a broker, host:port$"),
            ('url = "http://127.0.0.1:1"', "", r"footfall.toml: url in \[registry\] must name a schema registry$"),
            ('key_file = ".key"', "", r"footfall.toml: \[pseudonym\] key_file must name a key"),
            ("127.0.0.1:1", "10.0.0.1:1", r"footfall.toml: profile in \[kafka\] must not be plaintext"),
        ],
    )
    def test_what_is_missing_is_named_with_its_file(self, shop, old, new, told):
        changed(shop, old, new)
        with pytest.raises(WrongUse, match=told):
            prepared(asked(shop), kafka, print)

    @pytest.mark.parametrize("listen", ["127.0.0.1:99999", "127.0.0.1:65536", "[::1]", "127.0.0.1"])
    def test_a_port_that_there_is_not(self, shop, listen):
        changed(shop, "127.0.0.1:0", listen)
        with pytest.raises(WrongUse, match=r"footfall.toml:\d+: listen in \[metrics\] must be host:port, with a port"):
            load(shop / "footfall.toml")

    def test_a_port_for_each_process(self, shop):
        changed(shop, "127.0.0.1:0", "127.0.0.1:65534")
        prepared(asked(shop, "presence", processes=2), kafka, print)
        with pytest.raises(WrongUse, match="a port for each of 3 processes"):
            prepared(asked(shop, "presence", processes=3), kafka, print)
        prepared(asked(shop, "presence", processes=3, process=2), kafka, print)

    def test_settings_that_are_no_text(self, shop):
        (shop / "footfall.toml").write_bytes(b'[site]\nid = "caf\xe9"\n')
        with pytest.raises(WrongUse, match=r"footfall.toml:2: settings must be text in UTF-8"):
            load(shop / "footfall.toml")

    @pytest.mark.parametrize(
        ("named", "meant"),
        [("web.evnt:1", "web.event:1"), ("eu.web.event:1", "web.event:1"), ("actoin.command:2", "action.command:2")],
    )
    def test_losses_of_a_topic_that_the_flow_does_not_know(self, shop, named, meant):
        with pytest.raises(WrongUse, match=f"store reads or writes, without prefix.* mean {meant}"):
            prepared(asked(shop, accept_loss=(named,)), kafka, print)
        prepared(asked(shop, accept_loss=(meant,)), kafka, print)

    def test_losses_of_another_flow(self, shop):
        with pytest.raises(WrongUse, match="presence reads or writes"):
            prepared(asked(shop, "presence", accept_loss=("pos.receipt:0",)), kafka, print)


class TestNothingTouched:
    """Exit codes, and what lies on the disk afterwards."""

    def test_wrong_use_is_an_event_and_plain_words_and_leaves_no_directory(self, shop):
        changed(shop, 'url = "http://127.0.0.1:1"', "")
        code, events, plain = ran(shop, "store")
        assert code == 2
        assert [one["event"] for one in events] == ["refused"]
        assert (events[0]["code"], events[0]["flow"]) == (2, "store")
        assert plain == events[0]["cause"]
        assert not (shop / "state").exists()

    def test_a_state_is_not_set_aside_for_a_start_that_is_refused(self, shop):
        lived(shop / "state", "store")
        changed(shop, 'bootstrap = "127.0.0.1:1"', "")
        code, _, plain = ran(shop, "store", "--from-scratch")
        assert (code, "bootstrap" in plain) == (2, True)
        assert [name for name in names(shop) if name.startswith("state")] == ["state"]
        changed(shop, "[kafka]", '[kafka]\nbootstrap = "127.0.0.1:1"')
        (shop / "campaigns" / "wrong.yaml").write_text("campaign: [")
        for words in (("store",), ("presence", "--processes", "2")):
            assert ran(shop, *words, "--from-scratch")[0] == 2
        assert [name for name in names(shop) if name.startswith("state")] == ["state"]

    def test_nor_for_one_that_cannot_listen(self, shop):
        lived(shop / "state", "store")
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            changed(shop, "127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")
            code, events, _ = ran(shop, "store", "--from-scratch")
        assert code == 2
        assert "listen in [metrics] must be a free address" in events[-1]["cause"]
        assert [name for name in names(shop) if name.startswith("state")] == ["state"]
        assert json.loads((shop / "state" / "starts.json").read_text())["ended"]

    @pytest.mark.parametrize("words", [("store",), ("presence", "--processes", "2")])
    def test_a_directory_that_is_held(self, shop, words):
        """Whoever holds it has the port, too: that is not what is wrong."""
        lock = Lock(shop / "state")
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            changed(shop, "127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")
            code, events, plain = ran(shop, *words, "--from-scratch")
        lock.release()
        assert (code, plain) == (1, "")
        assert events[-1]["event"] == "refused"
        assert f"held by process {os.getpid()}" in events[-1]["cause"]
        assert "--from-scratch" not in events[-1]["cause"]

    def test_a_directory_of_another_flow(self, shop):
        lived(shop / "state", "store")
        code, events, plain = ran(shop, "presence", "--processes", "2", "--from-scratch")
        assert (code, plain) == (1, "")
        assert "belongs to flow store, not to presence" in events[-1]["cause"]
        assert [name for name in names(shop) if name.startswith("state")] == ["state"]

    @pytest.mark.parametrize("words", [("store",), ("presence", "--processes", "2", "--from-scratch")])
    def test_a_directory_that_is_none(self, shop, words):
        (shop / "state").write_text("a file")
        code, events, plain = ran(shop, *words)
        assert code == 2
        assert plain == events[-1]["cause"]
        assert "footfall.toml: dir in [state]: " in plain
        assert "File exists" in plain

    def test_one_of_a_cluster_sets_its_own_part_aside(self, shop):
        for number in (0, 1):
            lived(shop / "state" / f"process-{number:02}", "presence", processes=2)
        code, events, _ = ran(shop, "presence", "--processes", "2", "--process", "1", "--from-scratch")
        assert code == 1, "the broker is away"
        kept = Path(next(one["kept"] for one in events if one["event"] == "from_scratch"))
        assert kept.name.startswith("state.process-01.before-")
        assert json.loads((kept / "starts.json").read_text())["ended"]
        assert names(shop / "state") == ["process-00", "process-01"]
        assert json.loads((shop / "state" / "process-01" / "starts.json").read_text())["starts"] == {"first": 1}

    def test_nor_for_several_of_which_one_cannot_listen(self, shop):
        lived(shop / "state", "activation", shards=8)
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            changed(shop, "127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1] - 1}")
            changed(shop, "[topics]", "[engine]\nshards = 8\n[topics]")
            code, _, plain = ran(shop, "activation", "--processes", "2", "--from-scratch")
        assert code == 2
        assert "listen in [metrics] must be a free address" in plain
        assert [name for name in names(shop) if name.startswith("state")] == ["state"]
        assert json.loads((shop / "state" / "starts.json").read_text()) == {"starts": {"first": 1}, "ended": True}
