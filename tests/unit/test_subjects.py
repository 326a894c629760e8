"""Registering schemas: what is checked before anything is changed, and whose level is changed at all."""

import json

import pytest

from flows.broker import subject_said
from operators.connectors.registry import LEVEL, Version
from operators.connectors.subjects import Incompatible, apply, ours, plan, subject_of
from schemas import avsc

TOPIC, OTHER = "web.event", "pos.receipt"
SUBJECT = subject_of(TOPIC)


class Kept:
    """A registry in memory; at `strict` it finds everything incompatible, as one that knows a rule more."""

    def __init__(self, levels=(), versions=(), strict=None):
        self.levels, self.held, self.strict = dict(levels), {name: [text] for name, text in versions}, strict
        self.asked = []

    def versions(self, subject):
        return [
            Version(number, 10 + number, json.loads(text)) for number, text in enumerate(self.held.get(subject, []), 1)
        ]

    def level(self, subject):
        return self.levels.get(subject)

    def set_level(self, subject, level=LEVEL):
        self.asked.append((subject, level))
        if level is None:
            del self.levels[subject]
        else:
            self.levels[subject] = level

    def agrees(self, subject, _number, _text):
        return self.strict is None or self.levels.get(subject) != self.strict

    def register(self, subject, text):
        self.held.setdefault(subject, []).append(text)
        return 10 + len(self.held[subject])

    def schema(self, schema_id):
        return next(json.loads(texts[schema_id - 11]) for texts in self.held.values() if len(texts) > schema_id - 11)


def ours_as_text():
    return json.dumps(avsc.schema_of(TOPIC))


def older():
    """Our schema without its last field: compatible, and a version more is to be registered."""
    schema = avsc.schema_of(TOPIC)
    last = next(field for field in reversed(schema["fields"]) if "default" in field)
    return json.dumps(schema | {"fields": [field for field in schema["fields"] if field is not last]})


def registered(registry, **more):
    schemas = ours([TOPIC])
    return apply(registry, plan(registry, schemas, **more), schemas)


def test_a_first_version_finds_its_level_set():
    registry = Kept()
    (entry,) = registered(registry)
    assert registry.levels == {SUBJECT: LEVEL}
    assert subject_said(entry.as_json()).endswith(f"level of the registry -> {LEVEL}")


@pytest.mark.parametrize("text", [ours_as_text(), older()])
@pytest.mark.parametrize("level", ["BACKWARD", None])
def test_a_level_that_somebody_chose_stays(text, level):
    registry = Kept([(SUBJECT, level)] if level else [], [(SUBJECT, text)])
    (entry,) = registered(registry)
    assert registry.asked == []
    assert json.loads(registry.held[SUBJECT][-1]) == avsc.schema_of(TOPIC), "it is registered all the same"
    said = subject_said(entry.as_json())
    assert said.endswith(f"level {level or 'of the registry'} stays; --set-level makes it {LEVEL}")


@pytest.mark.parametrize("text", [ours_as_text(), older()])
def test_it_is_changed_when_asked_for(text):
    registry = Kept([(SUBJECT, "BACKWARD")], [(SUBJECT, text)])
    planned = plan(registry, ours([TOPIC]), set_level=True)
    assert subject_said(planned.entries[0].as_json()).endswith(f"level BACKWARD -> {LEVEL}")
    assert registry.asked == [], "a plan changes nothing"
    registered(registry, set_level=True)
    assert registry.levels == {SUBJECT: LEVEL}


@pytest.mark.parametrize("level", ["BACKWARD", None])
def test_levels_are_put_back_when_the_registry_refuses_by_the_new_one(level):
    registry = Kept([(SUBJECT, level)] if level else [], [(SUBJECT, older())], strict=LEVEL)
    before = dict(registry.levels)
    schemas = ours([TOPIC, OTHER])
    planned = plan(registry, schemas, set_level=True)
    assert planned.breaks == ()
    with pytest.raises(Incompatible):
        apply(registry, planned, schemas)
    assert registry.levels == before
    assert registry.versions(subject_of(OTHER)) == []


def test_what_the_registry_refuses_as_it_is_changes_nothing():
    registry = Kept([(SUBJECT, "BACKWARD")], [(SUBJECT, older())], strict="BACKWARD")
    with pytest.raises(Incompatible, match="the registry finds the schema incompatible"):
        registered(registry, set_level=True)
    assert registry.asked == []
