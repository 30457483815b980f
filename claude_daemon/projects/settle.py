"""When a path that was touched has become quiet enough to be looked at.  A pure rule.

An editor's save is a handful of events within milliseconds; the state between them (truncated, half
written, renamed away) is nobody's business.  So a path waits until nothing touched it for `quiet_s`.  A
path that is being written waits for its writer to close it, when the system tells (Linux).  Neither waits
longer than `longest_s`.
"""

from enum import Enum


class Wait(Enum):
    NONE = "none"
    """Look at once: a folder that came or went; waiting would miss what happens inside a new one."""
    QUIET = "quiet"
    """The writer is done, but may do more in a moment."""
    CLOSE = "close"
    """A writer is at work; a `QUIET` touch comes when it is done."""


class Settle:
    def __init__(self, *, quiet_s: float, longest_s: float) -> None:
        self._quiet_s = quiet_s
        self._longest_s = longest_s
        # Each in the order of its times, so that what is due stands in front.
        self._ready: dict[str, None] = {}
        self._first: dict[str, float] = {}  # waiting path → first touch
        self._last: dict[str, float] = {}  # path waiting for quiet → last touch

    def __len__(self) -> int:
        return len(self._ready) + len(self._first)

    def __contains__(self, path: str) -> bool:
        return path in self._first or path in self._ready

    def touch(self, path: str, now: float, wait: Wait = Wait.QUIET) -> None:
        """Something happened to `path`.  `now` never decreases."""
        if path in self._ready:
            return
        self._last.pop(path, None)
        if wait is Wait.NONE:
            self._first.pop(path, None)
            self._ready[path] = None
            return
        self._first.setdefault(path, now)
        if wait is Wait.QUIET:
            self._last[path] = now

    def due(self, now: float) -> list[str]:
        """Take the paths whose wait is over, in the order in which they became quiet."""
        due = list(self._ready)
        self._ready.clear()
        due += _front(self._last, now - self._quiet_s)
        for path in due:
            self._first.pop(path, None)
        overdue = _front(self._first, now - self._longest_s)
        for path in overdue:
            self._last.pop(path, None)
        return due + overdue

    def next_due(self) -> float | None:
        """When to ask again; None while nothing waits."""
        if self._ready:
            return 0.0
        times = [
            *(last + self._quiet_s for last in _one(self._last)),
            *(first + self._longest_s for first in _one(self._first)),
        ]
        return min(times, default=None)

    def clear(self) -> None:
        self._ready.clear()
        self._first.clear()
        self._last.clear()


def _front(times: dict[str, float], until: float) -> list[str]:
    """Take the paths in front whose time is not after `until`."""
    taken = []
    for path, time in times.items():
        if time > until:
            break
        taken.append(path)
    for path in taken:
        del times[path]
    return taken


def _one(times: dict[str, float]) -> list[float]:
    return [next(iter(times.values()))] if times else []
