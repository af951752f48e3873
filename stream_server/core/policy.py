"""What an identity may do, by the path of its certificate's name.

The certificate says who somebody is; this table says what that is worth. Deny by default: a path
that no rule names may do nothing, and a rule that names no room opens none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from stream_server.core.networks import Network, contains, within


class Right(Enum):
    """Something an identity may be allowed to do."""

    STREAM = "stream"
    """Send audio and get its captions."""
    READ = "read"
    """Read the captions of others."""
    ADMINISTER = "administer"
    MINT = "mint"
    """Make tokens by which others, without a certificate, send audio in its place."""


ROLES: Mapping[str, frozenset[Right]] = {
    "source": frozenset({Right.STREAM, Right.READ}),
    "reader": frozenset({Right.READ}),
    "admin": frozenset({Right.STREAM, Right.READ, Right.ADMINISTER}),
}
"""The usual sets of rights, by name. ``MINT`` is in none of them: who lets others in is named by a rule."""

ANY_ROOM = ("*",)
"""Room patterns that every room's name fits."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one identity may use; None is the server's own limit, or none where it has none."""

    sessions: int | None = None
    """Streams open at once; counted apart, rooms read at once."""
    connects_per_minute: int | None = None
    """Of streams; counted apart, of rooms."""
    audio_s_per_day: int | None = None
    """Seconds of audio from one midnight to the next, in UTC, of all its streams together."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the identities of one pattern may do."""

    identities: str
    """An identity's path such as ``/source/board-301``, or a prefix of paths that ends with ``*``."""
    rights: frozenset[Right]
    publish: tuple[str, ...] = ()
    """Rooms into which ``STREAM`` may also publish: exact names, or prefixes that end with ``*``."""
    read: tuple[str, ...] = ()
    """Rooms that ``READ`` is for, in the same form."""
    networks: tuple[Network, ...] = ()
    """From where these identities may connect; empty for everywhere."""
    quota: Quota = Quota()
    token_networks: tuple[Network, ...] = ()
    """Networks that tokens made with ``MINT`` may be good in, whole or in part; empty for every one."""
    programs: bool = True
    """Whether others than browsers may open sockets: whatever sends no ``Origin``."""


NO_RULE = Rule("", frozenset())
"""What counts for identities that no rule names."""


class Denial(Enum):
    """Why an identity may not do something; the first that applies, in this order."""

    UNKNOWN = "no rule names the identity"
    ADDRESS = "the rule does not let it connect from this address"
    RIGHT = "the rule does not give it the right"
    ROOM = "the rule does not open this room"
    NETWORK = "the rule lets no token be used from this network"


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by identity. One that names the identity exactly wins, else the one of the longest prefix.

    That rule alone counts: nothing is inherited from others.

    Raises:
        ValueError: Two rules have the same pattern.
    """

    rules: tuple[Rule, ...]
    _by_pattern: dict[str, Rule] = field(init=False, repr=False, compare=False)
    _prefix_lengths: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Of the prefixes, longest first."""

    def __post_init__(self) -> None:
        """Index the rules, so that a look-up does not depend on how many there are."""
        by_pattern = {rule.identities: rule for rule in self.rules}
        if len(by_pattern) < len(self.rules):
            raise ValueError("two rules name the same identities")
        lengths = {len(pattern) - 1 for pattern in by_pattern if pattern.endswith("*")}
        object.__setattr__(self, "_by_pattern", by_pattern)
        object.__setattr__(self, "_prefix_lengths", tuple(sorted(lengths, reverse=True)))

    def rule_for(self, path: str) -> Rule:
        """The rule of an identity's path, such as ``/source/board-301``; ``NO_RULE`` if none is."""
        # An identity's path has no *, so that a pattern with one cannot be taken for an exact name.
        if "*" in path:
            return NO_RULE
        if (exact := self._by_pattern.get(path)) is not None:
            return exact
        for length in self._prefix_lengths:
            rule = self._by_pattern.get(f"{path[:length]}*") if length <= len(path) else None
            if rule is not None:
                return rule
        return NO_RULE

    def denial(
        self,
        path: str,
        right: Right,
        *,
        publish: str | None = None,
        read: str | None = None,
        address: str | None = None,
    ) -> Denial | None:
        """Why an identity may not do something, or None if it may.

        Args:
            path: The identity's.
            right: What it needs.
            publish: Room into which it wants to publish; None for no room.
            read: Room that it wants to read; None for no certain one.
            address: From where it asks; None to leave that out.
        """
        rule = self.rule_for(path)
        if rule is NO_RULE:
            return Denial.UNKNOWN
        if address is not None and not contains(rule.networks, address):
            return Denial.ADDRESS
        if right not in rule.rights:
            return Denial.RIGHT
        is_closed = (publish is not None and not _fits(publish, rule.publish)) or (
            read is not None and not _fits(read, rule.read)
        )
        return Denial.ROOM if is_closed else None

    def token_denial(self, path: str, *, room: str | None, network: Network | None = None) -> Denial | None:
        """Why an identity may not have a token used in its place, or None if it may.

        Asked when a token is made and whenever it is used: a token is worth what its maker may do at that
        moment. From where the maker itself may connect has no bearing on it.

        Args:
            path: The maker's.
            room: Into which the token publishes; None for none.
            network: From where the token is used; None to leave that out.
        """
        rule = self.rule_for(path)
        if rule is NO_RULE:
            return Denial.UNKNOWN
        if Right.MINT not in rule.rights or Right.STREAM not in rule.rights:
            return Denial.RIGHT
        if room is not None and not _fits(room, rule.publish):
            return Denial.ROOM
        if network is not None and rule.token_networks and not within(network, rule.token_networks):
            return Denial.NETWORK
        return None

    def allows(self, path: str, right: Right) -> bool:
        """Whether an identity has a right."""
        return self.denial(path, right) is None

    def may_publish(self, path: str, room: str) -> bool:
        """Whether an identity's captions may go to the readers of a room."""
        return self.denial(path, Right.STREAM, publish=room) is None

    def may_read(self, path: str, room: str) -> bool:
        """Whether an identity may read a room's captions."""
        return self.denial(path, Right.READ, read=room) is None


def _fits(room: str, patterns: tuple[str, ...]) -> bool:
    return any(
        room.startswith(pattern[:-1]) if pattern.endswith("*") else room == pattern for pattern in patterns
    )


DEFAULT_POLICY = Policy(
    (
        Rule("/source/*", ROLES["source"], publish=ANY_ROOM, read=ANY_ROOM),
        Rule("/reader/*", ROLES["reader"], read=ANY_ROOM),
        Rule("/admin/*", ROLES["admin"], publish=ANY_ROOM, read=ANY_ROOM),
    )
)
"""In force unless there is a policy file."""


class PolicyInForce:
    """The policy that counts at this moment.

    A policy never changes; it is replaced. Whoever decides by it asks here each time, so that another one
    counts from the next decision on.

    Args:
        policy: The first one.
    """

    def __init__(self, policy: Policy) -> None:
        self.current = policy
