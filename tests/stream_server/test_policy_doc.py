"""docs/policy.md says what is true: its example is a policy, and its table names every key."""

import re
import tomllib
from pathlib import Path

import msgspec

from stream_server.config import Config
from stream_server.policy_file import _RuleTable, load_policy

DOCUMENT = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_example_is_a_policy(tmp_path: Path) -> None:
    [text] = [example for example in EXAMPLES if "[[rule]]" in example]
    (tmp_path / "policy.toml").write_text(text)
    policy = load_policy(tmp_path / "policy.toml")
    assert policy.may_publish("/source/board-301", "board-301")
    assert not policy.may_publish("/source/board-301", "hall")


def test_the_other_examples_are_configurations() -> None:
    for example in EXAMPLES:
        if "[[rule]]" not in example:
            msgspec.convert(tomllib.loads(example), Config)


def test_every_key_of_a_rule_is_in_the_table() -> None:
    for field in msgspec.structs.fields(_RuleTable):
        assert f"| `{field.name}` |" in DOCUMENT
