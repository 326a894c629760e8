"""A broker that asks who we are: an authority of its own, TLS with certificates, and SCRAM over TLS."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.broker.jars import free_ports
from tests.broker.kafka import Kafka

LISTENERS = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},TLS://127.0.0.1:%(tls)d,SASL://127.0.0.1:%(sasl)d
advertised.listeners=PLAINTEXT://127.0.0.1:{port},TLS://127.0.0.1:%(tls)d,SASL://127.0.0.1:%(sasl)d
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location=%(folder)s/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=%(folder)s/ca.pem
listener.name.tls.ssl.client.auth=required
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_footfall="right";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:footfall;User:CN=footfall
"""


class Authority:
    """Signs certificates into PEM files of a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(self._name, self._key.public_key(), authority=True)
        self.file = folder / f"{name}.pem"
        self._pem = signed.public_bytes(serialization.Encoding.PEM)
        self.file.write_bytes(self._pem)

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key)
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if not authority:
            here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
            made = made.add_extension(here, critical=False)
        return made.sign(self._key, hashes.SHA256())

    def issue(self, name: str) -> tuple[Path, Path, Path]:
        """Key file, certificate file, and one with key, certificate and authority together, as a broker wants it."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), authority=False).public_bytes(serialization.Encoding.PEM)
        plain = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key_file, certificate_file, whole = (self.folder / f"{name}{end}" for end in (".key", ".crt", ".pem"))
        key_file.write_bytes(plain)
        key_file.chmod(0o400)
        certificate_file.write_bytes(certificate)
        whole.write_bytes(plain + certificate + self._pem)
        return key_file, certificate_file, whole

    def serves(self, name: str) -> ssl.SSLContext:
        """How a server of that name shows who it is."""
        key, certificate, _ = self.issue(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


@dataclass(frozen=True)
class Secured:
    """A running broker with its doors."""

    kafka: Kafka
    authority: Authority
    tls: str
    sasl: str

    def grant(self, name: str, rights: Iterable[tuple[str, str, str]]) -> None:
        """Let a name do things: resource type, resource (all that begin so where it ends with `*`), operation."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})
        bindings = [
            AclBinding(
                ResourceType[kind],
                resource.removesuffix("*"),
                ResourcePatternType.PREFIXED if resource.endswith("*") else ResourcePatternType.LITERAL,
                f"User:{name}",
                "*",
                AclOperation[operation],
                AclPermissionType.ALLOW,
            )
            for kind, resource, operation in rights
        ]
        for answer in admin.create_acls(bindings).values():
            answer.result(10)

    def user(self, name: str, password: str) -> None:
        """Give a name a password."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})
        for mechanism in (ScramMechanism.SCRAM_SHA_512, ScramMechanism.SCRAM_SHA_256):
            change = UserScramCredentialUpsertion(name, ScramCredentialInfo(mechanism, 4096), password.encode())
            admin.alter_user_scram_credentials([change])[name].result(10)


def secured(folder: Path) -> Secured:
    """A broker, not started yet."""
    authority = Authority(folder)
    authority.issue("broker")
    tls, sasl = free_ports(2)
    extra = LISTENERS % {"tls": tls, "sasl": sasl, "folder": folder}
    return Secured(Kafka(folder / "kafka", extra=extra), authority, f"127.0.0.1:{tls}", f"127.0.0.1:{sasl}")
