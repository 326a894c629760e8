"""Identifiers as keyed hashes: what a person is called inside."""

import hashlib
import re
import unicodedata
from base64 import b32encode
from collections.abc import Callable
from functools import lru_cache

EXAMPLE_KEY = b"footfall-example-key-not-for-production"
EXAMPLE_VERSION = 1
NAMESPACES: dict[str, int] = {
    "login": 0,
    "loyalty": 1,
    "email": 2,
    "phone": 3,
    "payment_token": 4,
    "device": 5,
    "tag": 6,
    "cookie": 7,
    "track": 8,
}
"""Namespace to priority, strongest first; `track` lives one visit and is nobody."""
PERSON_KINDS = frozenset({"login", "loyalty", "email", "phone"})
UNIQUE = frozenset({"login", "loyalty"})
LIMITS: dict[str, int] = {
    "login": 1,
    "loyalty": 1,
    "email": 3,
    "phone": 2,
    "payment_token": 6,
    "device": 8,
    "tag": 4,
    "cookie": 30,
}
"""How many identifiers of a namespace one profile may hold."""
TOKEN = re.compile(r"^[a-z_]+:[0-9]+:[a-z2-7]{20}$")
_PHONE = re.compile(r"^\+?[0-9][0-9 ()./-]{4,}$")
_LONGEST = 512
Tokens = Callable[[str], str]


class BadIdentifier(ValueError):
    """An identifier that cannot be hashed: empty, or of no known namespace. The message holds no part of it."""


def namespace_of(token: str) -> str:
    """Namespace of a token or of `namespace:raw`."""
    return token.split(":", 1)[0]


def normalised(namespace: str, raw: str) -> str:
    """The one spelling of a raw identifier; raises BadIdentifier when it has none."""
    value = unicodedata.normalize("NFC", raw.strip()).casefold()
    if namespace == "email":
        name, at, domain = value.rpartition("@")
        if not (at and name and domain):
            raise BadIdentifier("an e-mail address must have a name and a domain")
        try:
            value = f"{name}@{domain.encode('idna').decode()}"
        except UnicodeError as error:
            raise BadIdentifier("the domain of an e-mail address must be a host name") from error
    elif namespace == "phone" and _PHONE.match(value):
        value = ("+" if value.startswith("+") else "") + re.sub(r"[^0-9]", "", value)
    if not value or len(value) > _LONGEST:
        raise BadIdentifier("an identifier must not be empty, nor longer than 512 characters")
    return value


def tokens(key: bytes, version: int, *, remembered: int = 65_536) -> Tokens:
    """Make the hasher of one key: `namespace:raw` to `namespace:version:hash`.

    A value that already looks like a token passes. The last `remembered` results are kept, because a
    position path that hashes each reading anew pays more for that than for its zones.

    >>> tokens(EXAMPLE_KEY, 1)("tag:ana-tag")
    'tag:1:3z2kiuxszjrwxxxf6a7q'
    """
    if not 0 < len(key) <= 64:
        raise ValueError(f"the pseudonym key must hold 1 to 64 bytes; got {len(key)}")

    @lru_cache(remembered)
    def token(identifier: str) -> str:
        if TOKEN.match(identifier) and namespace_of(identifier) in NAMESPACES:
            return identifier
        namespace, colon, raw = identifier.partition(":")
        if not colon or namespace not in NAMESPACES:
            raise BadIdentifier("an identifier must be namespace:value with a known namespace")
        plain = f"{namespace}\0{normalised(namespace, raw)}".encode()
        digest = hashlib.blake2b(plain, key=key, digest_size=12).digest()
        return f"{namespace}:{version}:{b32encode(digest).decode().rstrip('=').lower()}"

    return token


def fingerprint(key: bytes) -> str:
    """By which a key is known again, and nothing of it can be told.

    >>> fingerprint(EXAMPLE_KEY)
    'bde4023f49876855'
    """
    return hashlib.blake2b(b"fingerprint", key=key, digest_size=8).hexdigest()


def subject_tokens(token: Tokens) -> Tokens:
    """Hasher of subjects: without a known namespace a subject is a tag."""

    @lru_cache(65_536)
    def subject(identifier: str) -> str:
        if namespace_of(identifier) in NAMESPACES and ":" in identifier:
            return token(identifier)
        return token(f"tag:{identifier}")

    return subject
