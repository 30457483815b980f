"""Writes a client's change into a project so that the file is either the old or the new one, whole.

An `Edit` goes through three steps in worker threads.  `prepare` writes and syncs a temporary file beside
the target, before the project's turn.  `commit`, within the turn, looks at the target, renames, and enters
the result into the snapshot.  Whoever compares takes the same turn, so the disk and the snapshot change as
one for him: he sees the old file with the old entry or the new file with the new entry, and a write of
ours is never taken for a stranger's.  `close` removes what was not used.

Everything happens below the project's folder held open (`Root`); the target's folder is opened again for
the rename, so a folder that was moved out of the project meanwhile is not written to.
"""

import contextlib
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claude_daemon.errors import (
    FileChangedError,
    InvalidError,
    NotFoundError,
    OutsideProjectError,
    ProtectedPathError,
    ReadOnlyError,
)
from claude_daemon.projects.digest import digest
from claude_daemon.projects.ignore import TEMPORARY_PREFIX
from claude_daemon.projects.protected import protected
from claude_daemon.projects.refusals import refusal
from claude_daemon.projects.root import Root
from claude_daemon.projects.snapshot import File, Snapshot, join, parent

_ANY_WRITE = 0o222
_PERMISSIONS = 0o777  # set-uid and its kin are not handed on to content from elsewhere


@dataclass(frozen=True, slots=True)
class Written:
    action: Literal["create", "update", "delete"]
    """What truly happened, whatever the client called it."""
    sha256: str | None
    replaced: bytes | None
    """The content that is no longer on disk, unless it was too large to keep."""


class Edit:
    """One change to one file; `content` None deletes it.

    Every step raises `DaemonError` for what the client can understand.
    """

    def __init__(self, folder: Path, path: str, content: bytes | None, *, keep_bytes: int) -> None:
        if protected(path):
            raise ProtectedPathError(
                f"{path} is protected: it later runs or redirects something; change it on the machine itself"
            )
        self._folder = folder
        self._path = path
        self._name = path.rpartition("/")[2]
        self._content = content
        self._sha256 = None if content is None else hashlib.sha256(content).hexdigest()
        self._keep_bytes = keep_bytes
        self._undo = contextlib.ExitStack()
        self._temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        self._temporary_fd = -1

    def prepare(self) -> bytes | None:
        """Do what can be done ahead; returns the target's present content unless it is too large to keep."""
        with self._in_words():
            self._root = self._undo.enter_context(Root(self._folder))
            if self._content is not None:
                self._make_folders()
            fd = self._undo.enter_context(self._root.folder(parent(self._path)))
            status = self._look(fd)
            if self._content is not None:
                self._write_temporary(fd, self._content, status)
            return self._read(status)[1]

    def commit(
        self, snapshot: Snapshot, *, base_sha256: str | None = None, repeated: bool = False
    ) -> Written:
        """Let it happen.  `repeated`: an earlier attempt may have done it already, which is as good."""
        with self._in_words():
            if not self._root.stands():
                raise NotFoundError(f"{self._folder} is no longer the folder that was added")
            with self._root.folder(parent(self._path)) as fd:
                status = self._look(fd)
                sha256, replaced = self._read(status)
                done = sha256 == self._sha256
                if base_sha256 is not None and base_sha256 != sha256 and not (repeated and done):
                    raise FileChangedError(self._path, sha256)
                if status is None and self._content is None and not repeated:
                    raise NotFoundError(f"{self._path} does not exist")
                if not done:
                    self._replace(fd, snapshot)
        if self._content is None:
            return Written("delete", None, replaced)
        return Written("create" if status is None else "update", self._sha256, None if done else replaced)

    def close(self) -> None:
        """Leave nothing behind but what was committed."""
        self._undo.close()

    def _make_folders(self) -> None:
        """Make the missing folders above the file; those that stay empty are removed by `close`."""
        names = self._path.split("/")[:-1]
        at = ""
        for name in names:
            with self._root.folder(at) as fd, contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
                self._undo.callback(self._remove_folder, join(at, name))
                os.fsync(fd)
            at = join(at, name)

    def _remove_folder(self, path: str) -> None:
        with contextlib.suppress(OSError), self._root.folder(parent(path)) as fd:  # not empty: it is in use
            os.rmdir(path.rpartition("/")[2], dir_fd=fd)

    def _look(self, fd: int) -> os.stat_result | None:
        """The target's status in its folder `fd`, None when it isn't there; refuses what is never written."""
        try:
            status = os.lstat(self._name, dir_fd=fd)
        except FileNotFoundError:
            status = None
        if status is not None:
            if stat.S_ISLNK(status.st_mode):
                raise OutsideProjectError(f"{self._path} is a symbolic link; links are not followed")
            if not stat.S_ISREG(status.st_mode):
                reason = f"{self._path} is no regular file"
                raise InvalidError(reason, path=["filePath"], kind="any.only", reason=reason)
            if status.st_nlink > 1:
                raise ProtectedPathError(
                    f"{self._path} has another name elsewhere (a hard link), which a write would cut off"
                )
            if not status.st_mode & _ANY_WRITE or not os.access(self._name, os.W_OK, dir_fd=fd):
                raise ReadOnlyError(f"{self._path} is read-only")
        if not os.fstat(fd).st_mode & _ANY_WRITE or not os.access(".", os.W_OK | os.X_OK, dir_fd=fd):
            raise ReadOnlyError(f"the folder of {self._path} is read-only")
        return status

    def _write_temporary(self, fd: int, content: bytes, old: os.stat_result | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._temporary_fd = os.open(self._temporary, flags, 0o666, dir_fd=fd)
        self._undo.callback(os.close, self._temporary_fd)
        self._undo.callback(_unlink, self._temporary, fd)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._temporary_fd, rest) :]
        if old is not None:
            self._take_after(old)
        os.fsync(self._temporary_fd)

    def _take_after(self, old: os.stat_result) -> None:
        """Give the new file the old one's owner, as far as that is allowed, and mode."""
        if sys.platform == "win32":
            return
        new = os.fstat(self._temporary_fd)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            with contextlib.suppress(PermissionError):
                os.fchown(self._temporary_fd, old.st_uid, old.st_gid)
        os.fchmod(self._temporary_fd, old.st_mode & _PERMISSIONS)

    def _read(self, status: os.stat_result | None) -> tuple[str | None, bytes | None]:
        if status is None:
            return None, None
        with self._root.reading(self._path) as fd:
            return digest(fd, status.st_size, keep=self._keep_bytes)

    def _replace(self, fd: int, snapshot: Snapshot) -> None:
        if self._content is None:
            os.unlink(self._name, dir_fd=fd)
            snapshot.remove(self._path)
        else:
            os.rename(self._temporary, self._name, src_dir_fd=fd, dst_dir_fd=fd)
            now = os.fstat(self._temporary_fd)
            snapshot.put(self._path, File(now.st_size, now.st_mtime_ns, now.st_ino, self._sha256, sure=False))
        os.fsync(fd)

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if refused := refusal(error, self._path, writing=True):
                raise refused from None
            raise


def _unlink(name: str, fd: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=fd)
