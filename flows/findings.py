"""Findings of the doctor: one look each, what came of it in one word, and what to do."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from flows.settings import WrongUse

Word = Literal["well", "warn", "open", "WRONG"]
"""`warn` stops no start; `open` was not looked at."""
Look = tuple[str, Callable[[], str]]
"""What is looked at, and what answers in words that it is well, or raises."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    word: Word
    about: str
    remedy: str = ""

    @property
    def well(self) -> bool:
        """Whether a worker can start as far as this goes."""
        return self.word != "WRONG"


class Told(Exception):
    """What came of a look that did not find all well."""

    def __init__(self, word: Word, about: str, remedy: str = "") -> None:
        super().__init__(about)
        self.word, self.remedy = word, remedy


def sick(about: str, remedy: str) -> Told:
    """What is wrong, and what to do about it."""
    return Told("WRONG", about, remedy)


def unseen(why: str) -> Told:
    """What could not be looked at."""
    return Told("open", f"not looked at: {why}")


def looked(looks: Iterable[Look]) -> Iterator[Finding]:
    """Look at everything; what is wrong for a reason that was told already is not told again."""
    reasons: dict[str, str] = {}
    for what, look in looks:
        try:
            found = Finding(what, "well", look())
        except Told as told:
            found = Finding(what, told.word, str(told), told.remedy)
        except WrongUse as refused:
            found = Finding(what, "WRONG", str(refused), "correct the settings file")
        except Exception as error:  # whatever it is, it is a finding, not the end of the doctor
            found = Finding(what, "WRONG", f"{error}" or type(error).__name__, _remedy_of(error))
        if not found.well:
            first = next((first for reason, first in reasons.items() if found.about.endswith(reason)), None)
            if first is not None:
                found = Finding(what, "open", f"not looked at: see {first}")
            else:
                reasons[found.about] = what
        yield found


def _remedy_of(error: Exception) -> str:
    return {
        "BrokerAway": "start the broker, or correct bootstrap in [kafka]",
        "BrokerRefused": "correct the credentials in [kafka], or ask for the right",
        "NoRight": "have it granted by whoever looks after the broker",
        "RegistryAway": "start the registry, or correct url in [registry]",
        "RegistryRefused": "correct url and credentials in [registry]",
        "VenueFault": "correct venue.geojson",
        "RulesRefused": "correct the rules; footfall campaign lint says the same and more",
    }.get(type(error).__name__, "see what is said")


def as_json(found: list[Finding]) -> dict[str, Any]:
    """For machines."""
    findings = [{**asdict(one), "well": one.well} for one in found]
    return {"well": all(one.well for one in found), "findings": findings}
