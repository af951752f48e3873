"""The options of commands that can search with beams, named as in openai-whisper."""

from typing import Annotated

import typer

from stream_server.core.messages import BeamSearch
from stream_server.dialects.schema import BeamObject

BeamSizeOption = Annotated[
    int | None,
    typer.Option(
        help="Search finals with so many texts side by side, such as 5: better where speech is hard to hear, "
        "and slower. [default: the likeliest token after the other]",
        show_default=False,
    ),
]
PatienceOption = Annotated[
    float | None,
    typer.Option(
        help="With --beam-size: search on until so many times as many texts have ended. [default: 1]",
        show_default=False,
    ),
]
LengthPenaltyOption = Annotated[
    float | None,
    typer.Option(
        help="With --beam-size: power by which longer texts are favoured, 0 to 1. "
        "[default: the mean of the tokens decides]",
        show_default=False,
    ),
]


def chosen_beam(size: int | None, patience: float | None, length_penalty: float | None) -> BeamSearch | None:
    """What the options ask for; None without ``--beam-size``.

    Raises:
        typer.BadParameter: A value is out of its bounds, or belongs to a search that was not asked for.
    """
    if size is None:
        if patience is not None or length_penalty is not None:
            raise typer.BadParameter("--patience and --length-penalty need --beam-size, such as 5")
        return None
    try:
        return BeamSearch(size, 1.0 if patience is None else patience, length_penalty)
    except ValueError as exc:
        raise typer.BadParameter(f"--beam-size and what belongs to it: {exc}") from exc


def beam_object(beam: BeamSearch | None) -> BeamObject | None:
    """The same as the client takes it."""
    return None if beam is None else BeamObject(beam.size, beam.patience, beam.length_penalty)
