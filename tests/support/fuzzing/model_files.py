"""Files of models: manifests, signatures, sealed containers, and checkpoints that are imported."""

import base64
import functools
import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from safetensors.torch import save

from fuzzing.target import DEEP, Target, as_file, scratch
from stream_server.engine.manifest import read_manifest, version_key
from stream_server.engine.pages import Pages
from stream_server.engine.weights import take_weights
from stream_server.errors import ModelError
from stream_server.models import checkpoint as checkpoints
from stream_server.models.huggingface import dimensions_of, parse_config, parse_generation_config
from stream_server.sealing.container import SealedFile, seal
from stream_server.sealing.keys import SecretKey
from stream_server.sealing.signing import PURPOSE, Signature, Trust, TrustedKey

_DIMS = {
    **{"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 64, "n_audio_head": 1, "n_audio_layer": 1},
    **{"n_vocab": 51_865, "n_text_ctx": 448, "n_text_state": 64, "n_text_head": 1, "n_text_layer": 1},
}
_MANIFEST = json.dumps(
    {
        "id": "some",
        "dims": _DIMS,
        "multilingual": True,
        "files": {"model.safetensors": {"sha256": "0" * 64}},
        "version": "1.2",
        "guard": {},
    }
).encode()


def _feed_manifest(data: bytes) -> None:
    folder = scratch() / "model"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(data)
    manifest = read_manifest(folder)
    version_key(manifest.version)
    assert manifest.n_languages >= 1
    assert manifest.dims.n_audio_state % manifest.dims.n_audio_head == 0


manifest = Target(
    _feed_manifest,
    (ModelError,),
    lambda: [_MANIFEST, b"{}", _MANIFEST.replace(b"64", b"0")],
    (
        b'"audio_context":"fit"',
        b'"context_tail_s":',
        b'"alignment_heads":',
        b'"prompts":',
        b"1e999",
        b'"version":',
        b'{"x":' + DEEP,
    ),
)


# ---------------------------------------------------------------- signatures and sealed files

_SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_TRUST = Trust(
    (
        TrustedKey(
            Path("trusted.pem"),
            _SIGNER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ),
    ),
    is_required=True,
)


def _genuine_signature() -> Signature:
    signature = base64.b64encode(_SIGNER.sign(PURPOSE + _MANIFEST)).decode()
    return Signature("ed25519", _TRUST.keys[0].id, signature)


def _feed_signature(data: bytes) -> None:
    assert _TRUST.check(_MANIFEST, data, Path("model")) is _TRUST.keys[0]
    found, genuine = msgspec.json.decode(data, type=Signature), _genuine_signature()
    assert base64.b64decode(found.signature) == base64.b64decode(genuine.signature)


signature = Target(
    _feed_signature,
    (ModelError,),
    lambda: [msgspec.json.encode(_genuine_signature()), b"{}"],
    (b"ecdsa-p256-sha256", b"ed25519", b"==", DEEP),
)

_KEY = SecretKey(bytes(range(32)))
_FILES = {"model.safetensors": b"weights " * 40, "tokenizer": b"x"}


def _feed_sealed(data: bytes) -> None:
    path = as_file(data, "model.sealed")
    files: dict[str, bytes] = {}
    with SealedFile(path) as sealed:
        for name, piece in sealed.pieces(_KEY):
            files[name] = files.get(name, b"") + piece
    assert files == _FILES, "what was altered was opened"


@functools.cache
def _sealed() -> bytes:
    folder = scratch() / "plain"
    folder.mkdir()
    for name, content in _FILES.items():
        (folder / name).write_bytes(content)
    seal(folder, list(_FILES), _MANIFEST, None, [_KEY], folder / "out")
    return (folder / "out").read_bytes()


sealed = Target(
    _feed_sealed,
    (ModelError,),
    lambda: [_sealed(), _sealed()[:-1], _sealed()[:40]],
    (b"stream-server sealed 1\n", b'"kind":"age"', b'"size":', b"\xff\xff\xff\xff", b"\0\0\0\0", b"-1"),
)


# ---------------------------------------------------------------- checkpoints


def _feed_huggingface_config(data: bytes) -> None:
    dims = dimensions_of(parse_config(data))
    assert dims.n_vocab >= 51_864


def _huggingface_config() -> bytes:
    return json.dumps(
        {
            **{"model_type": "whisper", "d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 1},
            **{"decoder_layers": 1, "decoder_attention_heads": 1, "num_mel_bins": 80, "vocab_size": 51_865},
            **{"max_source_positions": 1500, "max_target_positions": 448},
        }
    ).encode()


huggingface_config = Target(
    _feed_huggingface_config,
    (ValueError,),
    lambda: [_huggingface_config(), b"{}"],
    (b'"scale_embedding":true', b'"activation_function":', b"null", b"-1", b"9999999999999999999", DEEP),
)


def _feed_generation_config(data: bytes) -> None:
    parse_generation_config(data)


generation_config = Target(
    _feed_generation_config,
    (ValueError,),
    lambda: [b'{"alignment_heads": [[0, 1], [2, 3]]}', b'{"alignment_heads": null}'],
    (b"[[", b"-1", b"null", b'{"x":' + DEEP),
)


def _feed_huggingface(data: bytes) -> None:
    folder = scratch() / "huggingface"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(_huggingface_config())
    (folder / "generation_config.json").write_bytes(b'{"alignment_heads": [[0, 0]]}')
    (folder / "model.safetensors").write_bytes(data)
    checkpoints.read_huggingface(folder)


def _safetensors_seeds() -> Iterator[bytes]:
    yield save({"model.encoder.conv1.weight": torch.zeros(2, 3), "proj_out.weight": torch.zeros(1)})
    yield save({"a": torch.zeros(2, dtype=torch.int8)})
    yield b"\x02\0\0\0\0\0\0\0{}"


safetensors = Target(
    _feed_huggingface,
    (ModelError,),
    _safetensors_seeds,
    (
        b'"dtype":"BF16"',
        b'"shape":[',
        b'"data_offsets":[0,0]',
        b'"__metadata__":',
        b"18446744073709551615",
        b"-1",
    ),
    rss_mb_max=1_536,
    n_suite=40,
)


def _feed_weights(data: bytes) -> None:
    content = Pages(len(data))
    content.view[:] = data
    for tensor in take_weights(Path("model.safetensors"), content, torch.device("cpu")).values():
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()


weights = Target(
    _feed_weights,
    (ModelError,),
    lambda: [*_safetensors_seeds(), save({"a": torch.ones(2).half(), "b": torch.ones(3).bfloat16()})],
    safetensors.words,
    rss_mb_max=1_536,
)


def _feed_openai(data: bytes) -> None:
    checkpoints.read_openai(as_file(data, "model.pt"))


def _openai_seeds() -> Iterator[bytes]:
    for content in (
        {"dims": _DIMS, "model_state_dict": {"decoder.ln.weight": torch.zeros(3)}},
        {"dims": {}, "model_state_dict": {}},
        {"dims": 1},
        [torch.zeros(2, dtype=torch.int8)],
    ):
        file = io.BytesIO()
        torch.save(content, file)
        yield file.getvalue()
    yield pickle.dumps({"dims": 1})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", hashlib.sha256().digest())
    yield file.getvalue()


openai_checkpoint = Target(
    _feed_openai,
    (ModelError,),
    _openai_seeds,
    (
        b"PK\x03\x04",
        b"PK\x01\x02",
        b"PK\x05\x06",
        b"data.pkl",
        b"\x80\x02",
        b"c__builtin__\neval\n",
        b"ctorch\n",
    ),
    rss_mb_max=1_536,
    n_suite=40,
)
