"""Fetches one file: the only part of the product that opens an outbound connection.

Only ``stream-server models pull`` calls it, and ``offline = true`` in the configuration forbids that.
Over https with the certificate checked; http to the machine itself only. What has arrived is kept, and a
download that broke off goes on where it stopped. The checksum is known before the first byte, so neither
the host nor a proxy needs to be trusted.
"""

import http.client
import ipaddress
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from stream_server.engine.manifest import sha256_of
from stream_server.errors import ModelError

BYTES_MAX = 16 << 30
"""No checkpoint of Whisper is larger."""
_BLOCK_BYTES = 1 << 18
_SILENCE_S = 30.0
"""A host that sends nothing for so long is given up; the file goes on from there the next time."""
_RANGE = re.compile(r"bytes (\d+)-")
_BRING = "on a machine without internet, bring the file and run `stream-server models import FILE`"

Arrived = Callable[[int], None]
"""Told how many bytes of the file are here."""


def check_url(url: str) -> None:
    """Check that an address may be fetched from.

    Raises:
        ModelError: It is neither https nor http to this machine.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname):
        return
    raise ModelError(f"{url} is not an https:// address; http:// is for this machine only")


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def ask_size(url: str) -> int | None:
    """How many bytes a file has; None if the host does not say.

    Raises:
        ModelError: See ``check_url``; or the host cannot be reached or has no such file.
    """
    try:
        with _open(url, "HEAD", {}) as answer:
            return _length(answer)
    except _RefusedMethod:
        return None


def download(url: str, target: Path, sha256: str, arrived: Arrived) -> None:
    """Fetch a file, or the rest of it.

    Args:
        url: https.
        target: Where to; what is there is taken as the file's beginning.
        sha256: Of the whole file; if it is another, what was fetched is removed.
        arrived: Told how far it is.

    Raises:
        ModelError: See ``ask_size``; or the file breaks off, is too large, or is another than wanted.
        OSError: ``target`` cannot be written.
    """
    _fetch(url, target, arrived)
    digest = sha256_of(target)
    if digest != sha256:
        target.unlink()
        raise ModelError(
            f"{url} is not the file that is wanted: its sha256 is {digest}, not {sha256}; it was removed. "
            "Try again, or another address with --from"
        )


def _fetch(url: str, target: Path, arrived: Arrived) -> None:
    n_here = target.stat().st_size if target.exists() else 0
    try:
        with _open(url, "GET", {"Range": f"bytes={n_here}-"} if n_here else {}) as answer:
            n_here = _first_byte(answer, n_here)
            _write(answer, target, n_here, url, arrived)
    except _NothingLeft:
        # All of it is here, or more; the checksum tells.
        return


def _first_byte(answer: http.client.HTTPResponse, n_here: int) -> int:
    """Where in the file the answer begins."""
    begins = _RANGE.match(answer.headers.get("Content-Range", ""))
    return n_here if answer.status == 206 and begins and int(begins[1]) == n_here else 0


def _write(answer: http.client.HTTPResponse, target: Path, n_before: int, url: str, arrived: Arrived) -> None:
    length = _length(answer)
    expected = None if length is None else n_before + length
    n_here = n_before
    with target.open("r+b" if n_before else "wb") as file:
        file.seek(n_before)
        for block in _blocks(answer, url):
            n_here += len(block)
            if n_here > BYTES_MAX:
                raise ModelError(f"{url} is larger than {BYTES_MAX >> 30} GB; it is not a checkpoint")
            file.write(block)
            arrived(n_here)
    if expected is not None and n_here < expected:
        raise _broken_off(url, n_here, expected)


def _blocks(answer: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while block := answer.read(_BLOCK_BYTES):
            yield block
    except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as exc:
        raise ModelError(
            f"{url} broke off ({exc}); run the same command again, it goes on from there"
        ) from exc


def _broken_off(url: str, n_here: int, expected: int) -> ModelError:
    return ModelError(
        f"{url} broke off after {n_here} of {expected} bytes; "
        "run the same command again, it goes on from there"
    )


def _length(answer: http.client.HTTPResponse) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


class _NothingLeft(Exception):
    """Raised when the host says that the file ends before what was asked for."""


class _RefusedMethod(Exception):
    """Raised when the host does not answer HEAD."""


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that could have been given themselves."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_url(newurl)
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if followed is not None:
            # Python makes it a GET.
            followed.method = req.get_method()
        return followed


@contextmanager
def _open(url: str, method: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
    check_url(url)
    request = urllib.request.Request(url, method=method, headers=dict(headers))  # noqa: S310 - checked above
    # Proxies are those of the environment, as everywhere.
    opener = urllib.request.build_opener(
        _CheckedRedirects(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    )
    try:
        answer: http.client.HTTPResponse = opener.open(request, timeout=_SILENCE_S)
    except urllib.error.HTTPError as exc:
        with exc:
            raise _refused(url, method, exc) from exc
    except urllib.error.URLError as exc:
        raise ModelError(f"{url} cannot be reached: {exc.reason}; {_BRING}") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ModelError(f"{url} cannot be reached: {exc}; {_BRING}") from exc
    with answer:
        if answer.headers.get_content_maintype() == "text":
            raise ModelError(f"{url} answers with a page of text, not a file: a login, or a proxy; {_BRING}")
        yield answer


def _refused(url: str, method: str, exc: urllib.error.HTTPError) -> Exception:
    if exc.code == 416:
        return _NothingLeft()
    if method == "HEAD" and exc.code in (405, 501):
        return _RefusedMethod()
    return ModelError(f"{url}: the host answers {exc.code} {exc.reason}; try another address with --from")
