"""Socket.IO: from a client's packets to the dispatcher, and from deliveries to its transport.

The one importer of socketio's server.  What the stock engine lacks is put around it here: a deadline for
CONNECT, broadcasts encoded once, a cap on what waits for a client, a limit on requests under way, and a
quiet close for packets that are not Socket.IO.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import engineio.packet
import engineio.payload
import socketio
from aiohttp import web
from engineio.async_drivers import aiohttp as engineio_aiohttp
from socketio.exceptions import ConnectionRefusedError as Refused

from claude_daemon.config import RateSettings, ServerSettings
from claude_daemon.core.delivery import Delivery
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.ratelimit import Windows
from claude_daemon.core.rooms import Rooms
from claude_daemon.core.service import Caller, Turn
from claude_daemon.errors import (
    DaemonError,
    InvalidError,
    RateLimitedError,
    TokenExpiredError,
    TokenInvalidError,
    UnauthenticatedError,
)
from claude_daemon.gateway.credentials import Credentials
from claude_daemon.gateway.order import Order
from claude_daemon.gateway.outbox import Outbox
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import notices, replies, requests
from claude_daemon.protocol.codec import decode_json, encode, refused
from claude_daemon.protocol.model import DeviceId, Json, Notice, Stream, timestamp, wire_name
from claude_daemon.protocol.version import PROTOCOL_VERSION, SERVER_VERSION

log = logging.getLogger(__name__)

PATH = "/socket.io/"
PING_INTERVAL_S = 25
PING_TIMEOUT_S = 20
REQUESTS_AT_ONCE = 32  # of one client; the next one waits unread
ATTACHMENTS = 10  # binary parts of one packet
BURST_BYTES = 65_536  # handed to the transport at once; the rest still counts as waiting
PAYLOAD_PACKETS = 1_000  # of one polling request; its bytes are limited too
EXPIRY_WARNING_S = 60.0
EXPIRY_GRACE_S = 10.0  # after expiry a client may still authenticate for this long
GOODBYE_S = 0.5  # for a last packet to leave before the transport is closed
MAX_TIMER_S = 86_400.0  # the loop's timers are not made for months
LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z; some tokens of others hold milliseconds

# The stock engine logs tracebacks for what a client did wrong; we count it ourselves.
_silent = logging.getLogger("claude_daemon.engineio")
_silent.setLevel(logging.CRITICAL + 1)

engineio.payload.Payload.max_decode_packets = PAYLOAD_PACKETS


class _Json:
    """msgspec in the shape of the json module, for python-socketio."""

    @staticmethod
    def dumps(value: Any, **_options: Any) -> str:
        return encode(value).decode()

    @staticmethod
    def loads(text: str | bytes) -> Any:
        return decode_json(text)


class _Queue(asyncio.Queue[Any]):
    """The engine's queue of packets, counted by the client's outbox and handed over in small bursts."""

    def __init__(self, outbox: Outbox, drained: asyncio.Event) -> None:
        super().__init__()
        self._outbox = outbox
        self._drained = drained
        self._burst = 0

    async def join(self) -> None:
        """Don't wait: a client that doesn't fetch what it was sent would hold the engine's close for ever."""

    async def get(self) -> Any:
        self._burst = 0
        return await super().get()

    def get_nowait(self) -> Any:
        if self._burst >= BURST_BYTES:
            raise asyncio.QueueEmpty
        packet = super().get_nowait()
        if isinstance(packet, _Packet):
            size = packet.size
            self._burst += size
            self._outbox.drain(size)
            if not self._outbox.congested:
                self._drained.set()
        return packet


class _Packet(engineio.packet.Packet):  # type: ignore[misc]  # engineio has no types
    """A message that is encoded already."""

    def __init__(self, start: str, payload: bytes = b"", end: str = "") -> None:
        text = f"{start}{payload.decode()}{end}"
        super().__init__(engineio.packet.MESSAGE, text)
        self.encode_cache = f"4{text}"
        self.size = len(start) + len(payload) + len(end)


class _Body:
    """A request's body, read whole: the engine takes what one read gives for all of it."""

    def __init__(self, request: web.Request) -> None:
        self._content = request.content

    async def read(self, length: int) -> bytes:
        return await self._content.readexactly(length)


def _environ(request: web.Request) -> dict[str, Any]:
    return {**engineio_aiohttp.translate_request(request), "wsgi.input": _Body(request)}


class _WebSocket(engineio_aiohttp.WebSocket):  # type: ignore[misc]  # engineio has no types
    """aiohttp's websocket without compression, closed in order whatever a client sends."""

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        request = environ["aiohttp.request"]
        engine_socket = self.handler.__self__
        engine_socket.transport = request.transport
        self.environ = environ
        self._sock = web.WebSocketResponse(max_msg_size=self.server.max_http_buffer_size, compress=False)
        await self._sock.prepare(request)
        try:
            await self.handler(self)
        except Exception:  # noqa: BLE001  the engine fails in many ways on packets that aren't Engine.IO
            engine_socket.queue.put_nowait(None)
            await engine_socket.close(wait=False, abort=True, reason=self.server.reason.TRANSPORT_ERROR)
            await self._sock.close(code=1002)
        return self._sock


class SocketConnection:
    """One client's socket; `core.service.Connection` for the rest of the daemon."""

    def __init__(self, engine_socket: Any, settings: ServerSettings, drop: Callable[[], None]) -> None:
        self.caller: Caller | None = None
        """Whose socket it is; None before CONNECT was accepted and after the client left."""
        self.slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._socket = engine_socket
        self._drop = drop
        self._timers: list[asyncio.TimerHandle] = []
        self._order: Order[_Packet] = Order()
        self._turns: set[Turn] = set()
        self._revoked = False
        self._outbox = Outbox(settings)
        self._grace_s = settings.outbox_grace_s
        self._lagging: asyncio.TimerHandle | None = None
        self._drained = asyncio.Event()
        queue = _Queue(self._outbox, self._drained)
        while not engine_socket.queue.empty():
            queue.put_nowait(engine_socket.queue.get_nowait())
        engine_socket.queue = queue

    # What the core sees.

    @property
    def device_id(self) -> DeviceId:
        assert self.caller is not None
        return self.caller.device_id

    @property
    def closed(self) -> bool:
        return self.caller is None or self._revoked or self._broken

    @property
    def congested(self) -> bool:
        return self._outbox.congested

    async def drained(self) -> None:
        while self._outbox.congested and not self.closed:
            self._drained.clear()
            await self._drained.wait()

    def offer(self, delivery: Delivery) -> None:
        if self.closed:
            return
        own = delivery.carries_client_id(self.device_id)
        packet = delivery.packets.get(own)
        if packet is None:
            payload = delivery.payload(with_client_id=own)
            packet = delivery.packets[own] = _Packet(f'2["{delivery.name}",', payload, "]")
        if self._has_room(packet):
            self._send(self._order.passing(delivery.stream, packet))

    def hold(self, stream: Stream, turn: Turn) -> None:
        if turn in self._turns:
            self._send(self._order.hold(stream, turn))

    # What the server says.

    def say(self, event: Notice) -> None:
        """Offer an event that is for this socket alone."""
        self.offer(Delivery(wire_name(type(event)), encode(event)))

    def begin(self) -> Turn:
        """A request came in; `answer` ends it."""
        turn = Turn()
        self._turns.add(turn)
        return turn

    def answer(self, turn: Turn, number: int | None, reply: Json | None) -> None:
        """The ack, or, where none was asked for, an `error` event if there is an error."""
        if turn not in self._turns:  # the client left, and what comes back on this transport is another
            turn.over = True
            return
        self._turns.discard(turn)
        packet = None
        if reply is not None and number is not None:
            packet = _Packet(f"3{number}[", encode(reply), "]")
        elif reply is not None and not reply["ok"]:
            packet = _Packet('2["error",', encode(reply["error"]), "]")
        if packet is None or self._has_room(packet):
            self._send(self._order.answered(turn, packet))

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something later, unless the client leaves before."""
        self._timers.append(asyncio.get_running_loop().call_later(max(0.0, seconds), act))

    def unset_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def revoke(self) -> None:
        """Send DISCONNECT, after which a client doesn't come back by itself, then close."""
        packet = _Packet("1")
        if self._has_room(packet):
            self._send([packet])
        self._revoked = True
        self._turns.clear()
        asyncio.get_running_loop().call_later(GOODBYE_S, self.abort)

    def close(self) -> None:
        """Let what waits leave, then close the transport; the client comes back by itself."""
        if self._broken:
            return
        if self._socket.upgraded:
            self._socket.queue.put_nowait(None)
        else:
            self._socket.queue.put_nowait(engineio.packet.Packet(engineio.packet.CLOSE))
        asyncio.get_running_loop().call_later(GOODBYE_S, self.abort)

    def abort(self) -> None:
        """Close the transport now, whatever waits."""
        transport = getattr(self._socket, "transport", None)
        if transport is not None:
            transport.abort()
        self._drained.set()
        self._drop()

    def left(self) -> None:
        """The client or its transport is gone."""
        self.unset_timers()
        self.caller = None
        self._turns.clear()
        self._order = Order()
        self._drained.set()

    @property
    def _broken(self) -> bool:
        return bool(self._socket.closed or self._socket.closing)

    def _has_room(self, packet: _Packet) -> bool:
        """Count a packet that is about to wait; a client that has too many is closed."""
        if self._broken:
            return False
        self._outbox.add(packet.size, time.monotonic())
        return not self._lags_too_far()

    def _lags_too_far(self) -> bool:
        """Close a client that does; look again later at one that may, as nothing more may come for it."""
        if self._outbox.overflowing(time.monotonic()):
            log.warning("client lags too far and is closed", extra={"device": self.caller and self.device_id})
            self.abort()
            return True
        if self._outbox.over and self._lagging is None:
            self._lagging = asyncio.get_running_loop().call_later(self._grace_s, self._look_again)
        return False

    def _look_again(self) -> None:
        self._lagging = None
        if not self._broken:
            self._lags_too_far()

    def _send(self, packets: Sequence[_Packet]) -> None:
        for packet in packets:
            self._socket.queue.put_nowait(packet)


class Sockets(socketio.AsyncServer):  # type: ignore[misc]  # socketio has no types
    """The Socket.IO server of the daemon."""

    def __init__(
        self,
        *,
        settings: ServerSettings,
        rate: RateSettings,
        hub: Hub,
        rooms: Rooms,
        dispatcher: Dispatcher,
        metrics: Metrics,
        supervisor: Supervisor,
        credentials: Credentials,
    ) -> None:
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,
            namespaces=["/"],
            cors_allowed_origins=[],
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            max_http_buffer_size=settings.max_packet_bytes,
            http_compression=False,
            json=_Json,
            logger=_silent,
            engineio_logger=_silent,
        )
        self.eio._async = {  # noqa: SLF001  its one seam for a transport
            **self.eio._async,  # noqa: SLF001  likewise
            "websocket": _WebSocket,
            "translate_request": _environ,
        }
        self._settings = settings
        self._limits = _limits(settings, rate)
        self._hub = hub
        self._rooms = rooms
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._supervisor = supervisor
        self._credentials = credentials
        self._refused = Windows(rate.points, rate.duration_s, keys=rate.sources)
        self._connections: dict[str, SocketConnection] = {}
        self.on("connect", self._admit)
        self.on("disconnect", self._leave)
        dispatcher.on(requests.Authenticate, self._authenticate)

    @property
    def connected(self) -> int:
        """Clients that are connected and known."""
        return sum(1 for each in self._connections.values() if each.caller)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One HTTP request of the engine's, a poll or an upgrade."""
        try:
            answer: web.StreamResponse = await self.eio.handle_request(request)
        except Exception as error:  # noqa: BLE001  the engine fails in many ways on what isn't Engine.IO
            self._metrics.malformed()
            log.debug("malformed request: %s", error)
            return web.Response(status=400, text="this is not Engine.IO")
        return answer

    def announce(self, event: Notice) -> None:
        """Say something to everybody."""
        for connection in self._connections.values():
            if connection.caller:
                connection.say(event)

    async def close(self, deadline_s: float) -> None:
        """Let what waits leave, close every transport, and return when they are gone or time is up."""
        for connection in list(self._connections.values()):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._connections:  # noqa: ASYNC110  the engine has no event for the last one
                    await asyncio.sleep(0.02)
        for connection in list(self._connections.values()):
            connection.abort()
        await self.shutdown()

    async def revoked(self, device_id: DeviceId) -> None:
        """Cut the sockets of a device for good."""
        for connection in list(self._connections.values()):
            if connection.caller and connection.caller.device_id == device_id:
                connection.revoke()

    # A connection's life.

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> bool:
        if len(self._connections) >= self._settings.max_connections:
            return False

        def drop() -> None:
            self._supervisor.spawn("drop", self._drop(eio_sid))

        connection = SocketConnection(self.eio.sockets[eio_sid], self._settings, drop)
        self._connections[eio_sid] = environ["claude_daemon.connection"] = connection
        connection.at(self._settings.connect_timeout_s, connection.abort)
        await super()._handle_eio_connect(eio_sid, environ)
        return True

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self._binary_packet.pop(eio_sid, None)
        if connection := self._connections.pop(eio_sid, None):
            connection.left()
            # The engine would leave a long poll that is open to its time-out, and the client waiting.
            if engine_socket := self.eio.sockets.get(eio_sid):
                engine_socket.queue.put_nowait(None)

    async def _drop(self, eio_sid: str) -> None:
        engine_socket = self.eio.sockets.get(eio_sid)
        if engine_socket:
            engine_socket.queue.put_nowait(None)
            await engine_socket.close(wait=False, abort=True, reason=self.eio.reason.SERVER_DISCONNECT)
            self.eio.sockets.pop(eio_sid, None)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        await super()._handle_connect(eio_sid, namespace, data)
        connection = self._connections.get(eio_sid)
        if connection and connection.caller and namespace in {None, "/"}:
            try:
                await self._welcome(connection, connection.caller)
            except DaemonError as error:
                log.warning("connection refused: %s", error)
                connection.abort()

    async def _admit(self, _sid: str, environ: dict[str, Any], auth: Any) -> None:
        connection: SocketConnection = environ["claude_daemon.connection"]
        try:
            caller = self._credential(environ["aiohttp.request"], auth)
        except DaemonError as error:
            raise Refused(error.message, {"code": error.code, **error.extra}) from None
        connection.unset_timers()
        connection.caller = replace(caller, connection=connection)

    def _credential(self, request: web.Request, auth: Any) -> Caller:
        """Who connects: by the local socket, or by a token; never by anything in the URL."""
        if local := self._credentials.local(request):
            return local
        token = auth.get("token") if isinstance(auth, dict) else None
        token = token or request.headers.get("Authorization")
        address = request.remote or ""
        try:
            if not token:
                raise UnauthenticatedError
            if not isinstance(token, str):
                raise TokenInvalidError
            return self._credentials.admit(token, address)
        except DaemonError:
            wait = self._refused.take(address, time.monotonic())
            if wait:
                raise RateLimitedError(round(wait * 1_000)) from None
            raise

    async def _welcome(self, connection: SocketConnection, caller: Caller) -> None:
        self._metrics.connected()
        await self._credentials.connected(caller)

        def connected(head: int) -> Notice:
            return notices.Connected(
                device_id=caller.device_id,
                user_id=caller.user_id,
                scopes=sorted(caller.scopes),
                server_version=SERVER_VERSION,
                protocol_version=PROTOCOL_VERSION,
                user_seq=head,
                limits=self._limits,
            )

        await self._rooms.welcome(caller, connected)
        self._watch_expiry(connection)

    async def _leave(self, sid: str, _reason: str) -> None:
        """The client left the namespace; a transport that stays has to CONNECT again in time."""
        connection = self._connections.get(self.manager.eio_sid_from_sid(sid, "/"))
        if connection is None or connection.caller is None:
            return
        caller = connection.caller
        connection.left()
        self._hub.forget(connection)
        self._credentials.disconnected(caller)
        self._metrics.disconnected()
        connection.at(self._settings.connect_timeout_s, connection.abort)

    # A client's packets.

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        try:
            if eio_sid in self._binary_packet and not isinstance(data, bytes):
                raise ValueError("text where an attachment was due")  # noqa: TRY301  as any other malformed packet
            await super()._handle_eio_message(eio_sid, data)
            pending = self._binary_packet.get(eio_sid)
            if pending is not None and pending.attachment_count > ATTACHMENTS:
                raise ValueError(f"more than {ATTACHMENTS} attachments")  # noqa: TRY301  as any other malformed packet
        except Exception as error:  # noqa: BLE001  python-socketio fails in many ways on what isn't Socket.IO
            self._metrics.malformed()
            log.debug("malformed packet: %s", error)
            self._binary_packet.pop(eio_sid, None)
            if connection := self._connections.get(eio_sid):
                connection.abort()

    async def _handle_event(self, eio_sid: str, namespace: str | None, number: int | None, data: Any) -> None:
        connection = self._connections.get(eio_sid)
        if connection is None or namespace not in {None, "/"}:
            return
        await connection.slots.acquire()
        if connection.closed or connection.caller is None:
            connection.slots.release()
            return
        turn = connection.begin()
        caller = replace(connection.caller, turn=turn)
        self._supervisor.spawn("request", self._answer(connection, caller, turn, number, data))

    async def _answer(
        self, connection: SocketConnection, caller: Caller, turn: Turn, number: int | None, data: Any
    ) -> None:
        name, payload = [*data, None, None][:2] if isinstance(data, list) else (None, None)
        reply: Json | None = None
        try:
            if caller.expires_at and caller.expires_at <= time.time() and name != "authenticate":
                reply = refused(TokenExpiredError(), str(name))
            else:
                reply = await self._dispatcher(caller, name, payload)
            if name == "system_status" and reply["ok"]:
                self._say_status(connection, reply)
        finally:
            connection.answer(turn, number, reply)
            connection.slots.release()

    @staticmethod
    def _say_status(connection: SocketConnection, reply: Json) -> None:
        """The older server answers `system_status` with an event of that name."""
        body = {name: value for name, value in reply.items() if name != "ok"}
        connection.offer(Delivery("system_status", encode(body)))

    # Expiry.

    async def _authenticate(self, caller: Caller, request: requests.Authenticate) -> replies.Authenticated:
        connection = caller.connection
        if not isinstance(connection, SocketConnection) or connection.caller is None:
            raise InvalidError("only a socket can go on with another token")
        fresh = self._credentials.admit(request.token, caller.address)
        if (fresh.user_id, fresh.device_id) != (caller.user_id, caller.device_id):
            raise InvalidError(
                "the token belongs to another device; connect anew with it", path=["token"], kind="any.only"
            )
        connection.caller = replace(fresh, connection=connection)
        self._watch_expiry(connection)
        assert fresh.expires_at is not None
        return replies.Authenticated(expires_at=_iso(fresh.expires_at), scopes=sorted(fresh.scopes))

    def _watch_expiry(self, connection: SocketConnection) -> None:
        connection.unset_timers()
        caller = connection.caller
        if caller is None or caller.expires_at is None:
            return
        left, at = caller.expires_at - time.time(), _iso(caller.expires_at)
        if left > MAX_TIMER_S:
            connection.at(MAX_TIMER_S, lambda: self._watch_expiry(connection))
            return
        connection.at(left - EXPIRY_WARNING_S, lambda: connection.say(notices.TokenExpiring(expires_at=at)))
        connection.at(left, lambda: connection.say(notices.TokenExpired(expires_at=at)))
        connection.at(left + EXPIRY_GRACE_S, connection.close)


def _iso(unix: float) -> str:
    return timestamp(datetime.fromtimestamp(min(unix, LAST_SECOND), UTC))


def _limits(settings: ServerSettings, rate: RateSettings) -> replies.Limits:
    return replies.Limits(
        rate_limit_points=rate.points,
        rate_limit_duration_seconds=rate.duration_s,
        max_packet_bytes=settings.max_packet_bytes,
        max_message_characters=requests.MAX_MESSAGE,
        max_command_characters=requests.MAX_COMMAND,
        max_notification_characters=requests.MAX_NOTIFICATION,
        max_file_bytes=requests.MAX_FILE_BYTES,
    )
