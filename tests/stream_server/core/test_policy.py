import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.networks import networks
from stream_server.core.policy import DEFAULT_POLICY, Denial, Policy, Right, Rule

READ, STREAM, ADMINISTER = Right.READ, Right.STREAM, Right.ADMINISTER


@pytest.mark.parametrize(
    ("path", "rights"),
    [
        ("/source/board-301", {STREAM, READ}),
        ("/reader/hall", {READ}),
        ("/admin/eva", {READ, STREAM, ADMINISTER}),
        ("/operator/eva", set()),
        ("/source", set()),
        ("/sources/x", set()),
        ("/", set()),
        ("", set()),
        ("x/source/board", set()),
    ],
)
def test_the_built_in_rules_deny_what_they_do_not_name(path: str, rights: set[Right]) -> None:
    assert {right for right in Right if DEFAULT_POLICY.allows(path, right)} == rights


MINTER = Rule(
    "/source/desk",
    frozenset({STREAM, Right.MINT}),
    publish=("hall", "desk-*"),
    networks=networks(["10.9.0.1"]),
    token_networks=networks(["10.1.0.0/16", "fd00::/8"]),
)


@pytest.mark.parametrize(
    ("path", "room", "network", "denial"),
    [
        ("/source/desk", "hall", "10.1.0.0/16", None),
        ("/source/desk", None, "10.1.2.3", None),
        ("/source/desk", "desk-7", "fd00:1::/32", None),
        ("/source/desk", "board", "10.1.2.3", Denial.ROOM),
        ("/source/desk", "hall", "10.0.0.0/8", Denial.NETWORK),
        ("/source/desk", "hall", "::a01:203", Denial.NETWORK),
        ("/source/plain", "hall", "10.1.2.3", Denial.RIGHT),
        ("/source/reads", None, "10.1.2.3", Denial.RIGHT),
        ("/reader/desk", "hall", "10.1.2.3", Denial.UNKNOWN),
    ],
)
def test_a_token_is_worth_what_its_maker_may_have_done(
    path: str, room: str | None, network: str, denial: Denial | None
) -> None:
    plain = Rule("/source/plain", frozenset({STREAM}), publish=("*",))
    reads = Rule("/source/reads", frozenset({READ, Right.MINT}))
    policy = Policy((MINTER, plain, reads))
    [used_from] = networks([network])
    assert policy.token_denial(path, room=room, network=used_from) is denial


def test_without_token_networks_a_token_may_be_for_any() -> None:
    policy = Policy((Rule("/source/*", frozenset({STREAM, Right.MINT})),))
    [far] = networks(["192.0.2.0/24"])
    assert policy.token_denial("/source/a", room=None, network=far) is None


def test_no_role_may_mint() -> None:
    assert not any(DEFAULT_POLICY.allows(f"/{role}/a", Right.MINT) for role in ("source", "reader", "admin"))


def test_the_longest_prefix_wins() -> None:
    policy = Policy((Rule("/source/*", frozenset({STREAM})), Rule("/source/guest/*", frozenset())))
    assert policy.allows("/source/board", STREAM)
    assert not policy.allows("/source/guest/board", STREAM)


def test_an_empty_policy_denies_all() -> None:
    assert not Policy(()).allows("/admin/eva", ADMINISTER)


@pytest.mark.parametrize(
    ("patterns", "rooms"),
    [
        ((), set()),
        (("board-301",), {"board-301"}),
        (("board-*",), {"board-301", "board-302"}),
        (("hall", "board-302*"), {"hall", "board-302"}),
        (("*",), {"board-301", "board-302", "hall"}),
        (("board",), set()),
    ],
)
def test_a_rule_opens_the_rooms_it_names_and_no_other(patterns: tuple[str, ...], rooms: set[str]) -> None:
    policy = Policy(
        (
            Rule("/source/*", frozenset({STREAM}), publish=patterns),
            Rule("/reader/*", frozenset({READ}), read=patterns),
        )
    )
    names = ("board-301", "board-302", "hall")
    assert {name for name in names if policy.may_publish("/source/a", name)} == rooms
    assert {name for name in names if policy.may_read("/reader/a", name)} == rooms
    assert not any(
        policy.may_read("/source/a", name) or policy.may_publish("/reader/a", name) for name in names
    )


def test_room_patterns_are_worth_nothing_without_the_right() -> None:
    policy = Policy((Rule("/source/*", frozenset(), publish=("*",), read=("*",)),))
    assert not policy.may_publish("/source/a", "hall")
    assert not policy.may_read("/source/a", "hall")


def test_by_default_sources_publish_and_read_and_readers_only_read() -> None:
    assert DEFAULT_POLICY.may_publish("/source/a", "hall")
    assert DEFAULT_POLICY.may_read("/source/a", "hall")
    assert not DEFAULT_POLICY.may_publish("/reader/a", "hall")
    assert DEFAULT_POLICY.may_read("/reader/a", "hall")
    assert not DEFAULT_POLICY.may_read("/operator/a", "hall")


def test_an_exact_name_wins_over_every_prefix() -> None:
    policy = Policy(
        (
            Rule("/source/board-301", frozenset({READ})),
            Rule("/source/board-301*", frozenset({STREAM})),
            Rule("/source/*", frozenset({ADMINISTER})),
        )
    )
    assert policy.rule_for("/source/board-301").rights == {READ}
    assert policy.rule_for("/source/board-3011").rights == {STREAM}
    assert policy.rule_for("/source/board-302").rights == {ADMINISTER}


def test_a_pattern_stands_once() -> None:
    with pytest.raises(ValueError, match="two rules"):
        Policy((Rule("/a", frozenset()), Rule("/a", frozenset({READ}))))


BOARDS = Policy(
    (
        Rule(
            "/source/*",
            frozenset({STREAM, READ}),
            publish=("board-*",),
            read=("hall",),
            networks=networks(["10.0.0.0/8"]),
        ),
    )
)


@pytest.mark.parametrize(
    ("path", "right", "wish", "denial"),
    [
        ("/reader/a", READ, {}, Denial.UNKNOWN),
        ("/source/a", STREAM, {}, None),
        ("/source/a", STREAM, {"address": "10.1.2.3"}, None),
        ("/source/a", STREAM, {"address": "11.1.2.3"}, Denial.ADDRESS),
        ("/source/a", ADMINISTER, {"address": "11.1.2.3"}, Denial.ADDRESS),
        ("/source/a", ADMINISTER, {"address": "10.1.2.3"}, Denial.RIGHT),
        ("/source/a", STREAM, {"publish": "board-1"}, None),
        ("/source/a", STREAM, {"publish": "hall"}, Denial.ROOM),
        ("/source/a", READ, {"read": "hall"}, None),
        ("/source/a", READ, {"read": "board-1"}, Denial.ROOM),
    ],
)
def test_a_denial_names_the_first_thing_that_lacks(
    path: str, right: Right, wish: dict[str, str], denial: Denial | None
) -> None:
    assert BOARDS.denial(path, right, **wish) is denial


paths = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3).map(
    lambda names: "".join(f"/{name}" for name in names)
)
patterns = st.one_of(paths, st.tuples(paths, st.sampled_from(["*", "/*"])).map("".join), st.just("/*"))


@given(st.lists(patterns, unique=True, max_size=8), paths)
def test_the_rule_is_the_exact_one_else_the_longest_prefix_else_none(names: list[str], path: str) -> None:
    policy = Policy(tuple(Rule(name, frozenset({READ})) for name in names))
    fitting = [name for name in names if name.endswith("*") and path.startswith(name[:-1])]
    expected = path if path in names else max(fitting, key=len, default="")
    assert policy.rule_for(path).identities == expected
    assert policy.allows(path, READ) is bool(expected)
