from pathlib import Path

import pytest

from claude_daemon.errors import InvalidError, NotFoundError, OutsideProjectError
from claude_daemon.terminal.place import Place, find_place
from confined import Registered


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "code" / "app"
    (folder / "src").mkdir(parents=True)
    return folder


@pytest.fixture
def projects(app: Path) -> Registered:
    (app.parent / "other").mkdir()
    return Registered(app=app, other=app.parent / "other")


def where(
    projects: Registered,
    *,
    project: str | None = None,
    working_dir: str | None = None,
    current: str | None = None,
) -> Place:
    return find_place(projects, project_id=project, working_dir=working_dir, current=current)


def test_a_project_is_where_its_commands_run(projects: Registered, app: Path) -> None:
    assert where(projects, project="app") == Place("app", app, app)


@pytest.mark.parametrize("spelling", ["src", "./src", "src/", "src/../src"])
def test_a_relative_folder_lies_in_the_project(projects: Registered, app: Path, spelling: str) -> None:
    assert where(projects, project="app", working_dir=spelling) == Place("app", app, app / "src")


def test_an_absolute_folder_names_its_project(projects: Registered, app: Path) -> None:
    assert where(projects, working_dir=str(app / "src")) == Place("app", app, app / "src")


def test_the_project_joined_last_stands_in(projects: Registered, app: Path) -> None:
    assert where(projects, current="app") == Place("app", app, app)
    assert where(projects, current="app", working_dir="src") == Place("app", app, app / "src")
    assert where(projects, current="app", project="other").project_id == "other"


def test_without_any_there_is_a_folder_of_its_own(projects: Registered) -> None:
    assert where(projects) == Place()
    assert where(projects, current="removed") == Place()


@pytest.mark.parametrize("working_dir", ["/", "/etc", "{app}/..", "{app}x", "../app", "{code}"])
def test_elsewhere_is_outside(projects: Registered, app: Path, working_dir: str) -> None:
    text = working_dir.format(app=app, code=app.parent)

    with pytest.raises(OutsideProjectError):
        where(projects, working_dir=text)


def test_a_folder_of_another_project_is_outside(projects: Registered, app: Path) -> None:
    for text in (str(app.parent / "other"), "../other", "../../code/other"):
        with pytest.raises(OutsideProjectError):
            where(projects, project="app", working_dir=text)


def test_a_link_out_of_the_project_is_outside(projects: Registered, app: Path, tmp_path: Path) -> None:
    (app / "out").symlink_to(tmp_path)
    (app / "loop").symlink_to("loop")
    (app / "within").symlink_to("src")

    for text in ("out", "out/code/other", str(app / "out")):
        with pytest.raises(OutsideProjectError):
            where(projects, project="app", working_dir=text)
    with pytest.raises(NotFoundError):
        where(projects, project="app", working_dir="loop")
    assert where(projects, project="app", working_dir="within").folder == app / "src"


def test_a_folder_that_is_not_there_is_named(projects: Registered) -> None:
    with pytest.raises(NotFoundError, match="'lib'"):
        where(projects, project="app", working_dir="lib")
    with pytest.raises(NotFoundError):
        where(projects, project="no-such-project")


@pytest.mark.parametrize("text", ["a\0b", "/a\0b", "\ud800"])
def test_what_is_no_path_is_malformed(projects: Registered, text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        where(projects, project="app", working_dir=text)

    assert caught.value.details[0]["path"] == ["workingDir"]


def test_projects_within_the_project_are_known(projects: Registered, app: Path) -> None:
    projects.folders["inner"] = app / "src"

    assert where(projects, project="app").inner == (app / "src",)
    assert where(projects, project="inner").inner == ()
    assert where(projects, working_dir=str(app / "src")).project_id == "inner"
