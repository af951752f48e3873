"""Which certificate a command presents: the files named, or those of a folder that ``certs`` made."""

import ssl
from pathlib import Path
from typing import Annotated

import typer

from certs.tls import client_context

CertsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with ca.pem and clients/. [default: certs/ in the state folder]", show_default=False
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option(help="The server's authority. [default: ca.pem in --certs]", show_default=False),
]
CertOption = Annotated[
    Path | None,
    typer.Option(help="Your certificate. [default: the first in clients/]", show_default=False),
]
KeyOption = Annotated[
    Path | None, typer.Option(help="Its key. [default: the file beside it]", show_default=False)
]


class NoCertificate(Exception):
    """Raised when there is nothing to present; the message says how to get it."""


def client_tls(folder: Path, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """Build the TLS context of a command.

    Args:
        folder: Where ``ca.pem`` and ``clients/`` are looked for if not named.
        ca: The server's authority.
        cert: The client's certificate.
        key: Its private key; None is the file beside the certificate.

    Raises:
        NoCertificate: Nothing named and nothing in the folder.
        certs.tls.TlsConfigError: A file is missing, broken, or does not belong to the others.
    """
    return client_context(*client_paths(folder, ca, cert, key))


def trusting_tls(folder: Path, ca: Path | None) -> ssl.SSLContext:
    """Build the TLS context of a command that presents no certificate.

    Args:
        folder: Where ``ca.pem`` is looked for if not named.
        ca: The server's authority.

    Raises:
        certs.tls.TlsConfigError: The file is missing or broken.
    """
    return client_context(ca or folder / "ca.pem")


def client_paths(
    folder: Path, ca: Path | None, cert: Path | None, key: Path | None
) -> tuple[Path, Path, Path]:
    """The files of ``client_tls``: authority, certificate, key.

    Raises:
        NoCertificate: Nothing named and nothing in the folder.
    """
    cert = cert or _first_client(folder)
    return ca or folder / "ca.pem", cert, key or cert.with_suffix(".key")


def _first_client(folder: Path) -> Path:
    """The first certificate, by name, that has its key; sources first, since they may stream."""
    pairs = [path for path in (folder / "clients").glob("*.pem") if path.with_suffix(".key").exists()]
    if not pairs:
        raise NoCertificate(
            f"no client certificate in {folder / 'clients'}; name one with --cert and --key, or a folder with"
            " --certs, or make one with `stream-server certs client NAME --role source`"
        )
    return min(pairs, key=lambda path: (not path.name.startswith("source-"), path.name))
