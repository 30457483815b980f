"""Which folders may be projects, what they are called, and whose a path is.  Pure rules."""

import re
import unicodedata
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from claude_daemon.errors import ConflictError, InvalidError

MAX_SLUG = 64


def check(folder: Path, projects: Mapping[str, Path], *, home: Path, own: Iterable[Path]) -> None:
    """Refuse a folder, given without links, that must not be a project.

    `own` are the daemon's folders: a project that holds one would announce the daemon's own writes, and
    one below would hand out its secrets.
    """
    if folder == Path(folder.anchor):
        raise _invalid(f"{folder} is the whole machine; add the folder that you work in")
    if folder == home or folder in home.parents:
        raise _invalid(f"{folder} is or holds your home folder; add the folder that you work in")
    for each in own:
        if folder == each or folder in each.parents or each in folder.parents:
            raise _invalid(f"{folder} overlaps with {each}, where claude-daemon keeps its own files")
    for project_id, path in projects.items():
        if path == folder:
            raise ConflictError(f"{folder} is the project {project_id!r} already")


def default_id(folder: Path, taken: Container[str]) -> str:
    """The folder's name in lower case, in letters, digits, `.`, `_` and `-`, with a number if it is taken."""
    plain = unicodedata.normalize("NFKD", folder.name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-.")[:MAX_SLUG] or "project"
    number = 1
    while (candidate := slug if number == 1 else f"{slug}-{number}") in taken:
        number += 1
    return candidate


def owner(path: Path, projects: Mapping[str, Path]) -> str | None:
    """The project that `path`, given without links, lies in; the innermost where they are nested."""
    holding = [
        (len(folder.parts), project_id)
        for project_id, folder in projects.items()
        if path == folder or folder in path.parents
    ]
    return max(holding)[1] if holding else None


def nested(folder: Path, projects: Iterable[Path]) -> set[str]:
    """The projects below `folder`, relative to it: their files are not its own."""
    return {each.relative_to(folder).as_posix() for each in projects if folder in each.parents}


def _invalid(reason: str) -> InvalidError:
    return InvalidError(reason, path=["path"], kind="any.only")
