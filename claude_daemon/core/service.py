"""What the parts know of each other: who asks, how a socket looks from inside, how a handler is shaped."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from claude_daemon.core.delivery import Delivery
from claude_daemon.core.log import OnceKey
from claude_daemon.protocol.model import DeviceId, Json, Reply, Request, Scope, Stream, UserId


class Connection(Protocol):
    """A client's socket as the core sees it.  Nothing here waits for the network."""

    @property
    def device_id(self) -> DeviceId: ...

    @property
    def closed(self) -> bool: ...

    @property
    def congested(self) -> bool:
        """More waits for this client than is healthy; whoever produces a lot should pause."""
        ...

    def offer(self, delivery: Delivery) -> None:
        """Queue one event.  A client that lags too far is closed instead; it comes back by `afterSeq`."""
        ...

    def hold(self, stream: Stream, turn: "Turn") -> None:
        """Let the answer of a request leave before what this stream says from now on."""
        ...

    async def drained(self) -> None:
        """Return once `congested` is over or the socket is closed."""
        ...


class Turn:
    """One request between its arrival and its answer.

    An event that it publishes has a number; what the same stream says later waits on the asker's socket
    until the answer, which tells that number, has left.
    """

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: from the credential only, never from a message."""

    user_id: UserId
    device_id: DeviceId
    scopes: frozenset[Scope]
    address: str
    local: bool = False
    """On the local socket: the peer's uid is the credential and no rate limit holds."""
    connection: Connection | None = None
    expires_at: float | None = None
    """Unix time at which the credential ends."""
    turn: Turn | None = None
    """The request that is being answered, where the order of answers and events matters."""


R = TypeVar("R", bound=Request)
Answer: TypeAlias = Reply | Json | None
Handler: TypeAlias = Callable[[Caller, R], Awaitable[Answer]]
OnceHandler: TypeAlias = Callable[[Caller, R, OnceKey | None], Awaitable[Answer]]
Restorer: TypeAlias = Callable[[Stream, Json], Awaitable[Json]]
"""Fills in, on replay, what an event's row does not keep (a file's content)."""
