"""Looks at the disk and tells what changed since the snapshot.  Blocking: runs in a worker thread.

Two steps, so that reading a large file holds up no writer:

* `look` reads, without the project's turn: it stats, compares with the snapshot, and reads what differs.
* `take` enters what was seen into the snapshot, within the turn, after a last stat: what is no longer as
  it was seen comes back to be looked at again.  So no content that changed while it was read gets out, and
  a client's write, which enters its own result within the turn, is never taken for somebody else's.
"""

import contextlib
import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Literal

from claude_daemon.projects.digest import NOTHING, digest
from claude_daemon.projects.hints import Hints
from claude_daemon.projects.ignore import GITIGNORE_BYTES, TEMPORARY_PREFIX, Rules
from claude_daemon.projects.root import Root
from claude_daemon.projects.sensitive import sensitive
from claude_daemon.projects.snapshot import Departed, File, Snapshot, is_utf8, join, parent, renames

SLICE_S = 0.05  # of one look, so that hints get their turn during a long scan
SLICE_BYTES = 8 << 20  # of content held at once
SURE_AFTER_NS = 2_000_000_000  # the coarsest time stamp of a file system in use (FAT) has two seconds
STALE_TEMPORARY_NS = 3_600_000_000_000  # an hour: whoever wrote it is gone

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(frozen=True, slots=True)
class Change:
    """Something that truly changed, with the content that it had in that moment."""

    path: str
    action: Literal["create", "update", "delete"]
    size: int = 0
    sha256: str | None = None
    content: bytes | None = None
    """None for a deletion, a sensitive file, and beyond `keep_bytes`."""
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What stood at `path` when it was looked at."""

    path: str
    what: Literal["file", "folder", "nothing", "ignored"]
    file: File | None = None
    content: bytes | None = None


@dataclass(slots=True)
class Looked:
    seen: list[Seen] = field(default_factory=list)
    young: list[str] = field(default_factory=list)
    """Perhaps still being written: to be looked at when they are quiet."""


@dataclass(slots=True)
class Taken:
    changes: list[Change] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Changed since they were looked at, and folders whose rules changed."""
    before: dict[str, File | None] = field(default_factory=dict)
    """What the snapshot held of each changed path."""


class Survey:
    """One looker at a time; `take` and `forget` within the project's turn."""

    def __init__(
        self,
        root: Root,
        snapshot: Snapshot,
        hints: Hints,
        *,
        keep_bytes: int,
        young_s: float,
        waiting: Callable[[str], bool] = lambda _: False,
        elsewhere: Container[str] = (),
    ) -> None:
        """`waiting` tells of a path that it will soon be looked at for its own sake.

        `elsewhere` has folders that are left to others, as if they were ignored.
        """
        self._root = root
        self._snapshot = snapshot
        self._hints = hints
        self._keep_bytes = keep_bytes
        self._young_ns = int(young_s * 1e9)
        self._waiting = waiting
        self._elsewhere = elsewhere
        self._rules: dict[str, Rules] = {}
        self._departed = Departed()
        self.unnamed: dict[str, int] = {}
        """Folder → how many names in it are not UTF-8; they have no form on the wire and are left out."""
        self.left_out = False
        """Whether files are missing because the snapshot was full."""

    def rules(self, folder: str) -> Rules | None:
        """The rules of a folder that is looked after; None elsewhere."""
        return self._rules.get(folder)

    def look(self, queue: deque[str], *, read_new: bool = True) -> Looked:
        """Take paths from `queue` until a slice's worth was seen; a folder adds what is in it.

        `read_new=False` is for the first scan: what isn't known yet is seen without being read.
        """
        looked = Looked()
        until = time.monotonic() + SLICE_S
        held = 0
        while queue and held < SLICE_BYTES and time.monotonic() < until:
            count = len(looked.seen)
            self._look_at(queue.popleft(), queue, looked, read_new=read_new)
            held += sum(len(seen.content) for seen in looked.seen[count:] if seen.content)
        return looked

    def learn(self, paths: Iterable[str]) -> Looked:
        """Read files that nobody has read yet, so that a later touch can be told from a change."""
        looked = Looked()
        for path in paths:
            known = self._snapshot.get(path)
            with contextlib.suppress(OSError):
                seen = self._read(path, keep=NOTHING)
                if known and known.sha256 is None and seen.file and seen.file.looks_like(known):
                    looked.seen.append(seen)
        return looked

    def take(self, looked: Looked, *, announce_new: bool = True) -> Taken:
        """Enter what was seen; `announce_new=False` is for the first scan."""
        taken = Taken()
        gone: dict[str, File] = {}
        come: list[Seen] = []
        for seen in looked.seen:
            if not self._still(seen):
                taken.again.append(seen.path)
            elif seen.file is not None:
                if self._snapshot.is_folder(seen.path):
                    gone.update(self._remove(seen.path))
                if self._enter(seen, seen.file, taken, announce_new=announce_new):
                    come.append(seen)
            elif seen.what != "folder":
                removed = self._remove(seen.path)
                gone.update(removed if seen.what == "nothing" else {})
            elif not self._snapshot.is_folder(seen.path):
                gone.update(self._remove(seen.path))
                self.left_out |= not self._snapshot.add_folder(seen.path)
        taken.before.update(gone)
        taken.changes = self._tell(gone, come, taken.before)
        # Other rules now hold in those folders and below.
        taken.again += [parent(path) for path in taken.before if path.rpartition("/")[2] == ".gitignore"]
        return taken

    def forget(self, taken: Taken) -> None:
        """Undo `take`: what could not be told is to be found again."""
        for path, before in taken.before.items():
            if before is None:
                self._snapshot.remove(path)
            else:
                self._snapshot.put(path, before)

    def _look_at(self, path: str, queue: deque[str], looked: Looked, *, read_new: bool) -> None:
        while path and parent(path) not in self._rules:
            path = parent(path)  # in a new folder or an ignored one: the nearest known folder decides
        try:
            status = self._root.lstat(path)
        except OSError as error:
            if error.errno in _GONE and self._known(path):
                looked.seen.append(Seen(path, "nothing"))
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if path and self._ignores(self._rules[parent(path)], path, folder=is_folder):
            if self._known(path):
                looked.seen.append(Seen(path, "ignored"))
        elif is_folder:
            self._look_into(path, queue, looked, read_new=read_new)
        elif stat.S_ISREG(status.st_mode):
            self._look_at_file(path, status, looked)
        elif self._known(path):
            looked.seen.append(Seen(path, "nothing"))

    def _look_at_file(self, path: str, status: os.stat_result, looked: Looked) -> None:
        known = self._snapshot.get(path)
        if known and known.sure and known.looks_like(_file(status)):
            return
        try:
            looked.seen.append(self._read(path, keep=NOTHING if sensitive(path) else self._keep_bytes))
        except OSError as error:
            if error.errno in _GONE:  # since the stat
                looked.young.append(path)
            # else it may not be read, and nobody could be told what is in it

    def _look_into(self, path: str, queue: deque[str], looked: Looked, *, read_new: bool) -> None:
        """Compare a folder's direct content; what may have changed, and every subfolder, joins the queue."""
        self._hints.watch(path)  # before listing, so that what comes later gives a hint
        files, folders = self._snapshot.listing(path)
        try:
            with self._root.folder(path) as fd:
                entries = _list(fd)
        except OSError as error:
            if error.errno in _GONE and self._known(path):
                looked.seen.append(Seen(path, "nothing"))
            return
        rules = self._read_rules(path, entries)
        if not self._snapshot.is_folder(path):
            looked.seen.append(Seen(path, "folder"))
        self.unnamed.pop(path, None)
        for name, status in entries.items():
            if is_utf8(name):
                known = files.pop(name, None)
                is_known = name in folders or known is not None
                folders.discard(name)
                here = join(path, name)
                if self._ignores(rules, here, folder=stat.S_ISDIR(status.st_mode)):
                    looked.seen += [Seen(here, "ignored")] if is_known else []
                elif stat.S_ISDIR(status.st_mode):
                    queue.append(here)
                elif stat.S_ISREG(status.st_mode):
                    self._compare(here, known, status, queue, looked, read_new=read_new)
                elif is_known:
                    looked.seen.append(Seen(here, "nothing"))
            else:
                self.unnamed[path] = self.unnamed.get(path, 0) + 1
        looked.seen.extend(Seen(join(path, name), "nothing") for name in (*files, *folders))

    def _compare(
        self,
        path: str,
        known: File | None,
        status: os.stat_result,
        queue: deque[str],
        looked: Looked,
        *,
        read_new: bool,
    ) -> None:
        if known and known.sure and known.looks_like(_file(status)):
            return
        if known is None and not read_new:
            looked.seen.append(Seen(path, "file", _file(status)))
        elif self._waiting(path):
            return
        elif time.time_ns() - status.st_mtime_ns < self._young_ns:
            looked.young.append(path)
        else:
            queue.append(path)

    def _read_rules(self, path: str, entries: dict[str, os.stat_result]) -> Rules:
        text = ""
        if ".gitignore" in entries:
            text = self._root.head(join(path, ".gitignore"), GITIGNORE_BYTES).decode(errors="replace")
        name = path.rpartition("/")[2]
        rules = self._rules[parent(path)].below(name, text) if path else Rules(text)
        self._rules[path] = rules
        return rules

    def _read(self, path: str, *, keep: int) -> Seen:
        """Raises `OSError` when it cannot be read or is no regular file (any more)."""
        with self._root.reading(path) as fd:
            status = os.fstat(fd)
            sure = time.time_ns() - status.st_mtime_ns > SURE_AFTER_NS
            sha256, content = digest(fd, status.st_size, keep=keep)
        return Seen(path, "file", _file(status, sha256, sure=sure), content)

    def _still(self, seen: Seen) -> bool:
        """Whether the path is as it was seen.  What was not read needs no such care."""
        if seen.what in {"folder", "ignored"} or (seen.file and seen.file.sha256 is None):
            return True
        try:
            status = self._root.lstat(seen.path)
        except OSError:
            return seen.file is None
        if seen.file is None:
            return not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode)
        return stat.S_ISREG(status.st_mode) and seen.file.looks_like(_file(status))

    def _enter(self, seen: Seen, file: File, taken: Taken, *, announce_new: bool) -> bool:
        """Put a file into the snapshot; whether it changed."""
        before = self._snapshot.get(seen.path)
        if not self._snapshot.put(seen.path, file):
            self.left_out = True
            return False
        if before is None:
            changed = announce_new
        elif before.sha256 is None:
            changed = not before.looks_like(file)
        else:
            changed = before.sha256 != file.sha256
        if changed:
            taken.before[seen.path] = before
        return changed

    def _remove(self, path: str) -> dict[str, File]:
        files, folders = self._snapshot.remove(path)
        for folder in folders:
            self._rules.pop(folder, None)
            self.unnamed.pop(folder, None)
            self._hints.unwatch(folder)
        return files

    def _tell(self, gone: dict[str, File], come: list[Seen], before: dict[str, File | None]) -> list[Change]:
        """Deletions first, then the rest as it was seen; a renamed file goes right before it comes."""
        now = time.monotonic()
        new = {seen.path: seen.file for seen in come if seen.file and before[seen.path] is None}
        pairs = renames(gone, new)
        moved = set(pairs.values())
        changes = []
        for path, file in gone.items():
            if path not in moved:
                self._departed.add(path, file, now)
                changes.append(Change(path, "delete"))
        for seen in come:
            now_there = seen.file
            assert now_there is not None
            action: Literal["create", "update"] = "create" if seen.path in new else "update"
            old = pairs.get(seen.path)
            if old is not None:
                changes.append(Change(old, "delete"))
            elif action == "create":
                old = self._departed.take(now_there, now)
            changes.append(Change(seen.path, action, now_there.size, now_there.sha256, seen.content, old))
        return changes

    def _ignores(self, rules: Rules, path: str, *, folder: bool) -> bool:
        return path in self._elsewhere or rules.ignores(path.rpartition("/")[2], folder=folder)

    def _known(self, path: str) -> bool:
        return self._snapshot.is_folder(path) or self._snapshot.get(path) is not None


def _list(fd: int) -> dict[str, os.stat_result]:
    """A folder's names with their status; whatever went meanwhile is left out.

    What a writer of ours left behind when it was killed is removed.
    """
    found = {}
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                found[entry.name] = status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if (
                entry.name.startswith(TEMPORARY_PREFIX)
                and time.time_ns() - status.st_mtime_ns > STALE_TEMPORARY_NS
            ):
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=fd)
    return found


def _file(status: os.stat_result, sha256: str | None = None, *, sure: bool | None = None) -> File:
    if sure is None:
        sure = time.time_ns() - status.st_mtime_ns > SURE_AFTER_NS
    return File(status.st_size, status.st_mtime_ns, status.st_ino, sha256, sure)
