import pytest

from stream_server.core.policy import DEFAULT_POLICY, Policy, Right

READ, STREAM, ADMINISTER = Right.READ, Right.STREAM, Right.ADMINISTER


@pytest.mark.parametrize(
    ("path", "rights"),
    [
        ("/source/board-301", {STREAM}),
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
    policy = Policy((("/source/", frozenset({STREAM})), ("/source/guest/", frozenset())))
    assert policy.allows("/source/board", STREAM)
    assert not policy.allows("/source/guest/board", STREAM)


def test_an_empty_policy_denies_all() -> None:
    assert not Policy(()).allows("/admin/eva", ADMINISTER)
