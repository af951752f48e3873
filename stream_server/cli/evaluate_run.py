"""Runs an evaluation: each recording through the model in this process, or through a server."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from stream_server.audio.decoder import AudioDecoder, AudioFormat
from stream_server.cli.audio_files import Recording, RecordingError, open_recording
from stream_server.cli.beam_options import beam_object
from stream_server.cli.captions_view import QuietView
from stream_server.cli.demo import stream_live
from stream_server.client import CaptionError, ConnectFailed, connect
from stream_server.client.latency import final_latencies_s, partial_latencies_s
from stream_server.client.pacing import Clock, Sleep
from stream_server.core.messages import BeamSearch
from stream_server.engine.text import normalise_english
from stream_server.engine.transcriber import Transcriber
from stream_server.evaluation.counts import count_errors, count_invented
from stream_server.evaluation.flicker import measure_flicker, shown_texts
from stream_server.evaluation.heard import Heard
from stream_server.evaluation.offline import (
    Samples,
    TooLong,
    cut_utterances,
    decode_stream,
    decode_windows,
    text_of,
)
from stream_server.evaluation.references import SAY_SO, Reference
from stream_server.evaluation.result import NO_GROUP, Measured, Streamed
from stream_server.evaluation.word_latency import word_latencies_s
from vad.recording import StreamScorer

BLOCK_S = 1.0

Outcome = Measured | str
"""What was measured on a recording, or one line that says why nothing could be."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What holds for every recording of one call."""

    group_by: tuple[str, ...] = ()
    """Fields of the manifest."""

    def groups_of(self, reference: Reference) -> dict[str, str]:
        """The group a recording belongs to, by each field."""
        return {field: reference.fields.get(field, NO_GROUP) for field in self.group_by}


def read_samples(recording: Recording) -> Samples:
    """The samples of a recording as a session gets them.

    Raises:
        RecordingError: The file breaks off or is damaged.
    """
    audio = AudioFormat(sample_rate_hz=recording.sample_rate_hz, channels=recording.channels)
    decoder = AudioDecoder(audio)
    parts = [decoder.push(block) for block in recording.blocks(BLOCK_S)]
    return np.concatenate([*parts, decoder.finish()])


def measure_offline(
    references: Iterable[Reference],
    heading: Heading,
    transcriber: Transcriber,
    scorer: StreamScorer | None,
    beam: BeamSearch | None = None,
    *,
    clock: Clock = time.monotonic,
) -> Iterator[Outcome]:
    """Decode each recording in this process.

    Args:
        references: In this order.
        heading: For all of them.
        transcriber: The model.
        scorer: Where there is speech; None decodes whole utterances.
        beam: How texts are searched for; None decodes greedily.
        clock: Monotonic seconds.
    """
    for reference in references:
        try:
            recording = open_recording(reference.path)
            samples = read_samples(recording)
            began_s = clock()
            if scorer is None:
                text = decode_windows(cut_utterances(samples, reference.timed), transcriber, beam)
            else:
                text = text_of(decode_stream(samples, scorer, transcriber, beam))
            yield _measured(reference, heading, text, recording.duration_s, clock() - began_s, None)
        except RecordingError as exc:
            yield str(exc)
        except TooLong as exc:
            yield f"{reference.path}: {exc}"


async def measure_streamed(
    references: Iterable[Reference],
    heading: Heading,
    url: str,
    tls: ssl.SSLContext,
    beam: BeamSearch | None = None,
    *,
    clock: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[Outcome]:
    """Send each recording to a server at real time, one after the other.

    Args:
        references: In this order.
        heading: For all of them.
        url: The server's stream.
        tls: From ``certs.tls.client_context``.
        beam: How finals are searched for; None decodes greedily.
        clock: Monotonic seconds.
        sleep: As ``asyncio.sleep``.

    Yields:
        What was measured, or a line; for each that is left when the server cannot be reached, a line, too.
    """
    lost: ConnectFailed | None = None
    for reference in references:
        if lost is not None:
            yield f"{reference.path}: not evaluated, the server was lost"
            continue
        try:
            recording = open_recording(reference.path)
            heard = await _listen(recording, url, tls, beam, clock, sleep)
            yield _measured_stream(reference, heading, recording, heard)
        except RecordingError as exc:
            yield str(exc)
        except CaptionError as exc:
            yield f"{reference.path}: {exc}"
        except ConnectFailed as exc:
            lost = exc
            yield f"{reference.path}: {exc}"


async def _listen(
    recording: Recording,
    url: str,
    tls: ssl.SSLContext,
    beam: BeamSearch | None,
    clock: Clock,
    sleep: Sleep,
) -> Heard:
    opened = connect(
        url,
        tls=tls,
        sample_rate=recording.sample_rate_hz,
        channels=recording.channels,
        beam=beam_object(beam),
    )
    async with opened as stream:
        return await stream_live(stream, recording, QuietView(), clock=clock, sleep=sleep)


def _measured_stream(
    reference: Reference, heading: Heading, recording: Recording, heard: Heard
) -> Measured | str:
    by_word = word_latencies_s(reference.words, [*heard.partials, *heard.finals])
    streamed = Streamed(
        tuple(partial_latencies_s(heard.partials)),
        tuple(final_latencies_s(reference.timed, heard.finals)),
        measure_flicker(
            shown_texts([one.event for one in heard.partials], [one.event for one in heard.finals])
        ),
        tuple(latency_s for latency_s in by_word if latency_s is not None),
    )
    assert heard.finished_s is not None, "a stream without an error ends with finished"
    return _measured(reference, heading, heard.text, recording.duration_s, heard.finished_s, streamed)


def _measured(
    reference: Reference,
    heading: Heading,
    text: str,
    audio_s: float,
    spent_s: float,
    streamed: Streamed | None,
) -> Measured | str:
    wanted, read = normalise_english(reference.text), normalise_english(text)
    # The normaliser leaves a full stop that stands alone, since it could belong to a number.
    if reference.speech and not any(character.isalnum() for character in wanted):
        return f"{reference.path}: its reference is empty, nothing of it is left when normalised; {SAY_SO}"
    return Measured(
        reference.file,
        heading.groups_of(reference),
        reference.text,
        text,
        count_errors(wanted, read) if reference.speech else count_invented(read),
        audio_s,
        spent_s,
        streamed,
        reference.speech,
    )
