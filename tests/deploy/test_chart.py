"""What the objects of the chart mean, on the recorded renders: these need neither Helm nor a cluster."""

from collections.abc import Iterator
from typing import Any

import pytest

from flows.settings import load
from tests.deploy.charts import SETS, golden, one, pods, settings_of, values_of

PORTS = {
    "single": [9464],
    "cluster": [9464],
    "mtls": [9500, 9501],
    "dry-run": [9464],
    "shards": [9464, 9465, 9466],
}


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, f"{at}.{key}")
    elif isinstance(value, list):
        for below in value:
            yield from leaves(below, at)
    else:
        yield at, value


@pytest.mark.parametrize("name", SETS)
def test_nobody_is_root_and_nothing_can_be_written_but_the_volume_and_tmp(name):
    for pod in pods(golden(name)).values():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["runAsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert not own.get("privileged")
            writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert writable <= {"/tmp", "/var/lib/footfall"}


@pytest.mark.parametrize("name", SETS)
def test_memory_has_a_limit_that_is_its_request(name):
    for pod in pods(golden(name)).values():
        assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)
        for container in pod["containers"]:
            resources = container["resources"]
            assert resources["limits"]["memory"] == resources["requests"]["memory"]
            assert "cpu" in resources["requests"]


@pytest.mark.parametrize("name", SETS)
def test_no_secret_is_made_and_none_is_read_but_as_a_file_of_its_owner(name):
    objects = golden(name)
    assert not [each for each in objects if each["kind"] == "Secret"]
    named = {one["existingSecret"] for one in values_of(name)["secrets"].values()} - {""}
    for pod in pods(objects).values():
        secrets = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert {secret["secretName"] for secret in secrets} == named
        assert all(secret["defaultMode"] == 0o400 for secret in secrets)
        for container in pod["containers"]:
            assert not any("value" in variable for variable in container.get("env", []))
            assert not any("secretKeyRef" in str(variable) for variable in container.get("env", []))
    for at, value in leaves([settings_of(objects), settings_of(objects, "-prepare")]):
        key = at.rsplit(".", 1)[-1]
        assert not ("password" in key or "secret" in key or "key" in key) or key.endswith(("_file", "key_version"))
        assert not (key.endswith("_file") and "\n" in str(value))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("which", ["", "-prepare"])
def test_the_settings_are_the_values_key_for_key_and_the_program_takes_them(name, which, tmp_path):
    objects = golden(name)
    given = values_of(name)["settings"]
    assert settings_of(objects, which) == given
    worker = one(objects, "StatefulSet")["metadata"]["name"]
    path = tmp_path / "footfall.toml"
    path.write_text(one(objects, "ConfigMap", worker + which)["data"]["footfall.toml"])
    settings = load(path)
    assert settings.kafka.bootstrap == given["kafka"]["bootstrap"]
    assert settings.state.backend == "rocksdb"


@pytest.mark.parametrize("name", SETS)
def test_files_that_settings_name_are_mounted(name):
    objects = golden(name)
    container = one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for at, value in leaves(settings_of(objects)):
        if at.endswith("_file"):
            assert any(f"/etc/footfall/{value}".startswith(f"{mount}/") for mount in mounts), value
    assert settings_of(objects)["state"]["dir"].startswith("/var/lib/footfall/")
    assert "/var/lib/footfall" in mounts


@pytest.mark.parametrize("name", SETS)
def test_probes_ask_our_own_endpoints(name):
    container = one(golden(name), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    assert [port["containerPort"] for port in container["ports"]] == PORTS[name]
    for probe, path in {"startupProbe": "/startup", "readinessProbe": "/ready", "livenessProbe": "/live"}.items():
        if len(PORTS[name]) == 1:
            assert container[probe]["httpGet"] == {"path": path, "port": "metrics"}
        else:
            command = container[probe]["exec"]["command"]
            assert f"range({PORTS[name][0]}, {PORTS[name][-1] + 1})" in command[2]
            assert f"{{port}}{path}'" in command[2]
            compile(command[2], probe, "exec")
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300


@pytest.mark.parametrize("name", SETS)
def test_hooks_come_in_order_before_everything_and_need_nothing_of_the_chart(name):
    objects = golden(name)
    hooks = {
        each["metadata"]["name"]: each["metadata"]["annotations"]
        for each in objects
        if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }
    worker = one(objects, "StatefulSet")["metadata"]["name"]
    weights = [int(hooks[f"{worker}-{what}"]["helm.sh/hook-weight"]) for what in ("prepare", "topics", "schemas")]
    assert weights == sorted(weights) == [-20, -10, -5]
    for annotations in hooks.values():
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    for job in ("topics", "schemas"):
        spec = one(objects, "Job", f"{worker}-{job}")["spec"]
        assert spec["backoffLimit"] <= 10
        assert spec["activeDeadlineSeconds"]
        maps = [volume["configMap"]["name"] for volume in spec["template"]["spec"]["volumes"] if "configMap" in volume]
        assert maps == [f"{worker}-prepare"]


def args(objects, kind, name=None):
    return one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]["args"]


def test_commands_are_those_of_the_program():
    config = ["--config", "/etc/footfall/footfall.toml"]
    single, cluster, mtls, dry, shards = (golden(name) for name in ("single", "cluster", "mtls", "dry-run", "shards"))
    assert args(single, "StatefulSet") == ["run", "store", *config]
    split = ["run", "presence", *config, "--processes"]
    assert args(cluster, "StatefulSet") == [*split, "4", "--process", "$(POD_INDEX)"]
    assert args(mtls, "StatefulSet") == [*split, "2"]
    assert args(shards, "StatefulSet") == ["run", "activation", *config, "--processes", "3"]
    assert args(dry, "StatefulSet") == ["run", "store", *config, "--insecure"]
    assert args(single, "Job", "shop-topics") == ["topics", "create", *config, "--apply"]
    assert args(single, "Job", "shop-schemas") == ["schemas", "register", *config]
    assert args(dry, "Job", "shop-topics") == ["topics", "create", *config, "--dry-run", "--insecure"]
    assert args(dry, "Job", "shop-schemas") == ["schemas", "register", *config, "--dry-run", "--insecure"]


def test_a_cluster_is_a_pod_a_process_with_a_volume_each():
    worker = one(golden("cluster"), "StatefulSet")["spec"]
    assert worker["replicas"] == 4
    assert worker["podManagementPolicy"] == "Parallel"
    (claim,) = worker["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert one(golden("single"), "StatefulSet")["spec"]["replicas"] == 1
    for name in SETS:
        service = one(golden(name), "Service")["spec"]
        assert service["clusterIP"] == "None"
        assert service["publishNotReadyAddresses"] is True


@pytest.mark.parametrize("name", SETS)
def test_selectors_choose_the_workers_and_not_the_jobs(name):
    objects = golden(name)
    labels = one(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    chosen = [
        one(objects, "Service")["spec"]["selector"],
        one(objects, "StatefulSet")["spec"]["selector"]["matchLabels"],
    ]
    if name != "dry-run":
        chosen.append(one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
        chosen.append(one(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"])
    jobs = [each["spec"]["template"]["metadata"]["labels"] for each in objects if each["kind"] == "Job"]
    for selector in chosen:
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= job.items() for job in jobs)


def reached(rules):
    return [sorted(port["port"] for port in rule["ports"]) for rule in rules]


def test_the_network_policy_lets_out_to_what_settings_name_and_in_from_monitoring():
    single, cluster = one(golden("single"), "NetworkPolicy")["spec"], one(golden("cluster"), "NetworkPolicy")["spec"]
    assert sorted(single["policyTypes"]) == ["Egress", "Ingress"]
    assert reached(single["egress"]) == [[53, 53], [9093], [443]]
    assert reached(cluster["egress"]) == [[53, 53], [9093, 9094], [8080]]
    assert all("to" in rule for rule in cluster["egress"])
    assert reached(one(golden("mtls"), "NetworkPolicy")["spec"]["egress"]) == [[53, 53], [9094], [8443]]
    assert reached(one(golden("mtls"), "NetworkPolicy")["spec"]["ingress"]) == [[9500, 9501]]
    assert all(rule["from"] for rule in single["ingress"])


def test_what_is_switched_off_is_not_there():
    kinds = {each["kind"] for each in golden("dry-run")}
    assert kinds == {"ConfigMap", "Job", "Service", "StatefulSet"}


def test_an_image_is_named_by_digest_where_one_is_given():
    images = {
        name: one(golden(name), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["image"] for name in SETS
    }
    assert "@sha256:" in images["single"]
    assert images["cluster"] == "registry.example/footfall:0.1.0"
    assert images["mtls"] == "footfall:0.1.0"
