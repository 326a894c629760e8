"""Loads a directory of rules: whole or not at all."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from operators.rules import consent_checks, economy_checks, shadows
from operators.rules.campaigns import Campaign
from operators.rules.compiling import Compiler, Set
from operators.rules.facts import FactPlan
from operators.rules.faults import Fault, RulesRefused, in_order
from operators.rules.index import Index
from operators.rules.leaves import STATIC, Leaf
from operators.rules.segments import Segment, segment_of
from operators.rules.sentences import sentence
from operators.rules.strict_yaml import Document, load
from operators.rules.templates import Template, template_of, warnings
from operators.rules.witness import Search
from schemas import ids
from schemas.venue import Venue

FOLDERS = ("campaigns", "segments", "templates")
Files = Mapping[str, bytes]
"""Content by name, as `campaigns/offers.yaml`."""


class Rules:
    """The rules in force.

    Attributes:
        campaigns: by id.
        segments: by id.
        templates: by id.
        plan: what the profile keeps for them.
        index: which campaigns a trigger touches.
        versions: of the sets of `campaigns`, of `segments`, and of both with the templates (`rules`).
        warnings: faults that refuse nothing.
    """

    def __init__(
        self,
        campaigns: Mapping[str, Campaign],
        segments: Mapping[str, Segment],
        templates: Mapping[str, Template],
        plan: FactPlan,
        venue: Venue | None,
        warned: Iterable[Fault] = (),
    ) -> None:
        self.campaigns = dict(campaigns)
        self.segments = dict(segments)
        self.templates = dict(templates)
        self.plan = plan
        self.warnings = list(warned)
        stores = () if venue is None else (zone.zone_id for zone in venue.zones.values() if zone.kind == "STORE")
        self.index = Index(self.campaigns.values(), frozenset(stores))
        of_campaigns = ids.version({name: campaign.version for name, campaign in self.campaigns.items()})
        of_segments = ids.version({name: segment.version for name, segment in self.segments.items()})
        contents = {name: ids.version(name, template.content) for name, template in self.templates.items()}
        self.versions = {
            "campaigns": of_campaigns,
            "segments": of_segments,
            "rules": ids.version([of_campaigns, of_segments, contents]),
        }

    def candidates(
        self, kind: str, subject: str | None, site: str, *, threshold_us: int | None = None
    ) -> list[Campaign]:
        """Campaigns a trigger touches (`Index.candidates`)."""
        return self.index.candidates(kind, subject, site, threshold_us=threshold_us)

    def thresholds(self) -> Mapping[str, tuple[int, ...]]:
        """Dwell times to fire, µs by zone, ascending."""
        return self.index.thresholds()

    def reads_score(self, campaigns: Iterable[Campaign]) -> bool:
        """Whether any of these campaigns, or a segment, reads a score."""
        segments = (leaf for segment in self.segments.values() for leaf in segment.reads)
        return any(campaign.reads_score for campaign in campaigns) or any(
            leaf.startswith("score.") for leaf in segments
        )


def none_in_force() -> Rules:
    """Rules where there are none."""
    return Rules({}, {}, {}, FactPlan(), None)


def load_rules(
    directory: Path,
    venue: Venue | None,
    models: Iterable[str] = (),
    *,
    campaigns: Path | None = None,
    segments: Path | None = None,
    templates: Path | None = None,
) -> Rules:
    """Read `campaigns/`, `segments/` and `templates/` of a directory, where they are.

    Args:
        directory: a replay directory, or the example.
        venue: to check zones, devices and sites against; None checks none.
        models: names of the models at hand; none checks none.
        campaigns: another folder for them; so too for the others.
        segments: as above.
        templates: as above.

    Raises:
        RulesRefused: with every fault of every file.
    """
    files, strays = files_of(directory, campaigns=campaigns, segments=segments, templates=templates)
    rules, faults = check_rules(files, venue, models)
    if rules is None or strays:
        raise RulesRefused([*strays, *(fault for fault in faults if fault.refuses)])
    return rules


def files_of(
    directory: Path, *, campaigns: Path | None = None, segments: Path | None = None, templates: Path | None = None
) -> tuple[dict[str, bytes], list[Fault]]:
    """Files of the three folders by name, and a fault for each that would have been left out in silence."""
    files: dict[str, bytes] = {}
    strays: list[Fault] = []
    for kind, folder in zip(FOLDERS, (campaigns, segments, templates), strict=True):
        found, stray = _folder(folder or directory / kind, kind)
        files |= found
        strays += stray
    return files, strays


def _folder(folder: Path, kind: str) -> tuple[dict[str, bytes], list[Fault]]:
    files: dict[str, bytes] = {}
    strays: list[Fault] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = f"{kind}/{path.name}"
        if path.suffix == ".yaml" and path.is_file():
            files[name] = path.read_bytes()
        elif path.is_file() and not path.name.startswith((".", "README")):
            strays.append(
                Fault(name, 1, 1, "E105", f"a file of {kind} must be called <id>.yaml", fix=f"name it {path.stem}.yaml")
            )
    return files, strays


def check_rules(
    files: Files, venue: Venue | None, models: Iterable[str] = (), *, search: bool = False
) -> tuple[Rules | None, list[Fault]]:
    """Check a set of files.

    Args:
        files: content by name.
        venue: as in `load_rules`.
        models: as in `load_rules`.
        search: look for contradictions too (W501, W502), which takes longer than all the rest.

    Returns:
        The rules, None when any file is wrong; and all faults, warnings too, in the order of the files.
    """
    faults: list[Fault] = []
    plan = FactPlan()
    documents = {name: document for name in sorted(files) if (document := _document(name, files[name], faults))}
    named = {kind: {_id(name): name for name in files if name.startswith(f"{kind}/")} for kind in FOLDERS}
    templates: dict[str, Template] = {}
    for id_, name in named["templates"].items():
        if name in documents and (template := template_of(documents[name], files[name], id_, faults)):
            templates[id_] = template
    segments: dict[str, Segment] = {}
    for id_, name in named["segments"].items():
        if name in documents and (segment := segment_of(documents[name], id_, plan, faults)):
            segments[id_] = segment
    refers = Set(
        venue=venue,
        segments=frozenset(named["segments"]),
        campaigns=frozenset(named["campaigns"]),
        templates=templates,
        models=frozenset(models),
        broken=frozenset(named["templates"]) - frozenset(templates),
    )
    campaigns: dict[str, Campaign] = {}
    for id_, name in named["campaigns"].items():
        if name in documents and (campaign := _campaign(documents[name], id_, refers, plan, faults)):
            campaigns[id_] = campaign
    if search:
        tried = Search()
        for id_, campaign in campaigns.items():
            faults += tried.check(documents[named["campaigns"][id_]], campaign)
        faults += shadows.check(documents, campaigns, tried)
    for id_, template in templates.items():
        faults += warnings(documents[named["templates"][id_]], template, STATIC)
    ordered = in_order(faults)
    if any(fault.refuses for fault in ordered):
        return None, ordered
    return Rules(campaigns, segments, templates, plan, venue, ordered), ordered


def _campaign(document: Document, name: str, refers: Set, plan: FactPlan, faults: list[Fault]) -> Campaign | None:
    campaign = Compiler(document, name, refers, plan, faults).campaign()
    if campaign is None:
        return None
    leaves: dict[str, Leaf] = consent_checks.own_leaves(campaign, campaign.fact_leaves)
    found = list(consent_checks.check(document, campaign, leaves, dict(refers.templates)))
    faults += found
    faults += economy_checks.check(document, campaign, refers.venue, refers.segments)
    return None if any(fault.refuses for fault in found) else campaign


def _document(name: str, content: bytes, faults: list[Fault]) -> Document | None:
    try:
        return load(name, content)
    except RulesRefused as refused:
        faults += refused.faults
        return None


def _id(name: str) -> str:
    return Path(name).stem


class Lint(msgspec.Struct, frozen=True):
    """What `lint` found: faults in the order of the files, and each campaign that reads well as a sentence."""

    faults: list[Fault]
    sentences: dict[str, str]


def lint(files: Files, venue: Venue | None = None, models: Iterable[str] = (), *, language: str = "en") -> Lint:
    """Check files as loading would, and say each campaign in a sentence.

    Args:
        files: content by name; names begin with `campaigns/`, `segments/` or `templates/`.
        venue: as in `load_rules`.
        models: as in `load_rules`.
        language: `en` or `de`.
    """
    rules, faults = check_rules(files, venue, models, search=True)
    said = {} if rules is None else {name: sentence(campaign, language) for name, campaign in rules.campaigns.items()}
    return Lint(faults, said)
