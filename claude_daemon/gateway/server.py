"""The listeners: loopback on both address families, and the local socket."""

import errno
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from aiohttp import http_exceptions, web

from claude_daemon.config import ServerSettings
from claude_daemon.core.service import Caller
from claude_daemon.errors import StartError
from claude_daemon.gateway import local
from claude_daemon.gateway.guard import Door, Guard, loopback_door
from claude_daemon.gateway.http import Routes
from claude_daemon.gateway.sockets import PATH, Sockets

SLOW_HEADERS_S = 15.0  # an idle connection that sends no whole request is closed
FREE_PORT_TRIES = 20


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a failure is the daemon's, not a client's that doesn't speak HTTP: that one got its 400."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http_exceptions.HttpProcessingError)


logging.getLogger("aiohttp.server").addFilter(_is_ours)


class Server:
    """Serves the API; an async context whose entering means that clients can connect."""

    def __init__(
        self, settings: ServerSettings, socket_path: Path | None, sockets: Sockets, routes: Routes
    ) -> None:
        self._settings = settings
        self._socket_path = socket_path
        self._sockets = sockets
        self._routes = routes
        self._door: Door | None = None
        self._stack = AsyncExitStack()
        self.port = settings.port

    async def __aenter__(self) -> Self:
        listeners, self.port = loopback_listeners(self._settings.port)
        self._door = loopback_door(self.port, self._settings.allowed_origins)
        runner = web.AppRunner(
            self._app(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            keepalive_timeout=SLOW_HEADERS_S,
        )
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        for listener in listeners:
            await web.SockSite(runner, listener).start()
        if self._socket_path is not None and hasattr(socket, "AF_UNIX"):
            path = self._socket_path
            await web.SockSite(runner, local.listen(path)).start()
            self._stack.callback(path.unlink, missing_ok=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _app(self) -> web.Application:
        guard = Guard(self._door_of, max_body=self._settings.max_packet_bytes)
        app = web.Application(
            middlewares=[guard.middleware, self._routes.authentication],
            client_max_size=self._settings.max_packet_bytes,
        )
        app.on_response_prepare.append(guard.on_prepare)
        app.router.add_get(PATH, self._sockets.handle)
        app.router.add_post(PATH, self._sockets.handle)
        self._routes.add_to(app)
        return app

    def _door_of(self, request: web.BaseRequest) -> Door | None:
        return None if is_local(request) else self._door


def is_local(request: web.BaseRequest) -> bool:
    """Whether a request came over the local socket, from this very user."""
    if sys.platform == "win32":
        return False
    connection = request.get_extra_info("socket")
    if connection is None or connection.family != getattr(socket, "AF_UNIX", None):
        return False
    uid: int = os.getuid()
    return local.peer_uid(connection) == uid


def local_caller(make: Callable[[], Caller]) -> Callable[[web.BaseRequest], Caller | None]:
    """The caller of requests on the local socket; None for all others."""
    return lambda request: make() if is_local(request) else None


def loopback_listeners(port: int) -> tuple[list[socket.socket], int]:
    """Sockets bound to 127.0.0.1 and, where there is one, [::1], on one port (0: any that is free on both).

    Raises `StartError` that says who has the port.
    """
    tries = FREE_PORT_TRIES if port == 0 else 1
    for attempt in range(tries):
        first = _bind(socket.AF_INET, "127.0.0.1", port)
        chosen = int(first.getsockname()[1])
        try:
            second = _bind(socket.AF_INET6, "::1", chosen)
        except StartError:
            first.close()
            if attempt == tries - 1:
                raise
            continue
        except OSError:  # no IPv6 on this machine
            return [first], chosen
        return [first, second], chosen
    raise AssertionError


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(512)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno in {errno.EADDRINUSE, errno.EACCES, errno.EPERM}:
            raise StartError(_taken(host, port, error)) from None
        raise
    return listener


def _taken(host: str, port: int, error: OSError) -> str:
    where = f"[{host}]" if ":" in host else host
    if error.errno != errno.EADDRINUSE:
        return f"{where}:{port} cannot be used ({error.strerror}); choose another PORT"
    return f"{where}:{port} is taken by {_who_has(port)}; stop it, or choose another PORT"


def _who_has(port: int) -> str:
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == port:
                return (
                    f"{psutil.Process(each.pid).name()} (pid {each.pid})"
                    if each.pid
                    else "another user's program"
                )
    except (psutil.Error, OSError):
        pass
    return "another program"
