"""Paths of a project that a command must not write: what later runs without anybody running the project.

Opening an editor, entering a folder, starting Claude or using git would run what a command had planted
there, outside the sandbox.  All of `.git` is held, because there is no safe part of it: a `commondir`, a
`config.worktree` or the state of a rebase redirects or runs just as hooks do, and git takes offence at
most stand-ins for them.  A command can read the history but not commit.

A path that is there is bound read-only onto itself, which also keeps it from being renamed.  One that
isn't there is first made, as an empty folder, and removed afterwards: a folder, because then no watcher
reports a file, `rmdir` can never delete what somebody has put there meanwhile, and no program reads it as a
configuration.
"""

import contextlib
import errno
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2s
from pathlib import Path

from claude_daemon.errors import ProtectedPathError, SandboxUnavailableError
from claude_daemon.lib.files import private_folder

NAMES = (
    ".git",
    ".claude",
    ".mcp.json",
    ".envrc",
    ".vscode",
    ".cursor",
    ".idea",
    ".run",
    ".devcontainer",
    ".husky",
    ".githooks",
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A handle of the folder that stands at exactly this path, no link on the way.

    Whoever mounts by the handle cannot be led astray by a folder that is swapped for a link afterwards.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    try:
        handle = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise SandboxUnavailableError(
            f"{path} cannot be opened ({error.strerror}); bring the folder back, then try again"
        ) from None
    try:
        if Path(f"/proc/self/fd/{handle}").readlink() != path:
            raise SandboxUnavailableError(
                f"{path} is reached through a link; remove the project and add it by its real path"
            )
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def held(folder: int, path: Path) -> Iterator[dict[Path, int]]:
    """Handles of the protected paths in an opened folder.

    Raises `ProtectedPathError` for a link, which nothing can be mounted on, and for a file with a second
    name, by which it could be written.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    found: dict[Path, int] = {}
    with contextlib.ExitStack() as stack:
        for name in NAMES:
            try:
                handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
            except FileNotFoundError:
                continue
            stack.callback(os.close, handle)
            status = os.fstat(handle)
            if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1):
                what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a hard link"
                raise ProtectedPathError(
                    f"{path / name} is {what}, which a sandboxed command could change unseen; "
                    "replace it by a plain file or folder to run commands in this project"
                )
            found[path / name] = handle
        yield found


class StandIns:
    """The empty folders that stand where a protected path is missing, while a command runs.

    Commands that run in the same project at the same time share them.  A journal names them, so that the
    next start can remove those that a crash left behind.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = private_folder(journal)
        self._users: Counter[Path] = Counter()
        self._made: dict[Path, list[str]] = {}

    @contextlib.contextmanager
    def standing(self, folder: int, path: Path) -> Iterator[None]:
        """`folder` is a handle of `path`.  Raises `SandboxUnavailableError` when one cannot be made."""
        if not self._users[path]:
            self._make(folder, path)
        self._users[path] += 1
        try:
            yield
        finally:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                self._remove(path)

    def sweep(self) -> None:
        """Remove what an earlier run of the daemon left standing."""
        for note in self._journal.iterdir():
            path, *names = note.read_text("utf-8", "surrogateescape").split("\0")
            _remove(Path(path), names)
            note.unlink()

    def _make(self, folder: int, path: Path) -> None:
        missing = [name for name in NAMES if not _exists(name, folder)]
        if not missing:
            return
        self._made[path] = missing
        try:
            self._note(path).write_text("\0".join([str(path), *missing]), "utf-8", "surrogateescape")
            for name in missing:
                with contextlib.suppress(FileExistsError, PermissionError):
                    # Where we may make nothing, a command may not either.
                    os.mkdir(name, 0o700, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.EROFS:
                return
            self._remove(path)
            raise SandboxUnavailableError(
                f"the protected paths of {path} cannot be held ({error.strerror}); make room, then try again"
            ) from None

    def _remove(self, path: Path) -> None:
        _remove(path, self._made.pop(path, []))
        self._note(path).unlink(missing_ok=True)

    def _note(self, path: Path) -> Path:
        return self._journal / blake2s(os.fsencode(path), digest_size=16).hexdigest()


def _remove(path: Path, names: list[str]) -> None:
    """Only folders that are empty: what somebody has put there since is theirs."""
    for name in names:
        with contextlib.suppress(OSError):
            (path / name).rmdir()


def _exists(name: str, folder: int) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True
