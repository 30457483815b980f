"""The second step of a survey: enter what was seen into the snapshot, and tell what that changes.  Blocking.

Runs within the project's turn, after a last stat: what is no longer as it was seen comes back to be looked
at again.  So no content that changed while it was read gets out, and a client's write, which enters its own
result within the turn, is never taken for somebody else's.
"""

import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from claude_daemon.projects.look import Looked, Seen
from claude_daemon.projects.root import Root
from claude_daemon.projects.snapshot import Departed, File, Snapshot, parent, renames


@dataclass(frozen=True, slots=True)
class Change:
    """Something that truly changed, with the content that it had in that moment."""

    path: str
    action: Literal["create", "update", "delete"]
    size: int = 0
    sha256: str | None = None
    content: bytes | None = None
    """None for a deletion, a sensitive file, and one that is too large."""
    renamed_from: str | None = None


@dataclass(slots=True)
class Taken:
    changes: list[Change] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Files that changed since they were looked at."""
    anew: list[str] = field(default_factory=list)
    """Folders in which, and below which, other rules hold from now on."""
    before: dict[str, File | None] = field(default_factory=dict)
    """What the snapshot held of each changed path."""


class Taker:
    """Keeps the snapshot, and remembers for a moment what went: it may come back under another name."""

    def __init__(self, snapshot: Snapshot, *, leave: Callable[[str], None]) -> None:
        """`leave` is told of each folder that goes."""
        self._snapshot = snapshot
        self._leave = leave
        self._departed = Departed()
        self.left_out = False
        """Whether files are missing because the snapshot was full."""

    def take(self, root: Root, looked: Looked, *, announce_new: bool = True) -> Taken:
        """Enter what was seen; `announce_new=False` is for the first scan."""
        taken = Taken()
        gone: dict[str, File] = {}
        come: list[tuple[Seen, File]] = []
        for seen in looked.seen:
            if not _still(root, seen):
                taken.again.append(seen.path)
            elif seen.file is not None:
                if self._snapshot.is_folder(seen.path):
                    gone.update(self._remove(seen.path))
                if self._enter(seen.path, seen.file, taken, announce_new=announce_new):
                    come.append((seen, seen.file))
            elif seen.what != "folder":
                removed = self._remove(seen.path)
                gone.update(removed if seen.what == "nothing" else {})
            elif not self._snapshot.is_folder(seen.path):
                gone.update(self._remove(seen.path))
                self.left_out |= not self._snapshot.add_folder(seen.path)
        self._tell(gone, come, taken)
        return taken

    def all_gone(self) -> Taken:
        """The project's folder was deleted, with all that was in it."""
        taken = Taken()
        self._tell(self._remove(""), [], taken)
        return taken

    def forget(self, taken: Taken) -> None:
        """Undo `take`: what could not be told is to be found again."""
        for path, before in taken.before.items():
            if before is None:
                self._snapshot.remove(path)
            else:
                self._snapshot.put(path, before)

    def _enter(self, path: str, file: File, taken: Taken, *, announce_new: bool) -> bool:
        """Put a file into the snapshot; whether it changed."""
        before = self._snapshot.get(path)
        if not self._snapshot.put(path, file):
            self.left_out = True
            return False
        if before is None:
            changed = announce_new
        elif before.sha256 is None:
            changed = not before.looks_like(file)
        else:
            changed = before.sha256 != file.sha256
        if changed:
            taken.before[path] = before
        return changed

    def _remove(self, path: str) -> dict[str, File]:
        files, folders = self._snapshot.remove(path)
        for folder in folders:
            self._leave(folder)
        return files

    def _tell(self, gone: dict[str, File], come: list[tuple[Seen, File]], taken: Taken) -> None:
        """Deletions first, then the rest as it was seen; a renamed file goes right before it comes."""
        now = time.monotonic()
        new = {seen.path: file for seen, file in come if taken.before[seen.path] is None}
        pairs = renames(gone, new)
        moved = set(pairs.values())
        for path, file in gone.items():
            if path not in moved:
                self._departed.add(path, file, now)
                taken.changes.append(Change(path, "delete"))
        for seen, file in come:
            old = pairs.get(seen.path)
            if old is not None:
                taken.changes.append(Change(old, "delete"))
            elif seen.path in new:
                old = self._departed.take(file, now)
            taken.changes.append(
                Change(
                    seen.path,
                    "create" if seen.path in new else "update",
                    file.size,
                    file.sha256,
                    seen.content,
                    old,
                )
            )
        taken.before.update(gone)
        taken.anew = [parent(path) for path in taken.before if path.rpartition("/")[2] == ".gitignore"]


def _still(root: Root, seen: Seen) -> bool:
    """Whether the path is as it was seen.  What was not read needs no such care."""
    if seen.what in {"folder", "ignored"} or (seen.file and seen.file.sha256 is None):
        return True
    try:
        status = root.lstat(seen.path)
    except OSError:
        return seen.file is None
    if seen.file is None:
        return not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode)
    now = File(status.st_size, status.st_mtime_ns, status.st_ino)
    return stat.S_ISREG(status.st_mode) and seen.file.looks_like(now)
