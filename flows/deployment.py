"""A deployment: settings, venue, rules and model of one shop, and each step's core made from them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from flows.ports import key_of
from flows.settings import TECHNOLOGIES, Duration, Settings, WrongUse, load
from operators.admit import Admit, AdmitRule
from operators.decide import Decide, DecideRule
from operators.decode import Decode, DecodeRule
from operators.deliver import Deliver, DeliverRule
from operators.dwell import Dwell, DwellRule
from operators.gather import Gather
from operators.homes import Homes
from operators.identities.evidence import StitchRule
from operators.models.lightgbm import ModelUnavailable
from operators.models.model import Model, ModelRefused, load_model
from operators.occupancy import Occupancy
from operators.person import PersonStep
from operators.profile import ProfileRule, Profiles
from operators.residence import Residence, Returns
from operators.rules.faults import Fault, repaired
from operators.rules.load import FOLDERS, Rules, load_rules
from operators.rules.load import lint as lint_rules
from operators.score import Scores
from operators.segments import Segments
from operators.state.store import Tables
from operators.stitch import Stitch
from operators.venues.dwelling import dwelling
from operators.venues.place import Places
from operators.venues.venue import load_venue
from schemas.pseudonym import Tokens, tokens
from schemas.reference import Zone
from schemas.sealing import KEY_BYTES, deployment_key, opener, sealer
from schemas.topics import REFERENCE
from schemas.venue import Dwelling, Venue

EXAMPLE = Path(__file__).parent / "example"
End = Literal["close", "keep", "all"]
Say = Callable[[str], None]


def _quiet(_text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What the flows of one shop are made of. Each method named like a step builds that step's core."""

    settings: Settings
    venue: Venue
    rules: Rules
    model: Model | None
    key: bytes
    key_version: int
    end: End = "close"
    complete: bool = True
    live: bool = False
    schemas: Mapping[int, tuple[str, Any]] = field(default_factory=dict)
    dealt: int | None = None
    doors: list[Admit] = field(default_factory=list)
    """Every core made, for the metrics; so are these."""
    deciders: list[Decide] = field(default_factory=list)

    @classmethod
    def load(
        cls,
        folder: Path,
        config: Path | None,
        *,
        end: str = "close",
        complete: bool = True,
        live: bool = False,
        say: Say = _quiet,
    ) -> "Deployment":
        """Read a directory laid out as a replay directory.

        Args:
            folder: holds venue.geojson, campaigns/, segments/, templates/, models/.
            config: its settings file, or None.
            end: what the end of input does.
            complete: history before the first row counts as nothing, not as unknown (a replay).
            live: timers that fell due while nobody ran are too old to speak.
            say: is told what a person should know: the example key, warnings, a model that cannot be used.

        Raises:
            WrongUse, VenueFault, RulesRefused: with file and place; nothing was opened.
        """
        settings = load(config)
        base = config.parent if config else folder
        key, version, example = key_of(settings, base, required=False)
        if example:
            say("using the published example key: not for production")
        venue = load_venue(folder / "venue.geojson", strict_zones=settings.presence.strict_zones)
        if settings.site.id not in (None, venue.site.site_id):
            raise WrongUse(
                f"{config}: id in [site] must be that of venue.geojson, {venue.site.site_id!r}; got {settings.site.id!r}"
            )
        model = _model(folder, base, settings, say)
        rules = load_rules(
            folder,
            venue,
            _models(folder, base, settings),
            **{kind: base / name for kind, name in zip(FOLDERS, _named(settings), strict=True)},
        )
        for warning in [*venue.warnings, *map(str, rules.warnings)]:
            say(warning)
        return cls(
            settings=settings,
            venue=venue,
            rules=rules,
            model=model,
            key=key,
            key_version=version,
            end=cast("End", end),
            complete=complete,
            live=live,
        )

    def heard_from(self, schemas: Mapping[int, tuple[str, Any]], dealt: int | None = None) -> "Deployment":
        """The same, reading framed values by these writers' schemas; `dealt` as in `DecodeRule`."""
        return replace(self, schemas=schemas, dealt=dealt)

    @property
    def token(self) -> Tokens:
        """The hasher of identifiers."""
        return tokens(self.key, self.key_version)

    @property
    def site_id(self) -> str:
        """Id of the shop."""
        return self.venue.site.site_id

    def decode(self, tables: Tables) -> Decode:
        """What was heard becomes events."""
        own = deployment_key(self.key)
        rule = DecodeRule(
            site_id=self.site_id,
            token=self.token,
            sealed=sealer(own),
            wrapped=sealer(own),
            sealed_under=sealer,
            unwrapped=opener(own),
            new_key=lambda: os.urandom(KEY_BYTES),
            schemas=self.schemas,
            dealt=self.dealt,
        )
        return Decode(rule, tables)

    def admit(self, tables: Tables) -> Admit:
        """Gates, clocks, order."""
        reorder, overrides = self.settings.presence.reorder, self._overrides
        rule = AdmitRule(
            sealed=sealer(deployment_key(self.key)),
            until=self.settings.until_us,
            reorder_us=reorder.us if isinstance(reorder, Duration) else None,
            reorders={tech: found["reorder_us"] for tech, found in overrides.items() if "reorder_us" in found},
            longest_gap_us=max(found.get("gap_us", 0) for found in overrides.values()),
        )
        self.doors.append(Admit(rule, Places(self.venue), tables))
        return self.doors[-1]

    @property
    def _overrides(self) -> dict[str, dict[str, Any]]:
        return {tech: self.settings.presence.of(tech) for tech in TECHNOLOGIES}

    def dwell(self, tables: Tables) -> Dwell:
        """Stays, said while they last."""
        overrides = self._overrides
        thresholds = self.rules.thresholds()

        def way(zone: Zone, tech: str) -> Dwelling:
            return dwelling(zone, tech, overrides)

        rule = DwellRule(self.venue, way, lambda zone: thresholds.get(zone.zone_id, ()), self.end)
        return Dwell(rule, Places(self.venue), tables)

    def occupancy(self, tables: Tables) -> Occupancy:
        """Who is in a zone."""
        return Occupancy(tables)

    def stitch(self, tables: Tables) -> Stitch:
        """Identifiers become persons."""
        return Stitch(self._identity, tables)

    @property
    def _identity(self) -> StitchRule:
        identity = self.settings.identity
        return StitchRule(
            site_id=self.site_id,
            legal_basis=self.venue.site.legal_basis,
            max_neighbours=identity.max_neighbours,
            max_candidates=identity.max_candidates,
        )

    def person(self, tables: Tables) -> PersonStep:
        """Profile, score, segments, decision: in that order for each event."""
        rule_version = self._identity.version
        people = Profiles(
            ProfileRule(version=rule_version, site_id=self.site_id, complete=self.complete), self.rules.plan, tables
        )
        segments = Segments(list(self.rules.segments.values()), people, tables, self.site_id)
        scores = Scores(self.model, self.venue, tables)
        versions = {
            "segments": self.rules.versions["segments"],
            "model": self.model.version if self.model else "",
            "rules": self.rules.versions["rules"],
        }
        rule = DecideRule(
            stale_after_us=self.settings.campaigns.stale_after.us,
            end=self.end,
            timers_go_stale=self.live,
            versions=versions,
        )
        decide = Decide(self.rules, people, segments.of, scores.score, self.venue, rule, tables)
        self.deciders.append(decide)
        return PersonStep(people, segments, scores, decide)

    def gather(self, tables: Tables) -> Gather:
        """Lanes become one stream."""
        return Gather(self.settings.engine.shards, REFERENCE, tables)

    def homes(self, tables: Tables) -> Homes:
        """Each event to the shard of its person."""
        return Homes(self.settings.engine.shards, tables)

    def residence(self, returns: Returns) -> Callable[[Tables], Residence]:
        """The person step of one shard of several; `returns` carries who moves between them."""
        return lambda tables: Residence(self.person(tables), returns, tables)

    def deliver(self, tables: Tables) -> Deliver:
        """Commands become texts and outcomes."""
        return Deliver(DeliverRule(self.rules.templates, self.venue, opener(deployment_key(self.key))), tables)


def _named(settings: Settings) -> tuple[str, str, str]:
    return settings.campaigns.dir, settings.campaigns.segments, settings.campaigns.templates


def _model_folder(folder: Path, base: Path, settings: Settings) -> Path:
    """Where models lie: as set, beside the input, or the shipped ones."""
    if settings.model.dir is not None:
        return base / settings.model.dir
    own = folder / "models"
    return own if own.is_dir() else EXAMPLE / "models"


def _models(folder: Path, base: Path, settings: Settings) -> list[str]:
    at = _model_folder(folder, base, settings)
    return sorted(path.name for path in at.iterdir() if path.is_dir()) if at.is_dir() else []


def _model(folder: Path, base: Path, settings: Settings, say: Say) -> Model | None:
    """The intent model in force: the one version there is."""
    at = _model_folder(folder, base, settings) / "intent"
    versions = sorted(path for path in at.iterdir() if path.is_dir()) if at.is_dir() else []
    if not versions:
        return None
    if len(versions) > 1:
        raise WrongUse(f"{at}: one version must be in force; found {', '.join(path.name for path in versions)}")
    try:
        return load_model(versions[0])
    except ModelRefused as error:
        raise WrongUse(str(error)) from error
    except ModelUnavailable as error:
        say(f"{error}; campaigns that read a score will say MODEL_UNAVAILABLE")
        return None


def hasher(config: Path | None) -> tuple[Tokens, bool]:
    """The hasher of a settings file's key, and whether it is the published example key."""
    settings = load(config)
    key, version, example = key_of(settings, config.parent if config else Path(), required=False)
    return tokens(key, version), example


def _rule_files(folder: Path, settings: Settings) -> dict[str, Path]:
    """Paths of the rule files by the names that faults give them."""
    found = {
        f"{kind}/{path.name}": path
        for kind, name in zip(FOLDERS, _named(settings), strict=True)
        for path in sorted((folder / name).glob("*.yaml"))
    }
    if not found:
        raise WrongUse(f"{folder}: must hold campaigns/, segments/ or templates/ with .yaml files")
    return found


def repair(folder: Path) -> list[Path]:
    """Write the fixes that change no meaning into a directory's rules; answers the files that changed."""
    config = folder / "footfall.toml"
    paths = _rule_files(folder, load(config if config.exists() else None))
    changed = []
    for name, path in paths.items():
        content = path.read_bytes()
        better = repaired(content, [fault for fault in lint(folder)[0] if fault.file == name])
        if better != content:
            path.write_bytes(better)
            changed.append(path)
    return changed


def lint(folder: Path) -> tuple[list[Fault], dict[str, str]]:
    """Check a directory's rules as a start does; each campaign as one sentence."""
    config = folder / "footfall.toml"
    settings = load(config if config.exists() else None)
    venue_file = folder / "venue.geojson"
    venue = load_venue(venue_file) if venue_file.exists() else None
    files = {name: path.read_bytes() for name, path in _rule_files(folder, settings).items()}
    found = lint_rules(files, venue, _models(folder, folder, settings))
    return found.faults, found.sentences
