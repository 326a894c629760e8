"""Topics that a broker has made, and tells of only later; the broker is the client's own mock."""

from functools import partial

import pytest

from operators.connectors import access, topics
from operators.connectors.access import Access
from tests.broker.mock import Admin, Mock

WANTED = topics.wanted("late.", 1, ("sensing.position", "web.event"))


class Late(Admin):
    """Tells of a topic from the third time on that it is asked after it was made."""

    silent = 0

    def create_topics(self, new, **more):
        type(self).silent = 2
        return super().create_topics(new, **more)

    def describe_topics(self, names, **more):
        if self.silent:
            type(self).silent -= 1
            names = type(names)([f"{name}-not-yet" for name in names.topic_names])
            return {
                name.removesuffix("-not-yet"): told for name, told in super().describe_topics(names, **more).items()
            }
        return super().describe_topics(names, **more)


@pytest.fixture
def admin(tmp_path, monkeypatch):
    with Mock(tmp_path / "control") as mock:
        monkeypatch.setattr(access, "AdminClient", partial(Late, mock.control))
        yield access.Admin(Access(bootstrap=mock.bootstrap))


def missing(admin):
    return [one.name for one in topics.plan(admin, WANTED, "here").missing]


def test_a_start_right_after_them_finds_them(admin):
    assert len(topics.apply(admin, topics.plan(admin, WANTED, "here"))) == 2
    assert not missing(admin)


def test_one_that_does_not_wait_would_find_them_missing(admin, monkeypatch):
    monkeypatch.setattr(topics, "_tells", lambda *_: True)
    topics.apply(admin, topics.plan(admin, WANTED, "here"))
    assert len(missing(admin)) == 2


def test_the_wait_has_an_end(admin, monkeypatch):
    monkeypatch.setattr(topics, "_TOLD_S", 0.3)
    monkeypatch.setattr(topics, "_tells", lambda *_: False)
    assert len(topics.apply(admin, topics.plan(admin, WANTED, "here"))) == 2
