"""A campaign as one sentence, for the person who wrote it to compare with what she meant."""

from typing import Final

from operators.rules.campaigns import (
    Absence,
    Campaign,
    Dwell,
    Entered,
    Exited,
    Happened,
    Identified,
    SegmentMoved,
    Sequence,
    Unless,
    When,
)
from schemas import durations


class _Words:
    """The words of a language."""

    def __init__(self, **words: str) -> None:
        self.words = words

    def __call__(self, key: str, **parts: object) -> str:
        return self.words[key].format(**parts)


_EN: Final = _Words(
    dwell="somebody has stood in {zone} for {time}",
    entered="somebody comes into {place}",
    exited="somebody leaves {place}",
    event="{event} happens",
    event_where="{topic} with {where}",
    past="{event} in the last {time}",
    fired="campaign {campaign}",
    outcome="{status} of campaign {campaign}",
    sequence="{steps} within {time}",
    then=", then ",
    absence="{time} have passed since {after} without {without}",
    segment_ENTERED="somebody enters segment {segment}",
    segment_LEFT="somebody leaves segment {segment}",
    identified="somebody becomes known",
    identified_in="somebody becomes known in {zone}",
    site="site {site}",
    any_site="any site",
    when="When {when}",
    clauses=", and {clauses}",
    and_=" and ",
    or_=" or ",
    unless=", unless {unless}",
    held=", send {actions}",
    also="{action} too",
    fallback="{action} if that was not seen after {time}",
    plain="{action}",
    action="{template} by {channel} for {ttl}",
    caps="; at most {caps}",
    cap="{text} for {scope}",
    scope_this="this campaign",
    scope_any="everything",
    quiet="; not during {span} {whose}",
    venue="of the venue",
    person="of the person",
    consent="; with consent to {purposes}",
    identity="; identity at least {identity}",
    holdout="; {share} % are left out to measure it",
)
_DE: Final = _Words(
    dwell="jemand {time} in {zone} gestanden hat",
    entered="jemand {place} betritt",
    exited="jemand {place} verlässt",
    event="{event} eintritt",
    event_where="{topic} mit {where}",
    past="{event} in den letzten {time}",
    fired="Kampagne {campaign}",
    outcome="{status} der Kampagne {campaign}",
    sequence="{steps} innerhalb von {time}",
    then=", dann ",
    absence="{time} vergangen sind, seit {after}, ohne {without}",
    segment_ENTERED="jemand in das Segment {segment} kommt",
    segment_LEFT="jemand das Segment {segment} verlässt",
    identified="jemand erkannt wird",
    identified_in="jemand in {zone} erkannt wird",
    site="den Standort {site}",
    any_site="irgendeinen Standort",
    when="Wenn {when}",
    clauses=" und {clauses} gilt",
    and_=" und ",
    or_=" oder ",
    unless=", außer bei {unless}",
    held=", sende {actions}",
    also="dazu {action}",
    fallback="{action}, falls das nach {time} nicht gesehen wurde",
    plain="{action}",
    action="{template} per {channel} für {ttl}",
    caps="; höchstens {caps}",
    cap="{text} für {scope}",
    scope_this="diese Kampagne",
    scope_any="alles",
    quiet="; nicht während {span} {whose}",
    venue="des Standorts",
    person="der Person",
    consent="; mit Einwilligung zu {purposes}",
    identity="; Identität mindestens {identity}",
    holdout="; {share} % bleiben zum Messen außen vor",
)


def sentence(campaign: Campaign, language: str = "en") -> str:
    """Say a campaign in one sentence, in `en` or `de`."""
    words = _DE if language == "de" else _EN
    said = [words("when", when=_when(campaign.when, words))]
    if campaign.clauses:
        said.append(
            words("clauses", clauses=words("and_").join(_conditions([clause.text for clause in campaign.clauses])))
        )
    if campaign.unless:
        said.append(words("unless", unless=words("or_").join(_unless(held, words) for held in campaign.unless)))
    said.append(words("held", actions=", ".join(_actions(campaign, words))))
    guard = campaign.guard
    if guard.caps:
        said.append(words("caps", caps=", ".join(_caps(campaign, words))))
    if guard.quiet:
        for whose, span in (("venue", guard.quiet.venue), ("person", guard.quiet.person)):
            if span:
                said.append(words("quiet", span=_span(span), whose=words(whose)))
    if guard.consent:
        said.append(words("consent", purposes=words("and_").join(guard.consent)))
    said.append(words("identity", identity=guard.identity))
    if campaign.test:
        control = next(arm for arm in campaign.test.arms if arm.name == campaign.test.control)
        said.append(words("holdout", share=f"{(control.end - control.first) / 100:g}"))
    return "".join(said) + "."


def _when(when: When, words: _Words) -> str:
    if isinstance(when, Dwell):
        return words("dwell", zone=when.zone, time=durations.text(when.at_least_us))
    if isinstance(when, Entered | Exited):
        site = words("any_site") if when.site == "any" else words("site", site=when.site)
        return words("entered" if isinstance(when, Entered) else "exited", place=when.zone or site)
    if isinstance(when, Happened):
        return words("event", event=_event(when.topic, when.where.text if when.where else None, words))
    if isinstance(when, Sequence):
        steps = words("then").join(_when(one, words) for one in when.of)
        return words("sequence", steps=steps, time=durations.text(when.within_us))
    if isinstance(when, Absence):
        time = durations.text(when.within_us)
        return words(
            "absence",
            time=time,
            after=_when(when.after, words),
            without=_event(when.without.topic, when.without.where, words),
        )
    if isinstance(when, SegmentMoved):
        return words(f"segment_{when.kind}", segment=when.segment)
    assert isinstance(when, Identified)
    return words("identified_in", zone=when.in_zone) if when.in_zone else words("identified")


def _event(topic: str, where: str | None, words: _Words) -> str:
    kind, _, rest = topic.partition(":")
    if kind == "fired":
        return words("fired", campaign=rest)
    if kind == "outcome":
        campaign, _, status = rest.partition(":")
        return words("outcome", campaign=campaign, status=status)
    return topic if where is None else words("event_where", topic=topic, where=where)


def _unless(held: Unless, words: _Words) -> str:
    if held.clause is not None:
        return held.clause.text
    assert held.read is not None
    event = _event(held.read.topic, held.read.where, words)
    return words("past", event=event, time=durations.text(held.read.within_us))


def _conditions(texts: list[str]) -> list[str]:
    """Conditions as they may stand beside others: what has an `or` in it in brackets."""
    return [f"({text})" if "||" in text or "?" in text else text for text in texts]


def _actions(campaign: Campaign, words: _Words) -> list[str]:
    said = []
    for action in campaign.do:
        text = words(
            "action", template=action.template, channel=action.channel.lower(), ttl=durations.text(action.ttl_us)
        )
        if action.also and action.step:
            text = words("also", action=text)
        elif action.fallback_after_us is not None:
            text = words("fallback", action=text, time=durations.text(action.fallback_after_us))
        said.append(text)
    return said


def _caps(campaign: Campaign, words: _Words) -> list[str]:
    return [
        words("cap", text=cap.text, scope=words(f"scope_{cap.scope}") if cap.scope in {"this", "any"} else cap.scope)
        for cap in campaign.guard.caps
    ]


def _span(span: tuple[int, int]) -> str:
    return "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in span)
