"""What browsers may load, and under which policy."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stream_server.errors import ConfigError
from stream_server.transport.pages import ADMIN_PAGE, FOLDER, StaticPages

PAGES = ["/", "/room/board-301"]


@pytest.fixture(scope="module")
def pages() -> StaticPages:
    return StaticPages()


def headers_of(pages: StaticPages, path: str) -> dict[str, str]:
    answer = pages.answer(path, {})
    assert answer is not None
    assert answer[0] == 200
    return dict(answer[1])


def body_of(pages: StaticPages, path: str) -> str:
    answer = pages.answer(path, {})
    assert answer is not None
    return answer[2].decode()


def test_a_page_is_html_and_a_module_is_javascript(pages: StaticPages) -> None:
    assert headers_of(pages, "/")["Content-Type"] == "text/html; charset=utf-8"
    assert headers_of(pages, "/room/board-301")["Content-Type"] == "text/html; charset=utf-8"
    assert headers_of(pages, "/client/captions.js")["Content-Type"] == "text/javascript; charset=utf-8"
    assert headers_of(pages, "/client/captions.css")["Content-Type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize("path", [*PAGES, "/client/captions.js"])
def test_everything_is_served_under_a_policy_that_knows_this_server_only(
    path: str, pages: StaticPages
) -> None:
    headers = headers_of(pages, path)
    policy = dict(rule.strip().split(" ", 1) for rule in headers["Content-Security-Policy"].split(";"))
    assert policy.pop("default-src") == "'none'"
    assert policy.pop("frame-ancestors") == "'none'"
    assert set(policy.values()) <= {"'self'", "'none'"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "microphone=(self)" in headers["Permissions-Policy"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_but_what_the_table_has(path: str, pages: StaticPages) -> None:
    loads = re.findall(r'(?:src|href)="(?!#)([^"]+)"', body_of(pages, path))
    assert len(loads) >= 4
    assert set(loads) <= pages.paths | {ADMIN_PAGE}
    assert "style=" not in body_of(pages, path)
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=", body_of(pages, path))


def test_every_import_of_a_module_is_in_the_table(pages: StaticPages) -> None:
    modules = [path for path in pages.paths if path.endswith(".js")]
    assert len(modules) > 10
    for path in modules:
        for name in re.findall(r'^(?:import|export) [^;]*?from "([^"]+)";', body_of(pages, path), re.M):
            assert name.startswith("."), f"{path} imports {name}, which no browser finds"
            target = (Path(path).parent / name).as_posix()
            parts: list[str] = []
            for part in target.split("/"):
                parts = parts[:-1] if part == ".." else [*parts, *([] if part == "." else [part])]
            assert "/".join(parts) in pages.paths, f"{path} imports {name}"


@pytest.mark.parametrize(
    "path",
    [
        "/client/package.json",
        "/client/tsconfig.json",
        "/client/tests/wire.test.js",
        "/client/pages/speaker.html",
        "/client/../pyproject.toml",
        "/client/%2e%2e/pyproject.toml",
        "/client/",
        "/room/",
        "/room/a/b",
        "/room",
        "",
    ],
)
def test_nothing_else_is_there(path: str, pages: StaticPages) -> None:
    assert pages.answer(path, {}) is None


def test_a_browser_that_has_the_page_gets_304_without_a_body(pages: StaticPages) -> None:
    tag = headers_of(pages, "/")["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = pages.answer("/", {"If-None-Match": known})
        assert answer is not None
        assert (answer[0], answer[2]) == (304, b"")
        assert dict(answer[1])["ETag"] == tag
    other = pages.answer("/room/board-301", {"If-None-Match": tag})
    assert other is not None
    assert other[0] == 200


def test_guests_get_the_readers_page_and_not_the_speakers(pages: StaticPages) -> None:
    guests = pages.for_guests()
    assert guests.answer("/", {}) is None
    of_admins = {path for path in pages.paths if path.startswith("/client/pages/admin")}
    assert len(of_admins) == 3
    assert guests.paths == pages.paths - {"/"} - of_admins
    assert guests.answer("/room/hall", {}) == pages.answer("/room/hall", {})
    assert pages.answer("/", {}) is not None


def test_the_admins_page_is_not_among_those_for_everybody(pages: StaticPages) -> None:
    assert pages.answer("/admin/", {}) is None
    page = pages.answer_admin("/admin/", {})
    assert page is not None
    assert (page[0], pages.answer_admin("/admin", {})) == (200, None)
    known = pages.answer_admin("/admin/", {"If-None-Match": dict(page[1])["ETag"]})
    assert known is not None
    assert known[0] == 304
    for body in (page[2].decode(), pages.refusal()[2].decode()):
        loads = set(re.findall(r'(?:src|href)="(?!#)([^"]+)"', body))
        assert loads <= pages.paths
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|style=", body)


def test_a_refusal_is_not_kept_and_runs_under_the_same_policy(pages: StaticPages) -> None:
    status, headers, _ = pages.refusal()
    named = dict(headers)
    assert status == 403
    assert named["Cache-Control"] == "no-store"
    assert named["Content-Security-Policy"] == headers_of(pages, "/")["Content-Security-Policy"]


def test_an_installation_without_the_pages_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"speaker\.html cannot be read"):
        StaticPages(tmp_path)


@pytest.mark.slow
def test_a_wheel_carries_everything_that_is_served(tmp_path: Path, pages: StaticPages) -> None:
    """Built from a copy: a build leaves folders behind."""
    pytest.importorskip("setuptools", minversion="77")
    root = FOLDER.parent
    copy = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the source cannot be told")
    for name in listed.stdout.decode().split("\0"):
        if (name.startswith("client_js/") or name in ("pyproject.toml", "README.md", "LICENSE")) and (
            root / name
        ).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((root / name).read_bytes())
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build, tmp_path], cwd=copy, check=True, capture_output=True
    )
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path.replace("/client/", "client_js/") for path in pages.paths - {"/"}}
    html = {f"client_js/pages/{name}.html" for name in ("speaker", "room", "admin", "refused")}
    assert files | html <= names
    assert not [name for name in names if "node_modules" in name or ".test." in name]
