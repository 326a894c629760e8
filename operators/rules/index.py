"""Which campaigns a trigger touches: by kind, by zone or topic or segment, then by site."""

from collections.abc import Iterable, Mapping

from operators.rules.campaigns import (
    ANY,
    Absence,
    Campaign,
    Dwell,
    Entered,
    Exited,
    Happened,
    Identified,
    SegmentMoved,
    Sequence,
    Single,
)

_Key = tuple[str, str]


class Index:
    """Campaigns by what may start them; every answer is in order of their ids.

    A trigger into or out of a whole site comes as one of its STORE zone: `stores` names those zones.
    """

    def __init__(self, campaigns: Iterable[Campaign], stores: frozenset[str]) -> None:
        self._stores = stores
        self._by: dict[_Key, list[Campaign]] = {}
        self._steps: dict[_Key, list[tuple[Campaign, int]]] = {}
        for campaign in sorted(campaigns, key=lambda campaign: campaign.id):
            for key in _keys(campaign):
                self._by.setdefault(key, []).append(campaign)
            for step, single in enumerate(_singles(campaign)):
                self._steps.setdefault(_single_key(single), []).append((campaign, step))

    def candidates(
        self, kind: str, subject: str | None, site: str, *, threshold_us: int | None = None
    ) -> list[Campaign]:
        """Campaigns a trigger touches.

        Args:
            kind: DWELL, ENTERED, EXITED, EVENT, SEQUENCE, ABSENCE, SEGMENT or IDENTIFIED.
            subject: the zone of DWELL, ENTERED, EXITED and IDENTIFIED; the topic of EVENT; `<segment>:ENTERED`
                or `<segment>:LEFT` of SEGMENT; the campaign's id of SEQUENCE and ABSENCE.
            site: where it happened, empty where nowhere.
            threshold_us: of a dwell, how long: only campaigns that asked for exactly that.

        Returns:
            In order of id. A campaign that takes the site out by `exclude` is among them: the decision says so.
        """
        found = list(self._by.get((kind, subject or ""), ()))
        if kind in {"ENTERED", "EXITED"} and (subject in self._stores or not self._stores):
            found += self._by.get((kind, f"site:{site}"), ()) if site else ()
            found += self._by.get((kind, f"site:{ANY}"), ())
        if kind == "IDENTIFIED" and subject:
            found += self._by.get((kind, ""), ())
        return [
            campaign
            for campaign in sorted(found, key=lambda campaign: campaign.id)
            if (not site or campaign.at_site(site))
            and (
                threshold_us is None
                or not isinstance(campaign.when, Dwell)
                or campaign.when.at_least_us == threshold_us
            )
        ]

    def steps(self, kind: str, subject: str, site: str) -> list[tuple[Campaign, int]]:
        """Sequences and absences a plain trigger moves on: the campaign, and which of its steps this is."""
        found = list(self._steps.get((kind, subject), ()))
        if kind in {"ENTERED", "EXITED"} and (subject in self._stores or not self._stores):
            found += self._steps.get((kind, f"site:{site}"), ()) if site else ()
            found += self._steps.get((kind, f"site:{ANY}"), ())
        found.sort(key=lambda one: (one[0].id, one[1]))
        return [one for one in found if not site or one[0].at_site(site)]

    def thresholds(self) -> Mapping[str, tuple[int, ...]]:
        """Dwell times that campaigns ask for, by zone, ascending."""
        wanted: dict[str, set[int]] = {}
        for campaigns in self._by.values():
            for campaign in campaigns:
                for single in (campaign.when, *_singles(campaign)):
                    if isinstance(single, Dwell):
                        wanted.setdefault(single.zone, set()).add(single.at_least_us)
        return {zone: tuple(sorted(wanted[zone])) for zone in sorted(wanted)}


def _keys(campaign: Campaign) -> list[_Key]:
    when = campaign.when
    if isinstance(when, Sequence | Absence):
        return [(campaign.kind, campaign.id)]
    if isinstance(when, SegmentMoved):
        return [("SEGMENT", f"{when.segment}:{when.kind}")]
    if isinstance(when, Identified):
        return [("IDENTIFIED", when.in_zone or "")]
    return [_single_key(when)]


def _single_key(when: Single) -> _Key:
    if isinstance(when, Dwell):
        return "DWELL", when.zone
    if isinstance(when, Happened):
        return "EVENT", when.topic
    kind = "ENTERED" if isinstance(when, Entered) else "EXITED"
    assert isinstance(when, Entered | Exited)
    return kind, when.zone if when.zone is not None else f"site:{when.site}"


def _singles(campaign: Campaign) -> tuple[Single, ...]:
    """Plain triggers that a sequence or an absence waits for."""
    if isinstance(campaign.when, Sequence):
        return campaign.when.of
    return (campaign.when.after,) if isinstance(campaign.when, Absence) else ()
