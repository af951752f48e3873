"""Who may connect: a small certificate authority, the rule for client certificates, and TLS contexts.

Usable alone; knows nothing of the server. ``identity`` and ``authority`` are pure, ``store`` owns the files,
``tls`` builds contexts, ``refusal`` words what went wrong, ``cli`` is ``python -m certs``.
"""

from certs.identity import DEFAULT_TRUST_DOMAIN, Identity, IdentityError, Role, identity_from_der, spiffe_uri

__all__ = [
    "DEFAULT_TRUST_DOMAIN",
    "Identity",
    "IdentityError",
    "Role",
    "identity_from_der",
    "spiffe_uri",
]
