"""How often a caller may ask: an exact sliding window, on monotonic time that is passed in."""

from collections import OrderedDict, deque
from collections.abc import Hashable


class Window:
    """At most `points` events within any `duration_s` seconds."""

    __slots__ = ("_duration_s", "_points", "_taken")

    def __init__(self, points: int, duration_s: float) -> None:
        self._points = points
        self._duration_s = duration_s
        self._taken: deque[float] = deque()

    def take(self, now: float) -> float:
        """Count an event and return 0, or the seconds until there is room again; those don't count."""
        taken = self._taken
        while taken and now - taken[0] >= self._duration_s:
            taken.popleft()
        if len(taken) < self._points:
            taken.append(now)
            return 0.0
        return taken[0] + self._duration_s - now


class Windows:
    """One window a key.  The key that was silent longest is forgotten when there are too many."""

    def __init__(self, points: int, duration_s: float, *, keys: int) -> None:
        self._points = points
        self._duration_s = duration_s
        self._keys = keys
        self._windows: OrderedDict[Hashable, Window] = OrderedDict()

    def take(self, key: Hashable, now: float) -> float:
        """As `Window.take`, for one key."""
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= self._keys:
                self._windows.popitem(last=False)
            window = self._windows[key] = Window(self._points, self._duration_s)
        else:
            self._windows.move_to_end(key)
        return window.take(now)
