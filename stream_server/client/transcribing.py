"""A whole source of audio through one stream, which may fail at either end."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from stream_server.client.errors import CaptionError
from stream_server.client.pacing import iterate
from stream_server.client.stream import CaptionStream, Event


async def transcribe(
    stream: CaptionStream, chunks: Iterable[bytes] | AsyncIterable[bytes]
) -> AsyncIterator[Event]:
    """Send all chunks, then ``finish``, in a task of its own, and yield the events meanwhile.

    Args:
        stream: Open and without audio so far.
        chunks: Audio in pieces of any size; a plain iterator must not block.

    Raises:
        CaptionError: The stream ended badly.
        Exception: Whatever ``chunks`` raises, as it is.
    """
    # No TaskGroup: around a yield it would cancel the task of whoever iterates.
    sender = asyncio.create_task(_send_all(stream, chunks))
    try:
        async for event in stream:
            yield event
    except CaptionError:
        _raise_failure(sender)
        raise
    finally:
        sender.cancel()
        await asyncio.wait([sender])


async def _send_all(stream: CaptionStream, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> None:
    try:
        async for chunk in iterate(chunks):
            await stream.send(chunk)
        await stream.finish()
    except CaptionError:
        return  # The reader meets the same end, with the server's last events before it.
    except Exception:
        stream.abort("the source of the audio failed")  # Wakes the reader, who passes the exception on.
        raise


def _raise_failure(sender: asyncio.Task[None]) -> None:
    """Raise what the source of the audio raised, if that is why the stream ended."""
    if sender.done() and not sender.cancelled() and (failure := sender.exception()) is not None:
        raise failure
