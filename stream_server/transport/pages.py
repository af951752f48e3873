"""What browsers may load: the pages for speakers and readers, and the modules of ``client_js``.

Everything is read once, at the start, into a closed table from path to bytes; a request never touches
the file system. Pages run under a policy that lets them load from this server and from nowhere else, so
that a mistake in a page cannot carry speech away.
"""

import hashlib
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import stream_server
from stream_server.errors import ConfigError

FOLDER = Path(stream_server.__file__).parents[1] / "client_js"
"""Beside the package, in a checkout and in an installation alike."""

SPEAKER_PAGE = "/"
ROOM_PAGES = "/room/"
"""Followed by a room's name; the page itself says so when there can be no such room."""
ADMIN_PAGE = "/admin/"
"""For admins only; the gate asks for it after it knows who asks."""
_OF_ADMIN = "/client/pages/admin"
"""How the paths of what that page loads begin."""

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
ASSETS = {"": (".js", ".css"), "pages": (".js", ".css", ".svg")}
"""Folder below ``client_js`` to the endings of what it offers."""

HEADERS = [
    # Asked for again at each load, and answered by 304 while it is the same: after an upgrade no browser
    # runs half of the old modules.
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (
        "Permissions-Policy",
        "microphone=(self), display-capture=(self), screen-wake-lock=(self), camera=(), geolocation=(),"
        " payment=(), usb=()",
    ),
    # No Referer carries a guest's link, which is in the fragment, and a room's name is nobody's business.
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]

Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    tag: str
    """Strong entity tag, in its quotes."""


class StaticPages:
    """The table of pages; see ``answer``.

    Args:
        folder: ``client_js``.

    Raises:
        ConfigError: A page is missing; names it.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._table = {
            f"/client/{path.relative_to(folder).as_posix()}": _read(path) for path in _assets(folder)
        }
        self._table[SPEAKER_PAGE] = _read(folder / "pages" / "speaker.html")
        self._room = _read(folder / "pages" / "room.html")
        self._admin = _read(folder / "pages" / "admin.html")
        self._refused = _read(folder / "pages" / "refused.html")

    def for_guests(self) -> "StaticPages":
        """The same without what speakers and admins have: guests read."""
        pages = copy(self)
        pages._table = {
            path: file
            for path, file in self._table.items()
            if path != SPEAKER_PAGE and not path.startswith(_OF_ADMIN)
        }
        return pages

    @property
    def paths(self) -> frozenset[str]:
        """Every path but those of rooms and admins."""
        return frozenset(self._table)

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer | None:
        """Answer a GET or HEAD.

        Args:
            path: Without its query.
            headers: Of the request; only ``If-None-Match`` is read.

        Returns:
            Status, headers without ``Content-Length``, and body; None when nothing is there.
        """
        file = self._room if _is_room(path) else self._table.get(path)
        return None if file is None else _answer(file, headers)

    def answer_admin(self, path: str, headers: Mapping[str, str]) -> Answer | None:
        """The same for the page that only admins may see; whoever calls has made sure of that."""
        return _answer(self._admin, headers) if path == ADMIN_PAGE else None

    def refusal(self) -> Answer:
        """What everybody else sees in its place: 403, and what to do."""
        # Not to be kept: with another certificate, or after a change of the policy, it is wrong.
        headers = [("Cache-Control", "no-store"), *(one for one in HEADERS if one[0] != "Cache-Control")]
        return (
            HTTPStatus.FORBIDDEN,
            [("Content-Type", self._refused.content_type), *headers],
            self._refused.body,
        )


def _answer(file: _File, headers: Mapping[str, str]) -> Answer:
    answer_headers = [("Content-Type", file.content_type), ("ETag", file.tag), *HEADERS]
    if _matches(headers.get("If-None-Match", ""), file.tag):
        return HTTPStatus.NOT_MODIFIED, answer_headers, b""
    return HTTPStatus.OK, answer_headers, file.body


def _is_room(path: str) -> bool:
    name = path.removeprefix(ROOM_PAGES)
    return name not in (path, "") and "/" not in name


def _assets(folder: Path) -> Iterator[Path]:
    for below, endings in ASSETS.items():
        yield from (path for path in sorted((folder / below).glob("*")) if path.suffix in endings)


def _read(path: Path) -> _File:
    try:
        body = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            f"{path} cannot be read: {exc.strerror}; this installation is incomplete, install it again"
        ) from exc
    digest = hashlib.sha256(body).hexdigest()[:32]
    return _File(body, CONTENT_TYPES[path.suffix], f'"{digest}"')


def _matches(if_none_match: str, tag: str) -> bool:
    """RFC 9110, 13.1.2: a list of tags, weak ones counting as strong, or ``*``."""
    tags = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return tag in tags or "*" in tags
