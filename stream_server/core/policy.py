"""What an identity may do, by the path of its certificate's name.

The certificate says who somebody is; this table says what that is worth. Deny by default: a path
that no rule names may do nothing, and a rule that names no room opens none.
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


ANY_ROOM = ("*",)
"""Room patterns that every room's name fits."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the identities below one path may do."""

    prefix: str
    """Of the identity's path, such as ``/source/``."""
    rights: frozenset[Right]
    publish: tuple[str, ...] = ()
    """Rooms into which ``STREAM`` may also publish: exact names, or prefixes that end with ``*``."""
    read: tuple[str, ...] = ()
    """Rooms that ``READ`` is for, in the same form."""


_NOTHING = Rule("", frozenset())


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by path prefix of the identity; of those that match, the longest prefix alone counts."""

    rules: tuple[Rule, ...]

    def rule_for(self, path: str) -> Rule:
        """The rule of an identity's path, such as ``/source/board-301``; one without rights if none is."""
        matching = [rule for rule in self.rules if path.startswith(rule.prefix)]
        return max(matching, key=lambda rule: len(rule.prefix), default=_NOTHING)

    def allows(self, path: str, right: Right) -> bool:
        """Whether an identity has a right."""
        return right in self.rule_for(path).rights

    def may_publish(self, path: str, room: str) -> bool:
        """Whether an identity's captions may go to the readers of a room."""
        rule = self.rule_for(path)
        return Right.STREAM in rule.rights and _fits(room, rule.publish)

    def may_read(self, path: str, room: str) -> bool:
        """Whether an identity may read a room's captions."""
        rule = self.rule_for(path)
        return Right.READ in rule.rights and _fits(room, rule.read)


def _fits(room: str, patterns: tuple[str, ...]) -> bool:
    return any(
        room.startswith(pattern[:-1]) if pattern.endswith("*") else room == pattern for pattern in patterns
    )


DEFAULT_POLICY = Policy(
    (
        Rule("/source/", frozenset({Right.STREAM, Right.READ}), publish=ANY_ROOM, read=ANY_ROOM),
        Rule("/reader/", frozenset({Right.READ}), read=ANY_ROOM),
        Rule("/admin/", frozenset(Right), publish=ANY_ROOM, read=ANY_ROOM),
    )
)
"""In force unless a policy is configured."""
