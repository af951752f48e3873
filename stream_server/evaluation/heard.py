"""What came back during one streaming, with the time of each arrival."""

from dataclasses import dataclass, field

from stream_server.client import Event, FinalEvent, FinishedEvent, PartialEvent
from stream_server.client.latency import Arrival


@dataclass(slots=True)
class Heard:
    """Everything that came back during one streaming, with the time of each arrival."""

    finals: list[Arrival[FinalEvent]] = field(default_factory=list)
    partials: list[Arrival[PartialEvent]] = field(default_factory=list)
    finished_s: float | None = None
    """Arrival of ``finished``, seconds since the first sample; None when it never came."""
    n_segments: int | None = None
    """How many finals there were, as ``finished`` tells."""

    def note(self, event: Event, at_s: float) -> None:
        """Remember what is measured; ``at_s`` is seconds since the first sample."""
        match event:
            case FinalEvent():
                self.finals.append(Arrival(event, at_s))
            case PartialEvent():
                self.partials.append(Arrival(event, at_s))
            case FinishedEvent():
                self.finished_s = at_s
                self.n_segments = event.segments

    @property
    def text(self) -> str:
        """All finals, in order."""
        return " ".join(final.event.text.strip() for final in self.finals)
