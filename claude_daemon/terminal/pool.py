"""Who runs now and who waits: a pure rule over ids, first come, first served."""

from collections import deque

from claude_daemon.errors import BusyError


class Pool:
    """`slots` commands at once, and at most `queue` waiting for one."""

    def __init__(self, *, slots: int, queue: int) -> None:
        self.slots = slots
        self._limit = queue
        self._running: set[str] = set()
        self._waiting: deque[str] = deque()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def enter(self, command: str) -> int:
        """0 when it may run at once, else its place in the queue, from 1.  Raises `BusyError`."""
        if len(self._running) < self.slots:
            self._running.add(command)
            return 0
        if len(self._waiting) >= self._limit:
            raise BusyError(
                f"{len(self._running)} commands run and {len(self._waiting)} wait; "
                "try again when one has ended"
            )
        self._waiting.append(command)
        return len(self._waiting)

    def has_slot(self, command: str) -> bool:
        return command in self._running

    def leave(self, command: str) -> str | None:
        """It ended, or waits no longer; said twice it does no harm.  Returns who may run in its stead."""
        if command not in self._running:
            if command in self._waiting:
                self._waiting.remove(command)
            return None
        self._running.remove(command)
        if not self._waiting:
            return None
        following = self._waiting.popleft()
        self._running.add(following)
        return following
