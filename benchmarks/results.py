"""Results of benchmarks: one JSON file each, with machine, commit and settings; the README's table is made of them."""

import os
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
_MARKS = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)


def machine() -> dict[str, Any]:
    """Where it ran."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "ram_gb": round(pages / 1e9),
        "kernel": platform.release().split("-")[0],
        "arch": platform.machine(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """The commit it ran at; `+` when files had changed."""
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def result(bench: str, **values: Any) -> dict[str, Any]:
    """A result with all that is needed to repeat it."""
    return {
        "schema": 1,
        "bench": bench,
        "engine": "footfall",
        "commit": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), "bytewax": version("bytewax"), "numpy": version("numpy")},
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **values,
    }


def written(found: dict[str, Any]) -> Path:
    """Keep a result under the name of its bench."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{found['bench']}.json"
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def _rows() -> list[str]:
    lines = ["| Bench | Figure | Reference in the same run | Ratio |", "|---|---|---|---|"]
    machines = set()
    for path in sorted(FOLDER.glob("*.json")):
        one = orjson.loads(path.read_bytes())
        where = one["machine"]
        machines.add(
            f"{where['cores']} cores, {where['ram_gb']} GB, {where['arch']}, Python {one['versions']['python']},"
            f" commit {one['commit']}: `{one['command']}`"
        )
        if "reference" in one:
            lines.append(
                f"| {one['title']} | {one['per_s']:,} {one['unit']}/s | {one['reference']['title']}:"
                f" {one['reference']['per_s']:,}/s | {one['reference']['ratio']:.2f} |"
            )
        for name, stage in one.get("latency_ms", {}).items():
            void = f" (void: {one['void']})" if one.get("void") else ""
            lines.append(f"| {one['title']}: {name}{void} | p50 {stage['p50']} ms, p99 {stage['p99']} ms | | |")
        if "back_after_s" in one:
            lines.append(
                f"| {one['title']}: p99 of decisions as before (at most x 1.5) after its return |"
                f" {one['back_after_s']} s, {one['p99_before_ms']} ms before; away {one['away_s']} s | | |"
            )
        if stages := one.get("stages_ms"):
            each = ", ".join(f"{name} {stage['p50']} / {stage['p99']}" for name, stage in stages.items())
            lines.append(f"| {one['title']}: stages to the decision, p50 / p99 in ms | {each} | | |")
    return [*lines, "", *(f"Measured on {one}." for one in sorted(machines))]


def table() -> str:
    """The README's table, from the result files."""
    return "\n".join(_rows()) + "\n"


def update_readme() -> None:
    """Write the table into the README, between its marks."""
    text = README.read_text()
    README.write_text(_MARKS.sub(lambda found: f"{found[1]}{table()}{found[2]}", text))


def say(text: str) -> None:
    """A line for whoever runs it."""
    sys.stderr.write(text + "\n")
