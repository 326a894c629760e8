"""compose.yaml by the rules of compose itself, and against the image and the settings it runs."""

import json
import os
import re
import subprocess

import pytest
from ruamel.yaml import YAML

from flows.settings import load
from tests.deploy.charts import ROOT, tool

SPEC = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())
SERVICES = SPEC["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def test_compose_reads_it():
    done = subprocess.run(
        [tool("compose-spec"), "--format", "json", "compose.yaml"], check=False, cwd=ROOT, capture_output=True,
        text=True, env={**os.environ, "COMPOSE_PROFILES": "watch"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == set(SERVICES)


def test_compose_would_say_something(tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {one: {image: one, read_onli: true}}\n")
    done = subprocess.run([tool("compose-spec"), "compose.yaml"], check=False, cwd=tmp_path, capture_output=True)
    assert done.returncode != 0


def test_ours_write_nowhere_and_may_do_nothing():
    assert OURS == ["topics", "schemas", "key", "footfall", "simulate"]
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not {"configs", "secrets"} & service.keys()  # compose cannot put them into a read-only root


def test_the_worker_waits_for_what_prepares_it():
    for name in ("footfall", "simulate"):
        waits = SERVICES[name]["depends_on"]
        assert waits["topics"]["condition"] == waits["schemas"]["condition"] == "service_completed_successfully"


def test_mounted_files_are_there_and_the_program_takes_the_settings():
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), volume
                assert volume.endswith(":ro")
            else:
                assert source in SPEC["volumes"]
    settings = load(ROOT / "helm" / "compose" / "footfall.toml")
    assert settings.kafka.bootstrap.partition(":")[0] in SERVICES
    assert re.match(r"http://(\w+):", settings.registry.url)[1] in SERVICES
    assert str(settings.metrics.listen).rpartition(":")[2] in SERVICES["footfall"]["ports"][0]


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_watching_is_asked_for(name):
    assert SERVICES[name]["profiles"] == ["watch"]


def test_images_have_a_version():
    for service in SERVICES.values():
        assert re.search(r":[\w${}.:-]*\d", service["image"])
        assert not service["image"].endswith(":latest")
