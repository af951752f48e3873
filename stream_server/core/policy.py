"""What an identity may do, by the path of its certificate's name.

The certificate says who somebody is; this table says what that is worth. Deny by default: a path
that no rule names may do nothing.
"""

from dataclasses import dataclass
from enum import Enum


class Right(Enum):
    """Something an identity may be allowed to do."""

    STREAM = "stream"
    """Send audio and get its captions."""
    READ = "read"
    """Read the captions of others."""
    ADMINISTER = "administer"


@dataclass(frozen=True, slots=True)
class Policy:
    """Rights by path prefix of the identity, longest prefix wins."""

    rights: tuple[tuple[str, frozenset[Right]], ...]

    def allows(self, path: str, right: Right) -> bool:
        """Whether an identity's path, such as ``/source/board-301``, has a right."""
        matching = [rule for rule in self.rights if path.startswith(rule[0])]
        return bool(matching) and right in max(matching, key=lambda rule: len(rule[0]))[1]


DEFAULT_POLICY = Policy(
    (
        ("/source/", frozenset({Right.STREAM})),
        ("/reader/", frozenset({Right.READ})),
        ("/admin/", frozenset(Right)),
    )
)
"""In force unless a policy is configured."""
