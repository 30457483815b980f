"""Which folders may be projects, and whose a path is: rules on paths alone."""

from pathlib import Path

import pytest

from claude_daemon.errors import ConflictError, InvalidError
from claude_daemon.projects.registry import check, default_id, nested, owner

HOME = Path("/home/ada")
OWN = [HOME / ".local/state/claude-daemon"]
PROJECTS = {"app": HOME / "code/app", "part": HOME / "code/app/packages/part"}


@pytest.mark.parametrize(
    "folder",
    [
        "/", "/home", "/home/ada", "/home/ada/.local", "/home/ada/.local/state/claude-daemon",
        "/home/ada/.local/state/claude-daemon/history",
    ],
)  # fmt: skip
def test_the_whole_machine_the_home_and_our_own_folders_are_refused(folder: str) -> None:
    with pytest.raises(InvalidError) as refused:
        check(Path(folder), {}, home=HOME, own=OWN)

    assert refused.value.details[0]["path"] == ["path"]


def test_a_folder_is_a_project_once() -> None:
    with pytest.raises(ConflictError, match="'app'"):
        check(HOME / "code/app", PROJECTS, home=HOME, own=OWN)


@pytest.mark.parametrize("folder", ["/srv/www", "/home/ada/code", "/home/ada/code/app/other", "/home/adam"])
def test_others_are_taken_nested_ones_too(folder: str) -> None:
    check(Path(folder), PROJECTS, home=HOME, own=OWN)


@pytest.mark.parametrize(
    ("path", "project_id"),
    [
        ("/home/ada/code/app", "app"),
        ("/home/ada/code/app/src/x", "app"),
        ("/home/ada/code/app/packages/part/x", "part"),
        ("/home/ada/code/app2/x", None),
        ("/home/ada/code", None),
    ],
)
def test_a_path_is_the_innermost_projects(path: str, project_id: str | None) -> None:
    assert owner(Path(path), PROJECTS) == project_id


def test_a_nested_projects_folder_is_named_relative_to_the_outer_one() -> None:
    assert nested(HOME / "code/app", PROJECTS.values()) == {"packages/part"}
    assert nested(HOME / "code/app/packages/part", PROJECTS.values()) == set()


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("My App", (), "my-app"),
        ("app", ("app", "app-2"), "app-3"),
        ("Übung_1.2", (), "ubung_1.2"),
        ("日本", (), "project"),
        (".dotfiles", (), "dotfiles"),
        ("x" * 300, (), "x" * 64),
    ],
)
def test_the_default_id_is_a_plain_name_that_is_free(
    name: str, taken: tuple[str, ...], expected: str
) -> None:
    assert default_id(Path("/x") / name, taken) == expected
