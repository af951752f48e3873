"""The admins' page: who sees it, what it shows of a day, and how it looks."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from accessibility import violations
from audit_days import write_busy_day
from devtools import SCREENSHOTS, ChromiumPage, Open
from live_server import LiveServer, live_server
from pki import Pki

SIZES = [("phone", 390, 844), ("desk", 1280, 800), ("wall", 1920, 1080)]
READ = "document.querySelector('#state').dataset.state === 'live'"


@pytest.fixture(scope="module")
def watched(browser_pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose audit log has a day behind it, in which much went wrong."""
    folder = tmp_path_factory.mktemp("admin") / "audit"
    write_busy_day(folder, datetime.now(UTC) - timedelta(minutes=5))
    with live_server(browser_pki, audit={"folder": str(folder)}) as server:
        yield server


@pytest.fixture(scope="module")
def page(browser: Open, watched: LiveServer) -> ChromiumPage:
    """An admin's window."""
    page = browser("admin", "root").page()
    page.look(1280, 800)
    page.goto(url_of(watched))
    page.until(READ)
    return page


def url_of(server: LiveServer, path: str = "/admin/") -> str:
    return f"https://localhost:{server.ready.addresses[0][1]}{path}"


def test_an_admin_sees_what_the_day_came_to(page: ChromiumPage) -> None:
    assert page.text("#verdict-title").startswith("The audit log is intact")
    tiles = page.evaluate("[...document.querySelectorAll('.tile')].map(tile => tile.textContent)")
    assert tiles[2] == "Sessions ended108"
    reasons = page.text("#reasons")
    assert "Certificate of another authority12" in reasons
    assert "/source/board-302ends in 2 days" in page.text("#expiring")
    assert "/reader/hall-screen room board-301 — Not allowed by the policy3" in page.text("#denied")
    headings = page.evaluate("[...document.querySelectorAll('.group h3')].map(h => h.firstChild.textContent)")
    assert headings == [
        "Revoked certificate used",
        "One certificate at many addresses",
        "Many failures",
        "The server ended without saying so",
        "Certificate seen for the first time",
    ]


@pytest.mark.parametrize(("name", "width", "height"), SIZES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_report_fits_its_window(
    page: ChromiumPage, name: str, width: int, height: int, dark: bool
) -> None:
    """Nothing is cut off sideways; the pictures are for a person to look at."""
    page.look(width, height, dark=dark)
    page.until("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
    page.screenshot(SCREENSHOTS / f"admin-{name}-{'dark' if dark else 'light'}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.look(width, whole, dark=dark)
    page.screenshot(SCREENSHOTS / f"admin-{name}-{'dark' if dark else 'light'}-whole.png")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_violation_in_the_report(page: ChromiumPage, dark: bool) -> None:
    page.look(1280, 800, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(more => more.open = true)")
    assert violations(page) == []


def test_twice_the_size_of_everything_still_fits(page: ChromiumPage) -> None:
    page.look(640, 400, scale=2.0)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.look(1280, 800)


def test_reading_again_tells_of_the_reading_before(page: ChromiumPage) -> None:
    page.evaluate("fetch('/v1/admin/report').then(response => response.status)")
    page.until(
        "fetch('/v1/admin/report').then(r => r.json()).then("
        "({ report }) => report?.actions.some(({ what }) => what === 'report.read'))"
    )
    page.click("#again")
    page.until(READ)
    assert "report.read" in page.text("#actions")


def test_the_report_is_saved_as_it_came(page: ChromiumPage) -> None:
    page.evaluate("globalThis.saved = []")
    page.evaluate(
        "HTMLAnchorElement.prototype.click = function () {"
        " saved.push(this.download); saved.push(fetch(this.href).then(r => r.text()).catch(String)) }"
    )
    page.click("#save")
    assert re.fullmatch(r"security-report-\d{4}-\d\d-\d\d-\d{4}\.json", page.evaluate("saved[0]"))


def test_the_page_broke_no_rule_and_asked_nobody_else(page: ChromiumPage, watched: LiveServer) -> None:
    # The test above has read what was saved, which the page's policy forbids.
    unexpected = [line for line in page.seen.problems if "blob:" not in line]
    assert unexpected == []
    asked = [url for url in page.seen.requests if not url.startswith("blob:")]
    assert all(url.startswith(url_of(watched, "/")) for url in asked), asked


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_somebody_else_is_told_why_not_and_who_he_is(browser: Open, watched: LiveServer, dark: bool) -> None:
    name = f"gert-{'dark' if dark else 'light'}"
    page = browser("reader", name).page()
    page.look(1280, 800, dark=dark)
    page.goto(url_of(watched))
    page.until("document.querySelector('#who')?.hidden === false")
    assert page.text("#title") == "This page is for administrators."
    assert page.text("#who-identity") == f"/reader/{name}"
    page.screenshot(SCREENSHOTS / f"admin-refused-{'dark' if dark else 'light'}.png")
    assert violations(page) == []
    status = page.evaluate("fetch('/v1/admin/report').then(async r => [r.status, (await r.json()).code])")
    assert status == [403, "not_allowed"]


def test_an_admin_finds_the_report_from_the_first_page(page: ChromiumPage, watched: LiveServer) -> None:
    page.goto(url_of(watched, "/"))
    page.until("document.querySelector('#who')?.hidden === false")
    assert page.evaluate("document.querySelector('#who-admin a').pathname") == "/admin/"
    assert not page.evaluate("document.querySelector('#who-admin').hidden")
