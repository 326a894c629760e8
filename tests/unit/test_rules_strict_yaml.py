"""YAML says what it says: YAML 1.2, nothing twice, nothing hidden, everything with its place."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.rules.faults import RulesRefused
from operators.rules.strict_yaml import LARGEST, load


def value(text: str) -> object:
    return load("f.yaml", f"a: {text}\n".encode()).value["a"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("21:00", "21:00"),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("2026-12-05", "2026-12-05"),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("Null", None),
        ("~", None),
        ("", None),
        ("'45'", "45"),
        ("45s", "45s"),
        ("10%", "10%"),
        ("<<", "<<"),
    ],
)
def test_plain_scalars_mean_what_the_core_schema_says(written: str, meant: object) -> None:
    assert value(written) == meant
    assert type(value(written)) is type(meant)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: &x 1\nb: 2",
        "a: !!str 1",
        "a: !x 1",
        "%YAML 1.1\n---\na: 1",
        "a: 1\n---\nb: 1",
        "- 1",
        "",
        "a: .nan",
        "a: -.inf",
        "a: 9223372036854775808",
        "1: a",
        "null: a",
        "? [a]\n: b",
        "a: {b: 1, b: 2}",
        'a: "\\ud800"',
        "a: 'x",
        'a: "\\U99999999"',
        "a: " + "[" * 200,
        "a: " + "9" * 6000,
        "\x00",
    ],
)
def test_what_is_not_strict_is_refused_with_a_place(text: str) -> None:
    with pytest.raises(RulesRefused) as refused:
        load("f.yaml", text.encode())
    (fault,) = refused.value.faults
    assert fault.code == "E100"
    assert fault.line >= 1
    assert fault.column >= 1


def test_a_file_of_more_than_64_kib_is_refused() -> None:
    load("f.yaml", b"a: '" + b"x" * (LARGEST - 5) + b"'")
    with pytest.raises(RulesRefused):
        load("f.yaml", b"a: '" + b"x" * (LARGEST - 4) + b"'")


def test_every_value_and_key_has_its_place() -> None:
    document = load("f.yaml", b"when:\n  dwell: {zone: offers, at_least: 45s}\ndo:\n  - {ttl: 20s}\n")
    assert document.at(("when", "dwell", "zone")) == (2, 17)
    assert document.at(("do", 0, "ttl")) == (4, 11)
    assert document.at(("when", "dwell", "nowhere")) == (2, 10)
    assert document.mark(("when", "dwell", "at_least")).key_column == 25


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 'it''s > b'", 1, 12),
        ('a: "it\\x27s > b"', 1, 14),
        ("a: it's > b", 1, 10),
        ("a: |\n  it's > b\n", 2, 9),
    ],
)
def test_a_character_of_a_condition_is_found_again_in_the_file(text: str, line: int, column: int) -> None:
    document = load("f.yaml", text.encode())
    assert document.value["a"].strip() == "it's > b"
    assert document.place(("a",), 6) == (line, column)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(alphabet=string.printable[:-5], max_size=12)
)
trees = st.dictionaries(
    st.text(alphabet=string.ascii_letters, min_size=1, max_size=6),
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=4), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(trees)
def test_json_is_read_as_itself(tree: dict[str, object]) -> None:
    import json

    assert load("f.yaml", json.dumps(tree).encode()).value == tree
