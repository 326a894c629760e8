"""The agenda against a plain dictionary that is sorted each time, over restarts and chunks."""

import random

import pytest

from operators.state import agenda
from operators.state.agenda import Agenda
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables


def opened(memory, token):
    store = MemoryStore(memory)
    store.claim(token)
    store.open("0")
    return Tables(store)


@pytest.mark.parametrize("seed", range(12))
def test_the_nearest_is_what_sorting_says(seed, monkeypatch):
    monkeypatch.setattr(agenda, "CHUNK", 3)
    draw, memory, wanted, token = random.Random(seed), Memory(), {}, None
    tables = opened(memory, token)
    kept = Agenda(tables, 7)

    def waits(due, name):
        return wanted.get(name) == due

    for _ in range(400):
        do = draw.random()
        name = f"p{draw.randrange(20)}"
        if do < 0.5:
            new = draw.choice([None, draw.randrange(30)])
            kept.move(name, wanted.get(name), new)
            wanted.pop(name, None)
            if new is not None:
                wanted[name] = new
        elif do < 0.6:
            token = tables.commit()
            tables = opened(memory, token)
            kept = Agenda(tables, 7)
        first = kept.first(waits)
        assert first == min(((due, name) for name, due in wanted.items()), default=None)
        if first is not None and do > 0.8:
            assert kept.pop() == first[1]
            del wanted[first[1]]


def test_a_start_reads_the_nearest_only(monkeypatch):
    monkeypatch.setattr(agenda, "CHUNK", 3)
    memory = Memory()
    tables = opened(memory, None)
    kept = Agenda(tables, 7)
    for number in range(100):
        kept.move(f"p{number:02}", None, number)
    token = tables.commit()
    asked = []
    again = Agenda(opened(memory, token), 7)
    assert again.first(lambda due, name: bool(asked.append(name)) or True) == (0, "p00")
    assert len(set(asked)) == 4
