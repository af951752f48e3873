"""``python -m training.demo_en corpus|speech|train|export|recordings|monologues|rates|card``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

# Threads that wait must sleep, not spin: where other work wants the same two cores, spinning made a step
# four times slower (measured: 4.2-7.6 s against 1.1-1.4 s). OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make demo-en, and measure and describe it."
)

Work = Annotated[Path, typer.Option(help="Folder that holds everything the steps write.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="A tiny run, to see that the pipeline works.")]


@app.command("corpus")
def corpus_command(work: Work = Path("training/state"), smoke: Smoke = False) -> None:
    """Write the sentences."""
    from . import config, corpus

    corpus.build(work, config.smoke_corpus() if smoke else config.CorpusConfig())


@app.command("speech")
def speech_command(
    work: Work = Path("training/state"),
    smoke: Smoke = False,
    processes: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Let the synthesisers read the sentences, and the held-out ones for tests."""
    from . import config, speech

    speech.build(work, config.smoke_speech() if smoke else config.SpeechConfig(), processes)


@app.command("train")
def train_command(
    work: Work = Path("training/state"),
    smoke: Smoke = False,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    steps: Annotated[int | None, typer.Option(help="Stop after this many steps in all.")] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Let the rate fall to zero from here.")] = False,
) -> None:
    """Train the network, from its last checkpoint; SIGTERM stops it in good order."""
    from . import config, train

    chosen = config.smoke_training() if smoke else config.TrainConfig()
    train.run(work, chosen.until(steps), device, finish)


@app.command("export")
def export_command(
    work: Work = Path("training/state"),
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Write the checkpoint that Whisper reads and its manifest, into WORK/export."""
    from . import export

    print(f"wrote {export.run(work, device)}")


@app.command("recordings")
def recordings_command(
    work: Work = Path("training/state"),
    out: Annotated[Path | None, typer.Option(help="Folder to write to. [default: WORK/recordings]")] = None,
    smoke: Smoke = False,
) -> None:
    """Read the recordings that judge a model, with the times of their words."""
    from . import recordings

    print(f"wrote {recordings.build(work, out or work / 'recordings', smoke)}")


@app.command("demonstration")
def demonstration_command(
    work: Work = Path("training/state"),
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. [default: WORK/demonstration]")
    ] = None,
) -> None:
    """Read the dialogue that ``stream-server demo`` streams, and short sentences."""
    from . import demonstration

    print(f"wrote {demonstration.build(out or work / 'demonstration')}")


@app.command("monologues")
def monologues_command(
    work: Work = Path("training/state"),
    out: Annotated[Path | None, typer.Option(help="Folder to write to. [default: WORK/monologues]")] = None,
) -> None:
    """Read running speech, for ``python -m benchmarks.seams WORK/monologues/manifest.json``."""
    from . import monologues

    print(f"wrote {monologues.build(out or work / 'monologues')}")


@app.command("rates")
def rates_command(
    work: Work = Path("training/state"),
    model: Annotated[Path | None, typer.Option(help="Folder of the model. [default: WORK/export]")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="List of recordings. [default: the included held-out ones]")
    ] = None,
) -> None:
    """Let ``stream-server evaluate`` measure a model, and note its error rates in the model's manifest."""
    from . import rates

    print(f"wrote {rates.note(model or work / 'export', manifest)}")


@app.command("card")
def card_command(
    work: Work = Path("training/state"),
    model: Annotated[Path | None, typer.Option(help="Folder of the model. [default: WORK/export]")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write. [default: demo-en.md beside it]")] = None,
) -> None:
    """Write the model card from the model's manifest."""
    from . import card

    folder = model or work / "export"
    print(f"wrote {card.write(folder, out or folder / 'demo-en.md')}")


def main() -> None:
    """Run a command; what the user can mend is said in one line."""
    from .rates import EvaluationFailed
    from .reading import MissingSynthesiser
    from .script import NotHeldOut
    from .words import MissingPackage

    try:
        app()
    except (EvaluationFailed, MissingPackage, MissingSynthesiser, NotHeldOut) as error:
        raise SystemExit(f"error: {error}") from error
    except FileNotFoundError as error:
        raise SystemExit(
            f"error: {error.filename} is missing; run the steps before this one first"
        ) from error


if __name__ == "__main__":
    main()
