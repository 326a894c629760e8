"""Settings of broker and registry: what is refused before anything is opened, and what a client is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows import ports
from flows.settings import Settings, WrongUse, load
from operators.connectors.access import Access
from operators.connectors.rights import Lacking, NoRight
from operators.connectors.topics import Found, compare, doubts, wanted
from schemas.topics import TOPICS


def settings(folder: Path, text: str) -> Settings:
    path = folder / "footfall.toml"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[kafka]\nbootstrap = "a:1,b"', "2: bootstrap in [kafka] must be host:port"),
        ('[kafka]\nprofile = "mtls"', "1: ca_file in [kafka] must be given for profile mtls"),
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


def test_a_secret_open_to_everybody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="chmod 0400"):
        ports.broker(secured(tmp_path, 0o644), tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = secured(tmp_path)
    (tmp_path / "password").unlink()
    with pytest.raises(WrongUse, match="password: the file that a setting names must be there"):
        ports.broker(found, tmp_path)


def test_producers_put_keys_where_java_does() -> None:
    config = Access(bootstrap="127.0.0.1:1").producing()
    assert (config["partitioner"], config["acks"], config["enable.idempotence"]) == ("murmur2_random", "all", True)


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


def test_both_policies_are_one_whatever_their_order() -> None:
    found = as_made()
    config = {**found["context.fact"].config, "cleanup.policy": "delete,compact"}
    planned = compare(wanted("", 12), found | {"context.fact": Found(12, config)}, "b:1")
    assert planned.differs == ()


def test_what_stops_no_start_and_may_lose_rows_one_day() -> None:
    found = {name: replace(one, replicas=3) for name, one in as_made().items()}
    found["pos.receipt"] = replace(found["pos.receipt"], replicas=1)
    for topic, more in {
        "web.event": {"min.insync.replicas": "1"},
        "crm.customer": {"min.insync.replicas": "2"},
        "presence.dwell": {"retention.ms": "86399999"},
        "sensing.scan": {"retention.ms": "1"},
        "decision.record": {"retention.ms": "86400000"},
        "identity.assignment": {"retention.ms": "1"},
    }.items():
        found[topic] = replace(found[topic], config={**found[topic].config, **more})
    planned = compare(wanted("", 12), found, "b:1")
    outputs = {"presence.dwell", "decision.record", "identity.assignment"}
    one_copy, one_ack, short = doubts(planned, outputs, 3)
    assert one_copy.endswith(": pos.receipt")
    assert one_ack.endswith(": web.event")
    assert short.endswith(": presence.dwell"), "an output that is compacted only keeps its rows"
    assert doubts(planned, outputs, 1) == [short], "one broker has no second copy to give"


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
