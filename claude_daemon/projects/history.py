"""Contents that files once had, by their hash: written once, whatever file, project or day they come from.

Blobs are compressed, checked when read, 0600 in 0700 folders.  A blob is on disk before anything refers to
it; one that nothing refers to any more is swept after a while.  Which version of which file had which
content is the database's to know (`storage.versions`), and what may be kept at all is decided above.
"""

import contextlib
import hashlib
import os
import secrets
import threading
import time
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

from claude_daemon.lib.files import private_folder, sync_folder

GRACE_S = 3_600.0  # a blob younger than this may be about to be referred to
LEVEL = 1  # a save is waited for; higher levels gain a tenth and take thrice as long


class History:
    """Blocking; any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._lock = threading.Lock()  # between finding a blob there and sweeping it

    def keep(self, contents: Iterable[bytes]) -> list[str]:
        """Put contents on disk, all of them before it returns; their hashes, in order.

        Raises `OSError`, such as for a full disk; then none of the new ones is there.
        """
        hashes = []
        fresh: dict[Path, Path] = {}
        try:
            for content in contents:
                sha256 = hashlib.sha256(content).hexdigest()
                hashes.append(sha256)
                path = self._path(sha256)
                if path not in fresh and not self._touch(path):
                    fresh[path] = _write_beside(private_folder(path.parent), content)
            for temporary in fresh.values():
                _sync(temporary)
        except BaseException:
            for temporary in fresh.values():
                temporary.unlink(missing_ok=True)
            raise
        for path, temporary in fresh.items():
            temporary.replace(path)
        for folder in {path.parent for path in fresh}:
            sync_folder(folder)
        return hashes

    def read(self, sha256: str) -> bytes | None:
        """A content; None when it isn't kept (any more) or was damaged."""
        try:
            content = zlib.decompress(self._path(sha256).read_bytes())
        except (OSError, zlib.error):
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    def shelves(self) -> list[str]:
        """The first two digits of all hashes that are kept; what is swept at once."""
        return sorted(each.name for each in self._folder.iterdir())

    def sweep(self, shelf: str, live: Collection[str], *, now: float | None = None) -> int:
        """Remove a shelf's blobs whose hash is not in `live`, unless they are young; returns how many."""
        until = (time.time() if now is None else now) - GRACE_S
        removed = 0
        for path in list((self._folder / shelf).iterdir()):
            if path.name not in live:
                with self._lock, contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < until:
                        path.unlink()
                        removed += 1
        return removed

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _touch(self, path: Path) -> bool:
        """Whether a blob is there; if so, it now counts as young."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            os.utime(path)
            return True
        return False


def _write_beside(folder: Path, content: bytes) -> Path:
    path = folder / f".{secrets.token_hex(8)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(zlib.compress(content, LEVEL))
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
