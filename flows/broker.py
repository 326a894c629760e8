"""Preparing a broker and a registry: topics that are missing are made, schemas that are new are registered."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows import ports
from flows.replay import FLOWS
from flows.settings import WrongUse, load
from operators.connectors import copies, subjects, topics
from operators.connectors.access import Admin, BrokerAway, BrokerRefused
from operators.connectors.registry import LEVEL, Registry, RegistryAway, RegistryRefused

Say = Callable[[str], None]
STOPS = (BrokerAway, BrokerRefused, RegistryAway, RegistryRefused, topics.NotMade, subjects.Incompatible)
"""What ends the work with exit code 1."""


def create_topics(
    config: Path | None, *, bootstrap: str | None, insecure: bool, make: bool, say: Say
) -> tuple[dict[str, Any], bool]:
    """Compare the broker with the table of topics, and with `make` make what is missing.

    Returns:
        The plan with what was made, for machines; and whether nothing differs, but for topics that have grown.

    Raises:
        WrongUse: the settings are refused.
        BrokerAway, BrokerRefused, NotMade: the work failed.
    """
    settings = load(config)
    if bootstrap is None and settings.kafka.bootstrap is None:
        raise WrongUse("--bootstrap must name a broker, or bootstrap in [kafka] of --config must")
    access = ports.broker(settings, config.parent if config else Path(), bootstrap=bootstrap, insecure=insecure)
    admin = Admin(access)
    admin.wait(settings.kafka.wait.us / 1e6, say)
    prefix, named = settings.topics.prefix, settings.topics
    wanted = topics.copied(
        [*topics.wanted(prefix, named.partitions), topics.claims(prefix)], named.replication, named.min_insync
    )
    outputs = {f"{prefix}{topic}" for flow in FLOWS.values() for topic in flow.writes}
    planned = topics.plan(admin, wanted, access.bootstrap, outputs)
    found = copies.copies(admin, wanted)
    planned = replace(planned, warnings=(*planned.warnings, *copies.scarce(planned, found)))
    for one in planned.differs:
        say(str(one) if one in planned.barring else f"warning: {_grown(one)}")
    for missing in planned.missing:
        shown = " ".join(f"{key}={value}" for key, value in missing.config.items() if key != "min.insync.replicas")
        say(f"{missing.name}: missing; {missing.partitions} partitions, {found.said(missing)}, {shown}")
    for warning in planned.warnings:
        say(f"warning: {warning}")
    made = topics.apply(admin, planned) if make and not planned.barring else []
    return planned.as_json() | {"made": made}, not planned.barring


def _grown(one: topics.Differs) -> str:
    return (
        f"{one.topic} has grown from {one.wanted} to {one.found} partitions; leave partitions in [topics] as it is where a"
        " flow has run: it goes on. One that has not refuses the topic"
    )


def register_schemas(
    config: Path | None,
    *,
    url: str | None,
    prefix: str | None,
    dry_run: bool,
    set_level: bool,
    insecure: bool = False,
    say: Say,
) -> tuple[dict[str, Any], bool]:
    """Compare our schemas with every registered version, and without `dry_run` register what is new.

    With `set_level` subjects that have versions become FULL_TRANSITIVE, too; else only new ones do.

    Returns:
        Plan or outcome for machines: `level` is the one found, `becomes` the one it has afterwards, `levels` names the
        subjects whose level was set; and whether no rule is broken.

    Raises:
        WrongUse: the settings are refused.
        RegistryAway, RegistryRefused: the work failed; running it again goes on.
    """
    settings = load(config)
    if url is not None and ("@" in url or not url.startswith(("http://", "https://"))):
        raise WrongUse("--registry must be an address such as http://host:8080/apis/ccompat/v7, without credentials")
    if url is None and settings.registry.url is None:
        raise WrongUse("--registry must name a schema registry, or url in [registry] of --config must")
    registry = Registry(ports.registry(settings, config.parent if config else Path(), url=url, insecure=insecure))
    registry.wait(settings.kafka.wait.us / 1e6, say)
    schemas = subjects.ours()
    named = settings.topics.prefix if prefix is None else prefix
    planned = subjects.plan(registry, schemas, named, set_level=set_level)
    breaks, entries = planned.breaks, list(planned.entries)
    if not breaks and not dry_run:
        try:
            entries = subjects.apply(registry, planned, schemas)
        except subjects.Incompatible as refused:
            breaks = refused.breaks
    for broken in breaks:
        say(str(broken))
    new = [before.subject for before in planned.entries if not before.known]
    rows = [entry.as_json() | {"action": "register" if entry.subject in new else "known"} for entry in entries]
    levels = [entry.subject for entry in planned.entries if entry.becomes != entry.level]
    untouched = bool(breaks) or dry_run
    return {
        "subjects": rows, "registered": [] if untouched else new, "levels": [] if untouched else levels,
        "breaks": [one.as_json() for one in breaks],
    }, not breaks  # fmt: skip


def subject_said(row: dict[str, Any]) -> str:
    """One subject of a plan or an outcome, for a person."""
    level, becomes = row["level"] or "of the registry", row["becomes"]
    if becomes != row["level"]:
        level = f"{level} -> {becomes}"
    elif becomes != LEVEL:
        level = f"{level} stays; --set-level makes it {LEVEL}"
    return f"{row['subject']}: {row['action']}, version {row['version'] or '-'}, id {row['id'] or '-'}, level {level}"
