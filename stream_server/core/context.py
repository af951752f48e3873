"""The text before, as the prompt of the next final.

Rules:

1. The prompt of a final is made of the finals before it in the session and of nothing else: neither of
   partials nor of what happens to be decoded when it is asked for. So the finals of a session with context
   go to the engine one after the other, each when the one before has come back.
2. The context ends where it would rather mislead: after ``GAP_S`` without speech, at another language, and
   after a final that the guard had to decode again or took text from. Such a final is in no prompt either.
3. A final that says what the one before said is how a loop begins: both are forgotten.
4. A prompt is the last ``PROMPT_CHARS`` of the context, whole words. It ends where the window begins: words
   that the window holds, too, would be taken for said already.
"""

from collections import deque
from dataclasses import replace

from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.words import TOKEN, word_gap

SAMPLES_PER_S = 16_000
GAP_S = 10.0
"""Between the end of one final and the start of the next."""
PROMPT_CHARS = 200
"""What whisper_streaming (Macháček et al. 2023) prompts with: some 40 words of English. More costs a longer
first pass of each decode."""


class Context:
    """The finals of one session on their way to the engine."""

    def __init__(self) -> None:
        self._waiting: deque[DecodeJob] = deque()
        self._is_busy = False
        self._texts: list[str] = []
        self._language: str | None = None
        self._end = 0
        self._again = ""

    def offer(self, job: DecodeJob) -> list[DecodeJob]:
        """Take a job for a final; returns the jobs to submit, none while the one before is under way."""
        self._waiting.append(job)
        return self._next()

    def preview(self, job: DecodeJob) -> DecodeJob | None:
        """The job as ``offer`` would return it now; None while the final before is under way."""
        return None if self._is_busy or self._waiting else self._prompted(job)

    def take(self, result: DecodeResult, again: str = "") -> list[DecodeJob]:
        """Take the result of the final under way; returns the jobs to submit.

        Args:
            result: With its text as the client is told.
            again: The end of the text that the next window hears, too.
        """
        self._is_busy = False
        self._remember(result)
        self._again = again
        return self._next()

    def _next(self) -> list[DecodeJob]:
        if self._is_busy or not self._waiting:
            return []
        self._is_busy = True
        return [self._prompted(self._waiting.popleft())]

    def _prompted(self, job: DecodeJob) -> DecodeJob:
        if job.start - self._end > GAP_S * SAMPLES_PER_S:
            self._texts.clear()
        return replace(job, prompt=self._prompt())

    def _remember(self, result: DecodeResult) -> None:
        self._end = result.end
        is_doubtful = bool(result.retried) or result.temperature > 0 or result.dropped is not None
        if is_doubtful or (self._texts and _words(self._texts[-1]) == _words(result.text)):
            self._texts.clear()
            return
        if not result.text:
            return
        if result.language != self._language:
            self._texts.clear()
            self._language = result.language
        self._texts.append(result.text)
        while sum(map(len, self._texts[1:])) >= PROMPT_CHARS:
            del self._texts[0]

    def _prompt(self) -> str:
        # The model imitates the spaces of its prompt.
        text = word_gap(self._language).join(self._texts)
        if self._texts and self._again:
            text = text.removesuffix(self._again).rstrip()
        if len(text) <= PROMPT_CHARS:
            return text
        tail = text[-PROMPT_CHARS:]
        is_cut = not text[-PROMPT_CHARS - 1].isspace()
        _, space, whole = tail.partition(" ")
        return whole if is_cut and space else tail.lstrip()


def _words(text: str) -> list[str]:
    return [word.casefold() for word in TOKEN.findall(text) if word[0].isalnum()]
