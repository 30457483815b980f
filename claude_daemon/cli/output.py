"""Writing without standing still: a pager that waits must not stop Ctrl-C or the socket."""

import asyncio
import contextlib
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TextIO


class Output:
    """A thread that writes what it is given, in order; a context that ends once all is written.

    It writes to descriptors: a thread that stands still inside Python's own buffer would hold its lock
    while the interpreter ends.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="output", daemon=True)
        self._lock = threading.Lock()
        self._settled = asyncio.Event()
        self.waiting = 0
        """Bytes that are not written yet."""
        self.broken = asyncio.Event()
        """Set when something could not be written because its reader is gone; it is dropped."""

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        if kind is None:
            await self.written()

    def put(self, stream: TextIO | None, data: bytes) -> None:
        """Write to stdout or stderr, or nowhere if it was closed from the beginning."""
        if stream is None:
            return
        with self._lock:
            self.waiting += len(data)
        self._queue.put((stream.fileno(), data))

    async def written(self) -> None:
        """Return when everything is written or dropped."""
        while self.waiting:
            self._settled.clear()
            await self._settled.wait()

    def _serve(self) -> None:
        while chunk := self._queue.get():
            descriptor, data = chunk
            try:
                _write(descriptor, data)
            except OSError:
                self._loop.call_soon_threadsafe(self.broken.set)
            with self._lock:
                self.waiting -= len(data)
            if not self.waiting:
                self._loop.call_soon_threadsafe(self._settled.set)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


@contextlib.contextmanager
def when_nobody_reads(act: Callable[[], object]) -> Iterator[None]:
    """Call `act` once the reader of a piped stdout has gone, even if nothing is being written."""
    loop = asyncio.get_running_loop()
    descriptor = _pipe()
    if descriptor is None:
        yield
        return

    def gone() -> None:
        loop.remove_reader(descriptor)
        act()

    try:
        loop.add_reader(descriptor, gone)  # a pipe's writing end becomes "readable" only by its end
    except (NotImplementedError, OSError):  # Windows; or a kind of pipe that cannot be waited for
        yield
        return
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


def _pipe() -> int | None:
    """Stdout's descriptor, if it is a pipe."""
    try:
        descriptor = sys.stdout.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(mode) else None
