"""What is the same for all sessions of a server."""

from collections.abc import Mapping
from dataclasses import dataclass

from stream_server.core.captions import HYPOTHESES_ENOUGH
from stream_server.core.messages import Limits, Start, Task, Tier
from vad.config import SegmenterConfig


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a session must know of the model that reads it."""

    name: str
    languages: frozenset[str]
    """Codes it can read."""
    can_translate: bool
    can_time_words: bool = False
    """Its manifest says which heads of its attention align text and audio."""
    reads_prompts: bool = False
    """It was trained to read on from the text before."""

    def refusal(self, start: Start) -> str | None:
        """Why the model cannot do what a client asks of it; None if it can."""
        if start.language is not None and start.language not in self.languages:
            return f"model {self.name} reads these languages: {', '.join(sorted(self.languages))}"
        if start.task is Task.TRANSLATE and not self.can_translate:
            return f"model {self.name} cannot translate"
        if start.words and not self.can_time_words:
            return (
                f"model {self.name} cannot tell when words were said, since its manifest names no "
                "alignment_heads; leave start.words out, or have the server run another model"
            )
        if start.context and not self.reads_prompts:
            return (
                f"model {self.name} was not trained to read on from the text before, as prompts in its "
                "manifest says; leave start.context out"
            )
        return None

    @property
    def features(self) -> tuple[str, ...]:
        """Optional parts of the protocol that the model makes possible."""
        offered = {"words": self.can_time_words, "context": self.reads_prompts}
        return tuple(name for name, is_offered in offered.items() if is_offered)


class Tiers:
    """The models that a server has loaded, by what they are for.

    Args:
        facts: Of each; there is always a live one.
        generation: Tells these models from those whose place they took while the server ran.
    """

    def __init__(self, facts: Mapping[Tier, ModelFacts], generation: int = 0) -> None:
        assert Tier.LIVE in facts, "a server reads live speech"
        self.facts = facts
        self.generation = generation
        self.is_stepped_down = False
        """Whether utterances that begin are to be read by the fallback; changed while sessions run."""

    def asked(self, start: Start) -> Tier:
        """Which one a client gets: the live one, too, where the tier it asks for has no model of its own."""
        return start.tier if start.tier in self.facts else Tier.LIVE

    def model_of(self, start: Start) -> ModelFacts:
        """Its facts."""
        return self.facts[self.asked(start)]

    def choose(self, start: Start) -> Tier:
        """Which one reads the utterance that begins."""
        tier = self.asked(start)
        is_down = self.is_stepped_down and tier is Tier.LIVE
        return Tier.FALLBACK if is_down and self._can_stand_in(start) else tier

    def _can_stand_in(self, start: Start) -> bool:
        """Whether the fallback can do what a client was promised, in any language that may be spoken."""
        fallback = self.facts[Tier.FALLBACK]
        reads_all = start.language is not None or fallback.languages >= self.facts[Tier.LIVE].languages
        return reads_all and fallback.refusal(start) is None


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What is the same for all sessions of a server."""

    tiers: Tiers
    limits: Limits
    segmenter: SegmenterConfig
    """For clients that want nothing else; its segment lengths hold for all."""
    features: tuple[str, ...] = ()
    """Optional parts of the protocol, but for those that depend on the model."""
    sure_word: float = 0.3
    """The least probability of a word that two hypotheses make stable, see ``core.captions``."""
    enough_hypotheses: int = HYPOTHESES_ENOUGH
    """So many in a row that agree on a word make it stable, however unsure they are of it."""
    partial_frames: int = 16
    """Growth of a segment after which a new partial is asked for; 16 frames are 0.512 s."""
    early_finals: bool = True
    """Whether a segment is read as a final when its pause begins, see ``core.early``."""
    beam_size_max: int = 1
    """Most beams that a client may ask for; 1 is greedy decoding only."""
    context: bool = True
    """Whether finals are read on from those before, for clients that leave it to the server."""
    error_drain_s: float = 10.0
    """How long a session that ends by an error waits for its last finals."""

    def refusal(self, start: Start) -> str | None:
        """Why a client cannot have what it asks for; None if it can."""
        if start.beam is not None and start.beam.size > self.beam_size_max:
            offered = (
                f"start.beam.size may be at most {self.beam_size_max} on this server"
                if self.beam_size_max > 1
                else "beam search is not offered by this server"
            )
            return f"{offered}, by limits.beam_size and engine.batch; leave start.beam out, or ask for less"
        return self.tiers.model_of(start).refusal(start)
