"""What it costs to keep a model sealed: sealing, loading, verifying, and memory, against the plain model.

A synthetic Whisper of the width of large-v3 with as many layers as make up the size, float16 as OpenAI
published it. Each load is a process of its own, as the engine's is, in turns with the other way; the fastest
of ``--repeat`` counts, and the highest peak of memory. The file is in the page cache: a disk costs both ways
the same. Loading includes what the engine does with weights either way: sha256, float32, a look for numbers
that are not finite. Decoding is a few steps of the loaded model's decoder. Load is judged by processor time,
which other work on the machine stretches less; verification beyond reading is judged by the clock, since a
thread does it beside the reading.
Run: ``make sealed-cost`` (2 GB; needs three times that in --folder, and as much in memory), or
``python -m benchmarks.sealing --mb 256``.
"""

import argparse
import hashlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from safetensors.torch import save_file
from whisper.model import ModelDimensions, Whisper

from stream_server.cli.machine import cpu_name
from stream_server.config import Config, ModelsSection
from stream_server.engine.access import ModelAccess, model_access
from stream_server.engine.manifest import (
    MANIFEST_NAME,
    SEALED_NAME,
    SIGNATURE_NAME,
    WEIGHTS_NAME,
    Dimensions,
    FileEntry,
    Manifest,
    read_manifest,
    read_manifest_text,
    read_verified,
    sha256_of,
)
from stream_server.engine.model import bare_whisper, load_whisper, read_unsealed
from stream_server.engine.threads import set_torch_threads
from stream_server.sealing.container import CHUNK_BYTES, seal
from stream_server.sealing.keys import read_secret_key
from stream_server.sealing.signing import sign

FIXED_MB, LAYER_MB = 145, 92
"""Of embeddings and convolutions; of one layer of the encoder and one of the decoder."""
AIM_LOAD_S_PER_GB, AIM_VERIFY_S_PER_GB, AIM_PEAK_MB = 10.0, 0.2, 50.0
PRACTICE_LOAD_S, PRACTICE_PEAK_MB, PRACTICE_PERCENT = 0.8, 50.0, 5.0
"""Published figures of others, for AES of the whole file: beyond the plain load."""
DECODE_STEPS = 8


def write_plain(folder: Path, n_mb: int) -> None:
    """A model folder of about ``n_mb``."""
    n_layer = max(1, round((n_mb - FIXED_MB) / LAYER_MB))
    dims = Dimensions(128, 1500, 1280, 20, n_layer, 51_866, 448, 1280, 20, n_layer)
    noise = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)).half()
    weights = {
        name: noise.repeat(tensor.numel() // len(noise) + 1)[: tensor.numel()].view(tensor.shape).clone()
        for name, tensor in bare_whisper(ModelDimensions(**msgspec.structs.asdict(dims))).state_dict().items()
    }
    folder.mkdir()
    save_file(weights, folder / WEIGHTS_NAME)
    entry = FileEntry(sha256_of(folder / WEIGHTS_NAME))
    manifest = Manifest("synthetic", dims, multilingual=True, files={WEIGHTS_NAME: entry})
    (folder / MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))


def write_keys(folder: Path) -> tuple[Path, Path, Path]:
    """Files of a key that seals, and of a pair that signs."""
    key, signer, public = folder / "key", folder / "signer.key", folder / "signer.pub"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    pair = Ed25519PrivateKey.generate()
    signer.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, signer, public


def memory_bytes(name: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def load_once(folder: Path, key: Path, public: Path) -> dict[str, float]:
    """Load a model in this process; seconds, and how far its memory grew at the peak."""
    set_torch_threads(1)
    access = model_access(Config(models=ModelsSection(str(key), (str(public),), require_signature=True)))
    before, started_s, processor_s = memory_bytes("VmRSS"), time.perf_counter(), time.process_time()
    manifest = read_manifest(folder, access.trust)
    signature_s = time.perf_counter() - started_s
    model = load_whisper(folder, manifest, torch.device("cpu"), access)
    took_s, processor_s = time.perf_counter() - started_s, time.process_time() - processor_s
    peak_mb = (memory_bytes("VmHWM") - before) / 1e6
    return {
        "load_s": took_s,
        "processor_s": processor_s,
        "signature_s": signature_s,
        "peak_mb": peak_mb,
        "decode_s": decode_s(model),
    }


@torch.inference_mode()
def decode_s(model: Whisper) -> float:
    """Processor seconds of one step of the decoder, the fastest of a few."""
    tokens, audio = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 150, model.dims.n_audio_state)
    took_s = []
    for _ in range(DECODE_STEPS):
        started_s = time.process_time()
        model.decoder(tokens, audio)
        took_s.append(time.process_time() - started_s)
    return min(took_s)


def read_once(plain: Path, sealed: Path, key: Path) -> dict[str, float]:
    """Read the weights into memory that is new to this process: as they are, checked, and decrypted too."""
    manifest, access = read_manifest(plain), ModelAccess(str(key))
    took: dict[str, float] = {}
    for name, read in (
        ("read", lambda: (plain / WEIGHTS_NAME).read_bytes()),
        ("verified", lambda: read_verified(plain, manifest, WEIGHTS_NAME)),
        ("unsealed", lambda: read_unsealed(sealed, manifest, access)),
    ):
        started_s, processor_s = time.perf_counter(), time.process_time()
        read()
        took[f"{name}_s"] = time.perf_counter() - started_s
        took[f"{name}_processor_s"] = time.process_time() - processor_s
    return took


def measured(what: str, *paths: Path) -> dict[str, float]:
    """``load_once`` or ``read_once`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sealing", what, *map(str, paths)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603  ourselves
    answer: dict[str, float] = json.loads(output)
    return answer


def arithmetic_s_per_gb() -> tuple[float, float]:
    """Processor seconds of AES-GCM alone and of sha256 alone, on one core, in pieces as large as ours."""
    piece, digest, cipher = bytes(CHUNK_BYTES), hashlib.sha256(), AESGCM(secrets.token_bytes(32))
    sealed = cipher.encrypt(bytes(12), piece, None)
    took_s = []
    for work in (lambda: cipher.decrypt(bytes(12), sealed, None), lambda: digest.update(piece)):
        started_s = time.process_time()
        for _ in range(256):
            work()
        took_s.append((time.process_time() - started_s) / (256 * len(piece)) * 1e9)
    return took_s[0], took_s[1]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=256, help="size of the model [256]")
    parser.add_argument("--repeat", type=int, default=3, help="loads of each kind [3]")
    parser.add_argument("--folder", type=Path, default=None, help="where the models are written [temporary]")
    parser.add_argument("--load", nargs=3, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load or options.read:
        print(json.dumps(load_once(*options.load) if options.load else read_once(*options.read)))
        return
    with tempfile.TemporaryDirectory(prefix="stream-server-sealing-", dir=options.folder) as folder:
        _compare(Path(folder), options.mb, options.repeat)


def _compare(folder: Path, n_mb: int, n_repeat: int) -> None:
    plain, sealed = folder / "plain", folder / "sealed"
    key, signer, public = write_keys(folder)
    write_plain(plain, n_mb)
    text = read_manifest_text(plain).manifest
    (plain / SIGNATURE_NAME).write_bytes(sign(text, signer))
    signature = (plain / SIGNATURE_NAME).read_text()
    sealed.mkdir()
    started_s = time.perf_counter()
    seal(plain, [WEIGHTS_NAME], text, signature, [read_secret_key(key)], sealed / SEALED_NAME)
    seal_s = time.perf_counter() - started_s
    n_gb = (plain / WEIGHTS_NAME).stat().st_size / 1e9
    reads = [measured("--read", plain, sealed, key) for _ in range(n_repeat)]
    loads = [
        (measured("--load", plain, key, public), measured("--load", sealed, key, public))
        for _ in range(n_repeat)
    ]
    best = [{k: min(one[i][k] for one in loads) for k in loads[0][i]} for i in (0, 1)]
    peak = [max(one[i]["peak_mb"] for one in loads) for i in (0, 1)]
    more_s, more_mb = best[1]["processor_s"] - best[0]["processor_s"], peak[1] - peak[0]
    grown = (sealed / SEALED_NAME).stat().st_size / (plain / WEIGHTS_NAME).stat().st_size - 1
    print(f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, torch {torch.__version__}, 1 thread")
    print(f"weights of {1e3 * n_gb:,.0f} MB, float16; fastest of {n_repeat}, highest peak of {n_repeat}\n")
    print("|                                   | plain | sealed | difference |       aim |")
    print("|-----------------------------------|-------|--------|------------|-----------|")
    _row("load, s", best[0]["load_s"], best[1]["load_s"], "")
    read = {name: min(one[name] for one in reads) / n_gb for name in reads[0]}
    per_gb = [one["processor_s"] / n_gb for one in best]
    _row("processor time to load, s per GB", *per_gb, f"≤ +{AIM_LOAD_S_PER_GB:g}")
    _row("of it to read, check, decrypt", read["verified_processor_s"], read["unsealed_processor_s"], "")
    _row("peak of memory while loading, MB", peak[0], peak[1], f"≤ +{AIM_PEAK_MB:g}")
    _row("a step of the decoder, ms", *(1e3 * one["decode_s"] for one in best), "the same")
    print()
    print(f"sealing: {seal_s:.2f} s, {seal_s / n_gb:.2f} s per GB; the file grows by {grown:.4%}")
    print(f"signature, of whatever size: {1e3 * max(one['signature_s'] for one in best):.1f} ms")
    verify_s_per_gb = read["verified_s"] - read["read_s"]
    print(
        f"verification by sha256, in both ways: {verify_s_per_gb:+.2f} s per GB beyond reading, by the clock "
        f"(aim: ≤ +{AIM_VERIFY_S_PER_GB:g})"
    )
    aes_s, sha256_s = arithmetic_s_per_gb()
    print(f"arithmetic, s of a core per GB: AES-GCM {aes_s:.2f}, sha256 {sha256_s:.2f}")
    percent = 100 * more_s / best[0]["processor_s"]
    print(
        f"sealed beyond plain: {more_s:+.2f} s ({percent:+.1f} %), {more_mb:+.0f} MB; published practice, "
        f"AES of the whole file: +{PRACTICE_LOAD_S:g} s, +{PRACTICE_PEAK_MB:g} MB, < {PRACTICE_PERCENT:g} %"
    )
    aims = {
        "load": more_s / n_gb <= AIM_LOAD_S_PER_GB,
        "memory": more_mb <= AIM_PEAK_MB,
        "verification": verify_s_per_gb <= AIM_VERIFY_S_PER_GB,
    }
    missed = [name for name, is_reached in aims.items() if not is_reached]
    print(f"aims NOT reached: {', '.join(missed)}" if missed else "all aims reached")


def _row(what: str, plain: float, sealed: float, aim: str) -> None:
    print(f"| {what:33} | {plain:5.2f} | {sealed:6.2f} | {sealed - plain:+10.2f} | {aim:>9} |")


if __name__ == "__main__":
    main()
