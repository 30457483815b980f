"""A client of the API, for the CLI, the tray and the tests: the only importer of socketio's client.

On this machine it comes over the local socket, where the peer's uid is the credential; elsewhere with a
token.  What the daemon says is kept in a bounded queue until it is asked for.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import socketio

from claude_daemon.protocol.model import Json

CALL_TIMEOUT_S = 30.0
KEPT_EVENTS = 10_000


class NotRunningError(Exception):
    """Nobody listens there."""


class RefusedError(Exception):
    """The daemon refused: `code` and `error` as the contract has them."""

    def __init__(self, error: Json) -> None:
        super().__init__(str(error.get("message", "refused")))
        self.code = str(error.get("code", "internal"))
        self.error = error


class Client:
    """One connection; an async context."""

    def __init__(
        self, where: Path | str, *, token: str | None = None, transports: list[str] | None = None
    ) -> None:
        self._where = where
        self._token = token
        self._transports = transports or ["websocket"]
        self._events: asyncio.Queue[tuple[str, Json]] = asyncio.Queue(KEPT_EVENTS)
        self._put_back: list[tuple[str, Json]] = []
        self._socket: Any = None
        self.gone = asyncio.Event()
        """Set when the connection ended."""
        self.refusal: Json | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=self._connector())
        self._socket = socketio.AsyncClient(http_session=self._session, reconnection=False)
        self._socket.on("*", self._keep)
        self._socket.on("connect_error", self._refused)
        self._socket.on("disconnect", self._gone)
        url = "http://localhost" if isinstance(self._where, Path) else self._where
        try:
            await self._socket.connect(
                url, auth={"token": self._token} if self._token else None, transports=self._transports
            )
        except (socketio.exceptions.ConnectionError, aiohttp.ClientError, OSError) as error:
            await self._session.close()
            if self.refusal:
                raise RefusedError(self.refusal) from None
            raise NotRunningError(str(error)) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.disconnect()
        await self._session.close()

    async def call(
        self, event: str, payload: Any = None, /, *, timeout_s: float = CALL_TIMEOUT_S, **fields: Any
    ) -> Json:
        """Ask, and return the ack without `ok`.  Raises `RefusedError`, or `TimeoutError` without an answer.

        The payload is `fields`, in the wire's camelCase, unless one is given as it is.
        """
        reply: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

        def answered(body: Any = None) -> None:
            if not reply.done():
                reply.set_result(body)

        async with asyncio.timeout(timeout_s):
            await self._socket.emit(event, fields if payload is None else payload, callback=answered)
            body = await reply
        if not body.pop("ok"):
            raise RefusedError(body["error"])
        return body

    async def emit(self, event: str, payload: Any = None) -> None:
        """Send without asking for an ack."""
        await self._socket.emit(event, payload)

    async def receive(self, *names: str, timeout_s: float = CALL_TIMEOUT_S) -> Json:
        """The next event of one of these names; others that came before it are kept for later."""
        for index, (name, body) in enumerate(self._put_back):
            if name in names:
                del self._put_back[index]
                return body
        async with asyncio.timeout(timeout_s):
            while True:
                name, body = await self._events.get()
                if name in names:
                    return body
                self._put_back.append((name, body))
                del self._put_back[:-KEPT_EVENTS]

    async def events(self) -> AsyncIterator[tuple[str, Json]]:
        """Everything that comes, in order, until the connection ends."""
        while self._put_back:
            yield self._put_back.pop(0)
        while True:
            getting = asyncio.ensure_future(self._events.get())  # noqa: TID251  ended two lines below
            ending = asyncio.ensure_future(self.gone.wait())  # noqa: TID251  ended two lines below
            await asyncio.wait({getting, ending}, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if not getting.done():
                getting.cancel()
                with contextlib.suppress(asyncio.QueueEmpty):
                    while True:
                        yield self._events.get_nowait()
                return
            yield getting.result()

    def _connector(self) -> aiohttp.BaseConnector:
        if isinstance(self._where, Path):
            return aiohttp.UnixConnector(path=str(self._where))
        return aiohttp.TCPConnector()

    async def _keep(self, name: str, body: Any = None) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait((name, body))

    async def _refused(self, body: Any) -> None:
        if isinstance(body, dict):
            self.refusal = {**(body.get("data") or {}), "message": body.get("message", "")}

    async def _gone(self, *_reason: object) -> None:
        self.gone.set()


def reachable(path: Path) -> Path:
    """The name by which a local socket can be connected to, however long its path is."""
    if len(os.fsencode(path)) <= 100 or not path.parent.exists():
        return path
    return Path(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}") / path.name
