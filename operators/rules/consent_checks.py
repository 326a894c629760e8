"""Whom a campaign may speak to with what: purposes granted (E301), nobody exposed (E302), variables known (E401)."""

from collections.abc import Iterator

from operators.rules.campaigns import Absence, Action, Campaign, Happened, SegmentMoved, Sequence, When
from operators.rules.channels import CHANNELS
from operators.rules.faults import Fault, meant
from operators.rules.leaves import IN_STORE, NONE, PERSONALISATION, STATIC, Leaf, event_leaves
from operators.rules.strict_yaml import Document, Path
from operators.rules.templates import NAME, Part, Template, personal

DISPLAY_NAME = "display_name"
_WEAK = ("candidate", "anyone")


def check(
    document: Document, campaign: Campaign, leaves: dict[str, Leaf], templates: dict[str, Template]
) -> Iterator[Fault]:
    """Faults of a campaign that reads well.

    Args:
        document: its file.
        campaign: compiled.
        leaves: its own leaves beside those of every condition (`facts.*`, `e.*`).
        templates: all of the set.
    """
    granted = frozenset(campaign.guard.consent)
    yield from _clauses(document, campaign, granted)
    yield from _trigger(document, campaign, granted)
    for action in campaign.do:
        template = templates.get(action.template)
        if template is not None:
            yield from _action(document, campaign, action, template, leaves)


def purposes_needed(campaign: Campaign, leaf: str, purposes: frozenset[str]) -> frozenset[str]:
    """What a leaf asks of a campaign's consent: where anyone will do, a place says nothing about a person."""
    if campaign.guard.identity == "anyone" and purposes == IN_STORE and leaf.startswith(("zone.", "visit.")):
        return NONE
    return purposes


def _clauses(document: Document, campaign: Campaign, granted: frozenset[str]) -> Iterator[Fault]:
    for clause in campaign.clauses:
        for leaf in clause.leaves:
            for purpose in sorted(purposes_needed(campaign, leaf.name, leaf.purposes) - granted):
                line, column = document.place(("if", clause.name), max(clause.text.find(leaf.name), 0))
                what = f"clause {clause.name} reads {leaf.name}, which needs purpose {purpose}"
                yield Fault(
                    document.file,
                    line,
                    column,
                    "E301",
                    what,
                    document.source(line),
                    f"add {purpose} to guard.consent",
                    len(leaf.name),
                )


def _trigger(document: Document, campaign: Campaign, granted: frozenset[str]) -> Iterator[Fault]:
    if isinstance(campaign.when, SegmentMoved) and not granted >= PERSONALISATION:
        what = f"segment {campaign.when.segment} tells about the person, which needs purpose personalisation"
        yield document.fault(("when", "segment"), "E301", what, "add personalisation to guard.consent")


def _action(
    document: Document, campaign: Campaign, action: Action, template: Template, leaves: dict[str, Leaf]
) -> Iterator[Fault]:
    channel = CHANNELS[action.channel]
    path: Path = ("do", action.step)
    weak = campaign.guard.identity in _WEAK
    if channel.personal and weak:
        what = (
            f"{action.channel.lower()} reaches one person, and identity: {campaign.guard.identity} may be another one"
        )
        yield document.fault(
            (*path, "channel"), "E302", what, "write identity: confirmed, or a channel that reaches nobody alone"
        )
    if any(_counts_reactions(when) for when in _triggers(campaign.when)) and channel.personal:
        yield document.fault(
            (*path, "channel"), "E302", "reaction counts must not start a message to a person", "use a screen"
        )
    reaches = action.channel == "SCREEN" and "screen" not in template.parts
    named = any(NAME in part.variables for part in template.parts.get("screen_personal", {}).values())
    if reaches and not named and DISPLAY_NAME not in campaign.guard.consent:
        what = f"template {template.id} has but a personal part, which needs purpose {DISPLAY_NAME} on a screen"
        yield document.fault(
            path, "E301", what, f"add {DISPLAY_NAME} to guard.consent, or give the template a part screen"
        )
    for part in _parts(campaign, action, template):
        for variable in part.variables:
            yield from _variable(document, campaign, action, part, variable, leaves)


def _parts(campaign: Campaign, action: Action, template: Template) -> Iterator[Part]:
    """Parts this entry may come to use."""
    names = [action.channel.lower()]
    if action.channel == "SCREEN":
        shared = "screen" in template.parts
        granted = DISPLAY_NAME in campaign.guard.consent
        # Without the purpose the personal part is never chosen; with no other part that must be said.
        names = ["screen"] if shared and not granted else ["screen", "screen_personal"]
    for name in names:
        yield from template.parts.get(name, {}).values()


def _variable(
    document: Document, campaign: Campaign, action: Action, part: Part, variable: str, leaves: dict[str, Leaf]
) -> Iterator[Fault]:
    path: Path = ("do", action.step, "template")
    granted = frozenset(campaign.guard.consent)
    on_screen = action.channel in {"SCREEN", "LABEL"}
    if variable.startswith("params."):
        if variable.removeprefix("params.") not in action.params:
            what = f"template {action.template} uses {variable}, which this entry does not give"
            yield document.fault(path, "E401", what, f"add params: {{{variable.removeprefix('params.')}: ...}}")
        return
    known = STATIC | leaves
    if variable.startswith(("context.", "person.traits.")) or variable == NAME:
        purposes = PERSONALISATION if variable.startswith("person.traits.") else NONE
    elif variable in known:
        purposes = known[variable].purposes
    else:
        what = f"template {action.template} uses {variable}, which this campaign has not"
        yield document.fault(path, "E401", what, meant(variable, known))
        return
    if variable == NAME and on_screen:
        purposes = frozenset({DISPLAY_NAME})
    for purpose in sorted(purposes_needed(campaign, variable, purposes) - granted):
        place = "on a screen" if on_screen else f"on {action.channel.lower()}"
        what = f"template {action.template} uses {variable}, which needs purpose {purpose} {place}"
        fix = f"add {purpose} to guard.consent, or give the {part.channel.split('_')[0]} a part without it"
        yield document.fault(("do", action.step), "E301", what, fix)
    if not personal(variable):
        return
    if action.channel == "LABEL":
        yield document.fault(
            path,
            "E302",
            f"a shelf label must not speak of a person; {action.template} uses {variable}",
            "drop it from the template",
        )
    elif on_screen and campaign.guard.audience == "any":
        yield document.fault(
            path,
            "E302",
            f"with audience: any no personal variable may be used; {action.template} uses {variable}",
            "write audience: safe",
        )
    elif campaign.guard.identity in _WEAK:
        what = f"identity: {campaign.guard.identity} may be another person; template {action.template} uses {variable}"
        yield document.fault(path, "E302", what, "write identity: confirmed, or use a template without it")


def _triggers(when: When) -> tuple[When, ...]:
    if isinstance(when, Sequence):
        return when.of
    return (when, when.after) if isinstance(when, Absence) else (when,)


def _counts_reactions(when: When) -> bool:
    return isinstance(when, Happened) and when.topic == "sensing.reaction"


def own_leaves(campaign: Campaign, facts: dict[str, Leaf]) -> dict[str, Leaf]:
    """Leaves a campaign has beside those of every condition."""
    when = _triggers(campaign.when)[-1]
    if isinstance(when, Happened):
        return facts | {name: source.leaf for name, source in event_leaves(when.topic).items()}
    return facts
