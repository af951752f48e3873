"""The examples of the documents are run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import readings
import soundfile
from live_server import LiveServer
from numpy.typing import NDArray
from pki import ClientPair, Pki

pytestmark = [pytest.mark.model, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def python_block(document: str, after: str) -> str:
    """The first Python block after a piece of text."""
    text = (ROOT / document).read_text(encoding="utf-8")
    match = re.compile(r"```python\n(.*?)```", re.DOTALL).search(text, text.index(after))
    assert match is not None
    return match.group(1)


def run(code: str, *arguments: str, cwd: Path) -> str:
    """What a script prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_shown(samples: NDArray[np.int16], printed: str) -> None:
    """What the embedded model reads of the recording stands in the text, and it is not nothing."""
    (captions,) = readings.read([samples])
    assert captions
    assert [caption for caption in captions if caption not in printed] == []


def test_the_plain_client_of_the_protocol_document_works(
    real: LiveServer, pki: Pki, source: ClientPair, recordings: Path, tmp_path: Path
) -> None:
    code = python_block("docs/protocol.md", "<!-- example: plain-client -->")
    assert "stream_server" not in code
    samples = readings.load(recordings / "02.flac")
    soundfile.write(tmp_path / "speech.wav", samples, 16_000, subtype="PCM_16")
    said = run(
        code,
        real.url,
        str(pki.ca),
        str(source.cert),
        str(source.key),
        str(tmp_path / "speech.wav"),
        cwd=tmp_path,
    )
    assert_shown(samples, said)


def test_the_python_example_of_the_readme_works(
    real: LiveServer, pki: Pki, source: ClientPair, recordings: Path
) -> None:
    code = python_block("README.md", "### From Python")
    code = code.replace("wss://localhost:8443/v1/stream", real.url)
    code = code.replace(".demo/certs", str(pki.store.folder))
    assert_shown(readings.load(recordings / "01.flac"), run(code, cwd=ROOT))


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:stream_server|vad|certs|tools|docs|tests)/[\w./-]+)`", text)
    missing = [name for name in [*links, *named] if not (ROOT / name).exists()]
    assert not missing
