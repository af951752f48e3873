"""What a client has said and may have to say again: pure bookkeeping, no connection.

Audio is addressed by byte since the stream's first. A flush, and the finish, stand at such a place, so
that they are said again between the same bytes. The cursor is what goes out next: a connection moves it
on, a new connection puts it back to what the server says it has.
"""

from collections import deque

from stream_server.dialects import schema

Message = bytes | schema.FlushMessage | schema.FinishMessage


class SendLog:
    """The tail of one stream's audio, flushes and finish that the server has not acknowledged.

    Args:
        bytes_per_sample: Of one sample of every channel.
        audio_bytes_max: ``is_full`` from so much audio on.
        keeps: Whether what was given out stays until it is acknowledged; where nothing can be resumed
            it need not.
    """

    def __init__(self, bytes_per_sample: int, audio_bytes_max: int, *, keeps: bool) -> None:
        self._bytes_per_sample = bytes_per_sample
        self._audio_bytes_max = audio_bytes_max
        self._keeps = keeps
        self._audio = bytearray()
        self._start = 0
        """Of the first byte kept."""
        self._cursor = 0
        self._flushes: deque[int] = deque()
        """Places of the flushes kept."""
        self._n_flushes_done = 0
        """Flushes before those."""
        self._next_flush = 0
        """The number of the flush that goes out next."""
        self._n_answered = 0
        self._finish: int | None = None
        self._is_finish_due = False

    @property
    def is_full(self) -> bool:
        """Whether the owner should wait before it adds more."""
        return len(self._audio) >= self._audio_bytes_max

    @property
    def n_bytes(self) -> int:
        """Bytes of audio kept."""
        return len(self._audio)

    @property
    def is_sent(self) -> bool:
        """Whether nothing is left to go out."""
        return (
            self._cursor == self._end
            and self._next_flush == self._n_flushes_done + len(self._flushes)
            and not self._is_finish_due
        )

    @property
    def _end(self) -> int:
        return self._start + len(self._audio)

    def add_audio(self, audio: bytes | memoryview) -> None:
        """Append bytes of any number."""
        self._audio += audio

    def add_flush(self) -> None:
        """Append a flush."""
        self._flushes.append(self._end)

    def add_finish(self) -> None:
        """Append the finish."""
        self._finish = self._end
        self._is_finish_due = True

    def next(self, message_bytes_max: int) -> Message | None:
        """Give out what goes over the connection next, and move on; None when there is nothing."""
        flush = self._place_of_next_flush()
        if flush == self._cursor:
            self._next_flush += 1
            self._drop_given_out()
            return schema.FlushMessage()
        if self._is_finish_due and self._finish == self._cursor:
            self._is_finish_due = False
            return schema.FinishMessage()
        until = min(self._cursor + message_bytes_max, self._end)
        if flush is not None:
            until = min(until, flush)
        if self._finish is not None and self._is_finish_due:
            until = min(until, self._finish)
        if until == self._cursor:
            return None
        audio = bytes(self._audio[self._cursor - self._start : until - self._start])
        self._cursor = until
        self._drop_given_out()
        return audio

    def _place_of_next_flush(self) -> int | None:
        index = self._next_flush - self._n_flushes_done
        return self._flushes[index] if index < len(self._flushes) else None

    def _drop_given_out(self) -> None:
        if not self._keeps:
            self._drop_before(self._cursor)
            self._drop_flushes(self._next_flush)

    def acknowledge(self, samples: int) -> None:
        """Forget audio that the server has for good, and the flushes before its last byte."""
        n_bytes = samples * self._bytes_per_sample
        self._drop_before(min(n_bytes, self._cursor))
        self._drop_flushes(self._n_flushes_done + sum(place < n_bytes for place in self._flushes))

    def answer_flush(self) -> None:
        """Forget the flushes up to the one that was answered now: they are answered in their order."""
        self._n_answered += 1
        self._drop_flushes(self._n_answered)

    def _drop_before(self, place: int) -> None:
        if place > self._start:
            del self._audio[: place - self._start]
            self._start = place

    def _drop_flushes(self, number: int) -> None:
        """Forget the flushes before this number, none that was not given out."""
        while self._flushes and self._n_flushes_done < min(number, self._next_flush):
            self._flushes.popleft()
            self._n_flushes_done += 1

    def rewind(self, samples: int, flushes: int, *, closing: bool) -> None:
        """Put the cursor where a resumed session says it stands.

        Args:
            samples: The server has these.
            flushes: And so many flushes.
            closing: And takes nothing more.

        Raises:
            ValueError: The server says it has less than it had acknowledged, or more than was said.
        """
        place = samples * self._bytes_per_sample
        n_flushes = self._n_flushes_done + len(self._flushes)
        if not self._start <= place <= self._end or not self._n_flushes_done <= flushes <= n_flushes:
            raise ValueError(
                f"the server goes on at sample {samples} and flush {flushes}, but what is kept is"
                f" {self._start // self._bytes_per_sample} to {self._end // self._bytes_per_sample} and"
                f" {self._n_flushes_done} to {n_flushes}"
            )
        self._cursor = self._end if closing else place
        self._next_flush = n_flushes if closing else flushes
        self._is_finish_due = self._finish is not None and not closing
        self.acknowledge(samples)
