"""Engine.IO and HTTP by hand, for what no client library would send.

An *attacker* is one connection that can `send` single Engine.IO packets; text frames are `str`, binary
ones `bytes`.  Both transports have one, and tests treat them alike.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

ENGINE = "/socket.io/?EIO=4&transport="
SEPARATOR = "\x1e"
CLOSED = "closed"
ANSWER_WITHIN_S = 5.0


class Attacker(Protocol):
    async def send(self, packet: str | bytes) -> None:
        """Never raises for a connection that the daemon has closed."""

    async def receive(self, within_s: float = ANSWER_WITHIN_S) -> str:
        """The next packet, or `CLOSED`; pings are answered.  Raises `TimeoutError`."""
        ...

    @property
    def ended(self) -> str:
        """How the daemon closed: a close code, an HTTP status, or nothing."""
        ...


class WebSocketAttacker:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.ended = ""

    async def send(self, packet: str | bytes) -> None:
        with suppress(ConnectionError):
            if isinstance(packet, str):
                await self.socket.send_str(packet)
            else:
                await self.socket.send_bytes(packet)

    async def receive(self, within_s: float = ANSWER_WITHIN_S) -> str:
        async with asyncio.timeout(within_s):
            while True:
                message = await self.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    self.ended = str(self.socket.close_code)
                    return CLOSED
                if message.data != "2":
                    return str(message.data)
                await self.send("3")


class PollingAttacker:
    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self.http = http
        self.address = address
        self.ended = ""
        self._waiting: list[str] = []

    async def send(self, packet: str | bytes) -> None:
        body = packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode()
        await self.post(body.encode("utf-8", "surrogatepass"))

    async def post(self, body: bytes) -> int:
        """A whole body, which may be anything; returns the HTTP status.  Raises `TimeoutError`."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), self.http.post(self.address, data=body) as answer:
                if answer.status != 200:
                    self.ended = str(answer.status)
                return answer.status
        except aiohttp.ClientError as error:
            self.ended = type(error).__name__
            return 0

    async def receive(self, within_s: float = ANSWER_WITHIN_S) -> str:
        async with asyncio.timeout(within_s):
            while True:
                while not self._waiting:
                    try:
                        async with self.http.get(self.address) as answer:
                            text = await answer.text()
                    except aiohttp.ClientError:
                        return CLOSED
                    if answer.status != 200:
                        return CLOSED
                    self._waiting = text.split(SEPARATOR)
                packet = self._waiting.pop(0)
                if packet == "1":
                    return CLOSED
                if packet == "2":
                    await self.send("3")
                elif packet not in {"6", ""}:  # what a poll ends with when there is nothing to say
                    return packet


@asynccontextmanager
async def attacker(
    url: str, transport: str, *, token: str | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Any]:
    """A connection on which Engine.IO is open, and with a token Socket.IO as well."""
    async with aiohttp.ClientSession(headers=headers) as http:
        address = url + ENGINE + transport
        if transport == "websocket":
            async with http.ws_connect(address, max_msg_size=0) as socket:
                attacker: Any = WebSocketAttacker(socket)
                assert (await attacker.receive()).startswith("0{")
                yield await _connected(attacker, token)
        else:
            async with http.get(address) as answer:
                assert answer.status == 200, answer.status
                opened = json.loads((await answer.text())[1:])
            attacker = PollingAttacker(http, f"{address}&sid={opened['sid']}")
            yield await _connected(attacker, token)
            await attacker.send("1")


async def _connected(attacker: Attacker, token: str | None) -> Attacker:
    if token is not None:
        await attacker.send("40" + json.dumps({"token": token}))
        assert (await attacker.receive()).startswith("40{")
    return attacker


async def answers_or_closed(attacker: Attacker, within_s: float = ANSWER_WITHIN_S) -> str:
    """Whether a connection still works.  Raises `TimeoutError` for one that hangs."""
    await attacker.send('4277["list_sessions",{}]')
    async with asyncio.timeout(within_s):
        while True:
            packet = await attacker.receive(within_s)
            if packet == CLOSED or packet.startswith("4377["):
                return packet


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


async def request(port: int, head: str, body: str = "") -> Answer:
    """One HTTP request whose first line and headers go out as written; `Host` is one of them, or is not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [*head.strip().splitlines(), f"Content-Length: {len(body)}", "", body]
    try:
        writer.write("\r\n".join(line.strip() for line in lines).encode())
        await writer.drain()
        async with asyncio.timeout(ANSWER_WITHIN_S):
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            named = [field.partition(":") for field in fields if field]
            headers = {name.lower(): value.strip() for name, _, value in named}
            content = await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.close()
    return Answer(int(status.split()[1]), headers, content)
