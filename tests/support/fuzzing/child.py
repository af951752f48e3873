"""One target under atheris, in a process of its own: ``python -m fuzzing.child TARGET CORPUS [options]``.

Options are libFuzzer's. Code is instrumented while it is imported, hence what is to be watched is imported
in here and not above.
"""

import hashlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from fuzzing.target import Target

WATCHED = ["stream_server", "certs", "tomllib", "websockets"]
"""The parsers, and pure Python that they call; C, such as msgspec's JSON, is not seen."""
FOUND = Path(__file__).parents[2] / "fuzz" / "found"


def main() -> None:
    """Fuzz until libFuzzer's limits are reached, or an input crashes."""
    name, corpus, *options = sys.argv[1:]
    logging.disable()
    with atheris.instrument_imports(include=WATCHED):
        from fuzzing import catalogue
        from fuzzing.target import check

        target = catalogue.load(name)
    plant(target, name, Path(corpus))
    atheris.Setup([sys.argv[0], *options, corpus], lambda data: check(target, data) and None)
    atheris.Fuzz()


def plant(target: "Target", name: str, corpus: Path) -> None:
    """Put the seeds, and what once crashed, among the inputs to begin from.

    Here and not in the process that starts this one: seeds are signed by keys that each process makes.
    """
    for data in (*target.seeds(), *(path.read_bytes() for path in sorted(FOUND.glob(f"{name}/*")))):
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    main()
