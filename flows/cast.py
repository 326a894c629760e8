"""Who comes to the simulated shop: a few people with a part to play, and the shop's other customers.

The parts are chosen so that one minute of the demo shows an action and several different reasons for none.
Everything plain about a person (name, addresses, card) is made up here and leaves only as a row's fields.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from operators.decisions.arbitration import bucket
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens

Row = tuple[str, dict[str, Any]]
OFFERS_TEST = "offers-premium-dwell"
HOLDOUT = 1000
"""Buckets below this are held out of the offers campaign: its 10 %."""
ALL = ("personalisation", "in_store_location", "profiling", "linking", "measurement")
_TOKEN = tokens(EXAMPLE_KEY, EXAMPLE_VERSION)
_NAMES = """
    Adrian Alba Alicia Andrea Antonio Beatriz Blanca Bruno Carla Carlos Carmen Clara Daniel David Diego Elena Emma
    Enrique Fatima Felix Gabriel Gloria Greta Hugo Ines Irene Isabel Ivan Jaime Javier Joana Jorge Jose Julia Laura Leo
    Lola Lorena Lucas Lucia Luis Manuel Marc Marcos Maria Marina Mario Marta Martin Mateo Mei Miguel Monica Nadia
    Natalia Nora Nuria Olga Oscar Pablo Paula Pedro Pilar Rafael Raquel Raul Rosa Ruben Samuel Sara Sergio Silvia Sofia
    Teresa Tomas Valeria Vera Victor Yusuf Zoe
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Customer:
    """A person on the shop's books, as the simulation knows her."""

    name: str
    card: str
    tier: str = "gold"
    language: str = "en"
    purposes: tuple[str, ...] = ALL
    channels: tuple[str, ...] = ("push", "screen", "email")
    interests: tuple[tuple[str, float], ...] = ()

    @property
    def loyalty(self) -> str:
        """Her card, as it comes in."""
        return f"loyalty:{self.card}"

    @property
    def email(self) -> str:
        """Her address."""
        return f"{self.card}@example.com"

    @property
    def device(self) -> str:
        """Her phone."""
        return f"device:{self.card}-phone"

    @property
    def anchor(self) -> str:
        """The token under which decisions know her: that of the card, under the example key."""
        return _TOKEN(self.loyalty)

    def interest(self, category: str | None) -> float:
        """How much a category draws her, 0..1."""
        return next((much for name, much in self.interests if name == category), 0.1)


def treated(customer: Customer, test: str = OFFERS_TEST) -> bool:
    """Whether the offers campaign's holdout leaves her in."""
    return bucket(test, customer.anchor) >= HOLDOUT


def _of_arm(customer: Customer, wanted: bool) -> Customer:
    """The same person with the first card number that draws the wanted arm."""
    number = 1
    while treated(found := replace(customer, card=f"{customer.card}-{number}")) != wanted:
        number += 1
    return found


def parts() -> dict[str, Customer]:
    """The people with a part, by first name."""
    named = [Customer("Ana", "ana")]
    named.append(Customer("Ben", "ben", tier="silver"))
    named.append(Customer("Cleo", "cleo", purposes=tuple(one for one in ALL if one != "personalisation")))
    named.append(Customer("Eve", "eve", language="es", purposes=(*ALL, "display_name")))
    named.extend(Customer(name, name.lower()) for name in ("Gus", "Hana", "Ivy"))
    named.append(Customer("Finn", "finn", tier="silver"))
    named.append(Customer("Jana", "jana", tier="base", interests=(("shoes", 1.0),)))
    cast = [_of_arm(customer, wanted=True) for customer in named]
    cast.append(_of_arm(Customer("Dev", "dev"), wanted=False))
    return {customer.name: customer for customer in cast}


def names(people: list[Customer]) -> dict[str, str]:
    """First names by raw card: what the picture calls people who exist in the simulation only."""
    return {customer.loyalty: customer.name for customer in people}


def customers(rng: Random, count: int, categories: list[str]) -> list[Customer]:
    """The shop's other customers; no two share a card."""
    found = []
    for number in range(count):
        name = _NAMES[int(rng.random() * len(_NAMES))]
        chance = rng.random()
        tier = "gold" if chance < 0.18 else "silver" if chance < 0.5 else "base"
        refused = {
            one
            for one, share in (("personalisation", 0.08), ("profiling", 0.1), ("in_store_location", 0.05))
            if rng.random() < share
        }
        purposes = [one for one in ALL if one not in refused]
        if rng.random() < 0.3:
            purposes.append("display_name")
        channels = ["screen"] + [channel for channel, share in (("push", 0.8), ("email", 0.6)) if rng.random() < share]
        interests = tuple((category, rng.random() * rng.random()) for category in categories)
        found.append(
            Customer(
                name,
                f"{name.lower()}-{number:04d}",
                tier,
                "es" if rng.random() < 0.7 else "en",
                tuple(purposes),
                tuple(channels),
                interests,
            )
        )
    return found


def papers(customer: Customer, joined: int) -> list[Row]:
    """What the shop's records say of a customer, from the day she joined on: rows of crm and consent."""
    times = {"event_time": joined, "ingest_time": joined}
    signed = {"event_time": joined + 1_000_000, "ingest_time": joined + 1_000_000}
    envelope = {"site_id": "", "source_id": "crm"}
    rows: list[Row] = [
        (
            "crm.customer",
            {**times, **envelope, "identifiers": [customer.loyalty, f"email:{customer.email}", customer.device]}
            | {"tier": customer.tier, "source_version": "1", "traits": {}},
        )
    ]
    points = [("NAME", customer.name), ("PUSH", f"push-of-{customer.card}"), ("EMAIL", customer.email)]
    for kind, value in points:
        point = {"identifier": customer.loyalty, "kind": kind, "value": value, "verified": True}
        rows.append(("crm.contact-point", {**times, **envelope, **point}))
    granted = [{"code": code, "granted": True, "channels": []} for code in customer.purposes]
    denied = [{"code": code, "granted": False, "channels": []} for code in ALL if code not in customer.purposes]
    contact = [{"code": "contact", "granted": True, "channels": list(customer.channels)}]
    record = {"identifier": customer.loyalty, "purposes": granted + denied + contact, "legal_basis": "consent"}
    record |= {"notice_version": "1", "jurisdiction": "ES", "language": customer.language, "collected_via": "APP"}
    rows.append(("consent.record", {**signed, "site_id": "", "source_id": "app", **record}))
    return rows
