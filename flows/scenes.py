"""The parts that a few people play in the demo, second by second after 17:00 of the simulated Saturday.

The live demo begins at second 60. Each stay in Offers is decided 45 s after it began: Ana's at second 65.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scene:
    """One person's part: she is in `zone_id` from `at_s` on, for `stay_s`.

    `leaves_at_s` fixes when she is out of the door instead; `paired_s` is when her app reads the code of her
    handheld, if not at the entrance; with `bought` she only pays for that category at `at_s`.
    """

    name: str
    at_s: float
    stay_s: float = 90.0
    zone_id: str = "offers"
    leaves_at_s: float | None = None
    paired_s: float | None = None
    bought: str | None = None


SCENES = (
    Scene("Finn", -7300.0, 25.0, "books", leaves_at_s=-7125.0),  # left without buying: an e-mail two hours later
    Scene("Hana", -2300.0, 60.0),  # got her offer then; the cap stops the second
    Scene("Gus", -2000.0, bought="offers"),  # has just bought what the offer is about
    Scene("Ana", 20.0, 140.0),  # the customer's own example: fires at 65
    Scene("Ben", 27.0),  # silver: the clause is false
    Scene("Cleo", 36.0),  # gold, and has not agreed to personalisation
    Scene("Dev", 43.0),  # gold, held out by the test
    Scene("Eve", 50.0),  # her name may stand on a screen, but others see it
    Scene("Gus", 57.0),
    Scene("Hana", 65.0),
    Scene("Jana", 69.0, 80.0, "shoes"),  # looked at shoes last night, has a pair in the cart: the model is for it
    Scene("Ivy", 38.0, 110.0, paired_s=107.0),  # unknown at 83; her app reads the code at 107
)
