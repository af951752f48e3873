"""The names of all targets."""

from importlib import import_module

from fuzzing.target import Target

MODULES = {
    **dict.fromkeys(
        ("client-message", "reader-message", "audio", "server-event", "room-event", "refusal"), "wire"
    ),
    **dict.fromkeys(("http-request", "proxy-header"), "requests"),
    **dict.fromkeys(
        (
            *("certificate", "uri", "authority", "revocation-list", "unsigned-list", "certificate-index"),
            *("guest-text", "guest-claims", "guest-links", "revoked-tokens", "writer-token-text"),
        ),
        "credentials",
    ),
    **dict.fromkeys(("configuration", "policy"), "settings"),
    **dict.fromkeys(("audit-line", "checkpoint", "audit-folder"), "audit"),
    **dict.fromkeys(("recording", "references"), "recordings"),
    **dict.fromkeys(
        (
            *("manifest", "signature", "sealed", "huggingface-config", "generation-config"),
            *("safetensors", "weights", "openai-checkpoint"),
        ),
        "model_files",
    ),
}
"""Target to the module that holds it, under the same name with underscores. A module is imported when one of
its targets is wanted: those of models bring torch."""


def load(name: str) -> Target:
    """A target by its name."""
    target = getattr(import_module(f"fuzzing.{MODULES[name]}"), name.replace("-", "_"))
    assert isinstance(target, Target)
    return target
