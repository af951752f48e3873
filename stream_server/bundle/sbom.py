"""The software bill of materials of an archive: CycloneDX 1.6 as JSON.

Has no time in it and a serial number made from what it lists, so that the same archive has the same bill.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from packaging.utils import canonicalize_name

from stream_server.bundle.wheels import INSTALLER, SERVER, Wheel, requirements

# Any fixed UUID will do; serial numbers are made from it and the digests of the components.
_NAMESPACE = uuid.UUID("5f0c2f1e-8a53-4f0b-9c0e-3f1b2f6f2c11")

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as the bill lists it."""

    name: str
    version: str
    licence: str | None
    files: Mapping[str, str]
    """SHA-256 in hex, by file."""


def write_sbom(wheels: Sequence[Wheel], digests: Mapping[str, str], models: Sequence[ListedModel]) -> bytes:
    """The bill of an archive.

    Args:
        wheels: All of them, the server's own and pip's included.
        digests: SHA-256 in hex, by file name of the wheel.
        models: The models beside them.
    """
    server = next(wheel for wheel in wheels if wheel.name == SERVER)
    parts = [_library(wheel, digests[wheel.path.name]) for wheel in wheels if wheel is not server]
    bill: Json = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": _serial(digests, models),
        "version": 1,
        "metadata": {"component": {**_library(server, digests[server.path.name]), "type": "application"}},
        "components": parts + [_model(model) for model in models],
        "dependencies": _dependencies(wheels),
    }
    return (json.dumps(bill, indent=2, ensure_ascii=False) + "\n").encode()


def _serial(digests: Mapping[str, str], models: Sequence[ListedModel]) -> str:
    listed = [f"{name} {digest}" for name, digest in sorted(digests.items())]
    listed += [f"{model.name} {digest}" for model in models for digest in sorted(model.files.values())]
    return uuid.uuid5(_NAMESPACE, "\n".join(listed)).urn


def _reference(wheel: Wheel) -> str:
    """The package URL, which has no place for an index."""
    return f"pkg:pypi/{wheel.name}@{quote(str(wheel.version))}"


def _library(wheel: Wheel, digest: str) -> Json:
    component: Json = {
        "type": "library",
        "bom-ref": _reference(wheel),
        "name": wheel.name,
        "version": str(wheel.version),
        # pip installs the others and is not installed itself.
        "scope": "excluded" if wheel.name == INSTALLER else "required",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "purl": _reference(wheel),
    }
    if wheel.licence is not None:
        component["licenses"] = _licences(wheel.licence, is_spdx=wheel.licence_is_spdx)
    return component


def _licences(licence: str, *, is_spdx: bool) -> list[Json]:
    return [{"expression": licence}] if is_spdx else [{"license": {"name": licence}}]


def _model(model: ListedModel) -> Json:
    component: Json = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}@{model.version}",
        "name": model.name,
        "version": model.version,
        "components": [
            {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
            for name, digest in sorted(model.files.items())
        ],
    }
    if model.licence is not None:
        component["licenses"] = _licences(model.licence, is_spdx=False)
    return component


def _dependencies(wheels: Sequence[Wheel]) -> list[Json]:
    known = {wheel.name: _reference(wheel) for wheel in wheels}
    return [
        {
            "ref": _reference(wheel),
            "dependsOn": sorted(
                {
                    known[canonicalize_name(requirement.name)]
                    for requirement in requirements(wheel)
                    if canonicalize_name(requirement.name) in known
                }
            ),
        }
        for wheel in wheels
    ]
