"""The routes that are not Socket.IO.  What they answer comes from the same parts as the events."""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from claude_daemon.core.metrics import Metrics
from claude_daemon.core.status import Status
from claude_daemon.errors import ForbiddenError, NotFoundError
from claude_daemon.gateway.credentials import Credentials
from claude_daemon.gateway.docs import docs_page, style_sheet
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import Json, timestamp
from claude_daemon.protocol.schema import asyncapi
from claude_daemon.protocol.version import SERVER_VERSION

PUBLIC = frozenset({"/", "/health", "/live", "/ready", "/asyncapi.json", "/docs", "/docs.css"})


class Routes:
    """Handlers of plain HTTP."""

    def __init__(self, status: Status, metrics: Metrics, credentials: Credentials) -> None:
        self._status = status
        self._metrics = metrics
        self._credentials = credentials
        self.ready = False
        """Set once everything is open, and unset when the daemon begins to stop."""

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/", self.home)
        app.router.add_get("/health", self.health)
        app.router.add_get("/live", self.live)
        app.router.add_get("/ready", self.is_ready)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/asyncapi.json", self.contract)
        app.router.add_get("/docs", self.docs)
        app.router.add_get("/docs.css", self.docs_style)

    @web.middleware
    async def authentication(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Ask for a token wherever the contract doesn't say public; Socket.IO asks in its CONNECT."""
        if request.path not in PUBLIC and not request.path.startswith("/socket.io/"):
            caller = self._credentials.of(request)
            if "view" not in caller.scopes:
                raise ForbiddenError("this needs the scope 'view', which this device does not have")
        try:
            return await handler(request)
        except web.HTTPNotFound:
            raise NotFoundError(f"there is nothing at {request.path}; /docs lists what there is") from None

    async def home(self, _request: web.Request) -> web.Response:
        raise web.HTTPFound("/docs")

    async def health(self, _request: web.Request) -> web.Response:
        problems = self._status.problems()
        body: Json = {
            "status": "degraded" if problems else "healthy",
            "timestamp": timestamp(),
            "uptime": self._status.uptime,
            "version": SERVER_VERSION,
            "checks": {"problems": problems},
        }
        return _json(body, status=503 if problems else 200)

    async def live(self, _request: web.Request) -> web.Response:
        return _json({"status": "alive", "timestamp": timestamp()})

    async def is_ready(self, _request: web.Request) -> web.Response:
        word = "ready" if self.ready else "not ready"
        return _json({"status": word, "timestamp": timestamp()}, status=200 if self.ready else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(),
            headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def contract(self, _request: web.Request) -> web.Response:
        return _json(asyncapi())

    async def docs(self, _request: web.Request) -> web.Response:
        return web.Response(text=docs_page(), content_type="text/html")

    async def docs_style(self, _request: web.Request) -> web.Response:
        return web.Response(text=style_sheet(), content_type="text/css")


def _json(body: Json, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(body), content_type="application/json")
