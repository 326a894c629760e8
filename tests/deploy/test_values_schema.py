"""`values.schema.json` is made from the settings structs: the chart and the program refuse the same typo."""

import json

from flows.chart import SCHEMA, of_struct, values, written
from flows.settings import Settings, described


def tables(schema, at=""):
    yield at, schema
    for name, below in schema.get("properties", {}).items():
        if "properties" in below:
            yield from tables(below, f"{at}.{name}".strip("."))


def test_the_committed_schema_is_what_the_structs_make():
    assert SCHEMA.read_bytes() == written(), "run  python -m flows.chart"


def test_every_setting_is_a_value_and_every_value_of_settings_a_setting():
    told = {(section, key) for section, key, _, _ in described()}
    found = {
        (at, key)
        for at, table in tables(of_struct(Settings))
        for key, schema in table["properties"].items()
        if "properties" not in schema
    }
    assert found == told


def test_no_table_takes_a_key_that_nobody_knows():
    free = {at for at, table in tables(values()) if table.get("additionalProperties") is not False}
    assert free == set()


def test_defaults_and_meanings_are_those_of_the_program():
    schema = json.loads(SCHEMA.read_bytes())["properties"]["settings"]["properties"]
    for section, key, default, meaning in described():
        table = schema
        for name in section.split("."):
            table = table[name]["properties"]
        assert table[key]["description"] == meaning
        assert str(table[key].get("default", "")) == default
