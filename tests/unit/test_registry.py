"""What the registry's client makes of answers: a small server on the loopback says what no real one says on demand."""

import json
from threading import Event

import pytest

from operators.connectors.registry import Registry, RegistryAccess, RegistryAway, RegistryRefused
from tests.answering import Answer, Answering
from tests.broker.secured import Authority

RECORD = {"type": "record", "name": "R", "fields": []}


class Server(Answering):
    """Answers each request with the next of `says`, the last one for ever; notes what it was asked."""

    def __init__(self, *says, closes=False, tls=None):
        self.says, self.asked, self.connections = list(says), [], 0
        server = self

        class Handler(Answer):
            def setup(self):
                server.connections += 1
                super().setup()

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.asked.append((self.command, self.path, body, self.headers.get("Authorization")))
                status, said = server.says.pop(0) if len(server.says) > 1 else server.says[0]
                if status == 0:
                    said.wait(10)
                    return
                if isinstance(said, bytes):
                    self.give(status, said, "text/plain")
                else:
                    self.say(status, said)
                self.close_connection = closes  # without having said so

            do_GET = do_POST = do_PUT = answer  # noqa: N815 -- names of the library

        super().__init__(Handler, tls)
        self.url += "/under"


def at(server, **more):
    return Registry(RegistryAccess(url=server.url, **more), call_s=2.0, retries=0)


def test_one_connection_serves_many_calls():
    with Server((200, [2, 1]), (200, version(1)), (200, version(2))) as server:
        assert [(one.number, one.id, one.schema) for one in at(server).versions("a/b")] == [
            (1, 11, RECORD),
            (2, 12, RECORD),
        ]
    assert [path for _, path, _, _ in server.asked] == [
        "/under/subjects/a%2Fb/versions", "/under/subjects/a%2Fb/versions/1", "/under/subjects/a%2Fb/versions/2",
    ]  # fmt: skip
    assert server.connections == 1


def version(number):
    return {"subject": "a/b", "version": number, "id": 10 + number, "schema": json.dumps(RECORD)}


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again():
    with Server((200, version(1)), closes=True) as server:
        registry = at(server)
        assert [registry.schema(11) for _ in range(3)] == [RECORD] * 3
    assert server.connections == 3


def test_a_server_that_says_nothing_is_away_within_the_limit_and_is_not_asked_twice():
    never = Event()
    with Server((200, version(1)), (0, never)) as server:
        registry = Registry(RegistryAccess(url=server.url), call_s=0.2, retries=0)
        registry.schema(11)
        with pytest.raises(RegistryAway, match="does not answer: TimeoutError"):
            registry.schema(12)
        never.set()
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (500, {"error_code": 50001, "message": "storage"}, RegistryAway, r"says: storage \(500\)"),
        (429, {"message": "slower"}, RegistryAway, "slower"),
        (502, b"<html>proxy</html>", RegistryAway, "does not answer: status 502"),
        (401, {"error_code": 401, "message": "who"}, RegistryRefused, "who .401.; check username and password_file"),
        (401, b"who", RegistryRefused, "refused .status 401.; check username and password_file"),
        (422, {"error_code": 42201, "message": "bad"}, RegistryRefused, r"says: bad \(422\)$"),
        (404, b"<html>no such page</html>", RegistryRefused, "no registry .status 404.; check url in"),
        (404, {"detail": "no such page"}, RegistryRefused, "no registry .status 404.; check url in"),
        (302, b"", RegistryRefused, "no registry .status 302."),
        (200, b"<html>a shop</html>", RegistryRefused, "no registry .status 200.; check url in"),
        (200, 7, RegistryRefused, "no registry .an answer of another form.; check url in"),
    ],
)
def test_an_answer_says_whether_waiting_would_help(status, said, kind, words):
    with Server((status, said)) as server, pytest.raises(kind, match=words) as told:
        at(server).versions("s")
    assert str(told.value).startswith(server.url)


def test_what_may_pass_is_asked_again_and_what_will_not_is_not():
    with Server((503, {"message": "starting"}), (503, b""), (200, version(1))) as server:
        assert Registry(RegistryAccess(url=server.url)).schema(11) == RECORD
    with Server((422, {"error_code": 42201, "message": "bad"})) as server:
        with pytest.raises(RegistryRefused):
            Registry(RegistryAccess(url=server.url)).register("s", "{}")
        assert len(server.asked) == 1


def test_what_is_not_there_is_none_and_not_an_error():
    with Server((404, {"error_code": 40403, "message": "no schema"})) as server:
        assert at(server).schema(9) is None
        assert at(server).subjects(9) == []
    with Server((404, {"error_code": 40401, "message": "no subject"})) as server:
        assert at(server).versions("s") == []
        assert at(server).level("s") is None


@pytest.mark.parametrize(
    "found",
    [
        {"schema": "{}", "schemaType": "JSON"},
        {"schema": json.dumps(RECORD), "references": [{"name": "x"}]},
        {"schema": '"string"'},
        {"schema": "not json"},
        {},
    ],
)
def test_what_is_no_avro_record_is_none(found):
    with Server((200, found)) as server:
        assert at(server).schema(1) is None


def test_a_name_and_a_password_go_with_every_call():
    with Server((200, {"compatibility": "FULL_TRANSITIVE"})) as server:
        at(server, username="me", password="é:").set_level("s")
    ((method, path, body, user),) = server.asked
    assert (method, path, json.loads(body)) == ("PUT", "/under/config/s", {"compatibility": "FULL_TRANSITIVE"})
    assert user == "Basic bWU6w6k6"


def test_an_address_that_is_none_is_refused_by_name(tmp_path):
    with pytest.raises(RegistryRefused, match="check url and ca_file"):
        Registry(RegistryAccess(url="http://127.0.0.1:port/"))
    (tmp_path / "ca.pem").write_text("nobody")
    with pytest.raises(RegistryRefused, match="check url and ca_file"):
        Registry(RegistryAccess(url="https://127.0.0.1:1/", ca_file=tmp_path / "ca.pem"))


def test_who_vouches_for_the_server_is_in_the_file_and_nobody_else(tmp_path):
    authority = Authority(tmp_path)
    with Server((200, version(1)), tls=authority.serves("registry")) as server:
        assert at(server, ca_file=authority.file).schema(11) == RECORD
        with pytest.raises(RegistryRefused, match=r"is not trusted: unable to get local .*; check url and ca_file"):
            at(server).schema(11)
