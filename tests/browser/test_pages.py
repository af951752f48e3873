"""What the pages are like apart from a meeting: accessible, remembered, honest about what is wrong."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from accessibility import violations
from devtools import SCREENSHOTS, ChromiumPage, Open, Page, firefox, found, temporary_home
from live_server import LiveServer, live_server
from pki import Pki
from typer.testing import CliRunner

from stream_server.cli import app
from stream_server.engine.fake import numbered_speech, numbers_in, silence

PASSPHRASE = "only-for-tests-1234"


@pytest.fixture(scope="module")
def counting(browser_pki: Pki) -> Iterator[LiveServer]:
    """A server whose engine writes the numbers of the frames it hears."""
    with live_server(browser_pki) as server:
        yield server


@pytest.fixture(scope="module")
def page(browser: Open, counting: LiveServer) -> ChromiumPage:
    """A speaker's window."""
    page = browser("source", "clara").page()
    page.look(1280, 800)
    return page


def url_of(server: LiveServer) -> str:
    return f"https://localhost:{server.ready.addresses[0][1]}"


def open_speaker(page: Page, server: LiveServer) -> None:
    page.goto(url_of(server))
    page.until("document.querySelector('#who')?.hidden === false")


def numbered_recording(path: Path, first: int, count: int) -> list[int]:
    """Write utterances of numbered frames; return the numbers."""
    numbers = list(range(first, first + count))
    parts = [
        np.concatenate([numbered_speech(numbers[at : at + 60]), silence(40)]) for at in range(0, count, 60)
    ]
    soundfile.write(path, np.concatenate(parts), 16_000, subtype="PCM_16")
    return numbers


def shown_numbers(page: Page) -> list[int]:
    text = page.evaluate("[...document.querySelectorAll('.final')].map(line => line.textContent).join(' ')")
    return numbers_in(text)


def test_a_file_becomes_captions_without_a_frame_lost_or_doubled(
    page: ChromiumPage, counting: LiveServer, tmp_path: Path
) -> None:
    numbers = numbered_recording(tmp_path / "numbers.wav", 1, 600)
    open_speaker(page, counting)
    page.click("input[value=file]")
    page.evaluate("document.querySelector('#controls').dispatchEvent(new Event('input'))")
    page.choose_file("#file", tmp_path / "numbers.wav")
    page.click("#start")
    page.until("document.querySelector('#state').textContent === 'Ended'")
    assert shown_numbers(page) == numbers
    assert page.seen.problems == []


def test_captions_are_saved_as_text_and_subtitles(page: ChromiumPage) -> None:
    """After the file above."""
    made = "import('/client/exports.js').then(({ toVtt }) => toVtt([]))"
    assert page.evaluate(made) == "WEBVTT\n"
    page.evaluate("globalThis.saved = []")
    page.evaluate(
        "HTMLAnchorElement.prototype.click = function () {"
        " saved.push(fetch(this.href).then(r => r.text()).catch(String)); saved.push(this.download) }"
    )
    page.click("#downloads [data-format=srt]")
    assert str(page.evaluate("saved[1]")).endswith(".srt")


# ---------------------------------------------------------------- for everybody


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/room/hall", "/room/hall?display=screen"])
def test_axe_finds_no_violation(path: str, dark: bool, page: ChromiumPage, counting: LiveServer) -> None:
    page.look(1280, 800, dark=dark)
    page.goto(url_of(counting) + path)
    page.until("document.querySelector('[role=log]') !== null")
    page.evaluate("document.querySelectorAll('details').forEach(menu => menu.open = true)")
    assert violations(page) == []


def test_axe_would_find_one(page: ChromiumPage) -> None:
    """After the pages above, of which nothing was found: a picture without words is."""
    picture = "Object.assign(document.createElement('img'), { src: '/client/pages/icon.svg' })"
    page.evaluate(f"document.body.append({picture})")
    assert "image-alt" in [line.partition(":")[0] for line in violations(page)]


def test_twice_the_size_of_everything_still_fits(page: ChromiumPage, counting: LiveServer) -> None:
    """A zoom of 200 % halves the window's CSS pixels."""
    page.look(640, 400, scale=2.0)
    for path in ("/", "/room/hall"):
        page.goto(url_of(counting) + path)
        page.until("document.querySelector('[role=log]') !== null")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_is_used_with_the_keyboard_alone(page: ChromiumPage, counting: LiveServer) -> None:
    page.look(1280, 800)
    page.goto(f"{url_of(counting)}/room/hall")
    page.until("document.querySelector('[role=log]') !== null")
    reached = []
    for _ in range(5):
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached[:4] == ["Skip to the captions", "Copy", "Download", "Reading"]
    page.evaluate("document.querySelector('#settings summary').focus()")
    page.press("Enter")
    page.until("document.querySelector('#settings').open")
    page.press("Escape")
    page.until("!document.querySelector('#settings').open")
    assert page.evaluate("document.activeElement.textContent") == "Reading"


def test_what_a_reader_chose_is_there_again(page: ChromiumPage, counting: LiveServer) -> None:
    page.goto(f"{url_of(counting)}/room/hall")
    page.until("document.querySelector('#settings input') !== null")
    for choice in ("[name=size][value='2']", "[name=lines][value='3']", "[name=look][value=contrast]"):
        page.click(f"#settings input{choice}")
    page.goto(f"{url_of(counting)}/room/hall?again")
    page.until("document.documentElement.dataset.look === 'contrast'")
    assert page.evaluate("document.querySelector('#settings input[name=size]:checked').value") == "2"
    size = "parseFloat(getComputedStyle(document.querySelector('#captions')).fontSize)"
    # Three rows and the space around them, whatever the size.
    rows = f"(document.querySelector('#captions').clientHeight - 48) / ({size} * 1.45)"
    assert abs(page.evaluate(rows) - 3) < 0.6
    page.evaluate("localStorage.clear()")


def test_a_screen_that_is_on_for_weeks_does_not_grow(page: ChromiumPage, counting: LiveServer) -> None:
    """A thousand lines: as many nodes as after a hundred, also in an utterance without end."""
    page.goto(f"{url_of(counting)}/room/hall?display=screen")
    counted = page.evaluate(
        """(async () => {
          const { CaptionsView } = await import('/client/view.js');
          const { emptyTranscript, reduce } = await import('/client/transcript.js');
          const nodesOf = (node) => 1 + [...node.childNodes].reduce((sum, child) => sum + nodesOf(child), 0);
          const show = async (isEnd) => {
            const box = document.createElement('div');
            document.body.append(box);
            const view = new CaptionsView(box);
            let transcript = emptyTranscript(40);
            const counts = [];
            for (let n = 0; n < 1000; n += 1) {
              transcript = reduce(transcript, { type: 'final', event: n, segment: n, start: n, end: n + 1,
                text: 'line ' + n, language: 'en', utterance_end: isEnd(n) });
              view.render(transcript);
              if (n % 20 === 0) await new Promise(done => requestAnimationFrame(done));
              if (n % 100 === 99) counts.push(nodesOf(box));
            }
            await new Promise(done => requestAnimationFrame(done));
            return { counts, last: box.querySelector('.utterance:last-child').textContent };
          };
          return [await show(n => n % 3 === 0), await show(() => false)];
        })()"""
    )
    for shown in counted:
        assert max(shown["counts"]) <= 250, shown
        assert max(shown["counts"][1:]) - min(shown["counts"][1:]) <= 60, shown
        assert shown["last"].endswith("line 999")


def test_what_was_read_once_more_changes_in_the_newest_paragraph_and_nowhere_else(
    page: ChromiumPage, counting: LiveServer
) -> None:
    page.goto(f"{url_of(counting)}/room/hall?display=screen")
    shown = page.evaluate(
        """(async () => {
          const { CaptionsView } = await import('/client/view.js');
          const { emptyTranscript, reduce } = await import('/client/transcript.js');
          const box = document.createElement('div');
          document.body.append(box);
          const view = new CaptionsView(box);
          let transcript = emptyTranscript();
          const drawn = async () => {
            view.render(transcript);
            await new Promise(done => requestAnimationFrame(done));
            return [...box.querySelectorAll('.utterance')].map(({ textContent }) => textContent);
          };
          const final = (segment, ends) => ({ type: 'final', event: 1, segment, start: segment,
            end: segment + 1, text: 'heard ' + segment, language: 'en', utterance_end: ends });
          const utterance = (first, last) => ({ type: 'utterance', event: 1, first_segment: first,
            last_segment: last, start: first, end: last + 1, text: 'read ' + first, language: 'en' });
          const shown = [];
          for (const events of [[final(0, false), final(1, true), final(2, false), final(3, true)],
              [utterance(2, 3), utterance(0, 1)], [final(4, true)]]) {
            for (const event of events) transcript = reduce(transcript, event);
            shown.push(await drawn());
          }
          return { shown, lines: transcript.lines.map(({ text }) => text) };
        })()"""
    )
    assert shown["shown"] == [
        ["heard 0 heard 1", "heard 2 heard 3"],
        ["heard 0 heard 1", "read 2"],
        ["heard 0 heard 1", "read 2", "heard 4"],
    ]
    assert shown["lines"] == ["read 0", "read 2", "heard 4"]


# ---------------------------------------------------------------- what is wrong is said


def test_without_a_certificate_the_browser_shows_its_own_error(browser: Open, counting: LiveServer) -> None:
    page = browser().page()
    page.look(1280, 800)
    for _ in range(10):
        page.goto(url_of(counting))
        assert "ERR_BAD_SSL_CLIENT_AUTH_CERT" in page.evaluate("document.body.innerText")
    page.screenshot(SCREENSHOTS / "chromium-without-certificate.png")


def test_a_reader_is_told_that_he_may_not_speak(browser: Open, counting: LiveServer) -> None:
    page = browser("reader", "dora").page()
    page.goto(url_of(counting))
    page.until("document.querySelector('#problem')?.hidden === false")
    assert "does not allow you to speak" in page.text("#problem-title")
    assert page.text("#who-identity") == "/reader/dora"


@pytest.fixture(scope="module")
def elsewhere(browser_pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose policy lets nobody of this machine in."""
    policy = tmp_path_factory.mktemp("policy") / "policy.toml"
    policy.write_text(
        '[[rule]]\nidentities = ["/*"]\nrole = "reader"\nread = ["*"]\nnetworks = ["10.99.0.0/16"]\n'
    )
    with live_server(browser_pki, policy={"file": str(policy)}) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "shown"), [("/", "#problem"), ("/room/hall", "#problem"), ("/admin/", "main.panel")]
)
def test_who_comes_from_a_wrong_network_is_told_so_and_what_to_do(
    path: str, shown: str, page: ChromiumPage, elsewhere: LiveServer
) -> None:
    page.look(1280, 800)
    page.goto(url_of(elsewhere) + path)
    page.until(
        f"document.querySelector('{shown}')?.textContent.includes('may not be used from this network')"
    )
    assert "ask whoever looks after the captions to allow this one" in page.text(shown)
    assert page.evaluate(f"document.querySelector('{shown}').checkVisibility()")
    page.screenshot(SCREENSHOTS / f"wrong-network{path.replace('/', '-')}.png")


def test_a_room_that_cannot_be_is_explained(page: ChromiumPage, counting: LiveServer) -> None:
    page.goto(f"{url_of(counting)}/room/Board%20301")
    page.until("document.querySelector('#problem')?.hidden === false")
    assert page.text("#problem-title") == "There is no such room."


def test_a_server_that_is_gone_is_told_and_awaited(browser: Open, browser_pki: Pki) -> None:
    page = browser("reader", "emil").page()
    with live_server(browser_pki) as server:
        page.goto(f"{url_of(server)}/room/hall")
        page.until("document.querySelector('#state').dataset.state === 'live'")
    page.until("document.querySelector('#problem')?.hidden === false")
    assert page.text("#problem-title") in ("The server does not answer.", "The server is being restarted.")
    page.until("document.querySelector('#problem-title').textContent === 'The server does not answer.'")
    assert not page.evaluate("document.querySelector('#retry').hidden")
    page.look(1280, 800)
    page.screenshot(SCREENSHOTS / "server-gone.png")


def test_the_element_shows_a_room_in_a_page_of_ones_own(page: ChromiumPage, counting: LiveServer) -> None:
    page.goto(f"{url_of(counting)}/room/hall")
    page.evaluate("import('/client/captions.js')")
    page.evaluate("document.body.innerHTML = '<live-captions room=hall lines=3></live-captions>'")
    page.evaluate(
        "new Promise(done => document.querySelector('live-captions')"
        ".addEventListener('state', ({ detail }) => detail.name === 'live' && done(true)))"
    )
    assert page.evaluate(
        "document.querySelector('live-captions').shadowRoot.querySelector('[role=log]') !== null"
    )


# ---------------------------------------------------------------- guests


@pytest.fixture(scope="module")
def open_house(browser_pki: Pki) -> Iterator[LiveServer]:
    """A server that lets guests in."""
    with live_server(browser_pki, guest={"enabled": True, "port": 0}) as server:
        yield server


@pytest.fixture(scope="module")
def guest(browser: Open) -> ChromiumPage:
    """A window of somebody without a certificate."""
    return browser().page()


def guest_url(server: LiveServer, fragment: str) -> str:
    return f"https://localhost:{server.ready.guest_addresses[0][1]}/room/hall#link={fragment}"


def test_a_guest_reads_with_a_link(
    guest: ChromiumPage, page: ChromiumPage, open_house: LiveServer, browser_pki: Pki, tmp_path: Path
) -> None:
    state = str(browser_pki.store.folder.parent)
    made = CliRunner().invoke(app, ["link", "hall", "--for", "1h", "--state-dir", state])
    guest.goto(guest_url(open_house, made.stdout.split()[0].partition("#link=")[2]))
    guest.until("document.querySelector('#state')?.textContent === 'Waiting for a speaker'")
    numbers = numbered_recording(tmp_path / "numbers.wav", 5000, 120)
    open_speaker(page, open_house)
    page.fill("#room", "hall")
    page.click("input[value=file]")
    page.choose_file("#file", tmp_path / "numbers.wav")
    page.click("#start")
    guest.until(f"document.querySelector('[role=log]').textContent.includes('{numbers[-1]}')")
    assert shown_numbers(guest) == numbers
    assert guest.seen.problems == []


def test_a_guest_who_then_opens_a_damaged_link_is_told(guest: ChromiumPage, open_house: LiveServer) -> None:
    guest.goto(guest_url(open_house, "damaged"))
    guest.until("document.querySelector('#problem')?.hidden === false")
    assert guest.text("#problem-title") == "This link does not open the room."


# ---------------------------------------------------------------- Firefox


@pytest.fixture
def firefox_page(browser_pki: Pki, p12: Callable[[str, str], Path]) -> Iterator[Page]:
    binary = found("firefox-esr", "firefox")
    if binary is None or found("certutil", "pk12util") is None:
        pytest.skip("no firefox, or no libnss3-tools here; make test-browser installs them, or says how")
    with (
        temporary_home() as home,
        firefox(binary, home, browser_pki.ca, p12("reader", "fritz"), PASSPHRASE) as page,
    ):
        yield page


def test_firefox_reads_a_room(
    firefox_page: Page, page: ChromiumPage, counting: LiveServer, tmp_path: Path
) -> None:
    firefox_page.goto(f"{url_of(counting)}/room/foxes")
    firefox_page.until("document.querySelector('#state')?.textContent === 'Waiting for a speaker'")
    numbers = numbered_recording(tmp_path / "numbers.wav", 7000, 120)
    open_speaker(page, counting)
    page.fill("#room", "foxes")
    page.click("input[value=file]")
    page.choose_file("#file", tmp_path / "numbers.wav")
    page.click("#start")
    firefox_page.until(
        f"document.querySelector('[role=log]').textContent.includes({json.dumps(str(numbers[-1]))})"
    )
    assert shown_numbers(firefox_page) == numbers
    firefox_page.screenshot(SCREENSHOTS / "firefox-reader.png")
    assert firefox_page.seen.problems == []
