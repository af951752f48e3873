"""Every number that decides what the model becomes: corpus, voices, shape and the stages of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

SAMPLE_RATE_HZ = 16_000
FRAME_S = 0.02
"""One position of the encoder: two mel frames of 10 ms."""


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    """How many sentences of which kind."""

    n_sentences: int = 120_000
    n_words: int = 8_000
    """Size of the word list; 0 takes only the words written in ``lexicon`` (for smoke runs)."""
    share_random: float = 0.30
    share_short: float = 0.15
    """Random words, one to three: the beginning of the curriculum."""
    share_template: float = 0.15
    seed: int = 1


@dataclass(frozen=True, slots=True)
class SpeechConfig:
    """How the sentences are read."""

    sentences_per_shard: int = 500
    shards_max: int = 10_000
    seed: int = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of the network; vocabulary and audio positions are Whisper's."""

    width: int = 192
    heads: int = 3
    encoder_layers: int = 4
    decoder_layers: int = 3
    n_mels: int = 80
    n_audio_ctx: int = 1500
    n_text_ctx: int = 448


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the curriculum. ``p_`` fields are probabilities per window, ``w_`` weights of losses."""

    name: str
    until_step: float
    """Last step (exclusive) of the stage."""
    seconds_max: float
    """Longest utterance read from the store."""
    p_speed: float = 0.5
    p_noise: float = 0.2
    snr_db: tuple[float, float] = (10.0, 35.0)
    p_echo: float = 0.0
    p_telephone: float = 0.0
    p_running: float = 0.0
    """Several utterances in one window, with their pauses."""
    p_cut: float = 0.0
    """The window begins or ends in running speech, at a word's edge."""
    p_timestamps: float = 0.0
    p_prompt: float = 0.0
    p_no_speech: float = 0.0
    p_full_window: float = 0.0
    """Share of whole batches that are padded to 30 s."""
    w_phones: float = 1.0
    w_tokens: float = 1.0
    w_attention: float = 0.3


LISTEN = Stage("listen", until_step=1_200, seconds_max=2.5, p_noise=0.1)
SENTENCES = Stage(
    "sentences", until_step=5_000, seconds_max=7.0, p_noise=0.3, p_echo=0.1, p_telephone=0.1, p_cut=0.05,
    p_no_speech=0.005, w_phones=0.5,
)  # fmt: skip
WORLD = Stage(
    "world", until_step=math.inf, seconds_max=9.0, p_noise=0.5, snr_db=(5.0, 30.0), p_echo=0.2,
    p_telephone=0.2, p_running=0.35, p_cut=0.25, p_timestamps=0.25, p_prompt=0.15, p_no_speech=0.10,
    p_full_window=0.06, w_phones=0.3, w_tokens=0.5, w_attention=0.2,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Optimisation. The rate rises over ``warmup_steps``, holds, then falls with the root of the steps.

    ``decay_from`` begins a last run down to zero over ``decay_steps``; the exported weights are an
    exponential mean, so that an interrupted run gives a settled model too.
    """

    shape: Shape = field(default_factory=Shape)
    stages: tuple[Stage, ...] = (LISTEN, SENTENCES, WORLD)
    steps: int = 200_000
    batch_audio_s: float = 90.0
    batch_max: int = 64
    rate: float = 1.5e-3
    warmup_steps: int = 300
    hold_steps: int = 1_500
    decay_from: float = math.inf
    decay_steps: int = 5_000
    weight_decay: float = 0.01
    average: float = 0.998
    evaluate_every: int = 500
    checkpoint_every_s: float = 180.0
    refresh_every: int = 100
    """Steps after which newly read speech is looked for."""
    seed: int = 3
    threads: int = 2
    fused: bool = True
    """Compile the encoder where there is a C++ compiler."""

    def until(self, steps: int | None) -> TrainConfig:
        """Return the same with another number of steps."""
        return self if steps is None else replace(self, steps=steps)

    def finishing(self, step: int) -> TrainConfig:
        """Return the same with a run down to zero that begins at ``step`` and ends the training."""
        return replace(self, decay_from=step, steps=step + self.decay_steps)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        rate = self.rate * min(1.0, (step + 1) / self.warmup_steps, math.sqrt(self.hold_steps / max(step, 1)))
        if step > self.decay_from:
            rate *= max(0.0, 1.0 - (step - self.decay_from) / self.decay_steps)
        return rate

    def stage_at(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return next(stage for stage in self.stages if step < stage.until_step)


def smoke_corpus() -> CorpusConfig:
    """Return a corpus for a run of the whole pipeline within two minutes."""
    return CorpusConfig(n_sentences=160, n_words=0)


def smoke_speech() -> SpeechConfig:
    """Return the speech for the same."""
    return SpeechConfig(sentences_per_shard=80)


def smoke_training() -> TrainConfig:
    """Return a training that passes every stage in a few steps."""
    stages = (replace(LISTEN, until_step=4), replace(SENTENCES, until_step=8), WORLD)
    return TrainConfig(
        shape=Shape(width=96, heads=3, encoder_layers=2, decoder_layers=2), stages=stages, steps=14,
        batch_audio_s=12.0, warmup_steps=4, evaluate_every=7, checkpoint_every_s=2.0, decay_steps=2,
        refresh_every=5, fused=False,
    )  # fmt: skip
