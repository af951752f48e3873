import pytest

from stream_server.core.policy import DEFAULT_POLICY, Policy, Right, Rule

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
