"""Joining and leaving: sessions, projects and the user's own stream."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import msgspec
from msgspec import UNSET

from claude_daemon.core.delivery import Delivery, Stored
from claude_daemon.core.hub import ForgottenError, Hub
from claude_daemon.core.service import Caller, Connection
from claude_daemon.errors import InvalidError, NotFoundError
from claude_daemon.protocol import notices, replies, requests
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import (
    DeviceId,
    Json,
    Notice,
    Stream,
    project_stream,
    session_stream,
    user_stream,
    wire_name,
)

HISTORY = 50  # chat messages in session_history
CURRENT = "current"
DEVICES_REMEMBERED = 10_000


class Projects(Protocol):
    """What joining needs to know of projects."""

    def known(self, project_id: str) -> bool: ...


class Rooms:
    """Who is in which room, and which session a device means by `current`."""

    def __init__(self, hub: Hub, projects: Projects, backend: str) -> None:
        self._hub = hub
        self._projects = projects
        self._backend = backend
        self._current: dict[str, str] = {}
        self._current_project: dict[str, str] = {}
        self._joining: WeakKeyDictionary[Connection, asyncio.Lock] = WeakKeyDictionary()

    # What services ask.

    def session(self, caller: Caller, session_id: str) -> str:
        """The real id of a session: `current` is the one this device joined or wrote to last."""
        if session_id != CURRENT:
            return session_id
        current = self._current.get(caller.device_id)
        return current if current is not None else self._made_current(caller, str(uuid.uuid4()))

    def write_to(self, caller: Caller, session_id: str) -> str:
        """As `session`; it is the current one from now on, and the caller's socket hears it."""
        session_id = self._made_current(caller, self.session(caller, session_id))
        if caller.connection:
            self._hub.subscribe(session_stream(session_id), caller.connection)
        return session_id

    def current_project(self, caller: Caller) -> str | None:
        """The project that this device joined last."""
        return self._current_project.get(caller.device_id)

    async def history(
        self,
        session_id: str,
        *,
        before: int | None = None,
        limit: int = HISTORY,
        reader: DeviceId | None = None,
    ) -> list[Json]:
        """The last chat messages before a seq, oldest first, as the device `reader` reads them."""
        stored = await self._hub.log.last(
            session_stream(session_id), "chat_message", before=before, limit=limit
        )
        return [as_client_reads(each, reader) for each in stored]

    # Handlers.

    async def join_session(self, caller: Caller, request: requests.JoinSession) -> replies.SessionReply:
        connection = _socket(caller)
        session_id = self._made_current(caller, self.session(caller, request.session_id))
        stream = session_stream(session_id)

        async def tell_history(head: int) -> None:
            if head == 0:
                await self._hub.log.touch(stream)
            messages = await self.history(session_id, before=head + 1, reader=caller.device_id)
            _say(
                connection, stream, notices.SessionHistory(session_id=session_id, messages=messages, seq=head)
            )

        def joined(seq: int, **more: Any) -> Notice:
            return notices.SessionJoined(session_id=session_id, seq=seq, **more)

        seq = await self._join(caller, stream, request.after_seq, joined, tell_history)
        return replies.SessionReply(session_id=session_id, seq=seq)

    async def join_project(self, caller: Caller, request: requests.JoinProject) -> replies.ProjectReply:
        project_id = request.project_id
        if not self._projects.known(project_id):
            raise NotFoundError(
                f"there is no project {project_id!r}; "
                f"add it with: claude-daemon projects add PATH --id {project_id}"
            )
        _remember(self._current_project, caller.device_id, project_id)

        def joined(seq: int, **more: Any) -> Notice:
            return notices.ProjectJoined(project_id=project_id, seq=seq, **more)

        seq = await self._join(caller, project_stream(project_id), request.after_seq, joined)
        return replies.ProjectReply(project_id=project_id, seq=seq)

    async def join_user(self, caller: Caller, request: requests.JoinUser) -> replies.Joined:
        def joined(seq: int, **more: Any) -> Notice:
            return notices.UserJoined(seq=seq, **more)

        return replies.Joined(
            seq=await self._join(caller, user_stream(caller.user_id), request.after_seq, joined)
        )

    async def leave_session(self, caller: Caller, request: requests.LeaveSession) -> None:
        await self._leave(caller, session_stream(self.session(caller, request.session_id)))

    async def leave_project(self, caller: Caller, request: requests.LeaveProject) -> None:
        await self._leave(caller, project_stream(request.project_id))

    async def list_sessions(self, _caller: Caller, request: requests.ListSessions) -> replies.Sessions:
        rows, cursor = await self._hub.log.streams("session:", before=request.before, limit=request.limit)
        return replies.Sessions(
            sessions=[
                replies.Session(
                    session_id=row["stream"].removeprefix("session:"),
                    seq=row["seq"],
                    last_activity=row["lastActivity"],
                    backend=self._backend,
                )
                for row in rows
            ],
            next=cursor or UNSET,
        )

    async def welcome(self, caller: Caller, connected: Callable[[int], Notice]) -> None:
        """Say `connected`, with where the user's stream stands; from then on a new socket hears it."""
        connection = _socket(caller)
        stream = user_stream(caller.user_id)

        async def tell(head: int) -> None:
            _say(connection, stream, connected(head))

        async with self._lock(connection):
            await self._enter(connection, stream, None, tell)

    async def _join(
        self,
        caller: Caller,
        stream: Stream,
        after: int | None,
        joined: Callable[..., Notice],
        tell_history: Callable[[int], Awaitable[None]] | None = None,
    ) -> int:
        """Serve what was missed, or else the history, and go live; returns where the stream stands."""
        connection = _socket(caller)
        async with self._lock(connection):
            seq, sent, reset = await self._enter(connection, stream, after, tell_history)
            replayed = UNSET if after is None or reset else sent
            _say(connection, stream, joined(seq, replayed=replayed, reset=reset or UNSET))
            if caller.turn:
                connection.hold(stream, caller.turn)
        return seq

    async def _enter(
        self,
        connection: Connection,
        stream: Stream,
        after: int | None,
        tell_history: Callable[[int], Awaitable[None]] | None,
    ) -> tuple[int, int, bool]:
        """Returns the last seq served, how many were, and whether the client has to start afresh."""
        overtaken = False
        try:
            while True:
                reach = await self._hub.enter(stream, connection)
                reset = overtaken or not (after in {None, 0} or reach.floor <= (after or 0) <= reach.head)
                fresh = after is None or reset
                if fresh and tell_history:
                    await tell_history(reach.head)
                start = reach.head if fresh else max(after or 0, reach.floor)
                try:
                    return *await self._hub.catch_up(stream, connection, after=start, head=reach.head), reset
                except ForgottenError:
                    overtaken = after is not None
        except BaseException:
            self._hub.unsubscribe(stream, connection)
            raise

    async def _leave(self, caller: Caller, stream: Stream) -> None:
        connection = _socket(caller)
        async with self._lock(connection):
            self._hub.unsubscribe(stream, connection)

    def _made_current(self, caller: Caller, session_id: str) -> str:
        _remember(self._current, caller.device_id, session_id)
        return session_id

    def _lock(self, connection: Connection) -> asyncio.Lock:
        """Joins of one socket take turns: two replays of one stream must not mix."""
        return self._joining.setdefault(connection, asyncio.Lock())


def as_client_reads(stored: Stored, reader: DeviceId | None) -> Json:
    """A stored event as an object with its `id` and `seq`, and for the sending device its `clientId`."""
    delivery = Delivery(stored.name, stored.body, stored)
    mine = reader is not None and delivery.carries_client_id(reader)
    read: Json = msgspec.json.decode(delivery.payload(with_client_id=mine))
    return read


def _say(connection: Connection, stream: Stream, event: Notice) -> None:
    connection.offer(Delivery(wire_name(type(event)), encode(event), stream=stream))


def _socket(caller: Caller) -> Connection:
    if caller.connection is None:
        raise InvalidError("only a socket can join or leave; connect with Socket.IO")
    return caller.connection


def _remember(last: dict[str, str], device_id: str, what: str) -> None:
    last.pop(device_id, None)
    last[device_id] = what
    if len(last) > DEVICES_REMEMBERED:
        del last[next(iter(last))]
