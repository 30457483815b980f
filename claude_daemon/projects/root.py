"""A project's folder, held open: every path is resolved below it and through no symbolic link.

Where the kernel has `openat2` (Linux 5.6) it resolves a path in one call, with `RESOLVE_BENEATH`,
`RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_MAGICLINKS`; elsewhere each folder on the way is opened with
`O_NOFOLLOW`.  Either way nobody can swap a folder for a link between the check and the use, because there
is no check: what was opened is what is used.  Both fail alike: `ELOOP` for a link on the way, `ENOTDIR`
for another thing that is no folder.

Held open for as long as an operation lasts, no longer: an open folder keeps its disk from being ejected,
and its removal from being noticed.  Not on Windows, which has neither way; there a project cannot be
opened yet.
"""

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_OPENAT2 = 437  # the same number on every architecture
_BENEATH = 0x02 | 0x04 | 0x08  # RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH
_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)  # os.open does that by itself, the system call doesn't
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # a FIFO or terminal must not hold us

Identity = tuple[int, int]  # device and inode


class Root:
    """Relative paths are as `parse_path` returns them, and `""` for the folder itself."""

    def __init__(self, path: Path, *, openat2: bool | None = None) -> None:
        """Raises `OSError` when the folder isn't there or may not be opened; `openat2=False` walks."""
        self.path = path
        self._resolves = has_openat2() if openat2 is None else openat2
        self._fd = os.open(path, os.O_RDONLY | _FOLDER)
        self.identity = _identity(os.fstat(self._fd))
        """Which folder it is, whatever it is called."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._fd)

    def stands(self) -> bool:
        """Whether the folder that is held open is still the one at `path`."""
        try:
            return _identity(os.lstat(self.path)) == self.identity
        except OSError:
            return False

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """A descriptor of the folder at `path`."""
        fd = self._open(path, os.O_RDONLY | _FOLDER)
        try:
            yield fd
        finally:
            os.close(fd)

    def lstat(self, path: str) -> os.stat_result:
        """The status of what stands at `path`, which may be a link; `FileNotFoundError` when nothing does."""
        if not path:
            return os.fstat(self._fd)
        above, _, name = path.rpartition("/")
        if not above:
            return os.lstat(name, dir_fd=self._fd)
        with self.folder(above) as fd:
            return os.lstat(name, dir_fd=fd)

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[int]:
        """A descriptor of the regular file at `path`; `OSError` for anything else, without waiting for it."""
        fd = self._open(path, os.O_RDONLY | _NO_FOLLOW | _NO_WAIT)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            yield fd
        finally:
            os.close(fd)

    def head(self, path: str, limit: int) -> bytes:
        """The first bytes of the regular file at `path`; nothing when it cannot be read."""
        with contextlib.suppress(OSError), self.reading(path) as fd:
            return os.read(fd, limit)
        return b""

    def _open(self, path: str, flags: int) -> int:
        if self._resolves:
            return _openat2(self._fd, path or ".", flags)
        return self._walk(path, flags)

    def _walk(self, path: str, flags: int) -> int:
        names = path.split("/") if path else ["."]
        at = os.dup(self._fd)
        try:
            for name in names[:-1]:
                below = _step(at, name, os.O_RDONLY | _FOLDER)
                os.close(at)
                at = below
            return _step(at, names[-1], flags)
        finally:
            os.close(at)


def _step(at: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=at)
    except NotADirectoryError:
        # With O_DIRECTORY a link is refused as "not a folder"; `openat2` tells the two apart, so do we.
        if stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


class _How(ctypes.Structure):
    """`struct open_how`."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@functools.cache
def _syscall() -> "ctypes._NamedFuncPointer":
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = (
        ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_How), ctypes.c_size_t
    )  # fmt: skip
    return call


def _openat2(at: int, path: str, flags: int) -> int:
    # RESOLVE_NO_SYMLINKS covers the last name too; with O_NOFOLLOW a link there would be "not a folder".
    how = _How((flags & ~_NO_FOLLOW) | _CLOSE_ON_EXEC, 0, _BENEATH)
    fd: int = _syscall()(_OPENAT2, at, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return fd


@functools.cache
def has_openat2() -> bool:
    """Whether the kernel knows the call and no filter (an older Docker's) forbids it."""
    if sys.platform != "linux":
        return False
    at = os.open("/", os.O_RDONLY | _FOLDER)
    try:
        os.close(_openat2(at, ".", os.O_RDONLY | _FOLDER))
    except OSError:
        return False
    finally:
        os.close(at)
    return True
