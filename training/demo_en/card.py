"""The model card, for people: ``card.md`` filled in with the figures of the model's manifest."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

TEMPLATE = Path(__file__).with_name("card.md")
WANTED = {"clean": 0.08, "noise 10 dB": 0.15, "telephone": 0.15, "festival": 0.20}
"""Condition of the recordings → the share of wrong words that we want at most."""
_MEANINGS = {
    "clean": "training voices, undisturbed",
    "noise 10 dB": "the same readings in noise, 10 dB below speech",
    "telephone": "the same readings by telephone, 8 kHz µ-law",
    "festival": "the same sentences by festival's voices, never trained on",
    "dialogue": "two minutes of conversation by four training voices",
}


def write(folder: Path, path: Path) -> Path:
    """Write the card of the model in ``folder``."""
    path.write_text(render(json.loads((folder / "manifest.json").read_text())))
    return path


def render(manifest: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    dims = manifest["dims"]
    return Template(TEMPLATE.read_text()).substitute(
        id=manifest["id"],
        note=manifest["note"][:1].upper() + manifest["note"][1:],
        n_mels=dims["n_mels"],
        width=dims["n_audio_state"],
        encoder_layers=dims["n_audio_layer"],
        decoder_layers=dims["n_text_layer"],
        n_vocab=f"{dims['n_vocab']:,}",
        licence=manifest["licence"],
        rates=_rates(manifest["measured"].get("recordings")),
        trained=_trained(manifest["trained"]),
        limits="\n".join(f"- {line}" for line in _limits(manifest)),
        format="\n".join(f"| {name} | {value} |" for name, value in _format(manifest).items()),
    )


def _rates(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "Not measured on the recordings yet: `python -m training.demo_en rates`."
    rates = measured["conditions"]
    names = [*(name for name in _MEANINGS if name in rates), *sorted(rates.keys() - _MEANINGS.keys())]
    rows = [
        f"| {name} | {_MEANINGS.get(name, '')} | {rates[name]['words']} | {rates[name]['wer']:.1%} "
        f"| {_wanted(name)} |"
        for name in names
    ]
    missed = [name for name in WANTED if name in rates and rates[name]["wer"] > WANTED[name]]
    verdict = f"**Not reached: {', '.join(missed)}.**" if missed else "All that was wanted is reached."
    return "\n".join(
        [
            "| condition | | words | wrong words | wanted |",
            "|---|---|--:|--:|--:|",
            *rows,
            "",
            f"{verdict} Words invented in silence and in noise: {measured['invented_words']}.",
            f"Measured on {measured['date']} ({measured['cpu']}) by",
            f"`{measured['command']}`,",
            "which cuts at pauses as the server does and compares after Whisper's English normaliser. The",
            "recordings are those of `stream_server/assets/recordings/heldout`: their text is not in the",
            "training corpus.",
        ]
    )


def _wanted(name: str) -> str:
    return f"≤ {WANTED[name]:.0%}" if name in WANTED else ""


def _trained(trained: dict[str, Any]) -> str:
    if "how" in trained:
        return str(trained["how"])
    seeds = ", ".join(f"{name} {seed}" for name, seed in trained["seeds"].items())
    return "\n".join(
        [
            f"{trained['steps']:,} steps in {trained['hours_of_training']:.1f} hours, exported on"
            f" {trained['date']}, from {trained['hours_of_speech']} hours",
            f"of synthesised speech by {trained['voices']}. Seeds: {seeds}.",
            "",
            "```",
            *trained["commands"],
            "```",
        ]
    )


def _limits(manifest: dict[str, Any]) -> list[str]:
    lines = [
        "It knows the voices of two synthesisers. Other synthesisers it reads worse, people hardly at all.",
        "Names and words that are not in its corpus it spells by ear.",
        "Text that it is unsure of is left out (`guard` in its manifest) and counts as wrong above.",
        "It does not translate, and it reads no other language.",
    ]
    if not manifest["timestamps"]:
        lines.append("It was not trained to write timestamps.")
    if not manifest["prompts"]:
        lines.append("It was not trained with previous text: a prompt does not help it.")
    return lines


def _format(manifest: dict[str, Any]) -> dict[str, str]:
    tail_s = manifest["context_tail_s"]
    return {
        "weights": "`model.safetensors`, fp16",
        "sha256": f"`{manifest['files']['model.safetensors']['sha256']}`",
        "tokenizer": manifest["tokenizer"],
        "audio context": f"`{manifest['audio_context']}`, {tail_s} s of silence at its end",
        "timestamps trained": "yes" if manifest["timestamps"] else "no",
        "prompts trained": "yes" if manifest["prompts"] else "no",
        "alignment heads": "in `manifest.json`" if manifest["alignment_heads"] else "none",
    }
