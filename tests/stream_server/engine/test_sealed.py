"""Sealed models in the engine: the same weights as the plain ones, or not one of them."""

import json
import random
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import models
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from stream_server.config import Config, ModelsSection, VaultSection
from stream_server.engine import model as engine_model
from stream_server.engine.access import ModelAccess, model_access
from stream_server.engine.manifest import embedded_model, read_manifest, read_manifest_text
from stream_server.engine.model import load_whisper
from stream_server.engine.transcriber import WhisperTranscriber
from stream_server.errors import ConfigError, ModelError
from stream_server.sealing.container import seal
from stream_server.sealing.external import VaultKey, VaultServer
from stream_server.sealing.keys import read_secret_key
from stream_server.sealing.signing import sign

CPU = torch.device("cpu")


class Place:
    """A plain model, the same one sealed, and the keys for both."""

    def __init__(self, folder: Path) -> None:
        self.plain = models.write_model(
            folder / "plain", models.random_whisper(models.shape(64, 2, n_layer=1)), id="ours"
        )
        self.sealed = folder / "sealed"
        self.key = folder / "key"
        self.key.write_text(secrets.token_hex(32))
        self.key.chmod(0o600)
        self.signer, self.public = folder / "signer.pem", folder / "signer.pub"
        key = Ed25519PrivateKey.generate()
        self.signer.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.public.write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        self.seal()

    def seal(self, weights: Path | None = None, signature: str | None = None) -> None:
        self.sealed.mkdir(exist_ok=True)
        manifest = read_manifest_text(self.plain).manifest
        out = self.sealed / "model.sealed"
        names = ["model.safetensors"]
        seal(weights or self.plain, names, manifest, signature, [read_secret_key(self.key)], out)

    @property
    def access(self) -> ModelAccess:
        return ModelAccess(str(self.key))

    @property
    def strict(self) -> ModelAccess:
        section = ModelsSection(str(self.key), (str(self.public),), require_signature=True)
        return model_access(Config(models=section))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def load(folder: Path, access: ModelAccess) -> dict[str, torch.Tensor]:
    manifest = read_manifest(folder, access.trust)
    return load_whisper(folder, manifest, CPU, access).state_dict()


def test_a_sealed_model_has_the_same_weights(place: Place) -> None:
    plain, sealed = load(place.plain, ModelAccess()), load(place.sealed, place.access)
    assert plain.keys() == sealed.keys()
    for name in plain.keys() - {"alignment_heads"}:
        assert torch.equal(plain[name], sealed[name]), name


def test_nothing_of_it_is_left_on_disk(place: Place) -> None:
    before = sorted(str(path) for path in place.sealed.parent.rglob("*"))
    load(place.sealed, place.access)
    assert sorted(str(path) for path in place.sealed.parent.rglob("*")) == before


def test_without_a_key_the_error_says_where_to_name_one(place: Place) -> None:
    with pytest.raises(ModelError, match=r"model.sealed is sealed and no key .* \[models\]"):
        load(place.sealed, ModelAccess())


def test_a_wrong_key_is_told_and_not_repeated(place: Place) -> None:
    wrong = secrets.token_hex(32)
    place.key.write_text(wrong)
    with pytest.raises(ModelError, match=r"model.sealed is not sealed for this key") as caught:
        load(place.sealed, place.access)
    assert wrong not in repr(caught.value)


def test_nothing_of_an_altered_model_is_parsed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(engine_model, "take_weights", parse)
    path = place.sealed / "model.sealed"
    whole = path.read_bytes()
    rng = random.Random(7)
    for _ in range(20):
        i = rng.randrange(len(whole))
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << rng.randrange(8)]) + whole[i + 1 :])
        with pytest.raises(ModelError, match=r"model\.sealed"):
            load(place.sealed, place.access)


def test_a_sealed_file_with_other_weights_than_the_manifest_names_is_refused(
    place: Place, tmp_path: Path
) -> None:
    """Whoever has the key, or the public half of one, can seal anything under a manifest that is signed."""
    other = models.write_model(
        tmp_path / "other", models.random_whisper(models.shape(64, 2, n_layer=1), seed=1)
    )
    place.seal(other, sign(read_manifest_text(place.plain).manifest, place.signer).decode())
    with pytest.raises(ModelError, match=r"holds another model\.safetensors than its manifest"):
        load(place.sealed, place.strict)


def test_a_signed_model_is_loaded_where_a_signature_is_required(place: Place) -> None:
    signature = sign(read_manifest_text(place.plain).manifest, place.signer)
    (place.plain / "manifest.sig").write_bytes(signature)
    place.seal(signature=signature.decode())
    assert load(place.plain, place.strict).keys() == load(place.sealed, place.strict).keys()


def test_an_unsigned_one_is_not_and_its_manifest_is_not_even_parsed(place: Place) -> None:
    (place.plain / "manifest.json").write_text("not JSON")
    for folder in (place.plain, place.sealed):
        with pytest.raises(ModelError, match="is not signed"):
            load(folder, place.strict)


def test_a_manifest_altered_after_it_was_signed_is_refused(place: Place) -> None:
    (place.plain / "manifest.sig").write_bytes(sign(read_manifest_text(place.plain).manifest, place.signer))
    manifest = json.loads((place.plain / "manifest.json").read_text())
    (place.plain / "manifest.json").write_text(json.dumps(manifest | {"licence": "mine"}))
    with pytest.raises(ModelError, match="altered after it was signed"):
        load(place.plain, place.strict)


def test_the_embedded_model_needs_no_signature_but_a_copy_of_it_does(place: Place, tmp_path: Path) -> None:
    assert WhisperTranscriber(embedded_model(), "cpu", place.strict).facts.name == "demo-en"
    shutil.copytree(embedded_model(), tmp_path / "copy")
    with pytest.raises(ModelError, match="is not signed"):
        WhisperTranscriber(tmp_path / "copy", "cpu", place.strict)


def test_a_public_key_that_is_none_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models.trusted_keys: .*gone"):
        model_access(Config(models=ModelsSection(None, (str(tmp_path / "gone"),), require_signature=True)))


_MEASURED = """
import os, sys
from pathlib import Path
import torch
from stream_server.engine.access import ModelAccess
from stream_server.engine.manifest import read_manifest
from stream_server.engine.model import bare_whisper, load_whisper
from whisper.model import ModelDimensions

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1]) * 1024

torch.set_num_threads(1)
# The first model of a process makes torch import 150 MB of its own.
bare_whisper(ModelDimensions(80, 1500, 64, 2, 1, 51865, 448, 64, 2, 1))
for folder in map(Path, sys.argv[2:]):
    child = os.fork()  # So that none begins with what another left.
    if child == 0:
        before = status("VmRSS")
        model = load_whisper(folder, read_manifest(folder), torch.device("cpu"), ModelAccess(sys.argv[1]))
        print(status("VmHWM") - before, sum(t.nbytes for t in model.state_dict().values()), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_loading_takes_the_weights_and_one_tensor_at_the_peak_sealed_or_not(place: Place) -> None:
    """Aim: a sealed model takes at most 50 MB more than a plain one, of whatever size."""
    model = models.random_whisper(models.base(n_layer=1)).half()
    models.write_model(place.plain, model)
    place.seal()
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(place.key), str(place.plain), str(place.sealed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    plain, sealed = (tuple(map(int, line.split())) for line in ran.stdout.splitlines())
    largest = max(tensor.nbytes for tensor in model.state_dict().values())
    for peak, weights in (plain, sealed):
        assert weights <= peak <= weights + largest + 12_000_000
    assert sealed[0] <= plain[0] + 12_000_000


def test_an_external_key_is_checked_before_anything_is_loaded() -> None:
    for key, says in (
        ("vault:transit/models", r"needs \[vault\]"),
        ("pkcs11:object=a", "lacks .module-path"),
    ):
        with pytest.raises(ConfigError, match=f"models.key: .*{says}"):
            model_access(Config(models=ModelsSection(key)))
    vault = VaultSection("https://vault.example")
    with pytest.raises(ConfigError, match="offline = true"):
        model_access(Config(offline=True, models=ModelsSection("vault:transit/models"), vault=vault))
    access = model_access(Config(models=ModelsSection("vault:transit/models"), vault=vault))
    assert access.read_key(Path("model.sealed")) == VaultKey(
        VaultServer("https://vault.example"), "transit", "models"
    )
    on_a_token = ModelsSection("pkcs11:object=a?module-path=/lib/x.so")
    assert model_access(Config(offline=True, models=on_a_token)).vault is None
