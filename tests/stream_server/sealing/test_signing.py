"""A manifest is taken from whom an operator trusts, and from nobody else."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from stream_server.errors import ModelError
from stream_server.sealing.signing import Trust, read_trusted, sign

MANIFEST = b'{"id": "ours"}'
PLACE = Path("models/ours")
KEYS = {"ed25519": ed25519.Ed25519PrivateKey.generate(), "p256": ec.generate_private_key(ec.SECP256R1())}


def pair(folder: Path, key: object, name: str = "key") -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(params=KEYS)
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    return pair(tmp_path, KEYS[request.param])


def trust(public: Path, *, is_required: bool = True) -> Trust:
    return Trust((read_trusted(public),), is_required)


def test_what_a_trusted_key_signed_is_taken(keys: tuple[Path, Path]) -> None:
    private, public = keys
    signer = trust(public).check(MANIFEST, sign(MANIFEST, private), PLACE)
    assert signer is not None
    assert signer.path == public


def test_every_bit_of_manifest_and_signature_counts(keys: tuple[Path, Path]) -> None:
    private, public = keys
    trusted, signature = trust(public), sign(MANIFEST, private)
    for place in range(8 * len(MANIFEST)):
        altered = bytearray(MANIFEST)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises(ModelError, match="altered after it was signed"):
            trusted.check(bytes(altered), signature, PLACE)
    raw = base64.b64decode(json.loads(signature)["signature"])
    for place in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        told = json.loads(signature) | {"signature": base64.b64encode(flipped).decode()}
        with pytest.raises(ModelError, match="altered after it was signed"):
            trusted.check(MANIFEST, json.dumps(told).encode(), PLACE)


def test_a_signature_by_another_key_is_refused_even_where_none_is_required(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    _, public = keys
    stranger, _ = pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), "stranger")
    for is_required in (True, False):
        with pytest.raises(ModelError, match="trusted_keys does not have"):
            trust(public, is_required=is_required).check(MANIFEST, sign(MANIFEST, stranger), PLACE)


def test_a_signature_that_names_a_trusted_key_must_be_made_by_it(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    stranger, _ = pair(tmp_path, ed25519.Ed25519PrivateKey.generate(), "stranger")
    honest, forged = (json.loads(sign(MANIFEST, key)) for key in (private, stranger))
    forged["key"] = honest["key"]
    with pytest.raises(ModelError, match="altered after it was signed"):
        trust(public).check(MANIFEST, json.dumps(forged).encode(), PLACE)


def test_no_signature_is_refused_where_one_is_required(keys: tuple[Path, Path]) -> None:
    _, public = keys
    with pytest.raises(ModelError, match=r"models/ours is not signed.*models sign"):
        trust(public).check(MANIFEST, None, PLACE)
    assert trust(public, is_required=False).check(MANIFEST, None, PLACE) is None


def test_a_signature_that_cannot_be_read_is_refused(keys: tuple[Path, Path]) -> None:
    for content in (b"", b"{}", b"\xff", b'{"algorithm": 1}'):
        with pytest.raises(ModelError, match="cannot be read"):
            trust(keys[1]).check(MANIFEST, content, PLACE)


def test_other_keys_are_refused(tmp_path: Path) -> None:
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        private, public = pair(tmp_path, key)
        with pytest.raises(ModelError, match="Ed25519 or P-256 private"):
            sign(MANIFEST, private)
        with pytest.raises(ModelError, match="Ed25519 or P-256 public"):
            read_trusted(public)
    with pytest.raises(ModelError, match="no public key"):
        read_trusted(private)
    with pytest.raises(ModelError, match="no private key"):
        sign(MANIFEST, public)
    with pytest.raises(ModelError, match="gone cannot be read"):
        read_trusted(tmp_path / "gone")
