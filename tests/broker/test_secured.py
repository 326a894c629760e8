"""The profiles towards a broker that asks who we are: the right ones come in, the wrong ones are told why."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.secured import Authority, Secured, secured
from tests.broker.skipping import or_skipped
from tests.flow.test_cli import footfall


@pytest.fixture(scope="module")
def doors(folder: Path) -> Iterator[Secured]:
    one = or_skipped(secured, folder / "secured")
    with one.kafka:
        one.user("footfall", "right")
        one.user("stranger", "right")
        yield one


def asked(folder: Path, bootstrap: str, **kafka: object) -> tuple[int, str]:
    """What `topics create --dry-run` says to settings."""
    lines = [f'{key} = "{value}"' for key, value in {"bootstrap": bootstrap, "wait": "8s", **kafka}.items()]
    config = folder / "footfall.toml"
    config.write_text("\n".join(["[kafka]", *lines]))
    ran = footfall("topics", "create", "--config", config, "--dry-run")
    return ran.returncode, ran.stderr


def password(folder: Path, text: str) -> Path:
    path = folder / "password"
    path.write_text(text)
    path.chmod(0o400)
    return path


def test_scram_over_tls_lets_us_in(doors: Secured, tmp_path: Path) -> None:
    known = {"profile": "sasl_ssl", "ca_file": doors.authority.file, "username": "footfall"}
    code, said = asked(tmp_path, doors.sasl, **known, password_file=password(tmp_path, "right\n"))
    assert code == 0, said
    assert "32 missing" in said


def test_a_wrong_password_is_said_at_once_and_never_shown(doors: Secured, tmp_path: Path) -> None:
    known = {"profile": "sasl_ssl", "ca_file": doors.authority.file, "username": "footfall"}
    began = time.monotonic()
    code, said = asked(tmp_path, doors.sasl, **known, password_file=password(tmp_path, "wr0ng"))
    assert code == 1
    assert "the broker refuses us for profile sasl_ssl; check the files and names in [kafka]" in said
    assert "wr0ng" not in said
    assert time.monotonic() - began < 8, "before the wait is over"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_the_other_mechanisms_ask_for_the_password_too(doors: Secured, tmp_path: Path, mechanism: str) -> None:
    known = {"profile": "sasl_ssl", "mechanism": mechanism, "ca_file": doors.authority.file, "username": "footfall"}
    code, said = asked(tmp_path, doors.sasl, **known, password_file=password(tmp_path, "right"))
    assert code == 0, said
    (tmp_path / "password").unlink()
    code, said = asked(tmp_path, doors.sasl, **known, password_file=password(tmp_path, "wr0ng"))
    assert code == 1
    assert "the broker refuses us for profile sasl_ssl" in said
    assert "wr0ng" not in said


def test_an_authority_of_the_system_is_trusted_without_a_file(
    doors: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"profile": "sasl_ssl", "username": "footfall", "password_file": password(tmp_path, "right")}
    code, said = asked(tmp_path, doors.sasl, **known)
    assert code == 1
    assert "certificate verify failed" in said
    monkeypatch.setenv("SSL_CERT_FILE", str(doors.authority.file))
    code, said = asked(tmp_path, doors.sasl, **known)
    assert code == 0, said


def test_a_certificate_lets_us_in(doors: Secured, tmp_path: Path) -> None:
    key, certificate, _ = doors.authority.issue("footfall")
    known = {"profile": "mtls", "ca_file": doors.authority.file, "key_file": key, "certificate_file": certificate}
    code, said = asked(tmp_path, doors.tls, **known)
    assert code == 0, said


def test_an_authority_that_we_do_not_trust_is_said(doors: Secured, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other")
    key, certificate, _ = other.issue("footfall")
    for authority in (other.file, doors.authority.file):
        known = {"profile": "mtls", "ca_file": authority, "key_file": key, "certificate_file": certificate}
        code, said = asked(tmp_path, doors.tls, **known)
        assert code == 1
        assert "the broker refuses us for profile mtls" in said


def test_somebody_without_rights_sees_no_topic_and_makes_none(doors: Secured, tmp_path: Path) -> None:
    known = {"profile": "sasl_ssl", "ca_file": doors.authority.file, "username": "stranger"}
    asked(tmp_path, doors.sasl, **known, password_file=password(tmp_path, "right"))
    ran = footfall("topics", "create", "--config", tmp_path / "footfall.toml", "--apply")
    assert ran.returncode == 1
    assert "we have no right to DESCRIBE and DESCRIBE_CONFIGS on topic action.command, " in ran.stderr
    assert "--add --allow-principal User:stranger --operation Describe --operation DescribeConfigs" in ran.stderr
    assert "missing" not in ran.stderr
