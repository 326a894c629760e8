"""Sealed values: AES-SIV, deterministic, so that a replay seals to the same bytes."""

import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

KEY_BYTES = 32


class Unsealable(ValueError):
    """The bytes were not sealed under this key."""


def deployment_key(pseudonym_key: bytes) -> bytes:
    """The deployment's own key, from which nothing of the pseudonym key can be told.

    >>> deployment_key(b"footfall-example-key-not-for-production").hex()[:16]
    '9414124778c295dc'
    """
    return hashlib.blake2b(b"deployment", key=pseudonym_key, digest_size=KEY_BYTES).digest()


def sealer(key: bytes) -> Callable[[bytes], bytes]:
    """Seal bytes under a key of 32 bytes. Nothing seals to nothing."""
    cipher = AESSIV(key)
    return lambda data: cipher.encrypt(data, None) if data else b""


def opener(key: bytes) -> Callable[[bytes], bytes]:
    """Open what `sealer` of the same key sealed; raises Unsealable."""
    cipher = AESSIV(key)

    def opened(data: bytes) -> bytes:
        try:
            return cipher.decrypt(data, None) if data else b""
        except (InvalidTag, ValueError) as error:
            raise Unsealable("a sealed value must be opened with the key that sealed it") from error

    return opened
