"""What a process may load: who vouches for models, and where the key lies that opens sealed ones."""

from dataclasses import dataclass
from pathlib import Path

from stream_server.config import Config
from stream_server.errors import ConfigError, ModelError
from stream_server.sealing.external import VAULT, VaultServer, is_external, parse_external
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
    vault: VaultServer | None = None
    """How Vault is reached; None: it is not to be."""

    def read_key(self, sealed: Path) -> Key:
        """The key for a sealed file; keep it no longer than it takes to open.

        Raises:
            ModelError: None is configured, or there is none where it is said to lie.
        """
        if self.key is None:
            raise ModelError(
                f"{sealed} is sealed and no key is configured; set key in [models] of the configuration, or "
                "--key, to credential:NAME, env:NAME, a file, vault:MOUNT/KEY or a pkcs11: URI"
            )
        return read_key(self.key, self.vault)


NO_ACCESS = ModelAccess()
"""Plain models, by whomever."""


def model_access(config: Config) -> ModelAccess:
    """What the configuration allows.

    Raises:
        ConfigError: A public key cannot be read, or an external key cannot be meant; names the file or key.
    """
    section = config.models
    vault = vault_server(config, section.key)
    try:
        if section.key is not None and is_external(section.key):
            parse_external(section.key, vault)
    except ModelError as exc:
        raise ConfigError(f"models.key: {exc}") from exc
    try:
        keys = tuple(read_trusted(Path(path)) for path in section.trusted_keys)
    except ModelError as exc:
        raise ConfigError(f"models.trusted_keys: {exc}") from exc
    return ModelAccess(section.key, Trust(keys, section.require_signature), vault)


def vault_server(config: Config, reference: str | None) -> VaultServer | None:
    """How the key helper reaches Vault, if the configuration says so.

    Args:
        config: With ``[vault]``.
        reference: The key that is wanted.

    Raises:
        ConfigError: It is Vault's, and nothing may connect out.
    """
    if config.offline and reference is not None and reference.startswith(VAULT):
        raise ConfigError(
            f"{reference} is a key in Vault, and the configuration says offline = true: nothing may connect "
            "out; let a key on a token (pkcs11:), of systemd (credential:) or in a file open the model: "
            "`stream-server models rekey`"
        )
    section = config.vault
    if section.address is None:
        return None
    return VaultServer(section.address, section.token, section.ca, section.namespace, section.timeout_s)
