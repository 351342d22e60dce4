"""Whose a bundle is: an Ed25519 signature of its identity, made and checked by the package `cryptography` (extra ``sign``).

    "aisp-trace bundle\\n" + identity  ->  64 bytes, in base64 beside the index

The identity is the SHA-256 of the index, so the signature speaks for every byte. The words before it keep a signature that the
same key gave to something else (a commit, a login) from being one of a bundle. Keys are those of OpenSSH, or PEM files.

`cryptography` is imported only where a key is read or a signature is checked; fingerprints need none of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import InputError, UsageError
from .output import reason

KIND: Final = "ssh-ed25519"
SIGNED: Final = b"aisp-trace bundle\n"

MOST_KEY_BYTES: Final = 64 << 10
"""Far more than a file of a key, or of all keys of a team, has."""

_RAW_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_BLOB: Final = b"\0\0\0\x0b" + KIND.encode() + b"\0\0\0\x20"
"""What OpenSSH writes before the 32 bytes of a public key (RFC 8709, section 4)."""

SIGNATURE_TEXT_BYTES: Final = len(base64.b64encode(bytes(_SIGNATURE_BYTES))) + 1
NEEDED: Final = "signatures need the package cryptography: run `pip install 'aisp-trace[sign]'`"


@dataclass(frozen=True, slots=True)
class Key:
    """A private key. `public` is its public part as OpenSSH writes it, without a comment: ``ssh-ed25519 AAAA...``."""

    public: str
    _private: Any

    def sign(self, identity: str) -> bytes:
        """The signature of the bundle with this identity, as a line of base64."""
        return base64.b64encode(self._private.sign(SIGNED + identity.encode())) + b"\n"

    def __repr__(self) -> str:
        return f"<Key {fingerprint(self.public)}>"


def load_key(file: Path, passphrase: Callable[[], str]) -> Key:
    """The private key in `file`; `passphrase` is asked for where it has one.

    Raises `InputError` if the file is unreadable or holds no private Ed25519 key, `UsageError` without `cryptography`.
    """
    serialization, ed25519 = _library()
    data = _read(file)
    if data.startswith((KIND.encode(), b"-----BEGIN PUBLIC")):
        raise InputError(f"{file} holds a public key; --sign takes the private one, mostly the file without .pub")
    load = serialization.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else serialization.load_pem_private_key
    try:
        try:
            private = load(data, None)
        except (TypeError, ValueError) as exc:
            if "password" not in str(exc).lower():  # versions differ in the error, not in this word
                raise
            private = load(data, passphrase().encode())
    except (ValueError, TypeError, _unsupported()) as exc:
        raise InputError(
            f"{file} is no private key that can be read, or its passphrase is another; name one made by "
            "`ssh-keygen -t ed25519`"
        ) from exc
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise InputError(f"{file} is a private key, but none of Ed25519; make one with `ssh-keygen -t ed25519`")
    return Key(_written(private.public_key().public_bytes_raw()), private)


def load_signers(file: Path) -> tuple[str, ...]:
    """The public keys in `file`, as `Key.public` has them: one a line, as OpenSSH writes them, or one as PEM.

    Raises `InputError` if there is none, `UsageError` for PEM without `cryptography`.
    """
    data = _read(file)
    keys = tuple(f"{KIND} {one.decode()}" for one in re.findall(rb"(?m)^[^#\n]*?\bssh-ed25519 ([A-Za-z0-9+/=]+)", data))
    if b"PRIVATE KEY" in data:
        raise InputError(
            f"{file} holds a private key; --signer takes the public one, mostly the file that ends in .pub"
        )
    if not keys and b"-----BEGIN PUBLIC KEY" in data:
        serialization, ed25519 = _library()
        try:
            public = serialization.load_pem_public_key(data)
        except (ValueError, _unsupported()):
            public = None
        if isinstance(public, ed25519.Ed25519PublicKey):
            keys = (_written(public.public_bytes_raw()),)
    if not keys or not all(map(is_public, keys)):
        raise InputError(f"{file} holds no public key of Ed25519; name the .pub file that `ssh-keygen -t ed25519` made")
    return keys


def is_public(key: str) -> bool:
    """Whether `key` is an Ed25519 public key as OpenSSH writes it, in the one way that it can be written."""
    raw = _raw(key)
    return raw is not None and _written(raw) == key


def fingerprint(key: str) -> str:
    """What ``ssh-keygen -l`` calls the public key: ``SHA256:...``."""
    digest = hashlib.sha256(_BLOB + (_raw(key) or b"")).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def is_right(key: str, identity: str, signature: bytes) -> bool | None:
    """Whether `signature` (a line of base64) is that of the public `key` for this identity; null without `cryptography`."""
    try:
        _, ed25519 = _library()
    except UsageError:
        return None
    from cryptography.exceptions import InvalidSignature

    raw = _raw(key)
    try:
        given = base64.b64decode(signature.removesuffix(b"\n"), validate=True)
        ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(given, SIGNED + identity.encode())
    except (InvalidSignature, ValueError, TypeError):
        return False
    return base64.b64encode(given) + b"\n" == signature


def _written(raw: bytes) -> str:
    return f"{KIND} {base64.b64encode(_BLOB + raw).decode()}"


def _raw(key: str) -> bytes | None:
    try:
        blob = base64.b64decode(key.removeprefix(f"{KIND} "), validate=True)
    except (binascii.Error, ValueError):
        return None
    return blob[len(_BLOB) :] if blob.startswith(_BLOB) and len(blob) == len(_BLOB) + _RAW_BYTES else None


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_KEY_BYTES + 1)
    except OSError as exc:
        raise InputError(f"the key {file} cannot be read: {reason(exc)}") from exc
    if len(data) > MOST_KEY_BYTES:
        raise InputError(f"{file} is longer than {MOST_KEY_BYTES:,} bytes, so it is no key")
    return data


def _library() -> Sequence[Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as exc:
        raise UsageError(NEEDED) from exc
    return serialization, ed25519


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm

    return UnsupportedAlgorithm
