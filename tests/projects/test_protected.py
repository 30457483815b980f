"""Paths that clients never write, in any spelling that a lenient file system takes for the same."""

import pytest

from claude_daemon.projects.protected import protected


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        ".git/hooks/pre-commit",
        "sub/.git/config",
        ".claude/settings.json",
        "deep/er/.claude/agents/x.md",
        ".envrc",
        "sub/.envrc",
        ".mcp.json",
        ".vscode/tasks.json",
        "sub/.vscode/settings.json",
        ".idea/runConfigurations/Run.xml",
        ".idea/workspace.xml",
        ".husky/pre-push",
        ".githooks/post-checkout",
    ],
)
def test_what_later_runs_or_redirects_is_protected(path: str) -> None:
    assert protected(path)


@pytest.mark.parametrize(
    "path",
    [
        ".GIT/config",
        ".Git/config",
        ".git./config",
        ".git /config",
        "git~1/config",
        "GIT~2/config",
        ".git::$INDEX_ALLOCATION/config",
        ".g\u200cit/config",
        "\uff0egit/config",
        ".\uff27\uff29\uff34/config",
        ".ENVRC",
        ".envrc.",
        ".VSCode/Tasks.JSON",
        ".MCP.json",
        ".idea/RUNCONFIGURATIONS/x.xml",
    ],
)
def test_other_spellings_of_the_same_are_protected_too(path: str) -> None:
    assert protected(path)


@pytest.mark.parametrize(
    "path",
    [
        "git/config",
        ".gitignore",
        ".github/workflows/ci.yml",
        "envrc",
        ".vscode/extensions.json",
        "tasks.json",
        ".vscode/deep/tasks.json",
        "src/claude/x.py",
        ".idea/modules.xml",
        "mcp.json",
        ".env",
    ],
)
def test_the_rest_is_not(path: str) -> None:
    assert not protected(path)
