"""Hints on Linux: watchdog's inotify reader, one watch a folder that isn't ignored.

watchdog's `Observer` offers two ways, and neither fits: a recursive watch cannot leave out `node_modules`,
and one watch a folder costs a thread each.  Its `InotifyFD` beneath has one thread for any number of
folders, and says when the kernel's queue overflowed.  The mask asks for no opens, reads or read-only
closes: a scan of ours would else fill the queue with its own echo.
"""

import errno
import itertools
import logging
import os
import threading
from pathlib import Path

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from claude_daemon.projects.hints import Crossing, Loss
from claude_daemon.projects.settle import Wait
from claude_daemon.projects.snapshot import join

log = logging.getLogger(__name__)

_BEING_WRITTEN = InotifyConstants.IN_CREATE | InotifyConstants.IN_MODIFY
_MOVED = InotifyConstants.IN_MOVED_FROM | InotifyConstants.IN_MOVED_TO
_MOVED_ITSELF = InotifyConstants.IN_MOVE_SELF | InotifyConstants.IN_UNMOUNT
_MASK = Mask(
    _BEING_WRITTEN
    | _MOVED
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_EXCL_UNLINK
)


class InotifyHints:
    """`watch` may be called on any thread; the reader's thread calls `on_…`."""

    def __init__(self, root: Path, crossing: Crossing) -> None:
        """Raises `OSError` when the user has no inotify instance left."""
        self.full = False
        self._root = root
        self._crossing = crossing
        self._lock = threading.Lock()
        self._folders: dict[WatchDescriptor, str] = {}
        self._watches: dict[str, WatchDescriptor] = {}
        self._ids: dict[WatchDescriptor, CallbackId] = {}
        self._next_id = itertools.count()
        self._reader = _Reader(crossing)
        self._reader.start()

    def retry(self) -> None:
        self.full = False

    def watch(self, folder: str) -> None:
        """Watch `folder` as it stands now, even if another folder stood there before.

        The kernel knows whether it watches this very folder already, and then answers with the same
        number, under which it may have had another path.  A registration of its own each time lets
        watchdog hand the watch over without a gap.
        """
        this = CallbackId(next(self._next_id))
        path = os.fsencode(self._root / folder)
        with self._lock:
            try:
                number = self._reader.add_callback(path, _MASK, self, this)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self.full = True
                return  # else it is no folder any more, which the look that follows will find
            if number < 0:  # not allowed to read it; nor will the look be
                return
            before = self._ids.get(number)
            self._ids[number], self._folders[number] = this, folder
            if before is not None:
                self._reader.remove_callbacks([(number, before)])
            self._watches[folder] = number

    def unwatch(self, folder: str) -> None:
        with self._lock:
            number = self._watches.pop(folder, None)
            if number is None or self._folders.get(number) != folder:
                return  # moved: it is watched under its new path
            del self._folders[number]
            self._reader.remove_callbacks([(number, self._ids.pop(number))])

    def close(self) -> None:
        self._reader.close_quietly()

    def on_event(self, event: InotifyEvent) -> None:
        folder = self._folders.get(event.wd)
        if folder is None:
            return
        if not event.name:
            if not folder and event.mask & InotifyConstants.IN_DELETE_SELF:
                self._crossing.lose(Loss.REMOVED)
            elif not folder and event.mask & _MOVED_ITSELF:
                self._crossing.lose(Loss.MOVED)
            return
        try:
            path = join(folder, event.name.decode())
        except UnicodeDecodeError:
            return  # the survey counts such names; they have no form on the wire
        self._crossing.touch(path, _wait(event.mask))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        with self._lock:
            self._ids.pop(wd, None)
            folder = self._folders.pop(wd, None)
            if folder is not None and self._watches.get(folder) == wd:
                del self._watches[folder]

    def on_queue_overflow(self) -> None:
        self._crossing.lose(Loss.OVERFLOW)


def _wait(mask: int) -> Wait:
    if mask & InotifyConstants.IN_ISDIR:
        # A removed folder's files are being removed too: no hurry.  A new one's are about to come.
        return Wait.NONE if mask & (InotifyConstants.IN_CREATE | _MOVED) else Wait.QUIET
    return Wait.CLOSE if mask & _BEING_WRITTEN else Wait.QUIET


class _Reader(InotifyFD):
    def __init__(self, crossing: Crossing) -> None:
        super().__init__()
        self.name = "inotify"
        self._crossing = crossing
        self._wanted = True

    def run(self) -> None:
        try:
            super().run()
        except Exception:
            log.exception("inotify reader failed")
        finally:
            if self._wanted:
                self._crossing.lose(Loss.DEAD)

    def close_quietly(self) -> None:
        self._wanted = False
        self.stop()
        self.join()
