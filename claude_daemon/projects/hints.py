"""Hints from the system that something happened at a path.  They may be late, doubled, missing or wrong.

They come on watchdog's threads.  Only `Crossing` takes them over to the loop, many at a time; whoever
receives them compares the path with the snapshot.  What the system loses without saying so is found by
the next rescan.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Protocol

from claude_daemon.projects.settle import Wait


class Loss(Enum):
    """Why hints are missing, so that the whole tree has to be compared."""

    OVERFLOW = "the system dropped file events, too many came at once"
    DEAD = "the thread that hears file events ended"
    MOVED = "the project's folder was moved or unmounted"
    REMOVED = "the project's folder was deleted"


class Hints(Protocol):
    """An open source of hints about one project."""

    full: bool
    """Whether the system refused to watch a folder because a limit of its own is reached."""

    def retry(self) -> None:
        """Forget `full`: every folder is about to be asked for again."""

    def watch(self, folder: str) -> None:
        """Hear of the direct content of `folder`, relative to the project.  May be called again."""

    def unwatch(self, folder: str) -> None: ...

    def close(self) -> None:
        """End the source's threads; may take a moment."""


class Crossing:
    """The way from the system's threads to the loop.

    `touched` receives what happened, in order, once a turn of the loop.  At most `limit` hints wait for the
    loop; beyond, they count as lost.
    """

    def __init__(
        self, *, touched: Callable[[list[tuple[str, Wait]]], None], lost: Callable[[Loss], None], limit: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._touched = touched
        self._lost = lost
        self._limit = limit
        self._waiting: deque[tuple[str, Wait]] = deque()
        self._crossing = False
        self._dropping = False

    def touch(self, path: str, wait: Wait) -> None:
        """Called on any thread."""
        if len(self._waiting) >= self._limit:
            if not self._dropping:
                self._dropping = True
                self.lose(Loss.OVERFLOW)
            return
        self._waiting.append((path, wait))
        if not self._crossing:
            self._crossing = True
            self._loop.call_soon_threadsafe(self._arrive)

    def lose(self, loss: Loss) -> None:
        """Called on any thread."""
        self._loop.call_soon_threadsafe(self._lost, loss)

    def _arrive(self) -> None:
        self._crossing = False  # first: a hint that comes from now on crosses by itself
        self._dropping = False
        arrived = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self._touched(arrived)


class NoHints:
    """The system gives none; the tree is looked at every few seconds instead."""

    full = True

    def retry(self) -> None: ...

    def watch(self, folder: str) -> None: ...

    def unwatch(self, folder: str) -> None: ...

    def close(self) -> None: ...


def open_hints(root: Path, crossing: Crossing) -> Hints:
    """The best source that this system has."""
    try:
        if sys.platform == "linux":
            from claude_daemon.projects.inotify import InotifyHints

            return InotifyHints(root, crossing)
        from claude_daemon.projects.observer import ObserverHints

        return ObserverHints(root, crossing)
    except OSError:  # such as fs.inotify.max_user_instances
        return NoHints()
