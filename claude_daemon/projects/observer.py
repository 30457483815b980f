"""Hints on macOS and Windows: watchdog's observer, whose systems watch a tree by one registration.

They say less than Linux does: nothing tells when a writer has closed its file, and ignored folders are
heard too and dropped by whoever compares.
"""

import os
from pathlib import Path, PurePath

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from claude_daemon.projects.hints import Crossing, Loss
from claude_daemon.projects.settle import Wait

_WANTED: list[type[FileSystemEvent]] = [
    DirCreatedEvent, DirDeletedEvent, DirMovedEvent,
    FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent,
]  # fmt: skip


class ObserverHints(FileSystemEventHandler):
    def __init__(self, root: Path, crossing: Crossing) -> None:
        self.full = False
        self._root = root
        self._crossing = crossing
        self._observer = Observer()
        self._observer.schedule(self, root, recursive=True, event_filter=_WANTED)
        self._observer.start()

    def retry(self) -> None: ...

    def watch(self, folder: str) -> None:
        """Every folder is watched from the start."""

    def unwatch(self, folder: str) -> None: ...

    def close(self) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        for place in (event.src_path, event.dest_path):
            if not place:
                continue
            try:
                path = PurePath(os.fsdecode(place)).relative_to(self._root).as_posix()
                path.encode()
            except ValueError:  # outside after a move, or not Unicode
                continue
            if path == ".":
                if isinstance(event, DirDeletedEvent):
                    self._crossing.lose(Loss.REMOVED)
                elif isinstance(event, DirMovedEvent):
                    self._crossing.lose(Loss.MOVED)
                continue
            at_once = isinstance(event, DirCreatedEvent | DirMovedEvent)
            self._crossing.touch(path, Wait.NONE if at_once else Wait.QUIET)
