"""A client of the API, for the CLI, the tray and the tests: the only importer of socketio's client.

On this machine it comes over the local socket, where the peer's uid is the credential; elsewhere with a
token.  It never reconnects by itself: whoever uses it knows how far it has read, and joins again from there.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import socketio

from claude_daemon.protocol.model import Json

CALL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0  # a daemon that hangs is not waited for
KEPT_EVENTS = 10_000
MAX_MESSAGE_BYTES = 64 << 20  # a page of history may be larger than the 4 MB that aiohttp takes
LONGEST_SOCKET_PATH = 100  # bytes that every system takes as a Unix socket's name

# The libraries print what they lose on stderr; here it is raised.
_silent = logging.getLogger("claude_daemon.client.socketio")
_silent.setLevel(logging.CRITICAL + 1)


class NotRunningError(Exception):
    """Nobody listens there."""


class ConnectionLostError(NotRunningError):
    """Somebody listened, and the connection ended."""

    def __init__(self) -> None:
        super().__init__("the connection to claude-daemon ended")


class RefusedError(Exception):
    """The daemon refused: `code` and `error` as the contract has them."""

    def __init__(self, error: Json) -> None:
        super().__init__(str(error.get("message", "refused")))
        self.code = str(error.get("code", "internal"))
        self.error = error


class Client:
    """One connection; an async context.

    Entering raises `NotRunningError`, `RefusedError`, or `TimeoutError` when the daemon does not answer.
    What the daemon says is kept until it is asked for, by `receive` or `events`, in the order it came.
    """

    def __init__(
        self, where: Path | str, *, token: str | None = None, transports: list[str] | None = None
    ) -> None:
        self._where = where
        self._token = token
        self._transports = transports or ["websocket"]
        self._stack = AsyncExitStack()
        self._socket: Any = None
        self._unread: deque[tuple[str, Json]] = deque()
        self._news = asyncio.Event()
        self._readers = 0
        self._calls: set[asyncio.Future[Json]] = set()
        self.gone = asyncio.Event()
        """Set when the connection ended."""
        self.refusal: Json | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack, asyncio.timeout(CONNECT_TIMEOUT_S):
            url, connector = self._address(stack)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            self._socket = socketio.AsyncClient(
                http_session=session,
                reconnection=False,
                handle_sigint=False,
                logger=_silent,
                engineio_logger=_silent,
                websocket_extra_options={"max_msg_size": MAX_MESSAGE_BYTES},
            )
            self._socket.on("*", self._keep)
            self._socket.on("connect_error", self._refused)
            self._socket.on("disconnect", self._gone)
            stack.push_async_callback(self._disconnect)
            auth = {"token": self._token} if self._token else None
            try:
                await self._socket.connect(
                    url, auth=auth, transports=self._transports, wait_timeout=2 * CONNECT_TIMEOUT_S
                )
            except (socketio.exceptions.ConnectionError, aiohttp.ClientError, OSError) as error:
                if self.refusal:
                    raise RefusedError(self.refusal) from None
                raise NotRunningError(str(error)) from None
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def call(
        self, event: str, payload: Any = None, /, *, timeout_s: float = CALL_TIMEOUT_S, **fields: Any
    ) -> Json:
        """Ask, and return the ack without `ok`.

        Raises `RefusedError`, `TimeoutError` without an answer, or, as soon as the connection ends,
        `NotRunningError`.  The payload is `fields`, in the wire's camelCase, unless one is given as it is.
        """
        reply: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

        def answered(body: Any = None) -> None:
            if not reply.done():
                reply.set_result(body)

        self._calls.add(reply)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(event, fields if payload is None else payload, answered)
                body = await reply
        finally:
            self._calls.discard(reply)
        if not body.pop("ok"):
            raise RefusedError(body["error"])
        return body

    async def emit(self, event: str, payload: Any = None) -> None:
        """Send without asking for an ack."""
        await self._send(event, payload, None)

    async def receive(self, *names: str, timeout_s: float = CALL_TIMEOUT_S) -> Json:
        """The next event of one of these names; others that came before it are kept for later.

        Raises `TimeoutError`, or `NotRunningError` when the connection ended without one.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                for index, (name, body) in enumerate(self._unread):
                    if name in names:
                        del self._unread[index]
                        return body
                if self.gone.is_set():
                    raise ConnectionLostError
                self._news.clear()
                await self._news.wait()

    async def events(self) -> AsyncIterator[tuple[str, Json]]:
        """Everything that comes, in order, until the connection ends.

        It also ends, cut by this side, when the reader is `KEPT_EVENTS` behind: nothing is left out.
        """
        self._readers += 1
        try:
            while True:
                while self._unread:
                    yield self._unread.popleft()
                if self.gone.is_set():
                    return
                self._news.clear()
                await self._news.wait()
        finally:
            self._readers -= 1

    def _address(self, stack: AsyncExitStack) -> tuple[str, aiohttp.BaseConnector]:
        if isinstance(self._where, Path):
            path = stack.enter_context(reachable(self._where))
            return "http://localhost", aiohttp.UnixConnector(path=str(path))
        return self._where, aiohttp.TCPConnector()

    async def _send(self, event: str, payload: Any, answered: Callable[..., None] | None) -> None:
        if self.gone.is_set():
            raise ConnectionLostError
        try:
            await self._socket.emit(event, payload, callback=answered)
        except socketio.exceptions.SocketIOError:
            raise ConnectionLostError from None

    async def _disconnect(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.disconnect()

    async def _keep(self, name: str, body: Any = None) -> None:
        if len(self._unread) >= KEPT_EVENTS:
            if self._readers:
                await self._disconnect()
                return
            self._unread.popleft()
        self._unread.append((name, body))
        self._news.set()

    async def _refused(self, body: Any) -> None:
        if isinstance(body, dict):
            self.refusal = {**(body.get("data") or {}), "message": body.get("message", "")}

    async def _gone(self, *_reason: object) -> None:
        self.gone.set()
        self._news.set()
        for reply in self._calls:
            if not reply.done():
                reply.set_exception(ConnectionLostError())


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[Path]:
    """A name by which a local socket can be connected to, however long its path is; for a block's time.

    On Linux a long one goes through a descriptor of its folder, as the daemon has bound it.
    """
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH or sys.platform != "linux" or not path.parent.is_dir():
        yield path
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{folder}") / path.name
    finally:
        os.close(folder)
