"""Socket.IO by hand over aiohttp's websocket: the cheapest client there is, so that the daemon is measured.

It reads only when it is told to; a client that is not asked to read is one that does not.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

ENGINE = "/socket.io/?EIO=4&transport=websocket"
ANSWER_WITHIN_S = 30.0
PING, PONG = "2", "3"


class Event(NamedTuple):
    name: str
    body: dict[str, Any]


class Peer:
    """One connection on which Socket.IO is open."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._number = 0

    async def send(self, event: str, **body: Any) -> str:
        """Ask for an ack, but don't wait for it; returns how the frame that brings it begins."""
        self._number += 1
        await self.socket.send_str(f"42{self._number}{json.dumps([event, body])}")
        return f"43{self._number}["

    async def frame(self) -> str:
        """The next frame that is not a ping.  Raises `ConnectionError` when there is none."""
        while True:
            message = await self.socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"the daemon closed the connection ({self.socket.close_code})")
            if message.data != PING:
                return str(message.data)
            await self.socket.send_str(PONG)

    async def call(self, event: str, **body: Any) -> dict[str, Any]:
        """Ask, wait for the ack, and skip whatever else comes.  Raises `RuntimeError` for a refusal."""
        begins = await self.send(event, **body)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while not (frame := await self.frame()).startswith(begins):
                pass
        reply: dict[str, Any] = json.loads(frame[len(begins) - 1 :])[0]
        if not reply["ok"]:
            raise RuntimeError(f"{event}: {reply['error']}")
        return reply

    async def until(self, name: str, wanted: Callable[[dict[str, Any]], bool]) -> Event:
        """The first event of that name that is wanted; what comes before it is skipped.

        A refusal raises `RuntimeError`: whoever waits for an event's consequence would wait in vain.
        """
        begins = f'42["{name}",'
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                frame = await self.frame()
                if frame.startswith("43") and '"ok":false' in frame:
                    raise RuntimeError(frame)
                if frame.startswith(begins):
                    event = Event(*json.loads(frame[2:]))
                    if wanted(event.body):
                        return event


@asynccontextmanager
async def peer(url: str, token: str) -> AsyncIterator[Peer]:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url + ENGINE, max_msg_size=0, compress=0) as socket,
    ):
        connected = Peer(socket)
        await socket.receive_str()  # Engine.IO's OPEN
        await socket.send_str("40" + json.dumps({"token": token}))
        async with asyncio.timeout(ANSWER_WITHIN_S):
            answer = await connected.frame()
        if not answer.startswith("40"):
            raise ConnectionError(f"the daemon refused the connection: {answer}")
        yield connected
