"""A second client, to have somebody to talk to: plain `python-socketio`, and every event in a queue."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio

ANSWER_WITHIN_S = 5.0


class Peer:
    """`call` asks and returns the ack; `receive` takes the next event of a name, in order of arrival."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncClient(reconnection=False)
        self.events: list[tuple[str, Any]] = []
        """Everything that arrived, in order."""
        self._queues: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.socket.on("*", self._heard)

    async def call(self, event: str, **payload: Any) -> Any:
        return await self.socket.call(event, payload, timeout=ANSWER_WITHIN_S)

    async def emit(self, event: str, **payload: Any) -> None:
        """Ask without an ack: a refusal comes as the event `error`."""
        await self.socket.emit(event, payload)

    async def receive(self, event: str, *, within_s: float = ANSWER_WITHIN_S) -> Any:
        try:
            async with asyncio.timeout(within_s):
                return await self._queues[event].get()
        except TimeoutError:
            heard = [name for name, _ in self.events]
            raise AssertionError(f"no {event} within {within_s:g} s; heard {heard}") from None

    def waiting(self, event: str) -> int:
        """How many events of a name have arrived and were not taken."""
        return self._queues[event].qsize()

    async def _heard(self, event: str, data: Any = None) -> None:
        self.events.append((event, data))
        self._queues[event].put_nowait(data)


@asynccontextmanager
async def peer(url: str, token: str, *, transports: list[str] | None = None) -> AsyncIterator[Peer]:
    """Connected for the time of a block."""
    client = Peer()
    await client.socket.connect(
        url, auth={"token": token}, transports=transports or ["websocket"], wait_timeout=ANSWER_WITHIN_S
    )
    try:
        yield client
    finally:
        await client.socket.disconnect()
