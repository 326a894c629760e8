"""`footfall.toml`: every setting with its default, unit and meaning, and what is said when one is wrong."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from schemas.durations import DurationFault, parse
from schemas.rows import BadShape, instant, unwrapped


class WrongUse(Exception):
    """Settings, rules, venue or input that are refused before any work: exit code 2."""


class Duration(msgspec.Struct, frozen=True):
    """A length of time as it is written, and in µs."""

    text: str
    us: int


def span(text: str) -> Duration:
    """A duration from its text."""
    return Duration(text, parse(text))


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""


class SiteSettings(_Section, frozen=True, kw_only=True):
    """Where this runs."""

    id: Annotated[str | None, Meta(description="Id of the site; left out: that of the venue file")] = None


class PseudonymSettings(_Section, frozen=True, kw_only=True):
    """The key that identifiers are hashed with."""

    key_file: Annotated[str | None, Meta(description="File that holds the key, at most 64 bytes")] = None
    key_version: Annotated[int, Meta(description="Version of the key, written into every token", ge=1)] = 1


class TechSettings(_Section, frozen=True, kw_only=True):
    """Parameters of presence for one technology; left out: those of the table of technologies."""

    reorder: Annotated[Duration | None, Meta(description="How long readings wait for earlier ones")] = None
    enter_margin_m: Annotated[float | None, Meta(description="Metres inside the edge before a fix is in", ge=0)] = None
    enter_confirm: Annotated[Duration | None, Meta(description="How long it must be in")] = None
    enter_fixes: Annotated[int | None, Meta(description="How many fixes must be in", ge=1)] = None
    exit_margin_m: Annotated[float | None, Meta(description="Metres outside the edge before a fix is out", ge=0)] = None
    exit_confirm: Annotated[Duration | None, Meta(description="How long it must be out")] = None
    exit_fixes: Annotated[int | None, Meta(description="How many fixes must be out", ge=1)] = None
    gap: Annotated[Duration | None, Meta(description="Silence that ends a stay")] = None
    fresh: Annotated[Duration | None, Meta(description="Silence in which a dwell still fires")] = None
    edge_max: Annotated[Duration | None, Meta(description="How long fixes on the edge carry a stay")] = None
    acc_cap_m: Annotated[float | None, Meta(description="Most of a claimed accuracy that is believed", ge=0)] = None
    takeover_margin_m: Annotated[float | None, Meta(description="How much deeper a challenger must be", ge=0)] = None
    max_dwell: Annotated[Duration | None, Meta(description="Longest stay; then the tag lies on a shelf")] = None


TECHNOLOGIES = ("UWB", "BLE_AOA", "CAMERA", "GNSS")


class PresenceSettings(_Section, frozen=True, kw_only=True):
    """Stays: defaults for every technology, and one table for each that differs."""

    strict_zones: Annotated[bool, Meta(description="A zone too small for its technology stops the start")] = False
    reorder: Annotated[
        Duration | Literal["auto"], Meta(description="How long readings wait for earlier ones; auto follows the source")
    ] = "auto"
    uwb: TechSettings = TechSettings()
    ble_aoa: TechSettings = TechSettings()
    camera: TechSettings = TechSettings()
    gnss: TechSettings = TechSettings()

    def of(self, tech: str) -> dict[str, Any]:
        """Overrides for a technology, by the names of `schemas.venue.Dwelling`."""
        section = getattr(self, tech.lower(), None)
        if not isinstance(section, TechSettings):
            return {}
        found: dict[str, Any] = {}
        for name in section.__struct_fields__:
            value = getattr(section, name)
            if isinstance(value, Duration):
                found[f"{name}_us"] = value.us
            elif value is not None:
                found[name] = value
        return found


class IdentitySettings(_Section, frozen=True, kw_only=True):
    """How identifiers become persons."""

    max_neighbours: Annotated[int, Meta(description="Stronger identifiers beyond which one is a hub", ge=2)] = 24
    max_candidates: Annotated[int, Meta(description="Candidates of one namespace beyond which one is shared", ge=1)] = 6


class CampaignSettings(_Section, frozen=True, kw_only=True):
    """Where the rules lie, beside the settings file."""

    dir: Annotated[str, Meta(description="Folder of campaign files")] = "campaigns"
    segments: Annotated[str, Meta(description="Folder of segment files")] = "segments"
    templates: Annotated[str, Meta(description="Folder of template files")] = "templates"
    stale_after: Annotated[Duration, Meta(description="Age at which a trigger no longer speaks to people")] = span(
        "10s"
    )


class ModelSettings(_Section, frozen=True, kw_only=True):
    """Where models lie."""

    dir: Annotated[str | None, Meta(description="Folder models/<name>/<version>; left out: the shipped ones")] = None


class InputSettings(_Section, frozen=True, kw_only=True):
    """What is believed of the input."""

    until: Annotated[str, Meta(description="Event times from here on are refused, RFC 3339 or a date")] = "2090-01-01"


class StateSettings(_Section, frozen=True, kw_only=True):
    """Where state is kept."""

    backend: Annotated[Literal["memory", "rocksdb"], Meta(description="memory, or rocksdb on disk")] = "memory"
    dir: Annotated[str, Meta(description="Folder of the state, for rocksdb")] = "state"
    sync: Annotated[bool, Meta(description="Sync every commit, so that a power cut loses nothing")] = True


class KafkaSettings(_Section, frozen=True, kw_only=True):
    """The broker, and how we are known to it. Secrets are files, never values."""

    bootstrap: Annotated[str | None, Meta(description="Brokers to ask first, host:port, by comma")] = None
    profile: Annotated[
        Literal["plaintext", "sasl_ssl", "mtls", "oauthbearer"],
        Meta(description="How we speak to it; plaintext only on the loopback, or with --insecure"),
    ] = "plaintext"
    mechanism: Annotated[
        Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"],
        Meta(description="How the password is shown, for sasl_ssl; PLAIN for the keys of managed clusters"),
    ] = "SCRAM-SHA-512"
    ca_file: Annotated[
        str | None, Meta(description="Certificates we trust, PEM, for all but plaintext; left out: the system's")
    ] = None
    username: Annotated[str | None, Meta(description="Who we are, for sasl_ssl")] = None
    password_file: Annotated[str | None, Meta(description="File of the password, for sasl_ssl")] = None
    certificate_file: Annotated[str | None, Meta(description="Our certificate, PEM, for mtls")] = None
    key_file: Annotated[str | None, Meta(description="Its key, PEM, for mtls")] = None
    key_password_file: Annotated[str | None, Meta(description="File of the key's password, where it has one")] = None
    token_url: Annotated[str | None, Meta(description="Where tokens are given out, for oauthbearer")] = None
    client_id: Annotated[str | None, Meta(description="Who we are, for oauthbearer")] = None
    client_secret_file: Annotated[str | None, Meta(description="File of the secret, for oauthbearer")] = None
    scope: Annotated[str | None, Meta(description="Scope asked for, for oauthbearer")] = None
    start: Annotated[str, Meta(description="Where a first start begins: earliest, latest, or a time (RFC 3339)")] = (
        "earliest"
    )
    wait: Annotated[Duration, Meta(description="How long a start waits for a broker or registry that is away")] = span(
        "60s"
    )


class RegistrySettings(_Section, frozen=True, kw_only=True):
    """The schema registry."""

    url: Annotated[str | None, Meta(description="Its address, with the path of Confluent's API")] = None
    ca_file: Annotated[
        str | None, Meta(description="Certificates we trust, PEM, for https; left out: the system's")
    ] = None
    username: Annotated[str | None, Meta(description="Who we are, where it asks")] = None
    password_file: Annotated[str | None, Meta(description="File of the password, where it asks")] = None


class TopicSettings(_Section, frozen=True, kw_only=True):
    """Topics on the broker."""

    prefix: Annotated[
        str, Meta(description="What stands before every topic and subject", pattern=r"^[a-zA-Z0-9._-]{0,100}$")
    ] = ""
    partitions: Annotated[
        int, Meta(description="Partitions of every topic, fixed for the life of the data", ge=1, le=1_000)
    ] = 12
    replication: Annotated[
        int | None, Meta(description="Copies of every new topic; left out: as many as the broker gives", ge=1, le=100)
    ] = None
    min_insync: Annotated[
        int | None,
        Meta(description="Copies in step before a write to a new topic counts; left out: the broker's", ge=1, le=100),
    ] = None


SHARING = 8
"""Processes that may share shards: beyond, an epoch takes too long to close over them."""


class EngineSettings(_Section, frozen=True, kw_only=True):
    """How the engine runs."""

    epoch: Annotated[Duration, Meta(description="Length of an epoch: what a restart replays at most")] = span("10s")
    shards: Annotated[
        int,
        Meta(
            description="Virtual shards of activation, fixed for the life of its state: 1, or 8 and more for several "
            "processes",
            ge=1,
            le=64,
        ),
    ] = 1
    lanes: Annotated[
        int, Meta(description="Groups of partitions, fixed for life: the most processes ever wanted", ge=1, le=100)
    ] = 16
    max_block: Annotated[Duration, Meta(description="Longest wait for a message before timers are looked at")] = span(
        "5ms"
    )
    journal: Annotated[str | None, Meta(description="Folder of the poll journal, which a replay repeats exactly")] = (
        None
    )


class MetricsSettings(_Section, frozen=True, kw_only=True):
    """Our own page of metrics and health."""

    listen: Annotated[str, Meta(description="Address and port, host:port")] = "127.0.0.1:9464"


class SimulateSettings(_Section, frozen=True, kw_only=True):
    """The simulated shop of the demo."""

    seed: Annotated[int, Meta(description="Seed of the simulated shop", ge=0)] = 7


class Settings(_Section, frozen=True, kw_only=True):
    """All settings of a deployment."""

    site: SiteSettings = SiteSettings()
    pseudonym: PseudonymSettings = PseudonymSettings()
    presence: PresenceSettings = PresenceSettings()
    identity: IdentitySettings = IdentitySettings()
    campaigns: CampaignSettings = CampaignSettings()
    model: ModelSettings = ModelSettings()
    input: InputSettings = InputSettings()
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    topics: TopicSettings = TopicSettings()
    state: StateSettings = StateSettings()
    engine: EngineSettings = EngineSettings()
    metrics: MetricsSettings = MetricsSettings()
    simulate: SimulateSettings = SimulateSettings()

    @property
    def until_us(self) -> int:
        """`[input] until` in µs."""
        return instant(f"{self.input.until}T00:00:00Z" if len(self.input.until) == 10 else self.input.until)

    @property
    def start(self) -> Literal["earliest", "latest"] | int:
        """`[kafka] start`: a word, or a time in µs."""
        named = self.kafka.start
        return named if named in {"earliest", "latest"} else instant(named)  # type: ignore[return-value]


def _place(text: str, section: list[str], key: str | None) -> int:
    """Line of a key in the file, or of its table, from 1."""
    wanted, at = ".".join(section), ""
    found = 1
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            at = header[1].replace(" ", "")
            if at == wanted or (key and at == f"{wanted}.{key}".strip(".")):
                found = number
        elif at == wanted and key and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return number
    return found


def _wrong(path: Path, text: str, section: list[str], key: str | None, what: str) -> WrongUse:
    return WrongUse(f"{path}:{_place(text, section, key)}: {what}")


def _value(hint: Any, value: Any) -> Any:
    """Convert one value by its annotation; raises ValueError that says what was expected."""
    bounds = [part for part in get_args(hint)[1:] if isinstance(part, Meta)] if get_origin(hint) is Annotated else []
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    first, _ = unwrapped(inner)
    if first is Duration:
        if value == "auto" and "auto" in str(inner):
            return value
        try:
            return span(value)
        except (DurationFault, TypeError, AttributeError) as error:
            raise ValueError('must be a duration such as "45s"') from error
    if get_origin(first) is Literal and value not in get_args(first):
        raise ValueError(f"must be {' or '.join(map(str, get_args(first)))}")
    try:
        # a bound stands on the type alone: a file has no null, and msgspec takes no bound on an optional one
        return msgspec.convert(value, Annotated[(first, *bounds)] if bounds else inner)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)[:1].lower() + str(error)[1:]) from error


def _built(kind: type[msgspec.Struct], found: dict[str, Any], path: Path, text: str, at: list[str]) -> Any:
    hints = get_type_hints(kind, include_extras=True)
    values = {}
    for key, value in found.items():
        if key not in hints:
            from rapidfuzz import process  # here: settings that are right need it nowhere

            near = process.extractOne(key, list(hints), score_cutoff=50)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(hints)}"
            name = f"[{'.'.join([*at, key])}]" if isinstance(value, dict) else f"{key} in [{'.'.join(at)}]"
            raise _wrong(path, text, at, key, f"unknown setting {name}{hint}")
        hint = hints[key]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            if not isinstance(value, dict):
                raise _wrong(path, text, at, key, f"{key} must be a table [{'.'.join([*at, key])}]; got {value!r}")
            values[key] = _built(hint, value, path, text, [*at, key])
            continue
        try:
            values[key] = _value(hint, value)
        except ValueError as error:
            raise _wrong(path, text, at, key, f"{key} in [{'.'.join(at)}] {error}; got {value!r}") from error
    return kind(**values)


def load(path: Path | None) -> Settings:
    """Read a settings file; None is all defaults.

    Raises:
        WrongUse: with file, line, what was expected, what was found, and the nearest legal key.
    """
    if path is None:
        return Settings()
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise WrongUse(f"{path}: settings must be readable; {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise WrongUse(f"{path}:{line}: settings must be text in UTF-8; {error.reason}") from error
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongUse(f"{path}: settings must be TOML; {error}") from error
    settings: Settings = _built(Settings, found, path, text, [])
    for section, key, what in _beyond_types(settings):
        raise _wrong(path, text, [section], key, f"{key} in [{section}] {what}")
    return settings


_NEEDED = {
    "plaintext": (),
    "sasl_ssl": ("username", "password_file"),
    "mtls": ("certificate_file", "key_file"),
    "oauthbearer": ("token_url", "client_id", "client_secret_file"),
}


def _beyond_types(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """What no type says: section, key, and what was expected."""
    try:
        _ = settings.until_us
    except BadShape as error:
        yield "input", "until", f"{error}; got {settings.input.until!r}"
    kafka, registry, listen = settings.kafka, settings.registry, settings.metrics.listen
    if kafka.bootstrap is not None and not all(map(_address, kafka.bootstrap.split(","))):
        yield "kafka", "bootstrap", f"must be host:port, several by comma; got {kafka.bootstrap!r}"
    try:
        _ = settings.start
    except BadShape:
        yield "kafka", "start", f"must be earliest, latest or a time such as 2026-12-05T16:00:00Z; got {kafka.start!r}"
    for key in _NEEDED[kafka.profile]:
        if getattr(kafka, key) is None:
            yield "kafka", key, f"must be given for profile {kafka.profile}"
    copies, least = settings.topics.replication, settings.topics.min_insync
    if copies is not None and least is not None and least > copies:
        yield "topics", "min_insync", f"must be at most replication, {copies}; got {least}"
    if registry.url is not None and "@" in registry.url:
        yield "registry", "url", "must hold no credentials; use username and password_file"
    elif registry.url is not None and not re.match(r"https?://[^/]", registry.url):
        yield "registry", "url", f"must be an address such as http://host:8080/apis/ccompat/v7; got {registry.url!r}"
    if (registry.username is None) != (registry.password_file is None):
        yield "registry", "password_file", "must stand together with username"
    if not _address(listen):
        yield "metrics", "listen", f"must be host:port, with a port up to 65535; got {listen!r}"


def _address(text: str) -> bool:
    found = re.fullmatch(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", text)
    return found is not None and int(found[1]) <= 65_535


def described() -> list[tuple[str, str, str, str]]:
    """Every setting as (section, key, default, meaning)."""
    rows: list[tuple[str, str, str, str]] = []

    def walk(kind: type[msgspec.Struct], at: str) -> None:
        for field in msgspec.structs.fields(kind):
            hint = get_type_hints(kind, include_extras=True)[field.name]
            if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
                walk(hint, f"{at}.{field.name}".strip("."))
                continue
            default = field.default.text if isinstance(field.default, Duration) else field.default
            meta = next(part for part in get_args(hint) if isinstance(part, Meta))
            rows.append((at, field.name, "" if default is None else str(default), str(meta.description)))

    walk(Settings, "")
    return rows


def is_ci() -> bool:
    """Whether nobody watches: no live picture then."""
    return bool(os.environ.get("CI"))
