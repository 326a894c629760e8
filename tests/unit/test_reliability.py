"""RELIABILITY.md says what the results say, and names tests that are there."""

import pytest

from tests.chaos.report import MUTANTS, PAGE, ROOT, page


@pytest.mark.parametrize(("path", "test"), [(path, test) for _, path, test, _ in MUTANTS])
def test_the_test_of_a_mutant_is_there(path, test):
    assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).exists()


def test_the_page_is_written_from_the_results():
    assert PAGE.read_text() == page(), "python -m tests.chaos.report"
