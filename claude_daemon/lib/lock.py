"""One process at a time: a lock that the system lets go of when its holder dies, however it dies."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class LockedError(Exception):
    """Somebody else holds it; `note` is what they wrote into it."""

    def __init__(self, note: str) -> None:
        super().__init__(note)
        self.note = note


class Lock:
    """Hold `path` exclusively for as long as the context lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise LockedError(read_note(self._path)) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.note("")
        os.close(self._descriptor)

    def note(self, text: str) -> None:
        """Say to others who holds the lock."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, text.encode())


def read_note(path: Path) -> str:
    """What the holder of a lock says of itself; empty when there is none."""
    try:
        return path.read_text("utf-8", errors="replace")[:1_000]
    except OSError:
        return ""


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 1_000_000, os.SEEK_SET)  # beyond the note, which others must be able to read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
