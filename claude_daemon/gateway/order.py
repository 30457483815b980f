"""The order in which one socket's packets leave: within a stream by seq, answers among the events."""

from collections import deque
from typing import Generic, TypeVar

from claude_daemon.core.service import Turn
from claude_daemon.protocol.model import Stream

P = TypeVar("P")


class Order(Generic[P]):
    """A pure rule: packets go in, and come out as soon as nothing before them is missing.

    Only a stream in which this socket's own request published something keeps anything back, until that
    request is answered; everything else passes at once.
    """

    def __init__(self) -> None:
        self._lines: dict[Stream, deque[P | Turn]] = {}
        self._streams: dict[Turn, set[Stream]] = {}
        self._answers: dict[Turn, P] = {}

    def hold(self, stream: Stream, turn: Turn) -> list[P]:
        """Keep a place for the answer of `turn`; what may leave now is returned.

        A request that publishes twice is answered with its last number, so its place moves back.
        """
        if turn.over:
            return []
        line = self._lines.setdefault(stream, deque())
        streams = self._streams.setdefault(turn, set())
        moved = stream in streams
        if moved:
            line.remove(turn)
        streams.add(stream)
        line.append(turn)
        return self._advance(stream) if moved else []

    def passing(self, stream: Stream | None, packet: P) -> list[P]:
        """What may leave now that there is one packet more."""
        line = self._lines.get(stream) if stream is not None else None
        if line is None:
            return [packet]
        line.append(packet)
        return []

    def answered(self, turn: Turn, answer: P | None) -> list[P]:
        """What may leave now that a request is over; without an answer its place is given up."""
        turn.over = True
        streams = self._streams.get(turn)
        if streams is None:
            return [] if answer is None else [answer]
        if answer is not None:
            self._answers[turn] = answer
        return [packet for stream in list(streams) for packet in self._advance(stream)]

    def _advance(self, stream: Stream) -> list[P]:
        leaving: list[P] = []
        line = self._lines[stream]
        while line:
            first = line[0]
            if isinstance(first, Turn):
                if not first.over:
                    return leaving
                self._streams[first].discard(stream)
                if not self._streams[first]:
                    del self._streams[first]
                if (answer := self._answers.pop(first, None)) is not None:
                    leaving.append(answer)
            else:
                leaving.append(first)
            line.popleft()
        del self._lines[stream]
        return leaving
