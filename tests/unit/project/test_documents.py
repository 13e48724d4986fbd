"""What the documents name exists: files, make targets, commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

TARGET = re.compile(r"\bmake ([a-z][a-z-]*)\b")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)\)")
QUOTED_PATH = re.compile(
    r"`((?:docs|tests|examples|services|nasdet_core|nasdet_client|\.ci)/[\w./-]*|[\w-]+\.(?:md|toml|txt))`"
)


@pytest.fixture(scope="module")
def documents(repository: Path) -> dict[str, str]:
    paths = [
        repository / "README.md",
        repository / "CONTRIBUTING.md",
        *sorted((repository / "docs").rglob("*.md")),
    ]
    return {str(path.relative_to(repository)): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def command_line() -> object:
    """The root command; each group has its own in `commands`."""
    from nasdet_client.cli.main import app

    return typer.main.get_command(app)


def _paths(line: str) -> list[list[str]]:
    """Sub-command paths of a quoted command, up to the first option, file or metavariable.

    `search list|show NAME` gives [["search", "list"], ["search", "show"]].
    """
    paths: list[list[str]] = [[]]
    for word in line.replace("\\|", "|").split():
        if not re.fullmatch(r"[a-z]+([-|][a-z]+)*", word):
            break
        paths = [[*path, choice] for path in paths for choice in word.split("|")]
    return paths


def _exists(command: object, path: list[str]) -> bool:
    for word in path:
        children = getattr(command, "commands", None)
        if children is None:
            return True  # the rest are arguments
        if word not in children:
            return False
        command = children[word]
    return True


def _all_paths(command: object, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield prefix
        return
    for word, child in children.items():
        yield from _all_paths(child, (*prefix, word))


def _commands(text: str) -> list[str]:
    """Each command line a document names: in backquotes, or as a line of a code block."""
    return re.findall(r"`nasdet ([^`]+)`", text) + re.findall(r"^nasdet ([a-z].*)$", text, re.MULTILINE)


def _make_targets(text: str) -> Iterator[str]:
    for quoted in re.findall(r"`(make [^`]+)`", text) + re.findall(r"^(make [a-z].*)$", text, re.MULTILINE):
        yield from TARGET.findall(quoted)


def test_make_targets_in_documents_exist(documents: dict[str, str], repository: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (repository / "Makefile").read_text(), re.MULTILINE))
    quoted = {(name, target) for name, text in documents.items() for target in _make_targets(text)}
    assert quoted
    assert sorted((name, target) for name, target in quoted if target not in targets) == []


def test_commands_in_documents_exist(documents: dict[str, str], command_line: object) -> None:
    quoted = [(name, path) for name, text in documents.items() for line in _commands(text) for path in _paths(line)]
    assert quoted
    assert sorted((name, path) for name, path in quoted if not _exists(command_line, path)) == []


def test_every_command_is_in_the_readme(documents: dict[str, str], command_line: object) -> None:
    named = {tuple(path) for line in _commands(documents["README.md"]) for path in _paths(line)}
    assert sorted(path for path in _all_paths(command_line) if path not in named) == []


def test_links_and_paths_in_documents_exist(documents: dict[str, str], repository: Path) -> None:
    missing = []
    for name, text in documents.items():
        folder = (repository / name).parent
        missing += [f"{name}: {link}" for link in LINK.findall(text) if not (folder / link).exists()]
        missing += [f"{name}: {path}" for path in QUOTED_PATH.findall(text) if not (repository / path).exists()]
    assert missing == []


def test_make_help_lists_every_target(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    declared = re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
    assert declared is not None
    described = set(re.findall(r"^([a-z][a-z-]*):[^#\n]*##", makefile, re.MULTILINE))
    assert described == set(declared.group(1).split())
