"""Renders of the chart: four sets of values, as they are and as they were recorded.

`python -m tests.deploy.charts` records them anew; look at what changed before you commit it.
"""

import io
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "footfall"
TOOLS = ROOT / ".cache" / "deploy"
GOLDEN = Path(__file__).parent / "golden"
VALUES = Path(__file__).parent / "values"
SETS = tuple(sorted(path.stem for path in VALUES.glob("*.yaml")))
KUBERNETES = ("1.29", "1.33", "1.37")
WHOLE = os.environ.get("FOOTFALL_DEPLOY") == "all"
"""Whether `make helm-check` asks, which makes the tools first."""


def tool(name: str) -> str:
    """A tool on the path, or one that `make helm-check` made; else the test is skipped and says so."""
    for found in (shutil.which(name), TOOLS / name, TOOLS / "python" / "bin" / name):
        if found is not None and Path(found).exists():
            return str(found)
    pytest.skip(f"no {name} here: make helm-check makes it where Go and the package registries can be had")


def ran(*words: object) -> tuple[int, str, str]:
    done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


def template(values: Path, *more: object) -> tuple[int, str, str]:
    """What Helm makes of a file of values, in a cluster that knows the Prometheus operator."""
    known = ("--api-versions", "monitoring.coreos.com/v1")
    return ran(
        tool("helm"), "template", "shop", CHART, "--namespace", "footfall", *known, "--values", values, *more
    )  # fmt: skip


def parsed(text: str) -> list[dict[str, Any]]:
    """Objects in an order of their own: that of Helm's files is of no meaning."""
    found = [one for one in YAML(typ="safe").load_all(text) if one]
    return sorted(found, key=lambda one: (one["kind"], one["metadata"]["name"]))


def written(objects: list[dict[str, Any]]) -> str:
    """Objects as they are recorded."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.explicit_start = True
    yaml.width = 200
    out = io.StringIO()
    yaml.dump_all(objects, out)
    return out.getvalue()


def golden(name: str) -> list[dict[str, Any]]:
    return parsed((GOLDEN / f"{name}.yaml").read_text())


def one(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every pod that the chart starts, by the name of what starts it."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] in {"StatefulSet", "Job"}
    }


def values_of(name: str) -> dict[str, Any]:
    """Values of a set over those of the chart; null takes a key away, as in Helm."""

    def over(below: Any, above: Any) -> Any:
        if not (isinstance(below, dict) and isinstance(above, dict)):
            return above
        merged = below | {key: over(below.get(key), value) for key, value in above.items()}
        return {key: value for key, value in merged.items() if value is not None}

    yaml = YAML(typ="safe")
    return over(yaml.load((CHART / "values.yaml").read_text()), yaml.load((VALUES / f"{name}.yaml").read_text()))


def settings_of(objects: list[dict[str, Any]], name: str = "") -> dict[str, Any]:
    """footfall.toml of the worker's ConfigMap, or of the one before it."""
    worker = one(objects, "StatefulSet")["metadata"]["name"]
    return tomllib.loads(one(objects, "ConfigMap", worker + name)["data"]["footfall.toml"])


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in SETS:
        code, out, err = template(VALUES / f"{each}.yaml")
        assert code == 0, err
        (GOLDEN / f"{each}.yaml").write_text(written(parsed(out)))
