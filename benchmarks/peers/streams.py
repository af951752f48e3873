"""One stream to each peer, in its own protocol, heard as events of ours.

Each protocol is a class that only reads messages: what one says becomes finals, whose text the server does
not take back, and a partial, the rest of what it shows. A final here is what the server itself commits.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from stream_server.client import CaptionError, ConnectFailed, Event, FinalEvent, PartialEvent
from stream_server.load.plan import SAMPLE_RATE_HZ
from stream_server.load.player import Talk

BYTES_PER_S = 2 * SAMPLE_RATE_HZ
OPEN_S = 60.0
"""For a connection to be ready; a server may load its model for the first client."""
QUIET_S = 2.0
"""WhisperLive drops what it has not transcribed when the audio ends: it is told after such a silence only."""


class Hearing(Protocol):
    """What a stream's messages mean, one after the other."""

    def read(self, message: dict[str, Any], sent_s: float) -> Iterator[Event]:
        """The events in one message that came when so much audio had been sent."""
        ...

    def end(self) -> Iterator[Event]:
        """What the end of the stream makes final."""
        ...


class Socket(Protocol):
    """What of a WebSocket is needed."""

    async def send(self, message: bytes | str) -> None:
        """Send one message."""
        ...

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """The messages received, until the connection is closed."""
        ...


End = Callable[[Any, list[float]], Awaitable[None]]
"""Tells the server that there is no more audio; may wait for when it was last heard, the list's last."""


class _Captions:
    """Numbers finals and partials: a partial is what shows behind the last final."""

    def __init__(self) -> None:
        self._n_finals = 0
        self._revision = 0

    def final(self, start: float, end: float, text: str) -> FinalEvent:
        number = self._n_finals
        self._n_finals += 1
        return FinalEvent(
            seq=0, event=0, segment=number, start=start, end=end, text=text, language=None, utterance_end=True
        )

    def partial(self, start: float, end: float, text: str) -> PartialEvent:
        self._revision += 1
        return PartialEvent(
            seq=0,
            segment=self._n_finals,
            revision=self._revision,
            start=start,
            end=end,
            text=text,
            stable=0,
        )


class WhisperLiveHearing:
    """WhisperLive sends its last ten segments each time; all but the last are ``completed``."""

    def __init__(self) -> None:
        self._captions = _Captions()
        self._completed: set[tuple[str, str, str]] = set()
        self._open: tuple[float, float, str] | None = None

    def read(self, message: dict[str, Any], sent_s: float) -> Iterator[Event]:
        """A completed segment is a final when it is first seen."""
        if "segments" not in message:
            return
        self._open = None
        for segment in message["segments"]:
            start, end, text = segment["start"], segment["end"], segment["text"].strip()
            if not segment["completed"]:
                self._open = float(start), float(end), text
            elif (start, end, text) not in self._completed:
                self._completed.add((start, end, text))
                yield self._captions.final(float(start), float(end), text)
        if self._open is not None:
            yield self._captions.partial(*self._open)

    def end(self) -> Iterator[Event]:
        """Its last segment is never completed; whoever reads has it all the same."""
        if self._open is not None:
            yield self._captions.final(*self._open)


class WhisperLiveKitHearing:
    """WhisperLiveKit sends all lines each time, to which words are only added, and a buffer behind them."""

    def __init__(self) -> None:
        self._captions = _Captions()
        self._lines: list[str] = []
        self._end_s = 0.0

    def read(self, message: dict[str, Any], sent_s: float) -> Iterator[Event]:
        """What was added to the lines is a final.

        Raises:
            CaptionError: A line was changed, which its protocol rules out without speakers.
        """
        if message.get("error"):
            raise CaptionError("peer_error", str(message["error"]))
        if "lines" not in message:
            return
        spoken = [line for line in message["lines"] if line["speaker"] != SILENCE]
        for number, line in enumerate(spoken):
            if number == len(self._lines):
                self._lines.append("")
                self._end_s = seconds(line["start"])
            added = line["text"].removeprefix(self._lines[number])
            if len(added) + len(self._lines[number]) != len(line["text"]):
                raise CaptionError("protocol", "a line of WhisperLiveKit's was changed")
            if added:
                start_s, self._end_s = self._end_s, max(self._end_s, seconds(line["end"]))
                self._lines[number] = line["text"]
                yield self._captions.final(start_s, self._end_s, _joined(added))
        buffer = message["buffer_transcription"].strip()
        if buffer:
            # Where it ends is not told; nobody shows what was not sent.
            yield self._captions.partial(self._end_s, max(self._end_s, sent_s), buffer)

    def end(self) -> Iterator[Event]:
        """Its buffer is among the lines of the last message."""
        yield from ()


SILENCE = -2
"""The speaker of a line that is a pause."""
JOINER = "\u2060"
"""Unicode's word joiner: begins a final that goes on with the last word of the one before it."""


def _joined(added: str) -> str:
    """What was added to a line, as a text of its own."""
    return added.strip() if added[0].isspace() else JOINER + added.strip()


def joined_words(text: str) -> str:
    """Texts of finals, joined by blanks, as the words that they are."""
    return text.replace(f" {JOINER}", "").replace(JOINER, "")


def seconds(text: str) -> float:
    """Seconds of ``H:MM:SS.cc``."""
    hours, minutes, rest = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


@asynccontextmanager
async def whisper_live_stream(port: int) -> AsyncIterator[Talk]:
    """A stream of WhisperLive's.

    Raises:
        ConnectFailed: Nobody answers, or the server told the client to wait.
    """
    async with _websocket(f"ws://127.0.0.1:{port}") as websocket:
        options = {
            "uid": str(uuid4()),
            "language": "en",
            "task": "transcribe",
            "model": "demo",
            "use_vad": True,
            "audio_format": "int16",
        }
        await websocket.send(json.dumps(options))
        answer = json.loads(await asyncio.wait_for(websocket.recv(), OPEN_S))
        if answer.get("message") != "SERVER_READY":
            raise ConnectFailed(f"WhisperLive answered {answer}", code=str(answer.get("status")).lower())
        yield partial(talk, websocket, WhisperLiveHearing(), _end_whisper_live)


async def _end_whisper_live(websocket: ClientConnection, heard_s: list[float]) -> None:
    while (wait_s := heard_s[-1] + QUIET_S - time.monotonic()) > 0:  # noqa: ASYNC110 - for silence
        await asyncio.sleep(wait_s)
    await websocket.send(b"END_OF_AUDIO")


@asynccontextmanager
async def whisperlivekit_stream(port: int) -> AsyncIterator[Talk]:
    """A stream of WhisperLiveKit's.

    Raises:
        ConnectFailed: Nobody answers.
    """
    async with _websocket(f"ws://127.0.0.1:{port}/asr") as websocket:
        await asyncio.wait_for(websocket.recv(), OPEN_S)  # Its configuration.
        yield partial(talk, websocket, WhisperLiveKitHearing(), _end_whisperlivekit)


async def _end_whisperlivekit(websocket: ClientConnection, heard_s: list[float]) -> None:
    await websocket.send(b"")


@asynccontextmanager
async def _websocket(url: str) -> AsyncIterator[ClientConnection]:
    try:
        websocket = await connect(
            url, compression=None, open_timeout=OPEN_S, ping_interval=None, max_size=None
        )
    except (OSError, WebSocketException, TimeoutError) as exc:
        raise ConnectFailed(f"{url}: {exc}") from exc
    try:
        yield websocket
    except ConnectionClosed as exc:
        raise CaptionError("connection_lost", str(exc)) from exc
    finally:
        await websocket.close()


async def talk(
    websocket: Socket, hearing: Hearing, end: End, chunks: AsyncIterator[bytes]
) -> AsyncIterator[Event]:
    """Send all chunks and the end, and yield what comes back meanwhile and until the server closes.

    Raises:
        CaptionError: The server closed the stream before its end, or said what it must not.
    """
    heard_s = [time.monotonic()]
    n_sent = 0

    async def send() -> None:
        nonlocal n_sent
        async for chunk in chunks:
            n_sent += len(chunk)
            await websocket.send(chunk)
        heard_s.append(time.monotonic())
        await end(websocket, heard_s)

    sender = asyncio.create_task(send())
    await asyncio.sleep(0)  # The stream's time begins, whatever the server answers.
    try:
        async for text in websocket:
            message = json.loads(text)
            heard_s[-1] = time.monotonic()
            for event in hearing.read(message, n_sent / BYTES_PER_S):
                yield event
            if message.get("type") == "ready_to_stop":
                break
        if not sender.done():
            raise CaptionError("connection_lost", "the server closed the stream before its end")
        for event in hearing.end():
            yield event
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
