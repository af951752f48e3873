"""Signatures of manifests: who vouches for a model, and whom an operator trusts.

A manifest names the sha256 of every file, so that a signature of its bytes is one of the whole model, sealed
or not; sealing, unsealing and changing keys leave it valid. What is signed is ``PURPOSE`` and the manifest:
the same key may sign other things without one passing for the other. Ed25519, and ECDSA on P-256 with
SHA-256.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as EcPublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from stream_server.errors import ModelError

PURPOSE = b"stream-server model manifest 1\n"
_PublicKey = Ed25519PublicKey | EcPublicKey


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a signature file."""

    algorithm: str
    """``ed25519`` or ``ecdsa-p256-sha256``."""
    key: str
    """sha256 of the public key's DER, hex: which of the trusted keys to try."""
    signature: str
    """base64."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that vouches for models."""

    path: Path
    """Where it was read."""
    der: bytes
    """SubjectPublicKeyInfo."""

    @property
    def id(self) -> str:
        """sha256 of the key, hex."""
        return hashlib.sha256(self.der).hexdigest()


@dataclass(frozen=True, slots=True)
class Trust:
    """Which models may be loaded. Without keys, signatures are not looked at."""

    keys: tuple[TrustedKey, ...] = ()
    is_required: bool = False
    """A model without a signature is refused; one with a wrong signature always is."""

    def check(self, manifest: bytes, signature: bytes | None, place: Path) -> TrustedKey | None:
        """Check a manifest's signature, before anything parses the manifest.

        Args:
            manifest: Its bytes.
            signature: Content of its signature file, if there is one.
            place: The model, for the error.

        Returns:
            Who signed; None where there is no signature or no key to check it with.

        Raises:
            ModelError: It is missing where one is required, wrong, or by a key that is not trusted.
        """
        if signature is None:
            if self.is_required:
                raise ModelError(
                    f"{place} is not signed, and [models] require_signature is true; on the machine that "
                    "holds the signing key: `stream-server models sign NAME --key FILE`"
                )
            return None
        if not self.keys:
            return None
        told = _decode(signature, place)
        signer = next((key for key in self.keys if key.id == told.key), None)
        if signer is None:
            raise ModelError(
                f"{place} is signed by the key {told.key[:16]}, which [models] trusted_keys does not have; "
                "add the signer's public key, if you trust it"
            )
        if not _is_valid(told, manifest, signer):
            raise ModelError(
                f"{place}: its manifest or signature was altered after it was signed; nothing of it is used: "
                "copy the model again"
            )
        return signer


def sign(manifest: bytes, key_file: Path) -> bytes:
    """The content of the signature file for a manifest.

    Args:
        manifest: Its bytes.
        key_file: PEM of an Ed25519 or P-256 private key, not encrypted.

    Raises:
        ModelError: The file holds no such key.
    """
    key = _read_private(key_file)
    message = PURPOSE + manifest
    if isinstance(key, Ed25519PrivateKey):
        algorithm, signature = "ed25519", key.sign(message)
    else:
        algorithm, signature = "ecdsa-p256-sha256", key.sign(message, ECDSA(SHA256()))
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    told = Signature(algorithm, hashlib.sha256(der).hexdigest(), base64.b64encode(signature).decode())
    return msgspec.json.format(msgspec.json.encode(told)) + b"\n"


def read_trusted(path: Path) -> TrustedKey:
    """A public key to trust.

    Raises:
        ModelError: The file holds none of the two kinds.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ModelError(
            f"{path} is no public key in PEM; `openssl pkey -in KEY -pubout -out {path}` writes one"
        ) from exc
    if not isinstance(key, _PublicKey) or not _is_p256_or_ed25519(key):
        raise ModelError(f"{path} must be an Ed25519 or P-256 public key")
    return TrustedKey(path, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _read_private(path: Path) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without its cause, which could quote what it read.
        raise ModelError(
            f"{path} is no private key in PEM without a password; "
            f"`openssl genpkey -algorithm ed25519 -out {path}` makes one"
        ) from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    raise ModelError(f"{path} must be an Ed25519 or P-256 private key")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}") from exc


def _is_p256_or_ed25519(key: _PublicKey) -> bool:
    return isinstance(key, Ed25519PublicKey) or isinstance(key.curve, SECP256R1)


def _decode(content: bytes, place: Path) -> Signature:
    try:
        return msgspec.json.decode(content, type=Signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ModelError(f"{place}: its signature cannot be read; copy the model again") from exc


def _is_valid(told: Signature, manifest: bytes, signer: TrustedKey) -> bool:
    key = load_der_public_key(signer.der)
    message = PURPOSE + manifest
    try:
        signature = base64.b64decode(told.signature, validate=True)
        if isinstance(key, Ed25519PublicKey) and told.algorithm == "ed25519":
            key.verify(signature, message)
        elif isinstance(key, EcPublicKey) and told.algorithm == "ecdsa-p256-sha256":
            key.verify(signature, message, ECDSA(SHA256()))
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True
