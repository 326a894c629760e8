"""Preparing a broker and a registry: topics that are missing are made, schemas that are new are registered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows import ports
from flows.settings import WrongUse, load
from operators.connectors import subjects, topics
from operators.connectors.access import Admin, BrokerAway, BrokerRefused
from operators.connectors.registry import Registry, RegistryAway, RegistryRefused

Say = Callable[[str], None]
STOPS = (BrokerAway, BrokerRefused, RegistryAway, RegistryRefused, topics.NotMade, subjects.Incompatible)
"""What ends the work with exit code 1."""


def create_topics(
    config: Path | None, *, bootstrap: str | None, insecure: bool, make: bool, say: Say
) -> tuple[dict[str, Any], bool]:
    """Compare the broker with the table of topics, and with `make` make what is missing.

    Returns:
        The plan with what was made, for machines; and whether nothing differs.

    Raises:
        WrongUse: the settings are refused.
        BrokerAway, BrokerRefused, NotMade: the work failed.
    """
    settings = load(config)
    access = ports.broker(settings, config.parent if config else Path(), bootstrap=bootstrap, insecure=insecure)
    admin = Admin(access)
    admin.wait(settings.kafka.wait.us / 1e6, say)
    prefix = settings.topics.prefix
    wanted = [*topics.wanted(prefix, settings.topics.partitions), topics.claims(prefix)]
    planned = topics.plan(admin, wanted, access.bootstrap)
    for one in planned.differs:
        say(str(one))
    for missing in planned.missing:
        shown = " ".join(f"{key}={value}" for key, value in missing.config.items())
        say(f"{missing.name}: missing; {missing.partitions} partitions, {shown}")
    made = topics.apply(admin, planned) if make and not planned.differs else []
    return planned.as_json() | {"made": made}, not planned.differs


def register_schemas(
    config: Path | None, *, url: str | None, prefix: str | None, dry_run: bool, insecure: bool = False, say: Say
) -> tuple[dict[str, Any], bool]:
    """Compare our schemas with every registered version, and without `dry_run` register what is new.

    Returns:
        Plan or outcome for machines; and whether no rule is broken.

    Raises:
        WrongUse: the settings are refused.
        RegistryAway, RegistryRefused: the work failed; running it again goes on.
    """
    settings = load(config)
    if url is not None and ("@" in url or not url.startswith(("http://", "https://"))):
        raise WrongUse("--registry must be an address such as http://host:8080/apis/ccompat/v7, without credentials")
    registry = Registry(ports.registry(settings, config.parent if config else Path(), url=url, insecure=insecure))
    registry.wait(settings.kafka.wait.us / 1e6, say)
    schemas = subjects.ours()
    planned = subjects.plan(registry, schemas, settings.topics.prefix if prefix is None else prefix)
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
    registered = [] if breaks or dry_run else new
    return {"subjects": rows, "registered": registered, "breaks": [one.as_json() for one in breaks]}, not breaks
