"""Documents, help and deploy files name commands and options that there are, and link to what is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stream_server.cli import app

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for folder in (".", "docs", "deploy", "client_js", "training", "benchmarks", "benchmarks/peers")
    for path in (ROOT / folder).glob("*.md")
)
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+(?:\n[^`\n]+)?)`", re.DOTALL)
COMMAND = re.compile(r"(?:^|[\s/$(])stream-server ((?:[a-z][\w-]*)(?: .*)?)$", re.MULTILINE)


def commands_in(text: str) -> Iterator[list[str]]:
    """The words behind each ``stream-server`` in the code of a document; a line that goes on is one."""
    for block, inline in CODE.findall(text):
        code = re.sub(r"\\\n\s*", " ", block) if block else " ".join(inline.split())
        for found in COMMAND.finditer(code):
            yield re.split(r"\s+(?:#|\||&&|>|<|;)", found[1])[0].rstrip(")").split()


def mistake_in(words: list[str]) -> str | None:
    """What of a command does not exist."""
    command: Any = typer.main.get_command(app)  # of typer, which has a click of its own
    rest = list(words)
    while hasattr(command, "commands"):
        if not rest or not re.fullmatch(r"[a-z][\w-]*", rest[0]):
            break
        name = rest.pop(0)
        if name not in command.commands:
            return f"there is no command {name}"
        command = command.commands[name]
    known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)} | {"--help"}
    for word in rest:
        flag = word.strip("[]").partition("=")[0]
        if re.fullmatch(r"--[a-z][\w-]*|-[a-z]", flag) and flag not in known:
            return f"{command.name} has no option {flag}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_document_names_commands_and_options_that_there_are(document: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    mistakes = {" ".join(words): mistake_in(words) for words in commands_in(text)}
    assert [f"{said}: {mistake}" for said, mistake in mistakes.items() if mistake] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_document_links_to_files_and_headings_that_there_are(document: Path) -> None:
    assert list(dead_links(ROOT / document)) == []


def dead_links(path: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in headings(target)):
            yield link


def headings(path: Path) -> set[str]:
    """The anchors of a document, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_document_names_targets_and_modules_that_there_are(document: Path) -> None:
    code = "\n".join(block or inline for block, inline in CODE.findall((ROOT / document).read_text("utf-8")))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = [one for said in re.findall(r"^\s*make((?: [a-z][a-z-]*)+)", code, re.M) for one in said.split()]
    assert [name for name in named if name not in targets] == []
    modules = re.findall(r"python3? -m ((?:benchmarks|training|vad|certs|stream_server)[\w.]*)", code)
    paths = [ROOT / name.replace(".", "/") for name in modules]
    assert [path for path in paths if not (path.is_dir() or path.with_suffix(".py").is_file())] == []


def overviews(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The commands that have others below them."""
    if hasattr(command, "commands"):
        yield names
        for name, one in command.commands.items():
            yield from overviews(one, (*names, name))


@pytest.mark.parametrize("names", list(overviews(typer.main.get_command(app))), ids=" ".join)
def test_an_overview_of_commands_cuts_no_sentence_off(names: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "80"}).output
    assert "Commands:" in shown
    assert "..." not in shown.partition("Commands:")[2]


def test_mistakes_are_found() -> None:
    said = """`stream-server serve --hots x`
```
$ stream-server modles list | cat
stream-server link \\
  hall --dya 3
```"""
    found = [mistake_in(words) for words in commands_in(said)]
    wrong = ["link has no option --dya", "serve has no option --hots", "there is no command modles"]
    assert sorted(map(str, found)) == wrong
