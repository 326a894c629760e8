"""Rights on a broker that asks for them: those of docs/deploy.md are enough, and one that is missing is named."""

import itertools
import re
import time
from pathlib import Path

import pytest

from flows.doctor import doctor
from flows.joining import live_topics
from flows.replay import FLOWS
from operators.connectors.owner import OWNER
from tests.broker.jars import free_ports
from tests.broker.secured import secured
from tests.broker.skipping import or_skipped
from tests.broker.test_deploy_page import PARTS
from tests.broker.test_run import LIMIT_S, asked, done, footfall, shop, until

PREFIX, FLOW = "mad.", "store"
UNCLAIMED = "own."
"""Prefix of topics on which one worker alone is started: its doctor finds no claim of another."""
NUMBERS = itertools.count()


def documented(prefix=PREFIX):
    """The table of the page for a flow: resource type, resource, operation."""
    rows = re.findall(r"(?m)^\| (topic|group|transactional id) \| (.*) \| ([A-Z_, ]+) \|$", PARTS["2"])
    assert len(rows) == 4
    found = []
    for kind, which, operations in rows:
        names = [
            name.replace("<prefix>", prefix).replace("<flow>", FLOW)
            for name in re.findall(r"`([^`]+)`", which)
            if name != OWNER
        ]
        if kind == "topic":
            own = FLOWS[FLOW].writes | {OWNER} if OWNER in which else live_topics(FLOW)
            names = [prefix + name for name in own]
        names = [f"{name}*" for name in names] if kind == "transactional id" else names
        kind = kind.upper().replace(" ", "_")
        found += [(kind, name, operation) for name in names for operation in operations.split(", ")]
    return found


@pytest.fixture(scope="module")
def doors(folder):
    one = or_skipped(secured, folder / "rights")
    with one.kafka:
        yield one


@pytest.fixture(scope="module")
def prepared(doors, registry, folder):
    """Topics and schemas, made by somebody who may; the settings of a worker are made from these."""
    for prefix in (PREFIX, UNCLAIMED):
        made = shop(folder / f"rights-shop-{prefix}", doors.kafka.bootstrap, registry, prefix)
        done("topics", "create", "--apply", "--config", str(made / "footfall.toml"))
        done("schemas", "register", "--config", str(made / "footfall.toml"))


@pytest.fixture
def worker(doors, registry, prepared, tmp_path):
    """Makes a shop whose worker may do what is named; answers its settings and where its page is."""

    def made(rights, prefix=PREFIX):
        name = f"worker-{next(NUMBERS)}"
        doors.user(name, "right")
        doors.grant(name, rights)
        own = shop(tmp_path / name, doors.sasl, registry, prefix)
        (own / "password").write_text("right")
        (own / "password").chmod(0o400)
        (port,) = free_ports(1)
        known = (
            f'profile = "sasl_ssl"\nca_file = "{doors.authority.file}"\n'
            f'username = "{name}"\npassword_file = "password"\nwait = '
        )
        settings = own / "footfall.toml"
        settings.write_text(settings.read_text().replace("wait = ", known).replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        return str(settings), port, name

    return made


def test_a_worker_with_the_rights_of_the_page_gets_ready_and_is_well(worker):
    config, port, _ = worker(documented(UNCLAIMED), UNCLAIMED)
    report = footfall("doctor", "--config", config)
    out, err = report.communicate(timeout=LIMIT_S)
    assert report.returncode == 0, out + err
    assert "ours to read and write" in out + err
    assert f"not looked at: WRITE on transactional ids {UNCLAIMED}{FLOW}.records.*" in out + err
    process = footfall("run", FLOW, "--config", config)
    try:
        until(process, "flowing")
        limit = time.monotonic() + LIMIT_S
        while asked(port, "/ready")[0] != 200:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < limit
            time.sleep(0.1)
        report = footfall("doctor", "--config", config)
        out, err = report.communicate(timeout=LIMIT_S)
        assert report.returncode == 0, out + err
        assert f"127.0.0.1:{port} is ready, 0 rows behind, the last durable epoch is " in out + err
        process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("TOPIC", "mad.sensing.position", "DESCRIBE_CONFIGS"), "no right to DESCRIBE_CONFIGS on topic {}; grant"),
        (("TOPIC", "mad.sensing.position", "READ"), "no right to DESCRIBE and READ on topic {}; grant"),
        (("TOPIC", "mad.footfall.owner", "WRITE"), "no right to WRITE on topic {}; grant"),
        (("GROUP", "footfall.store", "READ"), "group {}: "),
        (("GROUP", "footfall-read-back", "READ"), "group {}: "),
        (("TRANSACTIONAL_ID", "mad.store.records.*", "WRITE"), "; grant WRITE on this transactional id"),
    ],
    ids=lambda one: "-".join(one[1:]) if isinstance(one, tuple) else "",
)
def test_a_right_that_is_missing_is_named_with_operation_and_resource(worker, missing, named):
    rights = documented()
    rights.remove(missing)
    config, _, name = worker(rights)
    named = named.format(missing[1])
    process = footfall("run", FLOW, "--config", config, "--from-scratch")  # others have claimed the outputs before
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, err
    said = err.splitlines()[-1]
    assert named in said
    assert "topics create" not in said, "what is hidden is not missing"
    if missing[0] == "TRANSACTIONAL_ID":
        assert "mad.store.records.out-00" in said
        return
    others = {"earlier life"}  # that somebody else has claimed the outputs is told, too
    (wrong,) = [one.about for one in doctor(FLOW, Path(config)) if not one.well and one.what not in others]
    kind, operation = missing[0].lower(), missing[2].title().replace("_", "")
    assert f"--allow-principal User:{name}" in wrong
    assert f"--operation {operation} --{kind} {missing[1]}" in wrong
