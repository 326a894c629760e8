"""Stories in files: what comes out is compared byte for byte; a change of bytes is a change of behaviour.

`python -m tests.golden.test_golden` writes `out` anew, to be read in the diff.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest

from tests.flow.replays import rows, run

HERE = Path(__file__).parent
STORIES = sorted(path.parent for path in HERE.glob("*/in"))


def _produced(story: Path, out: Path) -> dict[str, bytes]:
    run(story / "in", out, deliver=True)
    summary = orjson.loads((out / "summary.json").read_bytes()) | {"seconds": 0, "events_per_s": 0}
    (out / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_story_comes_out_byte_for_byte(story: Path, tmp_path: Path) -> None:
    """On every supported Python."""
    expected = {path.name: path.read_bytes() for path in sorted((story / "out").iterdir())}
    found = _produced(story, tmp_path)
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        assert found[name] == content, name


def test_the_garden_says_what_its_story_says(tmp_path: Path) -> None:
    """Marta is told at 30 s and missed after two hours; Jo, who bought, is not."""
    run(HERE / "garden" / "in", tmp_path, deliver=True)
    assert [(row["channel"], row["target"], row["text"]) for row in rows(tmp_path, "delivered")] == [
        ("PUSH", "push-marta", "Hello Marta, bulbs: take three, pay two"),
        ("EMAIL", "marta@example.com", "You were here\nNothing found, Marta?"),
    ]
    reasons = {
        (row["candidates"][0]["campaign_id"], row["candidates"][0]["reason"])
        for row in rows(tmp_path, "decision.record")
    }
    assert reasons == {("bulbs", "NONE"), ("bulbs", "CLAUSE_FALSE"), ("missed-you", "NONE")}
    assert len(rows(tmp_path, "ops.late")) == len(rows(tmp_path, "ops.dead-letter")) == 1


def main() -> None:
    """Record."""
    for story in STORIES:
        with TemporaryDirectory() as folder:
            found = _produced(story, Path(folder))
        (story / "out").mkdir(exist_ok=True)
        for name, content in found.items():
            (story / "out" / name).write_bytes(content)


if __name__ == "__main__":
    main()
