"""Where a command works: in a registered project, or in an empty folder of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from claude_daemon.errors import InvalidError, OutsideProjectError


class Projects(Protocol):
    """What running a command needs to know of projects."""

    def known(self, project_id: str) -> bool: ...

    def folder(self, project_id: str) -> Path:
        """Its real path.  Raises `NotFoundError`."""
        ...

    def project_of(self, path: Path) -> str | None:
        """The project that a path, absolute and without links, lies in."""
        ...

    def inner(self, project_id: str) -> tuple[Path, ...]:
        """The projects that lie within a project."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """All None: the sandbox's own empty folder."""

    project_id: str | None = None
    project: Path | None = None
    cwd: Path | None = None
    inner: tuple[Path, ...] = ()


def find(
    projects: Projects, *, project_id: str | None, working_dir: str | None, joined: str | None
) -> Place:
    """The place that a request means; `joined` is the project its device joined last.  Touches the disk.

    Raises `OutsideProjectError` for a folder of no project or of another than the one named, `InvalidError`
    for one that isn't there, `NotFoundError` for an unknown project.
    """
    if project_id is None and joined is not None and projects.known(joined):
        absolute = working_dir is not None and Path(working_dir).is_absolute()
        project_id = None if absolute else joined
    if working_dir is None:
        return Place() if project_id is None else _in(projects, project_id, projects.folder(project_id))
    named = Path(working_dir)
    if project_id is not None:
        named = projects.folder(project_id) / named
    elif not named.is_absolute():
        raise OutsideProjectError(
            f"workingDir {working_dir!r} is relative to no project; name one by projectId, or join it"
        )
    folder = _real(named, working_dir)
    owner = projects.project_of(folder)
    if owner is None or project_id not in {None, owner}:
        whose = "a registered project" if project_id is None else f"the project {project_id!r}"
        raise OutsideProjectError(
            f"workingDir {working_dir!r} does not lie in {whose}; add it with: claude-daemon projects add PATH"
        )
    return _in(projects, owner, folder)


def _in(projects: Projects, project_id: str, cwd: Path) -> Place:
    return Place(project_id, projects.folder(project_id), cwd, projects.inner(project_id))


def _real(path: Path, shown: str) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        real = None
    if real is None or not real.is_dir():
        raise InvalidError(
            f"workingDir {shown!r} is not a folder that is there", path=["workingDir"], kind="any.only"
        )
    return real
