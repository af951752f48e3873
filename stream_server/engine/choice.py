"""Which model folders a configuration means, and whether they may take the place of those in use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stream_server.config import EngineSection
from stream_server.core.messages import Tier
from stream_server.core.scheduler import Bucket, one_bucket
from stream_server.engine.manifest import (
    Manifest,
    find_model,
    manifest_sha256,
    read_manifest,
    version_key,
)
from stream_server.engine.windows import length_range
from stream_server.errors import ModelError
from stream_server.sealing.signing import Trust


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model folder as it was when it was looked at; equal ones hold the same model."""

    folder: Path | None
    """None is the fake engine."""
    sha256: str
    """Of the manifest, which names the sha256 of every file; of the fake engine, its configured name."""
    manifest: Manifest | None = field(compare=False)

    @property
    def version(self) -> str:
        """As its manifest says; of the fake engine none."""
        return "" if self.manifest is None else self.manifest.version


Choice = Mapping[Tier, ChosenModel]
"""By tier, of the tiers that have a model of their own."""


def choose_models(section: EngineSection, state: Path, trust: Trust | None) -> dict[Tier, ChosenModel]:
    """Find the model folder of each tier.

    Raises:
        ModelError: There is no such model, its manifest cannot be read or is not signed as it must be, or the
            live one would stand in for itself.
    """
    tiers = section.tiers
    names = {Tier.LIVE: tiers.live or section.model, Tier.FALLBACK: tiers.fallback, Tier.FILES: tiers.files}
    named = {tier: name for tier, name in names.items() if tier is Tier.LIVE or name is not None}
    if section.fake:
        return {tier: ChosenModel(None, name or "", None) for tier, name in named.items()}
    folders = {tier: find_model(name, state) for tier, name in named.items()}
    live = folders[Tier.LIVE].resolve()
    if Tier.FALLBACK in folders and folders[Tier.FALLBACK].resolve() == live:
        raise ModelError(
            f"live and fallback of [engine.tiers] are the same model, {live}; take a lighter one as "
            "fallback, or leave it out"
        )
    if Tier.FILES in folders and folders[Tier.FILES].resolve() == live:
        del folders[Tier.FILES]  # One copy of the weights does for both.
    return {tier: _look_at(folder, trust) for tier, folder in folders.items()}


def _look_at(folder: Path, trust: Trust | None) -> ChosenModel:
    return ChosenModel(folder, manifest_sha256(folder), read_manifest(folder, trust))


def bucket_of(choice: Choice) -> Bucket:
    """What tells the scheduler which jobs of a tier share a pass: those with windows of similar lengths."""
    manifests = {tier: model.manifest for tier, model in choice.items() if model.manifest is not None}
    if not manifests:
        return one_bucket
    return lambda job: length_range(job.n_samples, manifests[job.tier])


def check_versions(in_use: Choice, wanted: Choice) -> None:
    """Check that no model is older than the one of the same name in the same tier whose place it takes.

    Raises:
        ModelError: One is; says how to replace it all the same.
    """
    for tier, model in wanted.items():
        used = in_use.get(tier)
        if used is None or used.manifest is None or model.manifest is None:
            continue
        old, new = used.manifest, model.manifest
        if old.id == new.id and version_key(new.version) < version_key(old.version):
            raise ModelError(
                f"{model.folder} holds {new.id} in version {new.version}, older than {old.version}, which is "
                "in use; set allow_downgrade = true in [engine], or start the server with --allow-downgrade, "
                "to take it all the same"
            )
