"""Real receipts through activation, to the penny: `python -m benchmarks.retail FILE`.

Columns `InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country`, packed or not. Every invoice
becomes one `pos.receipt`; the totals that profiles hold, and those of all receipts, are compared with a sum
worked out from the file by other means.

What is done with odd lines: a line that is no whole number of pennies is rounded half to even; equal lines are
kept, they are goods scanned twice; an invoice with two stamps is one receipt at the first of them; lines
without a customer are receipts of nobody, in the totals and in no profile. An invoice that starts with C is a
RETURN, one that starts with A (bad debt written off) and is negative a VOID.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from rich.console import Console
from rich.table import Table as Printed

from benchmarks.recordings import DATA, SECOND, rows
from operators.admit import Admit, AdmitRule
from operators.decode import Decode, DecodeRule
from operators.identities.evidence import StitchRule
from operators.profile import ProfileRule, Profiles
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from operators.stitch import Stitch
from operators.venues.place import Places
from schemas.items import Heard, Item, Linked, Tally, Tick, Touched
from schemas.people import Receipt
from schemas.person import Aggregate, Observation
from schemas.pseudonym import EXAMPLE_KEY, EXAMPLE_VERSION, tokens
from schemas.reference import Site
from schemas.types import AnyRecord
from schemas.venue import Venue

LONDON = ZoneInfo("Europe/London")
SITE = "web-shop"
SPENT = "spent"
EVER = 20 * 366 * 86400 * SECOND
BATCH = 512


@dataclass
class Oddities:
    """What is unusual in the file."""

    lines: int = 0
    no_whole_pennies: int = 0
    equal: int = 0
    two_stamps: int = 0
    nobody: int = 0


def receipts(file: Path, odd: Oddities) -> list[dict[str, Any]]:
    """Rows of `pos.receipt`, by the time of the invoice."""
    found: dict[str, dict[str, Any]] = {}
    stamps: dict[str, set[str]] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for row in rows(file):
        odd.lines += 1
        seen[tuple(row.values())] += 1
        invoice, quantity = row["InvoiceNo"], int(row["Quantity"])
        exact = Decimal(row["UnitPrice"]) * quantity * 100
        total = int(exact.to_integral_value(ROUND_HALF_EVEN))
        odd.no_whole_pennies += total != exact
        odd.nobody += not row["CustomerID"]
        stamps.setdefault(invoice, set()).add(row["InvoiceDate"])
        receipt = found.setdefault(invoice, _empty(invoice, row["CustomerID"]))
        receipt["lines"].append(
            {
                "line_no": len(receipt["lines"]) + 1,
                "kind": "RETURN" if quantity < 0 else receipt["kind"],
                "sku": row["StockCode"],
                "quantity_milli": quantity * 1000,
                "line_total_minor": total,
            }
        )
        receipt["total_minor"] += total
    for invoice, receipt in found.items():
        stamp = min(stamps[invoice])
        at = datetime.fromisoformat(stamp).replace(tzinfo=LONDON)
        receipt["event_time"] = int(at.timestamp()) * SECOND
        receipt["business_date"] = stamp[:10]
        if invoice.startswith("A") and receipt["total_minor"] < 0:
            receipt["kind"] = "VOID"
    odd.equal = sum(count - 1 for count in seen.values())
    odd.two_stamps = sum(len(several) > 1 for several in stamps.values())
    return sorted(found.values(), key=lambda receipt: (receipt["event_time"], receipt["receipt_id"]))


def _empty(invoice: str, customer: str) -> dict[str, Any]:
    return {
        "receipt_id": invoice,
        "source_id": "till",
        "kind": "RETURN" if invoice.startswith("C") else "SALE",
        "identifiers": [f"loyalty:{customer}"] if customer else [],
        "currency": "GBP",
        "total_minor": 0,
        "lines": [],
    }


def independent(file: Path) -> tuple[int, dict[str, int]]:
    """The total of the file and of each customer, in pennies: whole tenths of a penny, no Decimal, no receipts."""
    whole, by = 0, Counter[str]()
    for row in rows(file):
        pounds, _, part = row["UnitPrice"].lstrip("-").partition(".")
        tenths = (int(pounds) * 1000 + int((part + "000")[:3])) * int(row["Quantity"])
        if row["UnitPrice"].startswith("-"):
            tenths = -tenths
        pennies, rest = divmod(tenths, 10)
        pennies += rest > 5 or (rest == 5 and pennies % 2)
        whole += pennies
        if row["CustomerID"]:
            by[row["CustomerID"]] += pennies
    return whole, dict(by)


class Spent:
    """The plan of profiles that keep one number: what a person has spent."""

    aggregates: Mapping[str, Aggregate] = {SPENT: Aggregate(SPENT, "pos.receipt", "sum", "total", EVER)}

    def observe(self, topic: str, record: AnyRecord) -> list[Observation]:
        """A receipt adds its total."""
        return (
            [Observation(SPENT, "", record.total_minor)]
            if topic == "pos.receipt" and isinstance(record, Receipt)
            else []
        )


@dataclass
class Told:
    """What came out of activation."""

    receipts: int = 0
    total: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    fates: Counter[str] = field(default_factory=Counter)


def activated(found: list[dict[str, Any]], customers: list[str]) -> Told:
    """Receipts through decode, admit, stitch and profile, as a replay calls them.

    Args:
        found: rows of `pos.receipt`.
        customers: raw ids to ask for.
    """
    token, told = tokens(EXAMPLE_KEY, EXAMPLE_VERSION), Told()
    site = Site(
        event_time=0, site_id=SITE, lat_deg=0.0, lon_deg=0.0, time_zone="Europe/London", legal_basis="PSEUDONYMOUS"
    )
    venue = Venue(site=site, floors=[], zones={}, devices={})
    people = Profiles(ProfileRule(site_id=SITE, slack_us=EVER, marks_us=EVER), Spent(), _tables())
    decode = DecodeRule(SITE, token, bytes, bytes, lambda _key: bytes, bytes, lambda: bytes(32), {})
    chain = [
        Decode(decode, _tables()),
        Admit(AdmitRule(sealed=bytes), Places(venue), _tables()),
        Stitch(StitchRule(site_id=SITE), _tables()),
    ]
    last = found[-1]["event_time"]
    for items in _heard(found):
        for core in chain:
            items = core.step(items)
        for item in items:
            if isinstance(item, Linked):
                people.link(item)
            elif isinstance(item, Tally) and item.topic == "pos.receipt":
                told.fates[item.fate] += item.count
            elif isinstance(item, Touched):
                people.apply(item)
            record = item.event.record if isinstance(item, Touched) else getattr(item, "record", None)
            if isinstance(record, Receipt):
                told.receipts += 1
                told.total += record.total_minor
    for customer in customers:
        person = people.person_of(token(f"loyalty:{customer}"))
        if person is not None:
            told.spent[customer] = round(float(people.fact(person, SPENT, "", last) or 0) * 100)
    return told


def _heard(found: list[dict[str, Any]]) -> Iterator[list[Item]]:
    for start in range(0, len(found), BATCH):
        part = found[start : start + BATCH]
        heard: list[Item] = [
            Heard(start + place, "pos.receipt", 0, start + place, row["event_time"], orjson.dumps(row))
            for place, row in enumerate(part)
        ]
        yield [*heard, Tick(start + len(part) - 1, part[-1]["event_time"])]


def _tables() -> Tables:
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    return Tables(store)


def main(arguments: list[str] | None = None) -> int:
    """Print what was found; 1 when a penny is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retail", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", default=DATA / "online_retail_uci.csv.gz")
    file = parser.parse_args(arguments).file
    if not file.is_file():
        sys.stderr.write(f"no file {file}\n")
        return 2
    odd = Oddities()
    found = receipts(file, odd)
    total, by_customer = independent(file)
    began = time.perf_counter()
    told = activated(found, sorted(by_customer))
    took = time.perf_counter() - began
    wrong = [name for name, pennies in by_customer.items() if told.spent.get(name) != pennies]
    returns = [row["total_minor"] for row in found if row["kind"] == "RETURN"]
    table = Printed("what", "found", "expected", "", title=f"{file.name} through activation")
    checks: list[tuple[str, Any, Any]] = [
        ("receipts", told.receipts, len(found)),
        ("total of all receipts, pennies", told.total, total),
        ("customers whose total differs", len(wrong), 0),
        ("customers", len(told.spent), len(by_customer)),
        ("total of customers, pennies", sum(told.spent.values()), sum(by_customer.values())),
        ("returns that are not negative", sum(value > 0 for value in returns), 0),
        ("read = applied + duplicate + late + dead", told.fates["read"], sum(told.fates[fate] for fate in ("applied", "duplicate", "late", "dead"))),
    ]  # fmt: skip
    for what, is_, expected in checks:
        table.add_row(what, f"{is_:,}", f"{expected:,}", "ok" if is_ == expected else "WRONG")
    for what, count in (
        ("lines", odd.lines),
        ("lines that are no whole pennies: rounded half to even", odd.no_whole_pennies),
        ("equal lines: kept", odd.equal),
        ("invoices with two stamps: one receipt, at the first", odd.two_stamps),
        ("lines without customer: receipts of nobody", odd.nobody),
        ("receipts a second", round(len(found) / took)),
    ):
        table.add_row(what, f"{count:,}", "", "")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return int(any(is_ != expected for _, is_, expected in checks))


if __name__ == "__main__":
    sys.exit(main())
