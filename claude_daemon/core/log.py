"""The event log as the core sees it: append in order, read back in order.

The store behind it numbers events inside its own transaction, so that a failed commit leaves no gap, and
calls `landed` in the order of the numbers once they are on disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from claude_daemon.core.delivery import Stored
from claude_daemon.errors import ConflictError
from claude_daemon.protocol.model import DeviceId, EventId, Json, Stream


@dataclass(frozen=True, slots=True)
class OnceKey:
    """What makes two requests the same: the device, the event, the client's id; and what was asked."""

    device_id: DeviceId
    event: str
    client_id: str
    fingerprint: bytes
    unknown: bool = False
    """An earlier attempt was interrupted; its effect may be there or not."""


class ReusedClientIdError(ConflictError):
    """A clientId came back with another payload."""

    def __init__(self, client_id: str) -> None:
        super().__init__(f"clientId {client_id!r} was used for another request; choose a new one")


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has its number."""

    stream: Stream
    id: EventId
    name: str
    body: bytes
    device_id: DeviceId | None = None
    client_id: str | None = None
    once: OnceKey | None = None
    """Given: stored together with the event, and when it is known already, no event is appended."""
    reply: Json | None = None
    """What the ack says beside `id` and `seq`, for the next one that asks the same."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The request was done before; this is what it was answered."""

    reply: Json


Outcome = Stored | Repeated | Exception


@dataclass(frozen=True, slots=True)
class Reach:
    """Which events of a stream are kept: `floor` < seq ≤ `head`."""

    floor: int
    head: int


class Log(Protocol):
    """Durable streams of events."""

    def append(self, draft: Draft, landed: Callable[[Outcome], None]) -> None:
        """Take an event; `landed` is called on the loop when it is on disk, or with what went wrong.

        Raises `BusyError` when too many writes wait for the disk.
        """
        ...

    async def reach(self, stream: Stream) -> Reach: ...

    async def read(self, stream: Stream, *, after: int, limit: int) -> Sequence[Stored]:
        """Events with seq > `after`, the oldest first."""
        ...

    async def last(self, stream: Stream, name: str, *, before: int | None, limit: int) -> Sequence[Stored]:
        """The last events of one kind with seq < `before`, the oldest first."""
        ...

    async def touch(self, stream: Stream) -> None:
        """Make a stream known that has no event yet."""
        ...

    async def streams(
        self, prefix: str, *, before: str | None, limit: int
    ) -> tuple[Sequence[Json], str | None]:
        """`{stream, seq, lastActivity}` with the latest first, and the cursor of the next page."""
        ...


class Once(Protocol):
    """Remembered requests, for effects outside the log."""

    async def claim(self, key: OnceKey) -> Json | None:
        """The earlier answer, or None after the key is on disk as begun.

        Raises `ConflictError` for another payload and `OutcomeUnknownError` for one that never ended.
        """
        ...

    async def done(self, key: OnceKey, reply: Json) -> None: ...

    async def undone(self, key: OnceKey) -> None:
        """Forget a request that was refused before it had an effect."""
        ...
