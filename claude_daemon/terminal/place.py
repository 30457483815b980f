"""Where a command runs: its project, and the folder in it to start in."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from claude_daemon.errors import InvalidError, NotFoundError, OutsideProjectError
from claude_daemon.protocol import replies


class Projects(Protocol):
    """What the terminal needs to know of projects; their folders are real paths, without a link."""

    def known(self, project_id: str) -> bool: ...

    def folder(self, project_id: str) -> Path:
        """Raises `NotFoundError`."""
        ...

    def project_of(self, path: Path) -> str | None:
        """The innermost project that a real path lies in."""
        ...

    def status(self) -> list[replies.Project]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Without a project: an empty folder that is the command's own."""

    project_id: str | None = None
    project: Path | None = None
    folder: Path | None = None
    inner: tuple[Path, ...] = ()
    """Other projects within this one."""


def find_place(
    projects: Projects, *, project_id: str | None, working_dir: str | None, current: str | None
) -> Place:
    """Looks at the disk.  `current` is the project that stands in when the request names none.

    Raises `NotFoundError`, `InvalidError`, or `OutsideProjectError` also for a link that leads out.
    """
    if project_id is None and working_dir is not None and Path(working_dir).is_absolute():
        project_id = projects.project_of(_real(Path(working_dir)))
        if project_id is None:
            raise OutsideProjectError(
                f"{working_dir!r} lies in no registered project; add it with: claude-daemon projects add PATH"
            )
    elif project_id is None and current is not None and projects.known(current):
        project_id = current
    if project_id is None:
        if working_dir is not None:
            raise OutsideProjectError(
                f"{working_dir!r} is relative to a project, and none is named or joined; give projectId"
            )
        return Place()
    project = projects.folder(project_id)
    folder = _real(project / (working_dir or ""))
    if not folder.is_relative_to(project):
        raise OutsideProjectError(f"{working_dir!r} lies outside of the project {project_id!r}")
    if folder != project and not folder.is_dir():
        raise NotFoundError(f"there is no folder {working_dir!r} in the project {project_id!r}")
    others = (Path(each.path) for each in projects.status())
    inner = tuple(each for each in others if each != project and each.is_relative_to(project))
    return Place(project_id, project, folder, inner)


def _real(path: Path) -> Path:
    """Without links, `.` and `..`; what is missing at its end is taken as it is written."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # NUL, or no Unicode
        raise InvalidError(
            "Invalid command format",
            path=["workingDir"],
            kind="string.base",
            reason="workingDir is no path that a system could hold",
        ) from None
