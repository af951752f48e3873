"""The comparison with peers: what their messages mean, the search, the tokenizer's file, the table."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers.bpe import byte_names, merges_of, tokenizer_json
from benchmarks.peers.report import Found, as_markdown
from benchmarks.peers.search import carried_by, next_sessions
from benchmarks.peers.streams import (
    Hearing,
    WhisperLiveHearing,
    WhisperLiveKitHearing,
    joined_words,
    seconds,
    talk,
)
from stream_server.client import CaptionError, Event, FinalEvent, PartialEvent
from stream_server.evaluation.result import Percentiles
from stream_server.load.result import RunResult


def told(events: list[Event]) -> list[tuple[str, int, float, float, str]]:
    return [
        ("final" if isinstance(one, FinalEvent) else "partial", one.segment, one.start, one.end, one.text)
        for one in events
        if isinstance(one, FinalEvent | PartialEvent)
    ]


def hear(hearing: Hearing, message: dict[str, object], sent_s: float = 9.0) -> list[tuple[object, ...]]:
    return [*told([*hearing.read(message, sent_s)])]


def segment(start: str, end: str, text: str, *, completed: bool) -> dict[str, object]:
    return {"start": start, "end": end, "text": text, "completed": completed}


def test_a_completed_segment_of_whisper_lives_is_a_final_once_and_the_open_one_a_partial() -> None:
    hearing = WhisperLiveHearing()
    one, two = (
        segment("0.000", "2.340", " One. ", completed=True),
        segment("2.5", "3.0", "Two", completed=False),
    )
    assert hear(hearing, {"uid": "1", "message": "SERVER_READY"}) == []
    assert hear(hearing, {"uid": "1", "segments": [one, two]}) == [
        ("final", 0, 0.0, 2.34, "One."),
        ("partial", 1, 2.5, 3.0, "Two"),
    ]
    assert hear(hearing, {"uid": "1", "segments": [one, two]}) == [("partial", 1, 2.5, 3.0, "Two")]
    assert told([*hearing.end()]) == [("final", 1, 2.5, 3.0, "Two")]


def test_the_same_words_later_in_the_audio_are_another_final() -> None:
    hearing = WhisperLiveHearing()
    again = [segment("0.0", "1.0", "Yes.", completed=True), segment("4.0", "5.0", "Yes.", completed=True)]
    assert len(hear(hearing, {"segments": again})) == 2
    assert told([*hearing.end()]) == []


def line(text: str, start: str, end: str, speaker: int = 1) -> dict[str, object]:
    return {"speaker": speaker, "text": text, "start": f"0:00:{start}", "end": f"0:00:{end}"}


def lines(*them: dict[str, object], buffer: str = "") -> dict[str, object]:
    return {"lines": list(them), "buffer_transcription": buffer}


def test_what_is_added_to_a_line_of_whisper_live_kits_is_a_final() -> None:
    hearing = WhisperLiveKitHearing()
    assert hear(hearing, {"type": "config", "useAudioWorklet": True}) == []
    assert hear(hearing, lines(line(" One", "01.00", "01.50"), buffer=" two")) == [
        ("final", 0, 1.0, 1.5, "One"),
        ("partial", 1, 1.5, 9.0, "two"),
    ]
    pause = line("", "02.10", "03.00", speaker=-2)
    both = lines(line(" One two", "01.00", "02.00"), pause, line(" Three", "03.00", "03.50"))
    assert hear(hearing, both) == [("final", 1, 1.5, 2.0, "two"), ("final", 2, 3.0, 3.5, "Three")]
    assert hear(hearing, both) == []


def test_a_word_in_two_pieces_is_one_word_again() -> None:
    hearing = WhisperLiveKitHearing()
    pieces = [" Good mor", " Good morning."]
    heard = [*map(lambda text: hear(hearing, lines(line(text, "01.00", "02.00"))), pieces)]
    assert joined_words(" ".join(str(text) for ((*_, text),) in heard)) == "Good morning."


@pytest.mark.parametrize(
    "message", [lines(line(" Won", "01.00", "02.00")), {"error": "FFmpeg failed", "status": "error"}]
)
def test_a_changed_line_and_an_error_end_the_stream(message: dict[str, object]) -> None:
    hearing = WhisperLiveKitHearing()
    hear(hearing, lines(line(" One", "01.00", "02.00")))
    with pytest.raises(CaptionError):
        hear(hearing, message)


def test_its_times_have_hours_minutes_and_hundredths() -> None:
    assert seconds("1:02:03.45") == pytest.approx(3723.45)


@given(capacity=st.integers(0, 300), first=st.integers(1, 16), most=st.integers(20, 200))
def test_the_search_ends_within_a_tenth_of_the_capacity(capacity: int, first: int, most: int) -> None:
    outcomes = {1: capacity >= 1}
    while (n := next_sessions(outcomes, first, most)) is not None:
        assert n not in outcomes
        assert 1 <= n <= most
        outcomes[n] = n <= capacity
    found, reachable = carried_by(outcomes), min(capacity, most)
    assert found <= reachable <= found + max(1, 0.1 * found + 1)


def test_a_number_carried_above_one_that_was_not_does_not_count() -> None:
    assert carried_by({1: True, 2: True, 4: False, 8: True}) == 2
    assert carried_by({1: False}) == 0


RANKS = {b"a": 0, b"b": 1, b" ": 2, b"ab": 3, b"abab": 4, b" abab": 5, b"bab": 6}


def test_each_token_is_merged_from_what_the_ranks_before_it_leave() -> None:
    merges = [*merges_of(RANKS)]
    assert merges == [(b"a", b"b"), (b"ab", b"ab"), (b" ", b"abab"), (b"b", b"ab")]
    with pytest.raises(ValueError, match="merged from 3 parts"):
        [*merges_of({b"a": 0, b"b": 1, b"c": 2, b"abc": 3})]


def test_the_tokenizers_file_names_bytes_as_gpt_2_does() -> None:
    content = tokenizer_json(RANKS, {"<|endoftext|>": 7})
    assert content["model"]["vocab"]["Ġabab"] == 5
    assert content["model"]["merges"][2] == "Ġ abab"
    assert [(one["id"], one["content"]) for one in content["added_tokens"]] == [(7, "<|endoftext|>")]
    assert len({*byte_names().values()}) == 256


def run(sessions: int, p95_s: float, *, settled_s: float, uncaptioned: int = 0) -> RunResult:
    return RunResult(
        sessions=sessions,
        measured_s=30.0,
        is_interrupted=False,
        finished=sessions,
        refused={},
        refusals={},
        failed={},
        final=Percentiles(20, p95_s / 2, p95_s, p95_s),
        settled=Percentiles(20, settled_s / 2, settled_s, settled_s),
        partial=None,
        partial_is_by_word=False,
        hangover=None,
        hops={},
        flicker=None,
        wer=0.125,
        utterances=20,
        uncaptioned=uncaptioned,
        lost=0,
        doubled=0,
        server=None,
        client=None,
        client_lag_p99_s=None,
    )


def test_the_table_has_both_limits_every_run_and_what_could_not_be_measured() -> None:
    runs = (run(1, 0.8, settled_s=0.5), run(4, 1.2, settled_s=0.9), run(2, 0.9, settled_s=0.6))
    page = as_markdown([Found("ours", "defaults", runs), Found("theirs", "x", unavailable="no wheel")])
    assert "| ours | 2 | ≥ 4 |" in page
    assert "| theirs | - | - |" in page
    assert "| ours | 2 | 0.45 0.90 | 0.30 0.60 | - | 12.5% | 0% | - | - | - |" in page
    assert "- theirs: no wheel" in page


def test_utterances_that_only_load_leaves_without_text_are_not_carried() -> None:
    runs = (run(1, 0.5, settled_s=0.5, uncaptioned=4), run(2, 0.5, settled_s=0.5, uncaptioned=6))
    found = Found("ours", "", (*runs, run(4, 0.5, settled_s=0.5, uncaptioned=7)))
    assert found.outcomes("final") == {1: True, 2: True, 4: False}


class FakeWebSocket:
    """A server that answers each chunk, and then what it is told to say at the end."""

    def __init__(self, ending: list[dict[str, object]], closes_after: int = 99) -> None:
        self.received: list[bytes] = []
        self._answers: asyncio.Queue[str | None] = asyncio.Queue()
        self._ending = ending
        self._closes_after = closes_after

    async def send(self, message: bytes | str) -> None:
        chunk = message if isinstance(message, bytes) else message.encode()
        self.received.append(chunk)
        if len(self.received) > self._closes_after:
            self._answers.put_nowait(None)
            await asyncio.Event().wait()
        said = " One"[: 1 + len(self.received)]
        answers = [lines(line(said, "00.00", "01.00"))] if chunk else self._ending
        for answer in answers:
            self._answers.put_nowait(json.dumps(answer))
        if not chunk:
            self._answers.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (answer := await self._answers.get()) is not None:
            yield answer


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield bytes(3_200)


async def end(websocket: FakeWebSocket, heard_s: list[float]) -> None:
    await websocket.send(b"")


async def test_a_talk_sends_all_audio_and_then_the_end_and_yields_what_comes_to_the_last_message() -> None:
    websocket = FakeWebSocket([{"type": "ready_to_stop"}, lines(line(" Two", "01.00", "02.00"))])
    events = [one async for one in talk(websocket, WhisperLiveKitHearing(), end, chunks())]
    assert joined_words(" ".join(one.text for one in events if isinstance(one, FinalEvent))) == "One"
    assert [len(one) for one in websocket.received] == [3_200, 3_200, 3_200, 0]


async def test_a_stream_that_the_server_closes_before_its_end_has_ended_badly() -> None:
    websocket = FakeWebSocket([], closes_after=1)
    with pytest.raises(CaptionError, match="before its end"):
        [one async for one in talk(websocket, WhisperLiveKitHearing(), end, chunks())]
