"""Who somebody is: certificates, their names, revocation lists, links and tokens of guests."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pki import GOOD_URI, Bad, Pki, make_pki

from certs import index
from certs.identity import Identity, IdentityError, identity_from_der, parse_uri
from certs.live import LiveCredentials, RevocationList, TlsFiles
from certs.tls import TlsConfigError
from fuzzing.target import DEEP, Target, as_file, scratch
from stream_server.core.guests import Guests, Link, sign_link
from stream_server.core.networks import networks
from stream_server.core.room_messages import Read
from stream_server.core.signed import Keys, KeysInForce, NotSigned
from stream_server.core.writer_tokens import WriterTokens
from stream_server.errors import ConfigError, LinkExpired, NotAllowed, TokenExpired
from stream_server.guest_links import GuestLinks

_URI = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]{1,128})+")


@cache
def _pki() -> Pki:
    folder = scratch() / "pki"
    folder.mkdir()
    return make_pki(folder)


@cache
def client_der() -> bytes:
    """A certificate that may do everything."""
    return _pki().client("demo", "admin").der


# ---------------------------------------------------------------- certificates


def _feed_certificate(data: bytes) -> None:
    identity = identity_from_der(data)
    _check_identity(identity)


def _check_identity(identity: Identity) -> None:
    assert _URI.fullmatch(identity.uri)
    assert not {".", ".."} & set(identity.path.split("/"))
    assert identity.uri == f"spiffe://{identity.trust_domain}{identity.path}"
    assert identity.name
    assert identity.role
    assert len(identity.short) == 8


def _certificate_seeds() -> Iterator[bytes]:
    yield client_der()
    for kind in (
        Bad.TWO_URIS,
        Bad.NO_URI,
        Bad.NUL_IN_SUBJECT,
        Bad.NO_USAGE,
        Bad.MAY_SIGN,
        Bad.PERCENT_ENCODED,
    ):
        yield _pki().bad(kind).der


certificate = Target(
    _feed_certificate,
    (IdentityError,),
    _certificate_seeds,
    (b"spiffe://", b"\x06\x03\x55\x1d\x11", b"\x06\x03\x55\x1d\x25", b"\x30\x82", b"\x86", b"\x01\x01\xff"),
    bytes_max=2_048,
)


def _feed_uri(data: bytes) -> None:
    uri = data.decode("utf-8", "surrogateescape")
    domain, path = parse_uri(uri)
    assert _URI.fullmatch(uri)
    assert uri == f"spiffe://{domain}{path}"
    assert not {".", ".."} & set(path.split("/"))


uri = Target(
    _feed_uri,
    (IdentityError,),
    lambda: [
        GOOD_URI.encode(),
        b"spiffe://a/b/../c",
        b"spiffe://A/b",
        b"spiffe://a/b%2fc",
        b"spiffe://a/b?c",
    ],
    (b"spiffe://", b"/../", b"/./", b"%2e", b"\n", b"@", b":443"),
    bytes_max=4_096,
)


def _feed_revocation_list(data: bytes) -> None:
    """A CRL as it is read: alone, and beside the other files of a server that starts."""
    path = as_file(_pem(data, "X509 CRL"), "crl.pem")
    genuine = TlsFiles(*_pki().server_files)
    revoked = LiveCredentials(replace(genuine, crl=path), _now()).current.revoked
    # Whoever may change the file and has not the authority's key must not get another list in.
    assert (revoked.number, len(revoked)) in [(1, 0), (2, 1)]


@cache
def _revocation_list_seeds() -> tuple[bytes, ...]:
    pki = _pki()
    empty = _der(pki.store.crl)
    pki.revoke(pki.client("gone"))
    return empty, _der(pki.store.crl), b""


revocation_list = Target(
    _feed_revocation_list,
    (TlsConfigError,),
    _revocation_list_seeds,
    (b"\x17\r", b"\x30\x82"),
    bytes_max=2_048,
    n_suite=40,
)


def _feed_unsigned_list(data: bytes) -> None:
    """The parts of a CRL that are read after its signature was checked."""
    revoked = RevocationList(as_file(_pem(data, "X509 CRL"), "unsigned.pem"))
    assert len(revoked) >= 0


unsigned_list = Target(
    _feed_unsigned_list,
    (TlsConfigError,),
    _revocation_list_seeds,
    (b"\x17\r", b"\x30\x82"),
    bytes_max=2_048,
    n_suite=40,
)


def _feed_authority(data: bytes) -> None:
    """The certificate of the authority whose clients are admitted, as a server reads it at its start."""
    path = as_file(_pem(data, "CERTIFICATE"), "ca.pem")
    LiveCredentials(replace(TlsFiles(*_pki().server_files), client_ca=path), _now())


authority = Target(
    _feed_authority,
    (TlsConfigError,),
    lambda: [_der(_pki().ca), client_der()],
    (b"\x17\r", b"\x30\x82", b"\x06\x03\x2b\x65\x6e", b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"),
    bytes_max=2_048,
    n_suite=40,
)


def _pem(der: bytes, what: str) -> bytes:
    return f"-----BEGIN {what}-----\n{base64.encodebytes(der).decode()}-----END {what}-----\n".encode()


def _der(pem: Path) -> bytes:
    return base64.b64decode("".join(pem.read_text().splitlines()[1:-1]))


def _now() -> datetime:
    return datetime.now(UTC)


def _feed_certificate_index(data: bytes) -> None:
    found = index.decode(data.decode("utf-8", "surrogateescape"))
    assert index.decode(index.encode(found)) == found
    found.clients_called("demo")
    found.revoked()


certificate_index = Target(
    _feed_certificate_index,
    (index.CorruptIndex,),
    lambda: [(_pki().store.folder / "index.json").read_bytes(), b'{"version": 1}'],
    (b"Infinity", b"NaN", DEEP, b'"revoked_at": "2026-11-21T00:00:00+00:00"', b'"number": 1e400', b"null"),
)


# ---------------------------------------------------------------- guests

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_LINK = Link("0123456789ab", "hall", 0, 2_000)
_OVER = Link("ba9876543210", "hall", 0, 900)
_NOW_S = 1_000.0


def _keys() -> KeysInForce:
    return KeysInForce(Keys(_KEY))


def _guests() -> Guests:
    guests = Guests(_keys(), lambda: _NOW_S)
    guests.set_links([_LINK, _OVER])
    return guests


def _feed_guest_text(data: bytes) -> None:
    """A text shown as a link and as a token; what is not signed by us opens nothing."""
    text = data.decode("utf-8", "surrogateescape")
    _tried(lambda: _exchange(text))
    reader = _tried(lambda: _guests().join("hall", Read(None, 0, None, text), object))  # type: ignore[arg-type, return-value]  it needs no reader to refuse
    if reader is not None:
        _check_signed(text)


def _exchange(text: str) -> None:
    grant = _guests().exchange(text)
    _check_signed(text)
    assert grant.link == _LINK
    assert 0 < grant.expires_s <= 900


def _check_signed(text: str) -> None:
    """Only a text whose every byte was signed may be taken."""
    signed, _, signature = text.rpartition(".")
    try:
        _KEY.public_key().verify(base64.urlsafe_b64decode(signature + "=="), signed.encode())
    except InvalidSignature:
        raise AssertionError("a text that nobody signed was taken") from None


def _tried(act: Callable[[], object]) -> object | None:
    try:
        return act()
    except (NotSigned, LinkExpired, NotAllowed):
        return None


def _guest_seeds() -> Iterator[bytes]:
    for link in (_LINK, _OVER):
        signed = sign_link(_KEY, link)
        yield signed.encode()
        yield signed[:-3].encode()
    token = _guests().exchange(sign_link(_KEY, _LINK)).token
    yield token.encode()
    yield token.rpartition(".")[0].encode() + b"."


guest_text = Target(_feed_guest_text, (), _guest_seeds, (b".", b"eyJ", b"=", b"-_"), bytes_max=2_048)


def _feed_guest_claims(data: bytes) -> None:
    """The same with claims that bear our signature: what is in them is not trusted either."""
    header = sign_link(_KEY, _LINK).partition(".")[0]
    signed = f"{header}.{_unpadded(data)}"
    _feed_guest_text(f"{signed}.{_unpadded(_KEY.sign(signed.encode()))}".encode())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims_seeds() -> Iterator[bytes]:
    for audience in ("stream-server guest link", "stream-server guest token", "x"):
        claims = {"aud": audience, "jti": _LINK.id, "exp": 2_000, "room": "hall"}
        yield json.dumps(claims).encode()


guest_claims = Target(
    _feed_guest_claims,
    (),
    _claims_seeds,
    (b'"exp":1e999', b'"jti":', b'"room":', b"\xff", b"null"),
    bytes_max=700,
)


def _feed_guest_links(data: bytes) -> None:
    folder = scratch() / "guests"
    folder.mkdir(exist_ok=True)
    (folder / "links.json").write_bytes(data)
    links = GuestLinks(Path(scratch())).links()
    guests = Guests(_keys(), lambda: _NOW_S)
    guests.set_links(links)
    guests.tick()
    assert msgspec.json.encode(links)


guest_links = Target(
    _feed_guest_links,
    (ConfigError,),
    lambda: [
        msgspec.json.encode({"links": [_LINK, _OVER]}),
        b'{"links": []}',
        b'{"links": [{"id": "x"}]}',
    ],
    (b'"revoked":true', b'"expires":99999999999999999999', DEEP, b"\xff"),
)


def _feed_revoked_tokens(data: bytes) -> None:
    folder = scratch() / "guests"
    folder.mkdir(exist_ok=True)
    (folder / "revoked.json").write_bytes(data)
    ids = GuestLinks(Path(scratch())).changed_revoked_tokens()
    assert ids is not None


revoked_tokens = Target(
    _feed_revoked_tokens,
    (ConfigError,),
    lambda: [
        b'{"tokens": [{"id": "0123456789ab", "revoked": 1}]}',
        b'{"tokens": []}',
        b'{"tokens": ["0123456789ab"]}',
    ],
    (b'"revoked":99999999999999999999', DEEP, b"\xff"),
)


def writer_tokens() -> WriterTokens:
    """What knows the tokens of writers."""
    return WriterTokens(_keys(), lambda: _NOW_S, lambda: "0123456789ab")


def _feed_writer_token(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    token = writer_tokens().open(text)
    _check_signed(text)
    assert token.room == "hall"


@cache
def writer_token() -> str:
    """A token that is good for the room ``hall``."""
    (network,) = networks(["127.0.0.0/8"])
    minter = identity_from_der(client_der())
    return writer_tokens().mint(minter, room="hall", network=network, name="Anna", lifetime_s=600)[1]


writer_token_text = Target(
    _feed_writer_token,
    (NotSigned, TokenExpired),
    lambda: [writer_token().encode(), writer_token()[:-3].encode(), sign_link(_KEY, _LINK).encode()],
    (b".", b"eyJ", b"=", b"-_"),
    bytes_max=4_096,
)
