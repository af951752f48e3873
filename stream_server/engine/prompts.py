"""What a model is fed of a window before its first token: the text before, the language, the task.

Equal to what ``whisper.decode`` feeds it for the same options.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from whisper.model import Whisper
from whisper.tokenizer import Tokenizer

from stream_server.engine.cache import BatchCache
from stream_server.engine.network import Network
from stream_server.engine.rows import DecodeOptions


@dataclass(frozen=True, slots=True)
class Plan:
    """How much room the rows of a batch need."""

    prompts: list[list[int]]
    """Languages that are to be detected not filled in."""
    limits: list[int]
    """Tokens that each row may say."""
    capacity: int


@dataclass(frozen=True, slots=True)
class Start:
    """What is settled of a window before its first token."""

    language: str
    tokens: list[int]
    """The prompt."""
    sot_index: int
    """Where the start-of-transcript stands in it."""
    tokens_max: int


class Prompts:
    """Prompts of one model.

    Args:
        model: Whose they are.
        network: The same model, to detect languages with.
        tokenizer: Of the model.
        language: The model's own, if it has but one.
    """

    def __init__(self, model: Whisper, network: Network, tokenizer: Tokenizer, language: str | None) -> None:
        self._dims = model.dims
        self._is_multilingual = model.is_multilingual
        self._network = network
        self._tokenizer = tokenizer
        self._own_language = language or "en"

    def plan(self, options: Sequence[DecodeOptions]) -> Plan:
        """The prompts of a batch, and how much room its rows need."""
        prompts = [self.tokens(row) for row in options]
        limits = [self._tokens_max(row, prompt) for row, prompt in zip(options, prompts, strict=True)]
        # A place more than any row uses, see ``make_span``.
        capacity = 1 + max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
        return Plan(prompts, limits, capacity)

    def starts(self, plan: Plan, options: Sequence[DecodeOptions], cache: BatchCache) -> list[Start]:
        """Where each row begins, its language detected if it has none.

        Args:
            plan: Of the options.
            options: One for each row.
            cache: Holds the audio of the rows and no tokens.
        """
        starts = []
        languages = self._languages(cache, options)
        for language, prompt, limit in zip(languages, plan.prompts, plan.limits, strict=True):
            sot_index = prompt.index(self._tokenizer.sot)
            known = list(prompt)
            if self._is_multilingual:
                known[sot_index + 1] = self._tokenizer.to_language_token(language)
            starts.append(Start(language, known, sot_index, limit))
        return starts

    def tokens(self, options: DecodeOptions) -> list[int]:
        """What the model is fed before its first token; a language to be detected is filled in later."""
        tokenizer = self._tokenizer
        prompt = [tokenizer.sot]
        if self._is_multilingual:
            task = tokenizer.transcribe if options.task == "transcribe" else tokenizer.translate
            prompt += [tokenizer.to_language_token(options.language or "en"), task]
        if not options.timestamps:
            prompt.append(tokenizer.no_timestamps)
        if options.prompt:
            n_before = self._dims.n_text_ctx // 2 - 1
            prompt = [tokenizer.sot_prev, *options.prompt[-n_before:], *prompt]
        return prompt

    def _tokens_max(self, options: DecodeOptions, prompt: list[int]) -> int:
        # The last token may stand at the end of the context, for nothing is predicted from it.
        n_text_ctx: int = self._dims.n_text_ctx
        return min(options.tokens_max, n_text_ctx + 1 - len(prompt))

    def _languages(self, cache: BatchCache, options: Sequence[DecodeOptions]) -> list[str]:
        if not self._is_multilingual:
            return [self._own_language] * len(options)
        unknown = [i for i, row in enumerate(options) if row.language is None]
        languages = [row.language or "" for row in options]
        for i, language in zip(unknown, self._detect(cache, unknown) if unknown else [], strict=True):
            languages[i] = language
        return languages

    def _detect(self, cache: BatchCache, rows: list[int]) -> list[str]:
        """The likeliest language of each row, as ``whisper.detect_language`` finds it."""
        feeds = [[self._tokenizer.sot]] * len(rows)
        hidden = self._network.hidden(feeds, [0] * len(rows), cache.select(rows, capacity=1))
        logits = self._network.logits_of(hidden[:, 0], self._tokenizer.all_language_tokens)
        return [self._tokenizer.all_language_codes[i] for i in logits.argmax(dim=-1).tolist()]
