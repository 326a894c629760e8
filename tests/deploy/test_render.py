"""The chart through Helm: recorded renders, strict lint, Kubernetes' own schemas, and what is refused and how."""

import re
import shutil

import pytest

from tests.deploy.charts import CHART, KUBERNETES, SETS, VALUES, golden, one, parsed, ran, template, tool, written

LEAST = """
settings:
  kafka: {bootstrap: "kafka.example:9093"}
  registry: {url: "https://registry.example/apis/ccompat/v7"}
"""


@pytest.mark.parametrize("name", SETS)
def test_a_render_is_the_recorded_one(name):
    code, out, err = template(VALUES / f"{name}.yaml")
    assert code == 0, err
    assert parsed(out) == golden(name), "look at the difference, then  python -m tests.deploy.charts"


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", SETS)
def test_strict_lint_and_the_schemas_of_kubernetes_have_nothing_to_say(name, version, tmp_path):
    code, out, err = ran(
        tool("helm"), "lint", CHART, "--strict", "--kube-version", version, "--values", VALUES / f"{name}.yaml"
    )
    assert code == 0, out + err
    code, out, err = template(VALUES / f"{name}.yaml", "--kube-version", version)
    assert code == 0, err
    known = [each for each in parsed(out) if each["kind"] != "ServiceMonitor"]  # of the Prometheus operator
    (tmp_path / "all.yaml").write_text(written(known))
    code, out, err = ran(tool("kubernetes-validate"), "--strict", "-k", version, tmp_path / "all.yaml")
    assert code == 0, out + err


def test_the_schemas_of_kubernetes_would_say_something(tmp_path):
    objects = golden("single")
    one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    (tmp_path / "all.yaml").write_text(written(objects))
    assert ran(tool("kubernetes-validate"), "--strict", "-k", KUBERNETES[-1], tmp_path / "all.yaml")[0] != 0


def refused(tmp_path, text):
    (tmp_path / "values.yaml").write_text(text)
    code, out, err = template(tmp_path / "values.yaml")
    assert code != 0, out
    return err


def test_the_least_that_must_be_said_is_enough(tmp_path):
    (tmp_path / "values.yaml").write_text(LEAST)
    code, _, err = template(tmp_path / "values.yaml")
    assert code == 0, err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("topology: both", ("topology", "'single', 'cluster'")),
        ("flow: presense", ("flow", "'presence', 'activation', 'store'")),
        ("proccesses: 2", ("proccesses", "additional properties")),
        ("processes: 2", ("processes", "maximum")),
        ("processes: two", ("processes", "want integer")),
        ("storage: {accessMode: ReadWriteMany}", ("accessMode", "'ReadWriteOnce', 'ReadWriteOncePod'")),
        ("image: {digest: latest}", ("digest", "sha256")),
        ("resources: {limits: {cpu: 1, memory: null}}", ("limits", "memory")),
        ("networkPolicy: {kafka: [{ip: 192.0.2.1}]}", ("kafka", "'ip'")),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(tmp_path, more, told):
    err = refused(tmp_path, f"{LEAST}\n{more}\n")
    assert all(word in err for word in told), err


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("kafka", "password", "hunter2", ("settings/kafka", "'password'")),
        ("kafka", "profile", "ssl", ("profile", "'plaintext', 'sasl_ssl', 'mtls', 'oauthbearer'")),
        ("engine", "epoch", "10 s", ("epoch", "does not match pattern")),
        ("engine", "epok", "10s", ("settings/engine", "'epok'")),
        ("topics", "partitions", 0, ("partitions", "1")),
        ("presence", "uwbb", "{}", ("settings/presence", "'uwbb'")),
        ("state", "backend", "memory", ("settings.state.backend", "rocksdb")),
        ("state", "dir", "/tmp/state", ("settings.state.dir", "/var/lib/footfall/")),
        ("metrics", "listen", '"127.0.0.1:9464"', ("settings.metrics.listen", "0.0.0.0:9464")),
        ("kafka", "profile", "plaintext", ("settings.kafka.profile", "insecure: true")),
        ("registry", "password_file", "secrets/registry/password", ("secrets.registry.existingSecret",)),
        ("kafka", "bootstrap", '""', ("settings.kafka.bootstrap", "host:port")),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_installed(tmp_path, section, key, value, told):
    given = {"kafka": {"bootstrap": '"kafka.example:9093"'}, "registry": {"url": '"https://registry.example/v7"'}}
    given.setdefault(section, {})[key] = value
    lines = [f"  {name}: {{{', '.join(f'{k}: {v}' for k, v in keys.items())}}}" for name, keys in given.items()]
    err = refused(tmp_path, "settings:\n" + "\n".join(lines) + "\n")
    assert all(word in err for word in told), err


def test_more_processes_than_lanes_are_refused(tmp_path):
    more = "flow: presence\nprocesses: 17\ntopology: cluster\n"
    assert "at most settings.engine.lanes, 16" in refused(tmp_path, LEAST + more)


def test_several_processes_of_activation_need_shards(tmp_path):
    more = "flow: activation\nprocesses: 3\n"
    assert "settings.engine.shards must be 8 to 64" in refused(tmp_path, LEAST + more)


@pytest.mark.parametrize(
    ("processes", "topology", "told"),
    [("4", "cluster", None), ("2", "cluster", "processes was 2"), ("4", "single", "topology was single")],
)
def test_what_is_fixed_for_the_life_of_the_state_is_not_changed_by_an_upgrade(tmp_path, processes, topology, told):
    """Without a cluster to look things up in, what would be found there is written into a copy of the chart."""
    shutil.copytree(CHART, tmp_path / "footfall")
    checks = tmp_path / "footfall" / "templates" / "_settings.tpl"
    there = f'dict "footfall/processes" "{processes}" "footfall/topology" "{topology}"'
    text, count = re.subn(
        r"\$old := lookup .*? }}", f'$old := dict "metadata" (dict "annotations" ({there})) }}}}', checks.read_text()
    )
    assert count == 1
    checks.write_text(text)
    code, _, err = ran(tool("helm"), "template", "shop", tmp_path / "footfall", "--values", VALUES / "cluster.yaml")
    assert (code == 0) == (told is None), err
    assert told is None or f"{told} when this state was begun" in err


def test_without_the_operator_there_is_no_monitor():
    code, out, err = ran(tool("helm"), "template", "shop", CHART, "--values", VALUES / "single.yaml")
    assert code == 0, err
    assert "ServiceMonitor" not in out
