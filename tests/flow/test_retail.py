"""Receipts of a retailer's file through activation: every penny, and the odd lines that such a file has."""

import pytest

from benchmarks.recordings import DATA
from benchmarks.retail import Oddities, activated, independent, main, receipts

HEAD = "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
LINES = """536365,85123A,6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536365,85123A,6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536365,PADS,1,2010-12-01 08:27:00,0.001,17850,United Kingdom
536366,X,1,2010-12-01 08:28:00,0.015,17850,United Kingdom
536367,Y,3,2010-12-02 09:00:00,1.10,,France
C536379,D,-1,2010-12-03 09:41:00,27.5,17850,United Kingdom
C536380,D,-2,2010-12-03 09:42:00,1.25,14527,United Kingdom
A563186,B,1,2011-08-12 14:51:00,-11062.06,,United Kingdom
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "retail.csv"
    path.write_text(HEAD + LINES)
    return path


def test_odd_lines_are_treated_as_said(file):
    odd = Oddities()
    found = {row["receipt_id"]: row for row in receipts(file, odd)}
    assert (odd.lines, odd.no_whole_pennies, odd.equal, odd.two_stamps, odd.nobody) == (8, 2, 1, 1, 2)
    assert [line["line_total_minor"] for line in found["536365"]["lines"]] == [1530, 1530, 0]
    assert found["536366"]["total_minor"] == 2  # 1.5 pennies, half to even
    assert found["536367"]["identifiers"] == []
    assert (found["C536379"]["kind"], found["C536379"]["total_minor"]) == ("RETURN", -2750)
    assert found["A563186"]["kind"] == "VOID"


def test_profiles_hold_what_an_independent_sum_says(file):
    found = receipts(file, Oddities())
    total, by_customer = independent(file)
    told = activated(found, sorted(by_customer))
    assert by_customer == {"17850": 3060 + 2 - 2750, "14527": -250}
    assert told.spent == by_customer
    assert told.total == total == 3062 + 330 - 3000 - 1_106_206
    assert told.fates["read"] == told.fates["applied"] == told.receipts == 6


def test_a_resend_changes_nothing_and_is_counted(file):
    found = receipts(file, Oddities())
    twice = sorted([{**row, "event_id": row["receipt_id"]} for row in found] * 2, key=lambda row: row["event_time"])
    _, by_customer = independent(file)
    told = activated(twice, sorted(by_customer))
    assert told.spent == by_customer
    assert (told.fates["read"], told.fates["applied"], told.fates["duplicate"]) == (12, 6, 6)


@pytest.mark.real
@pytest.mark.slow
def test_every_penny_of_the_whole_file(capsys):
    file = DATA / "online_retail_uci.csv.gz"
    if not file.is_file():
        pytest.skip(f"no recording {file.name} in {DATA.name}")
    assert main([str(file)]) == 0
    assert "974,774,793" in capsys.readouterr().out
