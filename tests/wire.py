"""A client that notes each packet in the order in which it left the daemon: answers among events.

Client libraries hand both over in tasks of their own, where the order is theirs and no longer the wire's.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import aiohttp

ANSWER_WITHIN_S = 5.0
ADDRESS = "/socket.io/?EIO=4&transport=websocket"


class Packet(NamedTuple):
    """`name` is the event's, and of an answer the request's."""

    kind: str
    name: str
    body: Any


class Wire:
    """One websocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.packets: list[Packet] = []
        """Everything that arrived."""
        self.disconnected = False
        """Whether a Socket.IO DISCONNECT came."""
        self.closed = asyncio.Event()
        self.refused: Any = None
        self.on_packet: Callable[[Packet], None] = lambda _: None
        self._reading = asyncio.Event()
        self._reading.set()
        self._arrived = asyncio.Event()
        self._answers: dict[str, tuple[str, asyncio.Future[Any]]] = {}
        self._number = 0

    async def ask(self, event: str, payload: Any = None, **fields: Any) -> Any:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await self.send(event, fields if payload is None else payload)

    def send(self, event: str, payload: Any) -> "asyncio.Future[Any]":
        """Ask now and wait later; requests leave in the order of the calls."""
        self._number += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[str(self._number)] = (event, answer)
        packet = f"42{self._number}{json.dumps([event, payload])}"
        writing = asyncio.ensure_future(self.socket.send_str(packet))  # noqa: TID251  # kept by the answer
        answer.add_done_callback(lambda _: writing)
        return answer

    def heard(self, *names: str) -> list[Any]:
        """Bodies of the events of these names, in order."""
        return [each.body for each in self.packets if each.kind == "event" and each.name in names]

    async def until(self, condition: Callable[[], object], within_s: float = ANSWER_WITHIN_S) -> None:
        """Wait for packets until something holds."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    async def hears(self, name: str, count: int = 1, within_s: float = ANSWER_WITHIN_S) -> list[Any]:
        """The first `count` events of a name."""
        await self.until(lambda: len(self.heard(name)) >= count, within_s)
        return self.heard(name)[:count]

    def stop_reading(self) -> None:
        self._reading.clear()

    def go_on_reading(self) -> None:
        self._reading.set()

    async def read(self) -> None:
        with suppress(ConnectionError):  # closed while it answered a ping
            while True:
                await self._reading.wait()
                message = await self.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                await self._take(message.data)
                self._arrived.set()
        self.closed.set()
        self._arrived.set()

    async def _take(self, text: str) -> None:
        if text == "2":
            await self.socket.send_str("3")
        elif text.startswith("42"):
            name, body = json.loads(text[2:])
            self._note(Packet("event", name, body))
        elif text.startswith("43"):
            number, _, body = text[2:].partition("[")
            name, answer = self._answers.pop(number)
            packet = Packet("answer", name, json.loads(f"[{body}")[0])
            self._note(packet)
            if not answer.done():
                answer.set_result(packet.body)
        elif text.startswith("44"):
            self.refused = json.loads(text[2:])
        elif text == "41":
            self.disconnected = True

    def _note(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.on_packet(packet)


@asynccontextmanager
async def wire(url: str, token: str | None, *, uds: str | None = None) -> AsyncIterator[Wire]:
    """Connected for the time of a block, or refused."""
    connector = aiohttp.UnixConnector(path=uds) if uds else None
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.ws_connect(url + ADDRESS, max_msg_size=0) as socket,
    ):
        client = Wire(socket)
        reading = asyncio.ensure_future(client.read())  # noqa: TID251  # ended below
        try:
            await socket.send_str("40" + json.dumps({"token": token}))
            await client.until(lambda: client.heard("connected") or client.refused or client.closed.is_set())
            yield client
        finally:
            await socket.close()
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
