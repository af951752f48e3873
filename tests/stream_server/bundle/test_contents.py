"""What is in the archive, and its bill of materials."""

import json
import re
import shutil
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wheelhouse import pip_wheel, write_house, write_wheel

from stream_server.bundle.archive import Member
from stream_server.bundle.contents import Contents, contents
from stream_server.bundle.wheels import read_folder
from stream_server.engine.manifest import embedded_model
from stream_server.errors import BundleError, ModelError


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return write_house(tmp_path / "house")


def made_of(house: Path, **models: Path) -> Contents:
    return contents(read_folder(house), models, None, None)


def text(member: Member) -> str:
    return (member.content if isinstance(member.content, bytes) else member.content.read_bytes()).decode()


def test_everything_is_there_and_in_the_sums(house: Path) -> None:
    made = made_of(house, small=embedded_model())
    assert made.folder.startswith("stream-server-1.0-cp3")
    listed = {line.partition("  ")[2] for line in text(made.members["SHA256SUMS"]).splitlines()}
    assert listed == set(made.members) - {"SHA256SUMS"}
    assert {
        "install.sh", "README.txt", "bundle.txt", "requirements.txt", "sbom.cdx.json", "licences/LIST.txt",
        "licences/helper-1.2/licenses/LICENSE", "wheels/helper-1.2-py3-none-any.whl",
        "models/small/manifest.json", "models/small/model.safetensors",
    } <= listed  # fmt: skip
    assert made.members["install.sh"].is_executable


def test_pip_installs_the_wheels_by_hash_and_not_itself(house: Path) -> None:
    made = made_of(house)
    digest = made.members["wheels/helper-1.2-py3-none-any.whl"].sha256()
    lines = text(made.members["requirements.txt"]).splitlines()
    assert f"helper==1.2 --hash=sha256:{digest}" in lines
    assert not any(line.startswith("pip==") for line in lines)
    assert f"wheels/{pip_wheel().name}" in made.members


def test_a_wheel_without_the_text_of_its_licence_is_named(house: Path) -> None:
    write_wheel(house, "helper", "1.3", licence=None)
    made = made_of(house)
    assert made.unlicensed == ["helper (MIT)"]
    assert "helper 1.3: MIT (its wheel has no text of it)" in text(made.members["licences/LIST.txt"])


def test_a_model_is_checked_and_files_beside_it_are_refused(house: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(embedded_model(), tmp_path / "model"))
    (model / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        made_of(house, mine=model)
    (model / "notes.txt").unlink()
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        made_of(house, mine=model)


def test_files_for_running_it_as_a_service_come_along(house: Path, tmp_path: Path) -> None:
    deploy = tmp_path / "deploy"
    (deploy / "systemd").mkdir(parents=True)
    (deploy / "systemd" / "stream-server.service").write_text("[Unit]\n")
    made = contents(read_folder(house), {}, deploy, None)
    assert text(made.members["deploy/systemd/stream-server.service"]) == "[Unit]\n"


def test_the_signature_is_of_the_sums(house: Path) -> None:
    key = Ed25519PrivateKey.generate()
    made = contents(read_folder(house), {}, None, key)
    signature, sums = made.members["SHA256SUMS.sig"].content, made.members["SHA256SUMS"].content
    assert isinstance(signature, bytes)
    assert isinstance(sums, bytes)
    key.public_key().verify(signature, sums)
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, sums + b"\n")


def test_the_bill_of_materials_lists_every_part(house: Path) -> None:
    made = made_of(house, small=embedded_model())
    bill = json.loads(text(made.members["sbom.cdx.json"]))
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/stream-server@1.0"
    assert bill["metadata"]["component"]["type"] == "application"
    parts = {part["name"]: part for part in bill["components"]}
    assert list(parts) == ["helper", "pip", "small"]
    assert parts["helper"] == {
        "type": "library",
        "bom-ref": "pkg:pypi/helper@1.2",
        "name": "helper",
        "version": "1.2",
        "scope": "required",
        "hashes": [
            {"alg": "SHA-256", "content": made.members["wheels/helper-1.2-py3-none-any.whl"].sha256()}
        ],
        "purl": "pkg:pypi/helper@1.2",
        "licenses": [{"expression": "MIT"}],
    }
    assert parts["pip"]["scope"] == "excluded"
    assert parts["small"]["type"] == "machine-learning-model"
    assert {"manifest.json", "model.safetensors"} <= {file["name"] for file in parts["small"]["components"]}
    depends = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert depends["pkg:pypi/stream-server@1.0"] == ["pkg:pypi/helper@1.2"]


def test_the_bill_names_other_contents_by_another_number(house: Path) -> None:
    def serial() -> str:
        return str(json.loads(text(made_of(house).members["sbom.cdx.json"]))["serialNumber"])

    first = serial()
    assert serial() == first
    write_wheel(house, "helper", "1.2", licence="MIT License, another text")
    assert serial() != first
