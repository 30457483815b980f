"""What clients that look see of a project's folder.  Blocking.

Ignored entries are shown too, marked as such; names that are not UTF-8 have no form on the wire.
"""

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from claude_daemon.projects.digest import digest
from claude_daemon.projects.ignore import GITIGNORE_BYTES, Rules
from claude_daemon.projects.root import Root
from claude_daemon.projects.snapshot import is_utf8, join

ATTEMPTS = 5  # at reading a file that is being written

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    kind: Kind
    size: int
    modified: datetime
    ignored: bool


def entries(project: Path, folder: str, *, after: str, limit: int) -> tuple[list[Entry], bool]:
    """Up to `limit` entries whose names come after `after`, in order, and whether there are more.

    Raises `OSError`.
    """
    with Root(project) as root, root.folder(folder) as fd:
        with os.scandir(fd) as listed:
            names = sorted(each.name for each in listed if each.name > after and is_utf8(each.name))
        rules = _rules(root, folder)
        found = [_entry(name, fd, rules) for name in names[:limit]]
    return [entry for entry in found if entry], len(names) > limit


@dataclass(frozen=True, slots=True)
class Read:
    size: int
    sha256: str
    content: bytes | None
    """None beyond `keep`."""


def read(project: Path, path: str, *, keep: int) -> Read | None:
    """A file as it was in one moment; None when it never stands still.  Raises `OSError`."""
    with Root(project) as root:
        for _ in range(ATTEMPTS):
            with root.reading(path) as fd:
                before = os.fstat(fd)
                sha256, content = digest(fd, before.st_size, keep=keep)
                after = os.fstat(fd)
            if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
                return Read(before.st_size, sha256, content)
    return None


def _entry(name: str, fd: int, rules: Rules | None) -> Entry | None:
    try:
        status = os.lstat(name, dir_fd=fd)
    except FileNotFoundError:
        return None
    kind = _kind(status.st_mode)
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    ignored = rules is None or rules.ignores(name, folder=kind == "folder")
    return Entry(name, kind, status.st_size if kind == "file" else 0, modified, ignored)


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def _rules(root: Root, folder: str) -> Rules | None:
    """The rules in `folder`; None when it is ignored itself."""
    rules = Rules(_gitignore(root, ""))
    at = ""
    for name in folder.split("/") if folder else ():
        if rules.ignores(name, folder=True):
            return None
        at = join(at, name)
        rules = rules.below(name, _gitignore(root, at))
    return rules


def _gitignore(root: Root, folder: str) -> str:
    return root.head(join(folder, ".gitignore"), GITIGNORE_BYTES).decode(errors="replace")
