from pathlib import Path

import pytest
from pki import ClientPair, Pki

from certs.tls import TlsConfigError
from stream_server.cli.client_files import NoCertificate, _first_client, client_tls


def touch(folder: Path, *names: str) -> Path:
    (folder / "clients").mkdir()
    for name in names:
        (folder / "clients" / name).touch()
    return folder


def test_sources_come_first_since_readers_may_not_stream(tmp_path: Path) -> None:
    folder = touch(
        tmp_path, "admin-a.pem", "admin-a.key", "source-z.pem", "source-z.key", "source-b.pem", "source-b.key"
    )
    assert _first_client(folder).name == "source-b.pem"


def test_a_certificate_without_its_key_is_passed_over(tmp_path: Path) -> None:
    folder = touch(tmp_path, "source-a.pem", "reader-b.pem", "reader-b.key")
    assert _first_client(folder).name == "reader-b.pem"


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoCertificate, match="stream-server certs client"):
        client_tls(tmp_path, None, None, None)


def test_a_folder_made_by_certs_is_enough(pki: Pki, client: ClientPair) -> None:
    assert client_tls(pki.store.folder, None, None, None).get_ca_certs()


def test_files_that_are_named_need_no_folder(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    assert client_tls(tmp_path, pki.ca, client.cert, None).get_ca_certs()


def test_a_missing_authority_is_named(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    with pytest.raises(TlsConfigError, match=r"ca\.pem"):
        client_tls(tmp_path, None, client.cert, client.key)
