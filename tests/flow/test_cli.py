"""The command line as a person meets it: what it prints where, and its exit codes."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from flows.deployment import EXAMPLE
from flows.simulate import write_directory

GARDEN = Path(__file__).parent.parent / "golden" / "garden" / "in"


def footfall(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    command = [sys.executable, "-m", "flows.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("garden")
    assert footfall("replay", "--in", GARDEN, "--out", folder).returncode == 0
    return folder


def test_json_goes_to_stdout_alone(tmp_path: Path) -> None:
    """Everything else is on stderr."""
    ran = footfall("replay", "--in", GARDEN, "--out", tmp_path / "out", "--json")
    summary = orjson.loads(ran.stdout)
    assert summary["flow"] == "store"
    assert summary.keys() == {"flow", "in", "out", "sha256", "seconds", "events_per_s"}
    assert "example key" in ran.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "footfall.toml",
            "[site]\nid = 'vlc-02'\nidd = 'x'\n",
            "footfall.toml:3: unknown setting idd in [site]; did you mean id?",
        ),
        ("footfall.toml", "[engine]\nepoch = 10\n", "footfall.toml:2: epoch in [engine] must be a duration"),
        (
            "footfall.toml",
            "[state]\nbackend = 'rocks'\n",
            "2: backend in [state] must be memory or rocksdb; got 'rocks'",
        ),
        ("footfall.toml", "[site]\nid = 'elsewhere'\n", "must be that of venue.geojson, 'vlc-02'; got 'elsewhere'"),
        ("campaigns/bulbs.yaml", "campaign: bulbs\nowner: x\nwen: {}\n", "campaigns/bulbs.yaml:3:1"),
        ("venue.geojson", "{}", "venue.geojson"),
        ("notes.txt", "hello", "notes.txt: a file must be"),
    ],
)
def test_what_does_not_check_stops_the_start(tmp_path: Path, name: str, text: str, said: str) -> None:
    """Exit 2, with file and line, and nothing is written."""
    source = tmp_path / "in"
    subprocess.run(["cp", "-r", GARDEN, source], check=True)
    (source / name).write_text(text)
    ran = footfall("replay", "--in", source, "--out", tmp_path / "out")
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("person", "at", "said"),
    [
        ("loyalty:marta-card", "11:00", ["bulbs: stayed in garden, and everything was in order", "member: true"]),
        ("email:marta@example.com", "2026-12-05T10:00:34Z", ["everything was in order"]),
        ("loyalty:jo-card", "11:00", ["bulbs", 'the condition "member"', "does not hold"]),
        ("loyalty:marta-card", "13:01", ["missed-you"]),
        ("loyalty:marta-card", "12:00", ["No decision was made", "in no zone then", "11:00:34"]),
        ("loyalty:stranger", "11:00", ["Nothing in this run is known under that identifier"]),
    ],
)
def test_explain_answers_in_words(out: Path, person: str, at: str, said: list[str]) -> None:
    """Why she got it, or why not, or why there is no record."""
    ran = footfall("campaign", "explain", "--in", out, "--of", GARDEN, "--person", person, "--at", at)
    assert ran.returncode == 0, ran.stderr
    for words in said:
        assert words in ran.stdout


def test_explain_says_how_much_was_missing(tmp_path: Path) -> None:
    """40 s of the 50 s that are asked for."""
    source = tmp_path / "in"
    subprocess.run(["cp", "-r", GARDEN, source], check=True)
    path = source / "campaigns" / "bulbs.yaml"
    path.write_text(path.read_text().replace("30s", "50s"))
    footfall("replay", "--in", source, "--out", tmp_path / "out")
    ran = footfall(
        "campaign",
        "explain",
        "--in",
        tmp_path / "out",
        "--of",
        source,
        "--person",
        "loyalty:marta-card",
        "--at",
        "11:00",
    )
    assert "of the 50 s that are asked for there" in ran.stdout


def test_a_token_is_printed_alone() -> None:
    """The recipe of the contract."""
    ran = footfall("identity", "token", "tag:ana-tag")
    assert ran.stdout == "tag:1:3z2kiuxszjrwxxxf6a7q\n"
    assert footfall("identity", "token", "visitor:7").returncode == 2


def test_the_example_lints_and_a_wrong_literal_is_fixed_on_demand(tmp_path: Path) -> None:
    """Nothing is rewritten in silence."""
    assert footfall("campaign", "lint", EXAMPLE).returncode == 0
    subprocess.run(["cp", "-r", EXAMPLE, tmp_path / "rules"], check=True)
    path = tmp_path / "rules" / "campaigns" / "shoes-intent.yaml"
    path.write_text(path.read_text().replace("score.intent > 0.3", "score.intent > 1"))
    ran = footfall("campaign", "lint", tmp_path / "rules")
    assert (ran.returncode, "E202" in ran.stderr) == (1, True)
    assert footfall("campaign", "lint", tmp_path / "rules", "--fix").returncode == 0
    assert "score.intent > 1.0" in path.read_text()


def test_dead_letters_open_for_repair(out: Path, tmp_path: Path) -> None:
    """With the deployment key, as they came."""
    assert footfall("dead-letter", "export", "--in", out / "ops.dead-letter.jsonl", "--out", tmp_path).returncode == 0
    assert (tmp_path / "sensing.position.jsonl").read_bytes() == b"this is no row\n"


def test_the_demo_keeps_its_contract() -> None:
    """Ana is told after 45 s, on her phone and on the screen; somebody is not, with a reason."""
    ran = footfall("demo", "--headless", "--seconds", 8, "--json")
    assert ran.returncode == 0, ran.stderr
    said = orjson.loads(ran.stdout)
    assert said.keys() == {
        "seed", "seconds", "events_in", "visits", "dwells", "decisions", "reasons", "actions", "delivered",
        "latency_ms", "late", "dead", "example",
    }  # fmt: skip
    example = said["example"]
    assert (example["person"], example["zone"], example["dwell_s"]) == ("Ana", "offers", 45.0)
    assert [one["channel"] for one in example["delivered"]] == ["SCREEN", "PUSH"]
    screen, push = (one["text"] for one in example["delivered"])
    assert "Ana" not in screen
    assert push.startswith("Hi Ana, ")
    assert said["reasons"].keys() & {"CLAUSE_FALSE", "CONSENT_MISSING"}
    assert said["latency_ms"]["decision"].keys() == {"p50", "p99", "p999", "max"}


def test_no_plain_value_lies_in_the_state_on_disk(tmp_path: Path) -> None:
    """RocksDB's files and logs hold tokens and sealed values only."""
    source, out = tmp_path / "in", tmp_path / "out"
    write_directory(source, seed=5, minutes=2)
    with (source / "footfall.toml").open("a") as file:
        file.write('\n[state]\nbackend = "rocksdb"\ndir = "state"\n')
    ran = footfall("replay", "--in", source, "--out", out)
    assert ran.returncode == 0, ran.stderr
    plain: set[bytes] = set()
    for line in (source / "crm.customer.jsonl").read_bytes().splitlines():
        plain |= {one.split(":", 1)[1].encode() for one in orjson.loads(line)["identifiers"]}
    for line in (source / "crm.contact-point.jsonl").read_bytes().splitlines():
        value = orjson.loads(line)["value"]
        plain |= {value.encode()} if len(value) > 5 else set()
    held = [path for path in out.rglob("*") if path.is_file()]
    assert any("state" in path.parts for path in held)
    for path in held:
        content = path.read_bytes()
        assert not [one for one in plain if len(one) > 5 and one in content], path
    assert not [one for one in plain if len(one) > 5 and one.decode() in ran.stdout + ran.stderr]
