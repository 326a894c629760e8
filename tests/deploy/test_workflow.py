"""The workflow does what .ci/run does, on both versions of Python, with actions of a fixed version."""

import re

from ruamel.yaml import YAML

from tests.deploy.charts import ROOT, ran, tool

PATH = ROOT / ".github" / "workflows" / "ci.yml"
JOB = YAML(typ="safe").load(PATH.read_text())["jobs"]["ci"]


def test_the_linter_of_workflows_has_nothing_to_say():
    code, out, err = ran(tool("actionlint"), PATH)
    assert code == 0, out + err


def test_it_runs_what_continuous_integration_runs_on_both_versions():
    assert JOB["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    commands = [step["run"] for step in JOB["steps"] if "run" in step]
    assert "bash .ci/run" in commands
    assert (ROOT / ".ci" / "run").exists()


def test_every_action_has_a_version():
    used = [step["uses"] for step in JOB["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", one) for one in used)
