"""A meeting in real browsers: one speaks, others read, the server is restarted in between."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jiwer
import pytest
from devtools import SCREENSHOTS, ChromiumPage, Open, Page, microphone
from live_server import LiveServer
from pki import Pki

ROOM = "board-301"


@dataclass
class Meeting:
    """A server on a port that it keeps, and who is in the room."""

    pki: Pki
    port: int
    server: LiveServer
    speaker: ChromiumPage
    reader: ChromiumPage
    sentences: list[str]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def restart(self) -> None:
        """Stop the server; one with an empty memory takes its place."""
        self.server.stop()
        self.server = serve(self.pki, self.port)


def serve(pki: Pki, port: int) -> LiveServer:
    """A server with the embedded model."""
    server = LiveServer(pki.store.folder.parent, {"engine": {"fake": False}, "server": {"port": port}})
    server.start()
    return server


@pytest.fixture(scope="module")
def meeting(browser: Open, browser_pki: Pki, speech: tuple[Path, list[str]]) -> Iterator[Meeting]:
    """Anna speaks with a recording for a voice, and a reader came before her."""
    recording, sentences = speech
    server = serve(browser_pki, 0)
    port = server.ready.addresses[0][1]
    speaker = browser("source", "anna", *microphone(recording)).page()
    reader = browser("reader", "bo").page()
    meeting = Meeting(browser_pki, port, server, speaker, reader, sentences)
    try:
        for page in (speaker, reader):
            page.look(1280, 800)
        reader.goto(f"{meeting.url}/room/{ROOM}")
        reader.until("document.querySelector('#state').textContent === 'Waiting for a speaker'")
        speaker.goto(meeting.url)
        speaker.fill("#room", ROOM)
        speaker.fill("#speaker", "Anna Berg")
        speaker.click("#start")
        yield meeting
    finally:
        meeting.server.stop()


def finals(page: Page) -> list[str]:
    """The lines that are final."""
    lines: list[str] = page.evaluate("[...document.querySelectorAll('.final')].map(line => line.textContent)")
    return lines


def until_finals(page: Page, count: int) -> list[str]:
    """Wait for so many of them."""
    page.until(f"document.querySelectorAll('.final').length >= {count}")
    return finals(page)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_the_speaker_sees_what_he_says(meeting: Meeting) -> None:
    lines = until_finals(meeting.speaker, len(meeting.sentences))[: len(meeting.sentences)]
    wrong = jiwer.wer(" ".join(words(" ".join(meeting.sentences))), " ".join(words(" ".join(lines))))
    # What a browser makes of a microphone is not sample by sample the recording.
    assert wrong <= 0.3, f"read without a browser {meeting.sentences}, shown {lines}"
    assert meeting.speaker.text("#state") == "Live"


def test_the_meter_moves_with_the_voice(meeting: Meeting) -> None:
    meeting.speaker.until("Number(document.querySelector('#meter').getAttribute('aria-valuenow')) > 30")


def test_a_reader_sees_the_same_with_the_speakers_name(meeting: Meeting) -> None:
    shown = until_finals(meeting.reader, 4)
    said = until_finals(meeting.speaker, 4)
    assert shown[:4] == said[:4]
    assert meeting.reader.text(".speaker") == "Anna Berg"
    assert meeting.reader.text("#state") == "Live: Anna Berg"


def test_what_is_not_final_stands_out_of_a_screen_readers_way(meeting: Meeting) -> None:
    meeting.reader.until("document.querySelector('.stable')?.textContent")
    hidden = (
        "[...document.querySelectorAll('.stable, .tentative')].every(e => e.closest('[aria-hidden=true]'))"
    )
    assert meeting.reader.evaluate(hidden)
    assert (
        meeting.reader.evaluate("document.querySelector('[role=log]').getAttribute('aria-live')") == "polite"
    )


def test_who_comes_late_reads_what_was_said_before(meeting: Meeting, browser: Open) -> None:
    before = finals(meeting.reader)[:3]
    late = browser("reader", "late").page()
    late.goto(f"{meeting.url}/room/{ROOM}")
    assert until_finals(late, 3)[:3] == before


def test_a_restart_of_the_server_is_survived_by_speaker_and_reader(meeting: Meeting) -> None:
    before = len(until_finals(meeting.speaker, 4))
    meeting.restart()
    for page in (meeting.speaker, meeting.reader):
        page.until("document.querySelector('#state').textContent.startsWith('Live')")
    until_finals(meeting.speaker, before + 2)
    meeting.reader.until("document.querySelector('.gap') !== null")
    after = meeting.reader.until("document.querySelectorAll('.gap ~ .utterance .final').length >= 2")
    assert after
    shown = json.dumps(finals(meeting.reader)[-1])
    lines = "[...document.querySelectorAll('.final')]"
    assert meeting.speaker.until(f"{lines}.some(line => line.textContent === {shown})")
    said = finals(meeting.speaker)
    # Every sentence is spoken in turn, again and again: nothing is left out over the restart.
    order = [sentence_of(line, meeting.sentences) for line in said]
    steps = [(b - a) % len(meeting.sentences) for a, b in pairwise(order)]
    assert steps.count(1) >= len(steps) - 1, said


def sentence_of(line: str, sentences: list[str]) -> int:
    """Which sentence a line is, by the words they share."""
    shared = [len(set(words(line)) & set(words(sentence))) for sentence in sentences]
    return shared.index(max(shared))


@pytest.mark.parametrize(
    ("name", "width", "height"), [("phone", 390, 844), ("desk", 1280, 800), ("wall", 1920, 1080)]
)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_their_window(meeting: Meeting, name: str, width: int, height: int, dark: bool) -> None:
    """Nothing is cut off sideways; the pictures are for a person to look at."""
    until_finals(meeting.reader, 4)
    for page, what in ((meeting.speaker, "speaker"), (meeting.reader, "reader")):
        page.look(width, height, dark=dark)
        page.until(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
        )
        page.screenshot(SCREENSHOTS / f"{what}-{name}-{'dark' if dark else 'light'}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), what


def test_the_rooms_screen_shows_large_rows_and_no_controls(meeting: Meeting, browser: Open) -> None:
    screen = browser("reader", "wall").page()
    screen.look(1920, 1080, dark=True)
    screen.goto(f"{meeting.url}/room/{ROOM}?display=screen")
    until_finals(screen, 2)
    visible = "[...document.querySelectorAll('button, summary, a')].filter(e => e.checkVisibility()).length"
    assert screen.evaluate(visible) == 0
    assert screen.evaluate("parseFloat(getComputedStyle(document.querySelector('.final')).fontSize)") > 60
    screen.until("document.querySelector('.stable')?.textContent")
    screen.screenshot(SCREENSHOTS / "screen-dark.png")
    screen.look(1920, 1080)
    screen.screenshot(SCREENSHOTS / "screen-light.png")
    assert screen.seen.problems == []


def test_a_reader_who_scrolls_back_keeps_his_place_and_finds_the_way_to_the_newest(meeting: Meeting) -> None:
    reader = meeting.reader
    reader.look(700, 320)
    reader.until("document.querySelector('#captions').scrollTop > 50")
    reader.evaluate("document.querySelector('#captions').scrollTop = 0")
    reader.until("!document.querySelector('#live').hidden")
    count = len(finals(reader))
    until_finals(reader, count + 1)
    time.sleep(0.2)
    assert reader.evaluate("document.querySelector('#captions').scrollTop") == 0
    reader.until("/Newest \\(\\d+\\)/.test(document.querySelector('#live').textContent)")
    reader.click("#live")
    at_end = "(e => e.scrollHeight - e.scrollTop - e.clientHeight < 2)(document.querySelector('#captions'))"
    reader.until(at_end)
    assert reader.evaluate("document.querySelector('#live').hidden")


def test_stopping_brings_the_last_captions_and_frees_the_microphone(meeting: Meeting) -> None:
    meeting.speaker.click("#start")
    meeting.speaker.until("document.querySelector('#start').textContent === 'Start captions'")
    assert meeting.speaker.text("#state") == "Ended"
    assert meeting.speaker.evaluate("document.querySelectorAll('.open').length") == 0
    meeting.reader.until("document.querySelector('#state').textContent === 'Waiting for a speaker'")


def test_nothing_went_wrong_and_nothing_went_elsewhere(meeting: Meeting) -> None:
    for page in (meeting.speaker, meeting.reader):
        # While the server was away, each attempt leaves a line; everything else is a mistake of the page.
        unexpected = [line for line in page.seen.problems if "ERR_CONNECTION_REFUSED" not in line]
        assert unexpected == []
        hosts = {
            re.sub(r"^\w+://|/.*$", "", url) for url in page.seen.requests if not url.startswith("blob:")
        }
        assert hosts == {f"localhost:{meeting.port}"}
