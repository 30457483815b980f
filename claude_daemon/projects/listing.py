"""One folder's entries as `file_list` shows them: ignored ones too, marked as such."""

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from claude_daemon.projects.ignore import GITIGNORE_BYTES, Rules
from claude_daemon.projects.root import Root
from claude_daemon.projects.snapshot import is_utf8, join

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

    Names that are not UTF-8 are left out.  Raises `OSError`.  Blocking.
    """
    with Root(project) as root, root.folder(folder) as fd:
        with os.scandir(fd) as listed:
            names = sorted(each.name for each in listed if each.name > after and is_utf8(each.name))
        rules = _rules(root, folder)
        found = [_entry(name, fd, rules) for name in names[:limit]]
    return [entry for entry in found if entry], len(names) > limit


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
