"""Checks that sections of the configuration share. Each raises ValueError with words that name the key."""

import re
from ipaddress import ip_network

import msgspec

_SECRET = re.compile(
    r"AGE-SECRET-KEY-|[0-9a-fA-F]{64}$"  # keys
    r"|(hv[sbr]|[sbr])\.[A-Za-z0-9_-]{20,}$"  # Vault's tokens
)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """A number must lie between two others, which it may equal."""
    # Written so that NaN, which compares false with everything, is refused too.
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value}")


def check_counts(section: msgspec.Struct, names: str) -> None:
    """These keys of a section, named with spaces between, say how many: one at least."""
    for name in names.split():
        check_range(name, getattr(section, name), 1, 1_000_000)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """One of several words."""
    if value not in choices:
        raise ValueError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}")


def check_networks(name: str, texts: tuple[str, ...]) -> None:
    """Each must be a network in CIDR notation."""
    for text in texts:
        try:
            ip_network(text)
        except ValueError as exc:
            raise ValueError(f"{name} must be networks such as 10.1.0.0/16 or fd00::/8: {exc}") from exc


def check_proxies(texts: tuple[str, ...]) -> None:
    """``proxy_from`` must be networks, none of them everybody's."""
    check_networks("proxy_from", texts)
    if any(ip_network(text).prefixlen == 0 for text in texts):
        raise ValueError("proxy_from must name the proxies: who is in it may claim to come from any address")


def check_origins(texts: tuple[str, ...]) -> None:
    """``origins`` must be written as browsers do."""
    for text in texts:
        # Small letters, nothing after host and port. "null" is what every sandboxed page says, so it names
        # nobody.
        if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", text):
            raise ValueError(f"origins must be such as https://intranet.example:8000, not {text!r}")


def check_place(name: str, text: str | None) -> None:
    """Where a secret lies must not be the secret, which the message does not repeat."""
    if text is not None and _SECRET.match(text):
        raise ValueError(f"{name} must be a file, env:NAME or credential:NAME, not the {name} itself")
