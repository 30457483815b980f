"""The first step of a survey: stat, compare with the snapshot, and read what differs.  Blocking.

Runs without the project's turn, so that reading a large file holds up no writer.
"""

import contextlib
import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from claude_daemon.projects.digest import NOTHING, digest
from claude_daemon.projects.hints import Hints
from claude_daemon.projects.ignore import GITIGNORE_BYTES, TEMPORARY_PREFIX, Rules
from claude_daemon.projects.root import Root
from claude_daemon.projects.sensitive import sensitive
from claude_daemon.projects.snapshot import File, Snapshot, is_utf8, join, parent

SLICE_S = 0.05  # of one look, so that hints get their turn during a long scan
SLICE_BYTES = 8 << 20  # of content held at once
SURE_AFTER_NS = 2_000_000_000  # the coarsest time stamp of a file system in use (FAT) has two seconds
STALE_TEMPORARY_NS = 3_600_000_000_000  # an hour: whoever wrote it is gone

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(frozen=True, slots=True)
class Seen:
    """What stood at `path` when it was looked at."""

    path: str
    what: Literal["file", "folder", "nothing", "ignored"]
    file: File | None = None
    content: bytes | None = None
    """None for a sensitive file, beyond `keep_bytes`, and when it wasn't read at all."""


@dataclass(slots=True)
class Looked:
    seen: list[Seen] = field(default_factory=list)
    young: list[str] = field(default_factory=list)
    """Perhaps still being written: to be looked at when they are quiet."""


class Looker:
    """What holds from look to look: the rules of every folder that is looked after."""

    def __init__(
        self,
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
        self.snapshot = snapshot
        self.hints = hints
        self.keep_bytes = keep_bytes
        self.young_ns = int(young_s * 1e9)
        self.waiting = waiting
        self.elsewhere = elsewhere
        self.rules: dict[str, Rules] = {}
        self.unnamed: dict[str, int] = {}
        """Folder → how many names in it are not UTF-8; they have no form on the wire and are left out."""

    def look(self, root: Root, queue: deque[str], *, read_new: bool = True) -> Looked:
        """Take paths from `queue` until a slice's worth was seen; a folder adds what is in it.

        `read_new=False` is for the first scan: what isn't known yet is seen without being read.
        """
        look = _Look(self, root, queue, read_new=read_new)
        until = time.monotonic() + SLICE_S
        while queue and look.held < SLICE_BYTES and time.monotonic() < until:
            look.at(queue.popleft())
        return look.looked

    def learn(self, root: Root, paths: Iterable[str]) -> Looked:
        """Read files that nobody has read yet, so that a later touch can be told from a change."""
        looked = Looked()
        for path in paths:
            known = self.snapshot.get(path)
            with contextlib.suppress(OSError):
                seen = _read(root, path, keep=NOTHING)
                if known and known.sha256 is None and seen.file and seen.file.looks_like(known):
                    looked.seen.append(seen)
        return looked

    def leave(self, folder: str) -> None:
        """A folder went, or is ignored from now on."""
        self.rules.pop(folder, None)
        self.unnamed.pop(folder, None)
        self.hints.unwatch(folder)


class _Look:
    """One slice."""

    def __init__(self, looker: Looker, root: Root, queue: deque[str], *, read_new: bool) -> None:
        self._looker = looker
        self._snapshot = looker.snapshot
        self._root = root
        self._queue = queue
        self._read_new = read_new
        self.looked = Looked()
        self.held = 0
        """Bytes of content."""

    def at(self, path: str) -> None:
        """Look at one path, or at the folder above it that isn't known yet."""
        while path and parent(path) not in self._looker.rules:
            path = parent(path)  # in a new folder or an ignored one: the nearest known folder decides
        try:
            status = self._root.lstat(path)
        except OSError as error:
            self._missing(path, error)
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if path and self._ignores(self._looker.rules[parent(path)], path, folder=is_folder):
            if self._known(path):
                self._see(path, "ignored")
        elif is_folder:
            self._into(path)
        elif stat.S_ISREG(status.st_mode):
            self._at_file(path, status)
        elif self._known(path):
            self._see(path, "nothing")

    def _at_file(self, path: str, status: os.stat_result) -> None:
        known = self._snapshot.get(path)
        if known and known.sure and known.looks_like(_file(status)):
            return
        keep = NOTHING if sensitive(path) else self._looker.keep_bytes
        try:
            seen = _read(self._root, path, keep=keep)
        except OSError as error:
            if error.errno in _GONE:  # since the stat
                self.looked.young.append(path)
            return  # else it may not be read, and nobody could be told what is in it
        self.looked.seen.append(seen)
        self.held += len(seen.content or b"")

    def _into(self, path: str) -> None:
        """Compare a folder's direct content; what may have changed, and every subfolder, joins the queue."""
        self._looker.hints.watch(path)  # before listing, so that what comes later gives a hint
        files, folders = self._snapshot.listing(path)
        try:
            with self._root.folder(path) as fd:
                entries = _list(fd)
        except OSError as error:
            self._missing(path, error)
            return
        rules = self._read_rules(path, entries)
        if not self._snapshot.is_folder(path):
            self._see(path, "folder")
        self._looker.unnamed.pop(path, None)
        for name, status in entries.items():
            if is_utf8(name):
                known = files.pop(name, None)
                is_known = name in folders or known is not None
                folders.discard(name)
                self._entry(join(path, name), status, rules, known, is_known=is_known)
            else:
                self._looker.unnamed[path] = self._looker.unnamed.get(path, 0) + 1
        for name in (*files, *folders):
            self._see(join(path, name), "nothing")

    def _entry(
        self, path: str, status: os.stat_result, rules: Rules, known: File | None, *, is_known: bool
    ) -> None:
        """Something found in a folder; `known` is its file in the snapshot, `is_known` counts folders too."""
        is_folder = stat.S_ISDIR(status.st_mode)
        if self._ignores(rules, path, folder=is_folder):
            if is_known:
                self._see(path, "ignored")
        elif is_folder:
            self._queue.append(path)
        elif not stat.S_ISREG(status.st_mode):
            if is_known:
                self._see(path, "nothing")
        elif known is None and not self._read_new:
            self.looked.seen.append(Seen(path, "file", _file(status)))
        elif (known and known.sure and known.looks_like(_file(status))) or self._looker.waiting(path):
            return
        elif time.time_ns() - status.st_mtime_ns < self._looker.young_ns:
            self.looked.young.append(path)
        else:
            self._queue.append(path)

    def _read_rules(self, path: str, entries: dict[str, os.stat_result]) -> Rules:
        text = ""
        if ".gitignore" in entries:
            text = self._root.head(join(path, ".gitignore"), GITIGNORE_BYTES).decode(errors="replace")
        above = self._looker.rules[parent(path)] if path else None
        rules = above.below(path.rpartition("/")[2], text) if above else Rules(text)
        self._looker.rules[path] = rules
        return rules

    def _ignores(self, rules: Rules, path: str, *, folder: bool) -> bool:
        return path in self._looker.elsewhere or rules.ignores(path.rpartition("/")[2], folder=folder)

    def _missing(self, path: str, error: OSError) -> None:
        if error.errno in _GONE and self._known(path):
            self._see(path, "nothing")

    def _see(self, path: str, what: Literal["folder", "nothing", "ignored"]) -> None:
        self.looked.seen.append(Seen(path, what))

    def _known(self, path: str) -> bool:
        return self._snapshot.is_folder(path) or self._snapshot.get(path) is not None


def _read(root: Root, path: str, *, keep: int) -> Seen:
    """Raises `OSError` when it cannot be read or is no regular file (any more)."""
    with root.reading(path) as fd:
        status = os.fstat(fd)
        file = _file(status)
        sha256, content = digest(fd, status.st_size, keep=keep)
    return Seen(path, "file", replace(file, sha256=sha256), content)


def _list(fd: int) -> dict[str, os.stat_result]:
    """A folder's names with their status; whatever went meanwhile is left out.

    What a writer of ours left behind when it was killed is removed.
    """
    found = {}
    with os.scandir(fd) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found[entry.name] = status = entry.stat(follow_symlinks=False)
                age_ns = time.time_ns() - status.st_mtime_ns
                if entry.name.startswith(TEMPORARY_PREFIX) and age_ns > STALE_TEMPORARY_NS:
                    os.unlink(entry.name, dir_fd=fd)
    return found


def _file(status: os.stat_result) -> File:
    sure = time.time_ns() - status.st_mtime_ns > SURE_AFTER_NS
    return File(status.st_size, status.st_mtime_ns, status.st_ino, sure=sure)
