"""What stands in front of everything: Host, Origin, body size, security headers.

The rules are pure; `middleware` and `on_prepare` apply them to every request, Socket.IO's included.  The
local socket is not checked: no web page can reach it and the peer's uid was.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from claude_daemon.errors import DaemonError, ForbiddenError, TooLargeError
from claude_daemon.protocol.codec import encode

HTTP_STATUS = {
    "invalid": 400,
    "unauthenticated": 401,
    "token_invalid": 401,
    "token_expired": 401,
    "device_revoked": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "ticket_invalid": 410,
    "too_large": 413,
    "rate_limited": 429,
}

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True, slots=True)
class Door:
    """A listener's own names: what a Host header may say there, and which web pages may speak."""

    hosts: frozenset[str]
    origins: frozenset[str]

    def check(self, host: str | None, origin: str | None) -> None:
        """Raise `ForbiddenError` for a name that isn't this listener's or a page that isn't allowed."""
        if host is None or host.lower() not in self.hosts:
            raise ForbiddenError(
                "this name does not belong to the daemon (Host header); use http://127.0.0.1 with its port"
            )
        if origin is not None and origin not in self.origins:
            raise ForbiddenError(
                "web pages of this origin may not talk to the daemon; "
                "add it to ALLOWED_ORIGINS if it is yours"
            )


def loopback_door(port: int, allowed_origins: str) -> Door:
    """The door of http://127.0.0.1:port and [::1]."""
    hosts = {f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")}
    if port == 80:
        hosts |= {"localhost", "127.0.0.1", "[::1]"}
    allowed = {each.strip() for each in allowed_origins.split(",") if each.strip()}
    return Door(frozenset(hosts), frozenset({f"http://{host}" for host in hosts} | allowed))


def error_response(error: DaemonError) -> web.Response:
    """`{error: {message, code}}` with the status that belongs to the code."""
    headers = {}
    if "retryAfterMs" in error.extra:
        headers[hdrs.RETRY_AFTER] = str(-(-error.extra["retryAfterMs"] // 1_000))
    return web.Response(
        status=HTTP_STATUS.get(error.code, 503),
        body=encode({"error": {"message": error.message, "code": error.code, **error.extra}}),
        content_type="application/json",
        headers=headers,
    )


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DOOR: web.RequestKey[Door | None] = web.RequestKey("door", object)  # type: ignore[arg-type]  # a union is no class
CORS: web.RequestKey[str] = web.RequestKey("cors", str)


class Guard:
    """Applies a door to each request of its listener."""

    def __init__(self, door_of: Callable[[web.BaseRequest], Door | None], *, max_body: int) -> None:
        self._door_of = door_of
        self._max_body = max_body

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        door = self._door_of(request)
        try:
            if door:
                self._check(request, door)
            if request.content_length is not None and request.content_length > self._max_body:
                raise TooLargeError(f"a request's body may have {self._max_body} bytes at most")
            if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
                return _preflight()
            return await handler(request)
        except DaemonError as error:
            return error_response(error)

    def _check(self, request: web.Request, door: Door) -> None:
        if len(request.headers.getall(hdrs.HOST, [])) > 1 or len(request.headers.getall(hdrs.ORIGIN, [])) > 1:
            raise ForbiddenError("Host and Origin may come once only")
        origin = request.headers.get(hdrs.ORIGIN)
        door.check(request.headers.get(hdrs.HOST), origin)
        if origin is not None:
            request[CORS] = origin

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add what every response carries."""
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        if origin := request.get(CORS):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.VARY] = "Origin"
        response.headers.pop(hdrs.SERVER, None)


def _preflight() -> web.Response:
    return web.Response(
        status=204,
        headers={
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "authorization, content-type",
            hdrs.ACCESS_CONTROL_MAX_AGE: "600",
        },
    )
