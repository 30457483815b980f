"""What is ignored, compared with Git itself."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_daemon.projects.ignore import Rules


def ignored(path: str, gitignores: dict[str, str]) -> bool:
    """Whether the file at `path` is ignored, asked folder by folder as a walk does."""
    rules = Rules(gitignores.get("", ""))
    *folders, name = path.split("/")
    at = ""
    for folder in folders:
        if rules.ignores(folder, folder=True):
            return True
        at = f"{at}/{folder}".strip("/")
        rules = rules.below(folder, gitignores.get(at, ""))
    return rules.ignores(name, folder=False)


@pytest.mark.parametrize(
    ("gitignore", "path", "expected"),
    [
        ("*.log", "a/b.log", True),
        ("*.log\n!keep.log", "a/keep.log", False),
        ("/top.txt", "top.txt", True),
        ("/top.txt", "a/top.txt", False),
        ("logs/", "logs/x", True),
        ("logs/", "a/logs/x", True),
        ("a/*.c", "a/x.c", True),
        ("a/*.c", "a/b/x.c", False),
        ("**/tmp/x", "a/tmp/x", True),
        ("doc/**/*.pdf", "doc/a/b/x.pdf", True),
        ("# comment\n\n", "comment", False),
        ("\\#real", "#real", True),
        ("build/\n!build/keep", "build/keep", True),  # its folder is ignored, so it can't be brought back
    ],
)
def test_a_gitignore_holds_as_git_says(gitignore: str, path: str, *, expected: bool) -> None:
    assert ignored(path, {"": gitignore}) is expected


def test_a_nearer_gitignore_wins() -> None:
    rules = {"": "*.log\n!a/b/kept.log", "a": "!kept.log", "a/b": "kept.log"}

    assert not ignored("a/kept.log", rules)
    assert ignored("a/b/kept.log", rules)
    assert ignored("c/kept.log", rules)


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD", "sub/.git", "node_modules/a/b.js", "a/__pycache__/x.pyc", ".venv/bin/x", "target/x",
        ".DS_Store", "a.swp", ".main.py.swp", "notes~", "4913", ".#lock", "#auto#", "x___jb_tmp___",
        ".goutputstream-ABC", ".claude-daemon-0123456789abcdef",
    ],
)  # fmt: skip
def test_what_tools_and_editors_leave_is_ignored_without_being_told(path: str) -> None:
    assert ignored(path, {})


@pytest.mark.parametrize(
    "path", ["src/main.py", ".env", ".github/x.yml", "node_modules.md", "a/target.rs", "x.tmp"]
)
def test_what_people_write_is_not(path: str) -> None:
    assert not ignored(path, {})


def test_a_project_can_bring_back_what_is_built_in_but_not_git_itself() -> None:
    assert not ignored("target/x", {"": "!target/"})
    assert not ignored("node_modules/x", {"": "!node_modules/"})
    assert ignored(".git/config", {"": "!.git/"})


def test_a_pattern_made_to_be_slow_is_left_out() -> None:
    rules = Rules("*a*a*a*a*a*a*a*a*b\nplain.txt")

    began = time.perf_counter()
    assert not rules.ignores("a" * 200, folder=False)
    assert rules.ignores("plain.txt", folder=False)
    assert time.perf_counter() - began < 0.5


NAMES = st.sampled_from(["a", "b", "build", "x.log", "keep.log", ".hid", "foo bar"])
PIECES = st.sampled_from(
    ["*", "**", "a", "b", "build", "*.log", "keep.log", "?", "[ab]", ".hid", "x*", "foo bar"]
)
PATTERNS = st.builds(
    lambda negated, rooted, pieces, folder: f"{negated}{rooted}{'/'.join(pieces)}{folder}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(PIECES, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
GITIGNORES = st.dictionaries(
    st.sampled_from(["", "a", "a/b", "build"]), st.lists(PATTERNS, max_size=4).map("\n".join), max_size=3
)
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gitignores=GITIGNORES, paths=PATHS)
def test_whatever_the_patterns_are_git_agrees(
    tmp_path_factory: pytest.TempPathFactory, gitignores: dict[str, str], paths: list[str]
) -> None:
    paths = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    root = tmp_path_factory.mktemp("repository")
    _make(root, gitignores, paths)

    asked = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=root, input="\0".join(paths), capture_output=True, text=True, check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )  # fmt: skip
    by_git = {path for path in asked.stdout.split("\0") if path}

    assert {path for path in paths if ignored(path, gitignores)} == by_git


def _make(root: Path, gitignores: dict[str, str], paths: list[str]) -> None:
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    for folder, text in gitignores.items():
        if (root / folder).is_dir():
            (root / folder / ".gitignore").write_text(text)
        else:
            gitignores[folder] = ""
