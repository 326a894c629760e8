"""Real recordings as readings of one shape, and the noise that is laid over those without any.

Nothing here knows how presence works: see `benchmarks.drive` for that.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import exp, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
SECOND = 1_000_000
START = 1_796_486_400 * SECOND
"""Where recordings without a date are put: a Saturday at 17:00."""
WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A position as a source reports it; times in µs."""

    at: int
    heard: int
    source: str
    seq: int
    subject: str
    x: float
    y: float
    tech: str = "UWB"


@dataclass(frozen=True)
class Track:
    """One person's way: seconds and metres, by rising time."""

    scene: str
    person: str
    t: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """How a technology errs: AR(1) of `sigma_m` and `tau_s`, fixes lost, and fixes far off (N(0, 5 m) more)."""

    tech: str
    hz: float
    sigma_m: float
    tau_s: float
    lost: float
    far: float


NOISES = {
    "UWB": Noise("UWB", 5.0, 0.15, 1.0, 0.02, 0.01),
    "no sight": Noise("UWB", 5.0, 0.4, 2.0, 0.05, 0.02),
    "AoA": Noise("BLE_AOA", 1.0, 1.0, 3.0, 0.10, 0.0),
}


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file, packed or not."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        yield from csv.DictReader(file)


def pedestrians(path: Path) -> list[Track]:
    """People who walk: columns `seq,t_s,person_id,x_m,y_m`."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for row in rows(path):
        found[row["seq"], row["person_id"]].append((float(row["t_s"]), float(row["x_m"]), float(row["y_m"])))
    tracks = []
    for (scene, person), points in sorted(found.items()):
        t, x, y = np.array(sorted(points)).T
        if len(t) > 1:
            tracks.append(Track(scene, person, t, x, y))
    return tracks


def sampled(track: Track, hz: float) -> Track:
    """The same way at a steady rate, in straight lines between its points."""
    t = np.arange(track.t[0], track.t[-1] + 1e-9, 1.0 / hz)
    return replace(track, t=t, x=np.interp(t, track.t, track.x), y=np.interp(t, track.t, track.y))


def noisy(track: Track, noise: Noise, rng: np.random.Generator) -> Track:
    """A way as a technology would report it."""
    clean = sampled(track, noise.hz)
    n, keep = len(clean.t), exp(-1.0 / noise.hz / noise.tau_s)
    steps = rng.normal(0.0, noise.sigma_m, (n, 2))
    error = np.empty((n, 2))
    error[0] = steps[0]
    for place in range(1, n):
        error[place] = keep * error[place - 1] + sqrt(1 - keep * keep) * steps[place]
    error += rng.normal(0.0, 5.0, (n, 2)) * (rng.random(n) < noise.far)[:, None]
    heard = rng.random(n) >= noise.lost
    return replace(clean, t=clean.t[heard], x=(clean.x + error[:, 0])[heard], y=(clean.y + error[:, 1])[heard])


def readings(tracks: list[Track], tech: str = "UWB") -> list[Reading]:
    """Ways as readings of one source, heard at once and in order."""
    found = [
        Reading(
            START + round(t * SECOND), START + round(t * SECOND), "hub", 0, f"{track.scene}-{track.person}", x, y, tech
        )
        for track in tracks
        for t, x, y in zip(track.t.tolist(), track.x.tolist(), track.y.tolist(), strict=True)
    ]
    found.sort(key=lambda one: (one.at, one.subject))
    return [replace(one, seq=number) for number, one in enumerate(found)]


def delayed(
    ordered: list[Reading], rng: np.random.Generator, mean_s: float = 0.2, doubled: float = 0.02
) -> list[Reading]:
    """The same readings heard with exponential delays, some of them once more up to tens of seconds later."""
    out = []
    for one, delay, again, later in zip(
        ordered, rng.exponential(mean_s, len(ordered)), rng.random(len(ordered)), rng.random(len(ordered)), strict=True
    ):
        heard = replace(one, heard=one.at + round(delay * SECOND))
        out.append(heard)
        if again < doubled:
            out.append(replace(heard, heard=heard.heard + round(30 * later * SECOND)))
    out.sort(key=lambda one: (one.heard, one.seq))
    return out


def handed_over(ordered: list[Reading], ahead_s: float, every_s: float = 20.0) -> list[Reading]:
    """The same readings by two sources in turn, the second with a clock that is ahead."""
    out, counts = [], [0, 0]
    for one in ordered:
        second = int((one.at - START) // round(every_s * SECOND)) % 2
        counts[second] += 1
        at = one.at + (round(ahead_s * SECOND) if second else 0)
        out.append(replace(one, at=at, source=("left", "right")[second], seq=counts[second]))
    return out


# -- the tags of Lodz


def walks(path: Path) -> list[tuple[Track, Track]]:
    """Tag and reference by run: columns `room,run,t_s,x_mm,y_mm,ref_x_mm,ref_y_mm`."""
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for row in rows(path):
        mm = [float(row[name]) / 1000 for name in ("x_mm", "y_mm", "ref_x_mm", "ref_y_mm")]
        found[row["room"], row["run"]].append([float(row["t_s"]), *mm])
    pairs = []
    for (room, run), points in sorted(found.items()):
        t, x, y, ref_x, ref_y = np.array(sorted(points)).T
        t = t - t[0]
        pairs.append((Track(room, run, t, x, y), Track(room, run, t, ref_x, ref_y)))
    return pairs


# -- a tag and a people counter over one walk


def counter_and_tag(tag: Path, counter: Path, rng: np.random.Generator) -> list[Reading]:
    """Both files with their stamps as they are, heard at the true time and up to 300 ms: one clock is two hours off.

    The tag's stamps are wall clock without a zone (Aachen, two hours ahead of UTC) and stand here for UTC, as
    a careless reader takes them.
    """
    found = []
    for seq, row in enumerate(rows(tag)):
        at = int(datetime.fromisoformat(row["time"]).replace(tzinfo=UTC).timestamp() * SECOND)
        heard = at - 7200 * SECOND + int(rng.integers(0, 300_000))
        found.append(Reading(at, heard, "tag-hub", seq, row["id"], float(row["x"]) / 1000, float(row["y"]) / 1000))
    for seq, row in enumerate(rows(counter)):
        at = int(row["time"]) * 1000
        heard = at + int(rng.integers(0, 300_000))
        found.append(
            Reading(at, heard, "counter", seq, row["id"], float(row["x"]) / 100, float(row["y"]) / 100, "CAMERA")
        )
    found.sort(key=lambda one: (one.heard, one.source, one.seq))
    return found
