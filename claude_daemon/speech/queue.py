"""What waits to be said: urgent first, in order within each, bounded.  Knows nothing of time or sound."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Utterance:
    text: str
    urgent: bool = False


class SpeechQueue:
    """Holds up to `limit` utterances; muted it holds none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._urgent: deque[Utterance] = deque()
        self._normal: deque[Utterance] = deque()
        self._muted = False

    def __len__(self) -> int:
        return len(self._urgent) + len(self._normal)

    @property
    def muted(self) -> bool:
        return self._muted

    def mute(self) -> int:
        """Take no more, and return how many were dropped: said an hour later, news is noise."""
        self._muted = True
        return self.clear()

    def unmute(self) -> None:
        self._muted = False

    def admits(self, *, urgent: bool) -> bool:
        """Whether one more would be taken: a normal one never takes the place of an urgent one."""
        return not self._muted and (urgent or bool(self._normal) or len(self) < self._limit)

    def offer(self, utterance: Utterance) -> Utterance | None:
        """Add one and return the one that had to go: itself, or the oldest, one that isn't urgent if any."""
        if not self.admits(urgent=utterance.urgent):
            return utterance
        dropped = (self._normal or self._urgent).popleft() if len(self) >= self._limit else None
        (self._urgent if utterance.urgent else self._normal).append(utterance)
        return dropped

    def take(self) -> Utterance | None:
        """The next to be said, or None."""
        waiting = self._urgent or self._normal
        return waiting.popleft() if waiting else None

    def clear(self) -> int:
        """Drop everything and return how many that were."""
        dropped = len(self)
        self._urgent.clear()
        self._normal.clear()
        return dropped
