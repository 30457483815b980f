"""Looks at a project's folder and tells what changed since the snapshot.  Blocking: for worker threads.

One look at a time; `take`, `forget` and `all_gone` within the project's turn.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_daemon.projects.look import Looked, Looker
from claude_daemon.projects.root import Identity, Root
from claude_daemon.projects.take import Taken, Taker


def identify(path: Path) -> Identity:
    """Which folder stands at `path` now.  Raises `OSError`."""
    with Root(path) as root:
        return root.identity


class FolderGoneError(Exception):
    """The project's folder is no longer the one that the survey began with."""


class Survey:
    """Every step opens the folder anew, and raises `FolderGoneError` when it is another one by now."""

    def __init__(self, path: Path, identity: Identity, looker: Looker, taker: Taker) -> None:
        self._path = path
        self._identity = identity
        self.looker = looker
        self.taker = taker

    def look(self, queue: deque[str], *, read_new: bool = True) -> Looked:
        with self._opened() as root:
            return self.looker.look(root, queue, read_new=read_new)

    def learn(self, paths: Iterable[str]) -> Looked:
        with self._opened() as root:
            return self.looker.learn(root, paths)

    def take(self, looked: Looked, *, announce_new: bool = True) -> Taken:
        with self._opened() as root:
            return self.taker.take(root, looked, announce_new=announce_new)

    def check(self) -> None:
        with self._opened():
            pass

    @contextmanager
    def _opened(self) -> Iterator[Root]:
        try:
            root = Root(self._path)
        except OSError as error:
            raise FolderGoneError from error
        with root:
            if root.identity != self._identity:
                raise FolderGoneError
            yield root
