"""What is legal and yet surely not meant.

Segments that are not there, facts nobody reads, caps that never bind, holds that outlive their message.
"""

from collections.abc import Iterator

from operators.rules.campaigns import Campaign
from operators.rules.faults import Fault, meant
from operators.rules.strict_yaml import Document
from schemas import durations
from schemas.venue import Venue


def check(document: Document, campaign: Campaign, venue: Venue | None, segments: frozenset[str]) -> Iterator[Fault]:
    """W503 warnings of a campaign that reads well, and W501 where it asks for a segment that is not there."""
    yield from _segments(document, campaign, segments)
    yield from _unused(document, campaign)
    yield from _caps(document, campaign)
    yield from _hold(document, campaign)
    yield from _opening(document, campaign, venue)


def _segments(document: Document, campaign: Campaign, segments: frozenset[str]) -> Iterator[Fault]:
    for clause in campaign.clauses if segments else ():
        for node in clause.tree.root.walk():
            if node.kind != "call" or node.value != "@in" or node.children[1].value != "person.segments":
                continue
            word = node.children[0]
            if word.kind == "const" and word.value not in segments:
                line, column = document.place(("if", clause.name), word.offset)
                what = f"nobody is ever in segment {word.value}: there is none of that name"
                fix, width = meant(str(word.value), segments), len(str(word.value)) + 2
                yield Fault(document.file, line, column, "W501", what, document.source(line), fix, width)


def _unused(document: Document, campaign: Campaign) -> Iterator[Fault]:
    unless = [held.clause.reads for held in campaign.unless if held.clause]
    used = {leaf.removesuffix("_known") for reads in (campaign.reads, *unless) for leaf in reads}
    covariate = campaign.test.covariate if campaign.test else None
    for name in campaign.facts:
        if f"facts.{name}" not in used and name != covariate:
            yield document.fault(
                ("facts", name), "W503", f"nothing reads fact {name}", "use it in if, or drop it", key=True
            )


def _caps(document: Document, campaign: Campaign) -> Iterator[Fault]:
    """Of two caps on one person, the wider one of the same scope's kind never binds.

    Every firing of the campaign charges `this` and every tag of it, so a cap of `this` that lets through at
    least what `any` does in at least as short a window can never be the first to refuse.
    """
    anything = next((cap for cap in campaign.guard.caps if cap.kind == "ANY"), None)
    own = next((cap for cap in campaign.guard.caps if cap.kind == "THIS"), None)
    if anything is None or own is None or own.window_us is None or anything.window_us is None:
        return
    if own.limit >= anything.limit and own.window_us <= anything.window_us:
        what = f"cap this: {own.text} never binds: any: {anything.text} refuses first"
        yield document.fault(("guard", "caps", "this"), "W503", what, "drop it, or make it tighter")


def _hold(document: Document, campaign: Campaign) -> Iterator[Fault]:
    quiet = campaign.guard.quiet
    if quiet is None or not quiet.hold or not campaign.do:
        return
    longest = max(action.ttl_us for action in campaign.do)
    if quiet.at_most_us > longest:
        what = f"a hold of {durations.text(quiet.at_most_us)} outlives the message, whose ttl is at most {durations.text(longest)}"
        yield document.fault(("guard", "quiet", "at_most"), "W503", what, "shorten at_most, or lengthen ttl")


def _opening(document: Document, campaign: Campaign, venue: Venue | None) -> Iterator[Fault]:
    quiet = campaign.guard.quiet
    if venue is None or quiet is None or quiet.venue is None:
        return
    spans = [_minutes(line) for line in venue.site.opening]
    minutes = [minute for span in spans if span for minute in range(*span)]
    if minutes and all(quiet.covers(quiet.venue, minute) for minute in minutes):
        what = "the venue's quiet hours cover all of its opening hours: nothing will ever go out"
        yield document.fault(("guard", "quiet", "venue"), "W503", what, "write hours outside of opening hours")


def _minutes(opening: str) -> tuple[int, int] | None:
    _, _, hours = opening.rpartition(" ")
    try:
        start, end = (int(part[:2]) * 60 + int(part[3:5]) for part in hours.split("-"))
    except ValueError:
        return None
    return (start, end) if start < end else None
