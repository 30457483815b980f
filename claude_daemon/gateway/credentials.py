"""How the doors learn who is there: by the local socket, or by a token; never by anything in the URL."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from claude_daemon.core.service import Caller
from claude_daemon.errors import UnauthenticatedError


@dataclass(frozen=True, slots=True)
class Credentials:
    """What identifies clients, and wants to know that one came or went."""

    admit: Callable[[str, str], Caller]
    """(token, address) to the caller; raises DaemonError."""
    local: Callable[[web.BaseRequest], Caller | None]
    """The caller of a request on the local socket."""
    connected: Callable[[Caller], Awaitable[None]]
    disconnected: Callable[[Caller], None]

    def of(self, request: web.Request) -> Caller:
        """The caller of a plain HTTP request.  Raises DaemonError."""
        if local := self.local(request):
            return local
        token = request.headers.get(hdrs.AUTHORIZATION)
        if not token:
            raise UnauthenticatedError
        return self.admit(token, request.remote or "")
