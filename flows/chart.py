"""`helm/footfall/values.schema.json`: what the chart takes, made from the same structs that read `footfall.toml`.

The chart and the program refuse the same typo. `python -m flows.chart` writes the file; a test compares it.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from flows.settings import SHARING, Duration, Settings

SCHEMA = Path(__file__).parents[1] / "helm" / "footfall" / "values.schema.json"
Schema = dict[str, Any]
_SPAN: Schema = {"type": "string", "pattern": r"^([0-9]{1,15}(\.[0-9]{1,9})?(us|ms|s|m|h|d))+$"}
_PLAIN: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum", "pattern": "pattern"}
_NAME = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"


def of_hint(hint: Any) -> Schema:
    """The schema of one setting, from its annotation.

    >>> of_hint(Annotated[int, Meta(description="Processes", ge=1)])
    {'type': 'integer', 'description': 'Processes', 'minimum': 1}
    """
    if get_origin(hint) is not Annotated:
        return _of_type(hint)
    inner, *metas = get_args(hint)
    found = _of_type(inner)
    for meta in metas:
        if isinstance(meta, Meta):
            if meta.description:
                found["description"] = meta.description
            found |= {name: bound for ours, name in _BOUNDS.items() if (bound := getattr(meta, ours)) is not None}
    return found


def _of_type(kind: Any) -> Schema:
    if kind is Duration:
        return dict(_SPAN)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if get_args(kind) and (get_origin(kind) is Union or type(kind).__name__ == "UnionType"):
        kinds = [_of_type(one) for one in get_args(kind) if one is not type(None)]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    raise TypeError(f"a setting of type {kind!r} has no form in the chart's schema")


def of_struct(kind: type[msgspec.Struct]) -> Schema:
    """The schema of a section: its settings and no others."""
    properties: Schema = {}
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            properties[field.name] = of_struct(hint)
            continue
        found = of_hint(hint)
        default = field.default.text if isinstance(field.default, Duration) else field.default
        if default is not None and default is not msgspec.NODEFAULT:
            found["default"] = default
        properties[field.name] = found
    return _table((kind.__doc__ or "").split("\n", 1)[0], properties)


def _table(description: str, properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    found: Schema = {"type": "object", "description": description, "additionalProperties": False}
    if required:
        found["required"] = list(required)
    return found | {"properties": properties}


def _texts(description: str) -> Schema:
    return {"type": "object", "description": description, "additionalProperties": {"type": "string"}}


def _text(description: str, pattern: str | None = None) -> Schema:
    return {"type": "string", "description": description} | ({"pattern": pattern} if pattern else {})


def _flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _whole(description: str, least: int, most: int) -> Schema:
    return {"type": "integer", "description": description, "minimum": least, "maximum": most}


def _list(description: str, items: Schema) -> Schema:
    return {"type": "array", "description": description, "items": items}


def _resources(description: str) -> Schema:
    quantity = {"anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[kMGTP]i?)?$"}, {"type": "number"}]}
    amounts = dict.fromkeys(("cpu", "memory", "ephemeral-storage"), quantity)
    return _table(
        description,
        {
            "requests": _table("What a pod is promised", amounts),
            "limits": _table("What a pod may take at most", amounts, ("memory",)),
        },
        ("limits",),
    )


def _secret(description: str) -> Schema:
    return _table(description, {"existingSecret": _text("Name of a Secret that is there already", _NAME)})


def _files(description: str) -> Schema:
    return _table(description, {"existingConfigMap": _text("Name of a ConfigMap; empty: the image brings them", _NAME)})


def _peers(description: str) -> Schema:
    kinds: Schema = {kind: {"type": "object"} for kind in ("podSelector", "namespaceSelector", "ipBlock")}
    return _list(description, _table("A NetworkPolicyPeer, as Kubernetes writes it", kinds))


def values() -> Schema:
    """The schema of `values.yaml`."""
    port = _whole("A port", 1, 65_535)
    tolerated: Schema = {name: {"type": "string"} for name in ("key", "operator", "value", "effect")}
    tolerated["tolerationSeconds"] = {"type": "integer"}
    properties: Schema = {
        "global": {"type": "object", "description": "What a chart around this one shares; nothing here reads it"},
        "nameOverride": _text("Name in place of the release's", r"^([a-z]([a-z0-9-]{0,38}[a-z0-9])?)?$"),
        "topology": {
            "description": "single: one pod; cluster: one pod a process",
            "enum": ["single", "cluster"],
        },
        "flow": {"description": "Which flow runs", "enum": ["presence", "activation", "store"]},
        "processes": _whole(
            "Processes that split the lanes of presence, fixed for the life of the state, or share the shards of"
            " activation",
            1,
            64,
        ),
        "insecure": _flag(
            "Allow plaintext towards a broker, and a password towards a registry, that is not on this machine"
        ),
        "image": _table(
            "The container image",
            {
                "repository": {"type": "string", "description": "Where it lies, without tag", "minLength": 1},
                "tag": _text("Its tag; empty: the chart's appVersion", r"^[A-Za-z0-9_.-]{0,128}$"),
                "digest": _text("Its digest, which wins over the tag", r"^(sha256:[0-9a-f]{64})?$"),
                "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                "pullSecrets": _list("Names of Secrets to pull it with", {"type": "string"}),
            },
        ),
        "settings": of_struct(Settings),
        "secrets": _table(
            "Secrets that are there already; each is mounted at secrets/<name> beside footfall.toml",
            {
                "pseudonym": _secret("The key that identifiers are hashed with"),
                "kafka": _secret("What makes us known to the broker"),
                "registry": _secret("What makes us known to the registry"),
            },
        ),
        "shop": _table(
            "Venue and rules, beside footfall.toml",
            {
                "venue": _files("venue.geojson"),
                "campaigns": _files("Campaign files"),
                "segments": _files("Segment files"),
                "templates": _files("Template files"),
            },
        ),
        "storage": _table(
            "The volume of a pod: state and recovery store, which are restored together",
            {
                "size": _text("Its size", r"^[0-9]+(\.[0-9]+)?[KMGTP]i$"),
                "storageClass": _text("Its class; empty: the cluster's default"),
                "accessMode": {"enum": ["ReadWriteOnce", "ReadWriteOncePod"]},
            },
        ),
        "jobs": _table(
            "What runs before an install and an upgrade",
            {
                "topics": _flag("Make topics that are missing, compare the others"),
                "schemas": _flag("Register schemas that are new"),
                "dryRun": _flag("Only say what would be done"),
                "backoffLimit": _whole("Tries after the first", 0, 10),
                "activeDeadlineSeconds": _whole("Seconds until a job is given up", 10, 3_600),
                "resources": _resources("Of a job"),
            },
        ),
        "resources": _resources("Of a worker"),
        "tmpSize": _text("Size of /tmp, the only other place to write to", r"^[0-9]+[KMG]i$"),
        "user": _whole("User and group of every process", 1, 2_147_483_647),
        "gracePeriodSeconds": _whole("Seconds that a drain may take", 5, 600),
        "priorityClassName": _text("Priority of the workers"),
        "nodeSelector": _texts("Labels of nodes"),
        "tolerations": _list("Taints that are tolerated", _table("A toleration, as Kubernetes writes it", tolerated)),
        "topologyKey": _text("What the pods of a cluster are spread over"),
        "podLabels": _texts("More labels of pods"),
        "podAnnotations": _texts("More annotations of pods"),
        "networkPolicy": _table(
            "Who may be talked to",
            {
                "enabled": _flag("Make one"),
                "monitoring": _peers("Who may read metrics; empty: nobody but the node's own probes"),
                "kafka": _peers("Brokers; empty: anybody on their ports"),
                "kafkaPorts": _list("Ports of brokers; empty: those of [kafka] bootstrap", port),
                "registry": _peers("The registry; empty: anybody on its port"),
                "registryPort": _whole("Port of the registry; 0: that of [registry] url", 0, 65_535),
                "dns": _peers("Name servers; empty: anybody on port 53"),
            },
        ),
        "podDisruptionBudget": _table("How many pods may be away for maintenance", {"enabled": _flag("Make one")}),
        "serviceMonitor": _table(
            "For the Prometheus operator, where its kinds are known",
            {
                "enabled": _flag("Make one"),
                "interval": _text("Between two scrapes", r"^[0-9]+(ms|s|m)$"),
                "labels": _texts("Labels by which it is found"),
            },
        ),
    }

    def at_most(flow: str, processes: int) -> Schema:
        allowed = {"processes": {"maximum": processes}, "topology": {"enum": ["single"]}}
        return {
            "if": {"properties": {"flow": {"const": flow}}, "required": ["flow"]},
            "then": {"properties": allowed},
        }

    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart footfall",
        **_table("Made by python -m flows.chart from the structs of flows/settings.py", properties),
        "allOf": [at_most("store", 1), at_most("activation", SHARING)],
    }


def written() -> bytes:
    """The file, byte for byte."""
    return msgspec.json.format(msgspec.json.encode(values()), indent=2) + b"\n"


def main() -> None:
    """Write the file."""
    SCHEMA.write_bytes(written())
    sys.stderr.write(f"{SCHEMA.relative_to(SCHEMA.parents[2])}: {len(values()['properties'])} values\n")


if __name__ == "__main__":
    main()
