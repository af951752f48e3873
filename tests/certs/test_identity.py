"""The rule for client certificates, without a socket."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from pki import GOOD_URI, SERVER_AUTH, forge

from certs.authority import Issued, new_ca, new_client, new_server
from certs.identity import (
    DEFAULT_TRUST_DOMAIN,
    Identity,
    IdentityError,
    identity_from_der,
    parse_uri,
    spiffe_uri,
)

NOW = datetime.now(UTC)
CA = new_ca(DEFAULT_TRUST_DOMAIN, serial=1, now=NOW)
SEGMENT = st.from_regex(re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII), fullmatch=True).filter(
    lambda text: text not in (".", "..")
)
DOMAIN = st.from_regex(re.compile(r"[a-z0-9._-]{1,255}", re.ASCII), fullmatch=True)


def der(issued: Issued) -> bytes:
    return x509.load_pem_x509_certificate(issued.cert_pem).public_bytes(Encoding.DER)


def read(issued: Issued) -> Identity:
    return identity_from_der(der(issued))


def test_an_identity_carries_what_rights_logs_and_revocation_need() -> None:
    issued = new_client(CA, GOOD_URI, serial=77, now=NOW, days=3)
    identity = read(issued)
    ca = x509.load_pem_x509_certificate(CA.cert_pem)
    fingerprint = x509.load_pem_x509_certificate(issued.cert_pem).fingerprint(hashes.SHA256())
    assert (identity.uri, identity.path, identity.trust_domain) == (
        GOOD_URI,
        "/source/demo",
        "stream-server.local",
    )
    assert (identity.role, identity.name, identity.serial) == ("source", "demo", 77)
    assert identity.issuer == ca.subject.public_bytes()
    assert identity.not_after == (NOW + timedelta(days=3)).replace(microsecond=0)
    assert identity.fingerprint == fingerprint
    assert identity.short == fingerprint.hex()[:8]


def test_a_path_may_have_one_or_many_segments() -> None:
    assert read(forge(CA, uris=["spiffe://stream-server.local/demo"])).role == "demo"
    assert read(forge(CA, uris=["spiffe://stream-server.local/a/b/c"])).name == "c"


@pytest.mark.parametrize(
    ("issued", "message"),
    [
        pytest.param(forge(CA, uris=[]), "0 URIs", id="fail/no URI"),
        pytest.param(forge(CA, uris=[GOOD_URI, GOOD_URI + "2"]), "2 URIs", id="fail/two URIs"),
        pytest.param(forge(CA, uris=[GOOD_URI, GOOD_URI]), "2 URIs", id="fail/the same URI twice"),
        pytest.param(forge(CA, usages=[]), "clientAuth", id="fail/no usage"),
        pytest.param(forge(CA, usages=[SERVER_AUTH]), "clientAuth", id="fail/server usage"),
        pytest.param(forge(CA, is_ca=True), "authority's certificate", id="fail/authority"),
        pytest.param(forge(CA, signs=True), "authority's certificate", id="fail/may sign"),
        pytest.param(CA, "authority's certificate", id="fail/our own authority"),
        pytest.param(forge(CA, common_name="a\nb"), "control characters", id="fail/newline in subject"),
        pytest.param(forge(CA, common_name="a\x1b[2Jb"), "control characters", id="fail/escape in subject"),
        pytest.param(forge(CA, common_name="a\x00b"), "control characters", id="fail/NUL in subject"),
        pytest.param(
            new_server(CA, ["localhost"], serial=2, now=NOW), "clientAuth", id="fail/server certificate"
        ),
    ],
)
def test_a_certificate_that_does_not_name_one_client_is_refused(issued: Issued, message: str) -> None:
    with pytest.raises(IdentityError, match=message):
        read(issued)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "demo",
        "https://stream-server.local/source/demo",
        "SPIFFE://stream-server.local/source/demo",
        "spiffe://stream-server.local",
        "spiffe://stream-server.local/",
        "spiffe://stream-server.local/source/",
        "spiffe://stream-server.local//demo",
        "spiffe:///source/demo",
        "spiffe://Stream-Server.local/source/demo",
        "spiffe://user@stream-server.local/source/demo",
        "spiffe://stream-server.local:1/source/demo",
        GOOD_URI + "%2e",
        GOOD_URI + "?x=1",
        GOOD_URI + "#x",
        GOOD_URI + "\n",
        GOOD_URI + "\x00",
        GOOD_URI + "\x1b[2J",
        "spiffe://stream-server.local/source/../admin",
        "spiffe://stream-server.local/./demo",
        "spiffe://stream-server.local/source/" + "a" * 129,
        "spiffe://" + "a" * 256 + "/source/demo",
        "spiffe://stream-server.local" + "/aaaaaaaaa" * 210,
    ],
)
def test_a_uri_outside_the_pattern_is_refused_and_not_quoted(uri: str) -> None:
    with pytest.raises(IdentityError) as refusal:
        read(forge(CA, uris=[uri]))
    assert not uri or uri not in str(refusal.value)


def test_a_uri_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(IdentityError):
        parse_uri("spiffe://stream-server.local/source/дема")


def test_a_uri_of_2048_characters_is_accepted_and_one_more_is_not() -> None:
    base = "spiffe://d"
    uri = base + "/" + "/".join(["a" * 100] * 20)
    uri += "b" * (2048 - len(uri))
    assert parse_uri(uri)[0] == "d"
    with pytest.raises(IdentityError, match="2048"):
        parse_uri(uri + "b")


def test_another_trust_domain_is_refused_unless_any_is_accepted() -> None:
    foreign = der(forge(CA, uris=["spiffe://elsewhere.example/source/demo"]))
    with pytest.raises(IdentityError, match=r"elsewhere\.example.*stream-server\.local"):
        identity_from_der(foreign)
    assert identity_from_der(foreign, "elsewhere.example").trust_domain == "elsewhere.example"
    assert identity_from_der(foreign, None).path == "/source/demo"


@given(st.binary(max_size=200))
def test_any_bytes_give_an_identity_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(IdentityError, match="cannot be read"):
        identity_from_der(data)


@settings(max_examples=30)
@given(domain=DOMAIN, role=SEGMENT, name=SEGMENT)
def test_what_the_authority_issues_the_identity_rule_accepts(domain: str, role: str, name: str) -> None:
    uri = spiffe_uri(domain, role, name)
    issued = new_client(CA, uri, serial=x509.random_serial_number(), now=NOW)
    identity = identity_from_der(der(issued), domain)
    assert (identity.uri, identity.role, identity.name) == (uri, role, name)


@given(
    position=st.integers(0, len(GOOD_URI)),
    inserted=st.text(min_size=1, max_size=3).filter(lambda s: not re.search(r"[A-Za-z0-9._/-]", s, re.ASCII)),
)
def test_a_uri_with_foreign_characters_inserted_is_refused(position: int, inserted: str) -> None:
    with pytest.raises(IdentityError):
        parse_uri(GOOD_URI[:position] + inserted + GOOD_URI[position:])


@given(st.text(max_size=140))
def test_a_name_is_accepted_exactly_when_its_uri_is(name: str) -> None:
    try:
        uri = spiffe_uri(DEFAULT_TRUST_DOMAIN, "source", name)
    except IdentityError:
        allowed = re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name, re.ASCII) and name not in (".", "..")
        assert not allowed
    else:
        assert parse_uri(uri) == (DEFAULT_TRUST_DOMAIN, f"/source/{name}")


@pytest.mark.parametrize(
    ("domain", "role", "name", "what"),
    [
        ("Upper", "source", "demo", "trust domain"),
        ("", "source", "demo", "trust domain"),
        ("ok", "so urce", "demo", "role"),
        ("ok", "source", "a/b", "name"),
        ("ok", "source", "..", "name"),
        ("ok", "source", "ä", "name"),
        ("ok", "source", "demo\n", "name"),
    ],
)
def test_a_bad_part_of_a_uri_is_named(domain: str, role: str, name: str, what: str) -> None:
    with pytest.raises(IdentityError, match=f"the {what} must be"):
        spiffe_uri(domain, role, name)
