"""A campaign file becomes a campaign: every part read, compiled and checked against the set it stands in."""

from collections.abc import Mapping
from typing import Any

import msgspec

from operators.rules import campaigns as made
from operators.rules.campaign_file import (
    CampaignFile,
    CapText,
    EventPart,
    GuardPart,
    PlacePart,
    SinglePart,
    TestPart,
    UnlessPart,
    WhenPart,
    is_name,
)
from operators.rules.campaigns import Action, Arm, Campaign, Cap, FactRead, Guard, Quiet, Stock, Test, Unless, When
from operators.rules.cel import Clause, Environment
from operators.rules.channels import CHANNELS
from operators.rules.conditions import compiled, conditions_of, declared, facts_of, needs_of, of_part
from operators.rules.facts import FactDeclared, FactPlan, where_environment
from operators.rules.faults import Fault, meant
from operators.rules.leaves import Leaf, event_leaves
from operators.rules.segments import version_of
from operators.rules.shape import fields, is_wrong, read
from operators.rules.strict_yaml import Document, Path
from operators.rules.templates import Template
from schemas.venue import Venue


class Set(msgspec.Struct, frozen=True):
    """What a campaign may refer to."""

    venue: Venue | None
    segments: frozenset[str]
    campaigns: frozenset[str]
    templates: Mapping[str, Template]
    models: frozenset[str]
    broken: frozenset[str] = frozenset()
    """Templates that are there and could not be read: their own faults say so."""


class Compiler:
    """Compiles one file; faults are added to the list it was given."""

    def __init__(self, document: Document, name: str, refers: Set, plan: FactPlan, faults: list[Fault]) -> None:
        self._document = document
        self._name = name
        self._refers = refers
        self._plan = plan
        self._faults = faults

    def campaign(self) -> Campaign | None:
        """The campaign, or None when anything in the file is wrong."""
        before = len(self._faults)
        parts = fields(self._document, (), CampaignFile, self._faults)
        if not is_wrong(parts["campaign"]) and parts["campaign"] != self._name:
            self._fault(
                ("campaign",), "E105", f"the campaign must be called as its file, {self._name}", f"write {self._name}"
            )
        facts, leaves = facts_of(self._document, parts["facts"], self._plan, self._faults)
        self._own_history(parts["facts"], "facts")
        when = None if is_wrong(parts["when"]) else self._when(parts["when"])
        event = _event_of(when)
        environment = Environment(leaves | ({} if event is None else event))
        clauses = conditions_of(self._document, "if", parts["conditions"], environment, self._faults)
        unless = self._unless(parts["unless"], environment)
        guard = None if is_wrong(parts["guard"]) else self._guard(parts["guard"], parts["do"], parts["tags"])
        test = None if is_wrong(parts["test"]) or parts["test"] is None else self._test(parts["test"], facts)
        do = () if is_wrong(parts["do"]) else self._do(parts["do"])
        self._valid(parts["valid"])
        if (
            not self._asks_known_model(clauses)
            or any(fault.refuses for fault in self._faults[before:])
            or when is None
            or guard is None
        ):
            return None
        if any(action.template not in self._refers.templates for action in do):
            return None
        needs = needs_of(clauses)
        keys = [one.key_leaf for one in (*facts.values(), *(held.read for held in unless if held.read)) if one.key_leaf]
        reads = dict.fromkeys([*needs, *keys, *([guard.stock.of] if guard.stock else [])])
        contents = [self._refers.templates[name].content for name in sorted({action.template for action in do})]
        return Campaign(
            id=parts["campaign"],
            version=version_of(self._document, *contents),
            file=self._document.file,
            owner=parts["owner"],
            about=parts["about"],
            priority=parts["priority"],
            group=parts["group"],
            tags=parts["tags"],
            include=parts["sites"].include,
            exclude=parts["sites"].exclude,
            valid_from=parts["valid"].start,
            valid_to=parts["valid"].to,
            paused=parts["paused"],
            when=when,
            facts=facts,
            clauses=clauses,
            unless=unless,
            guard=guard,
            test=test,
            do=do,
            reads=tuple(reads),
            needs=needs,
            fact_leaves=leaves,
        )

    def _fault(self, path: Path, code: str, what: str, fix: str = "", *, key: bool = False) -> None:
        self._faults.append(self._document.fault(path, code, what, fix, key=key))

    # When

    def _when(self, part: WhenPart) -> When | None:
        if part.sequence is not None:
            of = [self._single(one, ("when", "sequence", "of", at)) for at, one in enumerate(part.sequence.of)]
            if not 2 <= len(of) <= 8:
                self._fault(("when", "sequence", "of"), "E107", f"a sequence must have 2 to 8 steps; it has {len(of)}")
            self._positive(part.sequence.within, ("when", "sequence", "within"))
            return made.Sequence(tuple(one for one in of if one is not None), part.sequence.within)
        if part.absence is not None:
            after = self._single(part.absence.after, ("when", "absence", "after"))
            self._positive(part.absence.within, ("when", "absence", "within"))
            without = part.absence.without
            fact = FactDeclared("count", without.event, None, without.where, part.absence.within)
            kept = declared(self._document, ("when", "absence", "without"), "without", fact, self._plan, self._faults)
            return None if kept is None or after is None else made.Absence(after, kept[0], part.absence.within)
        if part.segment is not None:
            word = "entered" if part.segment.entered is not None else "left"
            segment = part.segment.entered or part.segment.left or ""
            self._known(segment, self._refers.segments, "segment", ("when", "segment", word))
            return made.SegmentMoved(segment, word.upper())
        if part.identified is not None:
            if part.identified.in_zone is not None:
                self._zone(part.identified.in_zone, ("when", "identified", "in_zone"))
            return made.Identified(part.identified.in_zone)
        return self._single(part, ("when",))

    def _single(self, part: SinglePart, path: Path) -> made.Single | None:
        if part.dwell is not None:
            self._zone(part.dwell.zone, (*path, "dwell", "zone"))
            self._positive(part.dwell.at_least, (*path, "dwell", "at_least"))
            return made.Dwell(part.dwell.zone, part.dwell.at_least)
        if part.entered is not None:
            self._place(part.entered, (*path, "entered"))
            return made.Entered(part.entered.zone, part.entered.site)
        if part.exited is not None:
            self._place(part.exited, (*path, "exited"))
            return made.Exited(part.exited.zone, part.exited.site)
        assert part.event is not None
        return self._happened(part.event, (*path, "event"))

    def _happened(self, part: EventPart, path: Path) -> made.Happened | None:
        if part.where is None:
            return made.Happened(part.topic)
        environment = where_environment(part.topic)
        clause = compiled(self._document, (*path, "where"), environment, "where", part.where, self._faults)
        return None if clause is None else made.Happened(part.topic, clause)

    def _place(self, part: PlacePart, path: Path) -> None:
        if part.zone is not None:
            self._zone(part.zone, (*path, "zone"))
        venue = self._refers.venue
        if part.site is not None and venue is not None:
            self._known(part.site, {made.ANY, venue.site.site_id}, "site", (*path, "site"))

    def _zone(self, zone: str, path: Path) -> None:
        venue = self._refers.venue
        if venue is None:
            return
        if self._known(zone, venue.zones, "zone", path) and venue.zones[zone].sensitive:
            self._fault(path, "E302", f"zone {zone} is sensitive: nothing may start there", "choose another zone")

    def _known(self, name: str, legal: Any, what: str, path: Path) -> bool:
        if name in legal:
            return True
        fix = meant(name, legal) if legal else f"add the {what}, or drop this"
        self._fault(path, "E106", f"unknown {what} {name}", fix)
        return False

    def _positive(self, duration: int, path: Path) -> None:
        if duration <= 0:
            self._fault(path, "E103", "a duration must be longer than nothing here", "write it like 45s")

    # Unless

    def _unless(self, written: Any, environment: Environment) -> tuple[Unless, ...]:
        if not isinstance(written, dict):
            self._fault(("unless",), "E102", "unless must be a mapping of names", "give each a name")
            return ()
        found = []
        for name, entry in written.items():
            path: Path = ("unless", name)
            if not is_name(name):
                self._fault(
                    path,
                    "E102",
                    f"a clause's name must be a word like bought; got {name}",
                    "use a-z, 0-9 and _",
                    key=True,
                )
            elif isinstance(entry, str):
                if clause := compiled(self._document, path, environment, name, entry, self._faults):
                    found.append(Unless(name, clause=clause))
            elif not is_wrong(part := read(self._document, path, UnlessPart, self._faults)):
                kept = declared(self._document, path, name, of_part(part), self._plan, self._faults)
                self._campaign_named(part, path)
                if kept:
                    found.append(Unless(name, read=kept[0]))
        return tuple(found)

    def _own_history(self, parts: Any, key: str) -> None:
        for name, part in ({} if is_wrong(parts) else parts).items():
            self._campaign_named(part, (key, name))

    def _campaign_named(self, part: Any, path: Path) -> None:
        for word in ("fired", "outcome"):
            if (campaign := getattr(part, word)) is not None:
                self._known(campaign, self._refers.campaigns, "campaign", (*path, word))

    # Guard, test, do

    def _guard(self, part: GuardPart, do: Any, tags: Any) -> Guard:
        channels = {action.channel.lower() for action in (() if is_wrong(do) else do)}
        named = set() if is_wrong(tags) else set(tags)
        caps = [cap for scope, text in part.caps.items() if (cap := self._cap(scope, text, channels, named))]
        quiet = None
        if part.quiet is not None:
            hold, at_most = part.quiet.otherwise == "hold", part.quiet.at_most
            if hold and not at_most:
                self._fault(("guard", "quiet"), "E104", "a hold must say at_most", "add at_most: 2h")
            if not hold and at_most is not None:
                self._fault(
                    ("guard", "quiet", "at_most"),
                    "E102",
                    "at_most has a meaning with else: hold only",
                    "drop it",
                    key=True,
                )
            if part.quiet.venue is None and part.quiet.person is None:
                self._fault(
                    ("guard", "quiet"),
                    "E104",
                    "quiet must name hours of the venue or the person",
                    'add venue: "21:00-09:00"',
                )
            quiet = Quiet(part.quiet.venue, part.quiet.person, hold, at_most or 0)
        stock = None if part.stock is None else Stock(part.stock.of, float(part.stock.at_least), part.stock.max_age)
        if "contact" in part.consent:
            path: Path = ("guard", "consent", part.consent.index("contact"))
            self._fault(path, "W503", "contact need not be named: it follows from the channels", "drop it")
        consent = tuple(purpose for purpose in dict.fromkeys(part.consent) if purpose != "contact")
        return Guard(part.identity, consent, tuple(caps), quiet, stock, part.audience)

    def _cap(self, scope: str, text: CapText, channels: set[str], tags: set[str]) -> Cap | None:
        kind = {"this": "THIS", "any": "ANY"}.get(scope) or ("TAG" if scope.startswith("tag.") else "CHANNEL")
        path: Path = ("guard", "caps", scope)
        if kind == "CHANNEL" and scope.upper() not in CHANNELS:
            legal = ["this", "any", *(f"tag.{tag}" for tag in sorted(tags)), *(name.lower() for name in CHANNELS)]
            self._fault(path, "E101", f"no cap is called {scope}", meant(scope, legal), key=True)
            return None
        if (kind == "CHANNEL" and scope not in channels) or (kind == "TAG" and scope.removeprefix("tag.") not in tags):
            what = f"cap {scope} never binds: the campaign has no such {'channel' if kind == 'CHANNEL' else 'tag'}"
            self._fault(path, "W503", what, "drop it", key=True)
        return Cap(kind, scope, text.limit, text.window_us, text.calendar, text.shown, text.text)

    def _test(self, part: TestPart, facts: dict[str, FactRead]) -> Test | None:
        shares = {"control": part.holdout or 0} if part.variants is None else dict(part.variants)
        path: Path = ("test", "holdout" if part.variants is None else "variants")
        if part.variants is None and not 100 <= shares["control"] <= 5000:
            self._fault(path, "E107", "a holdout must be 1% to 50%", "write 10%")
            return None
        if part.variants is not None and ("control" not in shares or sum(shares.values()) != 10_000 or len(shares) < 2):
            self._fault(path, "E102", "variants must have a control and add up to 100%", "write {a: 90%, control: 10%}")
            return None
        if (
            part.covariate is not None
            and part.covariate not in facts
            and not part.covariate.startswith("person.traits.")
        ):
            self._fault(
                ("test", "covariate"),
                "E106",
                f"unknown fact {part.covariate}",
                meant(part.covariate, facts) if facts else "declare it under facts",
            )
        arms, first = [], 0
        # The control takes the first buckets: a larger holdout keeps everybody who was in it.
        for name in sorted(shares, key=lambda name: (name != "control", name)):
            arms.append(Arm(name, first, first + shares[name]))
            first = arms[-1].end
        if part.variants is None:
            arms.append(Arm("treated", first, 10_000))
        expect = None if part.expect is None else part.expect / 10_000
        return Test(
            part.id or self._name, tuple(arms), "control", part.unit, part.metric, part.window, part.covariate, expect
        )

    def _do(self, parts: Any) -> tuple[Action, ...]:
        actions = []
        if not 1 <= len(parts) <= 8:
            self._fault(
                ("do",),
                "E107",
                f"do must have 1 to 8 entries; it has {len(parts)}",
                "add one" if not parts else "drop some",
                key=True,
            )
        for step, part in enumerate(parts):
            path: Path = ("do", step)
            self._positive(part.ttl, (*path, "ttl"))
            template = self._refers.templates.get(part.template)
            if template is None and part.template not in self._refers.broken:
                names = sorted(self._refers.templates)
                fix = meant(part.template, names) if names else "add it under templates"
                self._fault((*path, "template"), "E401", f"unknown template {part.template}", fix)
            elif template is not None and not _has_part(template, part.channel):
                what = f"template {part.template} has no part for {part.channel.lower()}"
                self._fault((*path, "template"), "E401", what, f"add the part {part.channel.lower()} to it")
            if part.fallback_after is not None and (step == 0 or part.also):
                self._fault(
                    (*path, "fallback_after"),
                    "E102",
                    "fallback_after has a meaning on a later entry without also only",
                    "drop it",
                    key=True,
                )
            if part.target is not None:
                self._target(part.channel, part.target, (*path, "target"))
            actions.append(
                Action(
                    step,
                    part.channel,
                    part.template,
                    part.ttl,
                    part.target,
                    part.fallback_after,
                    part.also,
                    dict(part.params),
                )
            )
        return tuple(actions)

    def _target(self, channel: str, target: str, path: Path) -> None:
        venue = self._refers.venue
        if CHANNELS[channel].personal:
            self._fault(path, "E102", f"{channel.lower()} goes to the person and takes no target", "drop it", key=True)
        elif target != "nearest" and venue is not None:
            self._known(target, {"nearest", *venue.devices}, "device", path)

    def _valid(self, valid: Any) -> None:
        if not is_wrong(valid) and valid.start is not None and valid.to is not None and valid.start >= valid.to:
            self._fault(("valid",), "E102", "valid must begin before it ends", "swap from and to", key=True)

    def _asks_known_model(self, clauses: tuple[Clause, ...]) -> bool:
        fine = True
        for clause in clauses:
            for leaf in clause.reads:
                model = leaf.removeprefix("score.").removesuffix("_known")
                if leaf.startswith("score.") and self._refers.models and model not in self._refers.models:
                    self._fault(
                        ("if", clause.name), "E201", f"no model is called {model}", meant(model, self._refers.models)
                    )
                    fine = False
        return fine


def _has_part(template: Template, channel: str) -> bool:
    return channel.lower() in template.parts or (channel == "SCREEN" and "screen_personal" in template.parts)


def _event_of(when: When | None) -> dict[str, Leaf] | None:
    """Leaves of the event that starts a campaign, where one does."""
    if isinstance(when, made.Absence):
        return _event_of(when.after)
    if isinstance(when, made.Sequence):
        return _event_of(when.of[-1]) if when.of else None
    if isinstance(when, made.Happened):
        return {name: source.leaf for name, source in event_leaves(when.topic).items()}
    return None
