"""What a process may load: who vouches for models, and where the key lies that opens sealed ones."""

from dataclasses import dataclass
from pathlib import Path

from stream_server.config import ModelsSection
from stream_server.errors import ConfigError, ModelError
from stream_server.sealing.keys import Key, read_key
from stream_server.sealing.signing import Trust, read_trusted

NO_TRUST = Trust()
"""Signatures are not looked at."""


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """References only: what crosses to the engine's process, and stays in the server's, holds no key."""

    key: str | None = None
    """As ``sealing.keys.read_key`` takes it."""
    trust: Trust = NO_TRUST

    def read_key(self, sealed: Path) -> Key:
        """The key for a sealed file; keep it no longer than it takes to open.

        Raises:
            ModelError: None is configured, or there is none where it is said to lie.
        """
        if self.key is None:
            raise ModelError(
                f"{sealed} is sealed and no key is configured; set key in [models] of the configuration, or "
                "--key, to credential:NAME, env:NAME or a file"
            )
        return read_key(self.key)


NO_ACCESS = ModelAccess()
"""Plain models, by whomever."""


def model_access(section: ModelsSection) -> ModelAccess:
    """What the configuration allows.

    Raises:
        ConfigError: A public key cannot be read; names the file.
    """
    try:
        keys = tuple(read_trusted(Path(path)) for path in section.trusted_keys)
    except ModelError as exc:
        raise ConfigError(f"models.trusted_keys: {exc}") from exc
    return ModelAccess(section.key, Trust(keys, section.require_signature))
