"""Settings of broker and registry: what is refused before anything is opened, and what a client is told."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows import ports
from flows.settings import Settings, WrongUse, load
from operators.connectors.access import Access, Admin, BrokerAway
from operators.connectors.copies import Copies, copies, scarce
from operators.connectors.owner import OWNER
from operators.connectors.rights import Lacking, NoRight, of_groups
from operators.connectors.topics import Found, NotMade, Plan, Wanted, apply, claims, compare, copied, plan, wanted
from schemas.topics import TOPICS


def settings(folder: Path, text: str) -> Settings:
    path = folder / "footfall.toml"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[kafka]\nbootstrap = "a:1,b"', "2: bootstrap in [kafka] must be host:port"),
        ('[kafka]\nprofile = "mtls"', "1: certificate_file in [kafka] must be given for profile mtls"),
        (
            '[kafka]\nmechanism = "GSSAPI"',
            "2: mechanism in [kafka] must be SCRAM-SHA-512 or SCRAM-SHA-256 or PLAIN; got 'GSSAPI'",
        ),
        (
            '[kafka]\nprofile = "ssl"',
            "2: profile in [kafka] must be plaintext or sasl_ssl or mtls or oauthbearer; got 'ssl'",
        ),
        ('[kafka]\nstart = "yesterday"', "2: start in [kafka] must be earliest, latest or a time"),
        ('[kafka]\npassword = "x"', "2: unknown setting password in [kafka]; did you mean password_file?"),
        ('[registry]\nurl = "ftp://host"', "2: url in [registry] must be an address"),
        ('[registry]\nurl = "http://a:b@host"', "2: url in [registry] must hold no credentials"),
        ('[registry]\nusername = "a"', "password_file in [registry] must stand together with username"),
        ("[topics]\npartitions = 0", "2: partitions in [topics] expected `int` >= 1"),
        ("[topics]\nreplication = 0", "2: replication in [topics] expected `int` >= 1"),
        (
            "[topics]\nreplication = 1\nmin_insync = 2",
            "3: min_insync in [topics] must be at most replication, 1; got 2",
        ),
        ('[topics]\nprefix = "a b"', "2: prefix in [topics] expected `str` matching"),
        ('[metrics]\nlisten = "9464"', "2: listen in [metrics] must be host:port"),
        ("[engine]\nlanes = 0", "2: lanes in [engine] expected `int` >= 1"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(WrongUse) as refused:
        settings(tmp_path, text)
    assert said in str(refused.value)


def test_where_a_first_start_begins(tmp_path: Path) -> None:
    assert settings(tmp_path, "").start == "earliest"
    assert settings(tmp_path, '[kafka]\nstart = "latest"').start == "latest"
    assert settings(tmp_path, '[kafka]\nstart = "2026-12-05T16:00:00Z"').start == 1_796_486_400_000_000


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1,[::1]:2", "127.0.0.7:9092"])
def test_plaintext_goes_to_this_machine(tmp_path: Path, address: str) -> None:
    found = ports.broker(settings(tmp_path, f'[kafka]\nbootstrap = "{address}"'), tmp_path)
    assert found.config()["security.protocol"] == "PLAINTEXT"


@pytest.mark.parametrize("address", ["kafka:9092", "10.0.0.1:9092", "127.0.0.1:1,kafka:9092", "localhost.example:1"])
def test_plaintext_goes_no_further_unless_told(tmp_path: Path, address: str) -> None:
    found = settings(tmp_path, f'[kafka]\nbootstrap = "{address}"')
    with pytest.raises(WrongUse, match="must not be plaintext"):
        ports.broker(found, tmp_path)
    assert ports.broker(found, tmp_path, insecure=True).bootstrap == address


def secured(folder: Path, mode: int = 0o400) -> Settings:
    for name in ("ca.pem", "password"):
        path = folder / name
        path.write_text("s3cret\n")
        path.chmod(mode)
    return settings(
        folder,
        '[kafka]\nbootstrap = "kafka:9093"\nprofile = "sasl_ssl"\nca_file = "ca.pem"\nusername = "footfall"\n'
        'password_file = "password"\n',
    )


def test_a_secret_is_read_from_its_file_and_shown_nowhere(tmp_path: Path) -> None:
    access = ports.broker(secured(tmp_path), tmp_path)
    config = access.config()
    assert (config["sasl.mechanism"], config["sasl.password"]) == ("SCRAM-SHA-512", "s3cret")
    assert config["ssl.endpoint.identification.algorithm"] == "https"
    assert config["ssl.ca.location"] == str(tmp_path / "ca.pem")
    assert "s3cret" not in repr(access)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_password_is_shown_as_the_cluster_wants_it(tmp_path: Path, mechanism: str) -> None:
    secured(tmp_path)
    path = tmp_path / "footfall.toml"
    found = settings(tmp_path, f'{path.read_text()}mechanism = "{mechanism}"\n')
    assert ports.broker(found, tmp_path).config()["sasl.mechanism"] == mechanism


@pytest.mark.parametrize("profile", ["sasl_ssl", "mtls", "oauthbearer"])
def test_without_a_file_those_are_trusted_whom_the_system_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    authorities = tmp_path / "system.pem"
    authorities.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    config = Access(bootstrap="kafka:9093", profile=profile).config()
    assert config["ssl.ca.location"] == str(authorities)
    assert config.get("https.ca.location") == (str(authorities) if profile == "oauthbearer" else None)
    own = Access(bootstrap="kafka:9093", profile=profile, ca_file=tmp_path / "own.pem").config()
    assert own["ssl.ca.location"] == str(tmp_path / "own.pem")


def test_a_secret_open_to_everybody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="chmod 0400"):
        ports.broker(secured(tmp_path, 0o644), tmp_path)


@pytest.mark.parametrize(
    ("mode", "closed"), [(0o400, True), (0o600, True), (0o440, True), (0o644, False), (0o404, False)]
)
def test_the_pseudonym_key_is_a_secret_of_a_flow_that_runs(tmp_path: Path, mode: int, closed: bool) -> None:
    (tmp_path / "key").write_text("a key\n")
    (tmp_path / "key").chmod(mode)
    found = settings(tmp_path, '[pseudonym]\nkey_file = "key"\nkey_version = 3')
    assert ports.key_of(found, tmp_path, required=False) == (b"a key", 3, False)
    if closed:
        assert ports.key_of(found, tmp_path, required=True) == (b"a key", 3, False)
        return
    with pytest.raises(WrongUse, match=f"chmod 0400 {tmp_path / 'key'}"):
        ports.key_of(found, tmp_path, required=True)


@pytest.mark.parametrize(("mode", "closed"), [(0o440, True), (0o644, False)])
def test_the_key_of_a_certificate_is_a_secret(tmp_path: Path, mode: int, closed: bool) -> None:
    for name in ("ca.pem", "tls.crt", "tls.key"):
        (tmp_path / name).write_text("x")
    (tmp_path / "tls.key").chmod(mode)
    found = settings(
        tmp_path,
        '[kafka]\nbootstrap = "kafka:9093"\nprofile = "mtls"\nca_file = "ca.pem"\ncertificate_file = "tls.crt"\n'
        'key_file = "tls.key"\n',
    )
    if closed:
        assert ports.broker(found, tmp_path).key_file == tmp_path / "tls.key"
        return
    with pytest.raises(WrongUse, match=f"chmod 0400 {tmp_path / 'tls.key'}"):
        ports.broker(found, tmp_path)


def test_brokers_of_the_command_line_hold_no_password(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="--bootstrap must be host:port") as refused:
        ports.broker(settings(tmp_path, ""), tmp_path, bootstrap="ana:s3cret@host:9092")
    assert "s3cret" not in str(refused.value)


def with_password(folder: Path, url: str) -> Settings:
    (folder / "password").write_text("s3cret\n")
    (folder / "password").chmod(0o400)
    return settings(folder, f'[registry]\nurl = "{url}"\nusername = "footfall"\npassword_file = "password"')


@pytest.mark.parametrize("url", ["http://registry:8080/v7", "http://10.0.0.1", "http://localhost.example"])
def test_a_password_goes_to_a_registry_in_clear_only_where_told(tmp_path: Path, url: str) -> None:
    found = with_password(tmp_path, url)
    with pytest.raises(WrongUse, match=r"url in \[registry\] must be https where a password goes with it") as refused:
        ports.registry(found, tmp_path)
    assert "s3cret" not in str(refused.value)
    assert ports.registry(found, tmp_path, insecure=True).url == url
    assert ports.registry(settings(tmp_path, f'[registry]\nurl = "{url}"'), tmp_path).url == url


@pytest.mark.parametrize(
    "url", ["https://registry/v7", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:8/v7"]
)
def test_a_password_goes_over_tls_and_on_this_machine(tmp_path: Path, url: str) -> None:
    assert ports.registry(with_password(tmp_path, url), tmp_path).password == "s3cret"


def test_an_address_of_the_command_line_is_held_to_the_same(tmp_path: Path) -> None:
    found = with_password(tmp_path, "https://registry/v7")
    with pytest.raises(WrongUse, match="must be https"):
        ports.registry(found, tmp_path, url="http://registry/v7")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = secured(tmp_path)
    (tmp_path / "password").unlink()
    with pytest.raises(WrongUse, match="password: the file that a setting names must be there"):
        ports.broker(found, tmp_path)


@pytest.fixture
def hanging() -> Iterator[Admin]:
    """Somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield Admin(Access(bootstrap=f"127.0.0.1:{one.getsockname()[1]}"))


def test_a_broker_that_hangs_is_told_of_as_one_that_is_away(hanging: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("topics", "rights", "copies"):
        monkeypatch.setattr(f"operators.connectors.{module}.CALL_S", 0.3)
    missing = compare(wanted("", 1), {}, "b:1")
    for ask in (
        lambda: plan(hanging, wanted("", 1), "b:1"),
        lambda: apply(hanging, missing),
        lambda: of_groups(hanging, ["g"]),
        lambda: copies(hanging, wanted("", 1)),
    ):
        with pytest.raises(BrokerAway, match="the broker does not answer"):
            ask()


def as_made(partitions: int = 12) -> dict[str, Found]:
    return {one.name: Found(one.partitions, one.config) for one in wanted("", partitions)}


def test_what_was_made_as_planned_differs_in_nothing() -> None:
    planned = compare(wanted("", 12), as_made(), "b:1")
    assert (len(planned.there), planned.missing, planned.differs) == (len(TOPICS), (), ())


def test_a_shorter_retention_is_fine_and_a_longer_one_is_not() -> None:
    hour = 3_600_000
    found = as_made()
    for topic, kept in {"presence.visit": 1, "decision.record": 401 * 24, "ops.late": -1}.items():
        kept_ms = str(kept * hour if kept > 0 else -1)
        found[topic] = Found(12, {**found[topic].config, "retention.ms": kept_ms})
    planned = compare(wanted("", 12), found, "b:1")
    assert {(one.topic, one.setting) for one in planned.differs} == {
        ("decision.record", "retention.ms"),
        ("ops.late", "retention.ms"),
    }


def test_only_topics_joined_by_key_need_equal_counts() -> None:
    planned = compare(wanted("", 12), as_made(6), "b:1")
    assert {one.topic for one in planned.differs} == {name for name, topic in TOPICS.items() if topic.key in "SIP"}


def grown(*names: str, without: str = "web.event") -> dict[str, Found]:
    made = {name: replace(one, partitions=24) if name in names else one for name, one in as_made().items()}
    made[OWNER] = Found(1, claims("").config)
    return {name: one for name, one in made.items() if name != without}


def planned_after(found: dict[str, Found]) -> Plan:
    return compare([*wanted("", 12), claims("")], found, "b:1")


def test_a_topic_that_has_grown_forbids_making_nothing_and_is_told_of() -> None:
    for names in (["pos.receipt"], [name for name, topic in TOPICS.items() if topic.key in "SIP"]):
        planned = planned_after(grown(*names))
        assert [one.name for one in planned.missing] == ["web.event"]
        assert {one.topic for one in planned.differs} == set(names) - {"web.event"}
        assert planned.barring == ()


def test_a_topic_that_has_grown_does_not_hide_another_that_differs() -> None:
    found = grown("pos.receipt")
    found["ops.late"] = replace(found["ops.late"], config={"cleanup.policy": "compact"})
    assert {one.topic for one in planned_after(found).barring} == {"ops.late"}
    found = grown("pos.receipt")
    found["consent.record"] = replace(found["consent.record"], partitions=6)
    assert [one.topic for one in planned_after(found).barring] == ["consent.record"]


def test_another_count_where_nothing_was_made_yet_forbids_the_rest() -> None:
    found = {"pos.receipt": Found(24, as_made()["pos.receipt"].config), "venue.zone": as_made()["venue.zone"]}
    planned = planned_after(found)
    assert [one.topic for one in planned.barring] == ["pos.receipt"]
    assert "set partitions = 24 in [topics]" in str(planned.barring[0])
    with pytest.raises(NotMade, match=r"pos\.receipt: partitions must be 12; it is 24"):
        apply(Admin(Access(bootstrap="127.0.0.1:1")), planned)


def test_both_policies_are_one_whatever_their_order() -> None:
    found = as_made()
    config = {**found["context.fact"].config, "cleanup.policy": "delete,compact"}
    planned = compare(wanted("", 12), found | {"context.fact": Found(12, config)}, "b:1")
    assert planned.differs == ()


def test_topics_of_several_copies_of_which_one_is_enough_are_named() -> None:
    found = as_made()
    for topic, least in {"web.event": "1", "crm.customer": "2", "pos.receipt": "1"}.items():
        config = {**found[topic].config, "min.insync.replicas": least}
        found[topic] = replace(found[topic], config=config)
    planned = compare(wanted("", 12), found, "b:1")
    held = {"web.event": 3, "crm.customer": 3, "pos.receipt": 1}
    _, one_ack = scarce(planned, Copies(3, 3, 2, held))
    assert one_ack.endswith(": web.event"), "a topic of one copy is told of as such"
    assert list(scarce(planned, Copies(1, 1, 1, {"web.event": 1}))) == []


def test_a_right_that_is_missing_is_named_with_the_command_that_grants_it() -> None:
    access = Access(bootstrap="127.0.0.1:1", profile="sasl_ssl", username="mad")
    lacking = [
        Lacking("topic", "b", ("READ",)),
        Lacking("group", "g", ("READ",)),
        Lacking("topic", "a", ("DESCRIBE_CONFIGS", "READ")),
        Lacking("topic", "c", ("READ",)),
    ]
    assert str(NoRight(access, lacking)) == (
        "127.0.0.1:1: we have no right to READ on group g; to DESCRIBE_CONFIGS and READ on topic a; to READ on topic b, c;"
        " grant: kafka-acls.sh --bootstrap-server 127.0.0.1:1 --add --allow-principal User:mad --operation Read --group g;"
        " kafka-acls.sh --bootstrap-server 127.0.0.1:1 --add --allow-principal User:mad --operation DescribeConfigs"
        " --operation Read --topic a; kafka-acls.sh --bootstrap-server 127.0.0.1:1 --add --allow-principal User:mad"
        " --operation Read --topic b --topic c"
    )


def scarcely(replication: int | None, min_insync: int | None, found: Copies) -> list[str]:
    missing = copied(wanted("", 12), replication, min_insync)
    return list(scarce(compare(missing, {}, "b:1"), found))


def test_one_copy_on_several_brokers_is_warned_of() -> None:
    cluster = Copies(3, 1, 1, {})
    assert scarcely(None, None, cluster)[0].startswith(
        f"replication would be 1 of {len(TOPICS)} topics on a cluster of 3 brokers"
    )
    assert len(scarcely(1, None, cluster)) == 1
    assert scarcely(3, 2, cluster) == []
    assert scarcely(None, None, Copies(3, None, None, {})) == [], "what we may not see is not guessed"
    assert scarcely(None, None, Copies(1, 1, 1, {})) == [], "one broker cannot hold more"


def test_topics_that_are_there_in_one_copy_are_named() -> None:
    planned = compare(wanted("", 12), as_made(), "b:1")
    (said,) = scarce(planned, Copies(3, 3, 2, {"web.event": 1, "pos.receipt": 3}))
    assert "of web.event; kafka-reassign-partitions.sh" in said


def test_copies_that_no_broker_has_room_for_or_no_write_can_reach_are_warned_of() -> None:
    assert scarcely(3, None, Copies(2, 1, 1, {})) == ["replication = 3 in [topics] takes 3 brokers; the cluster has 2"]
    assert (
        "min.insync.replicas 2 with replication 1: nothing could be written"
        in scarcely(None, 2, Copies(1, 1, 1, {}))[0]
    )
    assert "min.insync.replicas 2 with replication 1" in scarcely(None, None, Copies(1, 1, 2, {}))[0]


def test_a_plan_shows_what_a_topic_gets_and_who_said_so() -> None:
    (one,) = copied([Wanted("t", 1, {"cleanup.policy": "compact"})], 3, 2)
    assert Copies(3, 1, 1, {}).said(one) == "replication 3, min.insync.replicas 2"
    assert one.config == {"cleanup.policy": "compact", "min.insync.replicas": "2"}
    bare = Wanted("t", 1, {"cleanup.policy": "compact"})
    default = "by the broker's default"
    assert Copies(3, 1, 2, {}).said(bare) == f"replication 1 {default}, min.insync.replicas 2 {default}"
    assert Copies(3, None, None, {}).said(bare) == f"replication {default}, min.insync.replicas {default}"


def test_an_output_that_is_kept_for_less_than_a_day_is_warned_of() -> None:
    found = as_made()
    for topic in ("presence.visit", "sensing.position"):
        found[topic] = Found(12, {**found[topic].config, "retention.ms": "3600000"})
    planned = compare(wanted("", 12), found, "b:1", {"presence.visit"})
    assert planned.differs == ()
    (said,) = planned.warnings
    assert said.startswith("presence.visit: retention.ms is 3600000, less than a day")
