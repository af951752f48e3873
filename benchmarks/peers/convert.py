"""The other side of ``benchmarks.peers.weights``: runs in a peer's environment, with CTranslate2."""

import json
import sys
from pathlib import Path

from benchmarks.faster_whisper_side import Weights


def main() -> None:
    """Convert ``weights.npz`` of the folder given into the folder itself."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    spec = Weights(str(folder / "weights.npz")).spec(settings["dims"])
    spec.register_vocabulary(settings["vocabulary"])
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = settings["suppress_ids_begin"]
    spec.config.lang_ids = settings["language_ids"]
    spec.config.alignment_heads = settings["alignment_heads"]
    spec.validate()
    spec.optimize()
    spec.save(str(folder))


if __name__ == "__main__":
    main()
