"""Texts: what may stand in them, what they need, and that nothing but their values can change them."""

import pytest

from operators.rules.strict_yaml import load
from operators.rules.templates import Part, Template, as_param, template_of

TEXT = b"""\
template: hello
fallback_locale: en
parts:
  push: {en: 'Hi {{ person.first_name | default: "there" }}, {{ person.tier }}', es: 'Hola', de-AT: 'Servus'}
  email: {en: {subject: 'For {{ person.first_name | default: "you" }}', text: '{{ params.code }}'}}
  screen: {en: 'Hello'}
"""


def hello() -> Template:
    template = template_of(load("templates/hello.yaml", TEXT), TEXT, "hello", faults := [])
    assert faults == []
    assert template is not None
    return template


def render(text: str, **values: object) -> str | None:
    return Part("push", "en", text).render({name.replace("__", "."): value for name, value in values.items()})


def test_a_null_without_a_default_makes_a_part_unsendable() -> None:
    part = hello().choose("PUSH", "")
    assert part is not None
    assert part.required == ("person.tier",)
    assert not part.sendable({"person.tier": None})
    assert part.sendable({"person.tier": "gold"})
    assert part.render({"person.tier": "gold"}) == "Hi there, gold"
    assert part.render({"person.first_name": "Ana", "person.tier": "gold"}) == "Hi Ana, gold"
    assert part.render({"person.first_name": "Ana"}) is None


def test_a_variable_used_once_without_default_needs_a_value() -> None:
    assert Part("push", "en", "{{ zone.category | default: 'x' }} {{ zone.category }}").required == ("zone.category",)
    assert Part(
        "push", "en", "{% if zone.category == 'a' %}{{ zone.category | default: 'x' }}{% endif %}"
    ).required == ("zone.category",)
    assert Part("push", "en", "{{zone.category|default:'x'}}").required == ()
    assert Part("push", "en", "{{ zone.category | upcase | default: 'x' }}").required == ("zone.category",)


@pytest.mark.parametrize(
    ("language", "locale"),
    [("es", "es"), ("es-MX", "es"), ("de-AT", "de-AT"), ("de", "en"), ("", "en"), ("fr-FR", "en")],
)
def test_a_text_is_chosen_by_language_else_the_fallback(language: str, locale: str) -> None:
    part = hello().choose("push", language)
    assert part is not None
    assert part.locale == locale


def test_a_command_carries_all_variables_but_the_name_as_strings() -> None:
    part = hello().part("push", "en")
    assert part is not None
    assert part.params({"person.tier": "gold", "person.first_name": "Ana", "zone.id": "x"}) == {"person.tier": "gold"}
    assert as_param(412.5) == "412.5"
    assert as_param(3) == "3"


def test_a_subject_stays_on_one_line() -> None:
    part = hello().part("email", "en")
    assert part is not None
    assert part.subject({"person.first_name": "Ana\r\nBcc: all@example.com"}) == "For Ana Bcc: all@example.com"
    assert part.render({"params.code": "X1"}) == "X1"


def test_numbers_that_travelled_as_text_are_numbers_again() -> None:
    text = "{{ facts.spend | money: 'EUR' }}{% if facts.spend > 100 %} and more{% endif %}, {{ facts.spend | round }}"
    assert render(text, facts__spend="412.5") == "412.50 EUR and more, 412"


def test_values_are_never_read_as_a_template() -> None:
    assert render("{{ zone.name }}", zone__name="{{ person.tier }}{% if x %}") == "{{ person.tier }}{% if x %}"


@pytest.mark.parametrize("text", ["{{ 'now' | date: '%Y' }}", "{{ 'today' | date: '%Y' }}", "{{ zone.name | money }}"])
def test_a_filter_that_cannot_makes_the_part_unsendable(text: str) -> None:
    assert render(text, zone__name="offers") is None


def test_dates_are_those_that_were_given() -> None:
    assert render("{{ e.business_date | date: '%d.%m.%Y' }}", e__business_date="2026-12-05") == "05.12.2026"


def test_a_text_that_grows_too_long_is_not_sent() -> None:
    assert render("{{ zone.name }}", zone__name="x" * 9000) is None


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in b %}{% endfor %}",
        "{% assign a = 1 %}",
        "{% include 'x' %}",
        "{% render 'x' %}",
        "{% capture a %}{% endcapture %}",
        "{% raw %}{{ a }}{% endraw %}",
        "{% comment %}a{% endcomment %}",
        "{% liquid assign a = 1 %}",
        "{% echo 'a' %}",
        "{% increment a %}",
        "{% cycle 'a', 'b' %}",
        "{% tablerow a in b %}{% endtablerow %}",
        "{{ zone.name | append: 'x' }}",
        "{{ zone.name | where: 'x' }}",
        "{{ zone.name | default: 'x' | nothing }}",
        "{% if zone.name %}",
        "{{ zone.name",
        "{{ zone[site.id] }}",
        "{{ zone }}",
        "{{ nothing.here }}",
        "{{ person.name }}",
    ],
)
def test_what_is_not_on_the_list_is_e401(text: str) -> None:
    content = b"template: bad\nfallback_locale: en\nparts:\n  push:\n    en: |\n      " + text.encode() + b"\n"
    faults: list = []
    assert template_of(load("templates/bad.yaml", content), content, "bad", faults) is None
    assert {fault.code for fault in faults} == {"E401"}
    assert all(fault.line == 6 for fault in faults)
