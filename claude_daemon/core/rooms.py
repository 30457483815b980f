"""Joining and leaving: sessions, projects and the user's own stream."""

import asyncio
import uuid
from typing import Protocol
from weakref import WeakKeyDictionary

import msgspec
from msgspec import UNSET

from claude_daemon.core.delivery import Delivery, Stored
from claude_daemon.core.hub import Hub
from claude_daemon.core.service import Caller, Connection
from claude_daemon.errors import InvalidError, NotFoundError
from claude_daemon.protocol import notices, replies, requests
from claude_daemon.protocol.codec import encode
from claude_daemon.protocol.model import (
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
        if session_id == CURRENT:
            session_id = self._current.get(caller.device_id) or str(uuid.uuid4())
        _remember(self._current, caller.device_id, session_id)
        return session_id

    def write_to(self, caller: Caller, session_id: str) -> str:
        """As `session`; the caller's socket hears the session from now on."""
        session_id = self.session(caller, session_id)
        if caller.connection:
            self._hub.subscribe(session_stream(session_id), caller.connection)
        return session_id

    def current_project(self, caller: Caller) -> str | None:
        """The project that this device joined last."""
        return self._current_project.get(caller.device_id)

    async def history(
        self, session_id: str, *, before: int | None = None, limit: int = HISTORY
    ) -> list[Json]:
        """The last chat messages before a seq, oldest first, as clients read them."""
        stored = await self._hub.log.last(
            session_stream(session_id), "chat_message", before=before, limit=limit
        )
        return [as_client_reads(each) for each in stored]

    # Handlers.

    async def join_session(self, caller: Caller, request: requests.JoinSession) -> replies.SessionReply:
        connection = _socket(caller)
        session_id = self.session(caller, request.session_id)
        stream = session_stream(session_id)
        async with self._lock(connection):
            reach = await self._hub.enter(stream, connection)
            if reach.head == 0:
                await self._hub.log.touch(stream)
            after = request.after_seq
            reset = after is not None and not reach.floor <= after <= reach.head
            if after is None or reset:
                messages = await self.history(session_id, before=reach.head + 1)
                _say(
                    connection,
                    notices.SessionHistory(session_id=session_id, messages=messages, seq=reach.head),
                )
            seq, sent = await self._catch_up(stream, connection, after, reset=reset, head=reach.head)
            _say(
                connection,
                notices.SessionJoined(
                    session_id=session_id,
                    seq=seq,
                    replayed=UNSET if after is None or reset else sent,
                    reset=reset or UNSET,
                ),
            )
        return replies.SessionReply(session_id=session_id, seq=seq)

    async def join_project(self, caller: Caller, request: requests.JoinProject) -> replies.ProjectReply:
        connection = _socket(caller)
        project_id = request.project_id
        if not self._projects.known(project_id):
            raise NotFoundError(
                f"there is no project {project_id!r}; "
                f"add it with: claude-daemon projects add PATH --id {project_id}"
            )
        _remember(self._current_project, caller.device_id, project_id)
        stream = project_stream(project_id)
        async with self._lock(connection):
            reach = await self._hub.enter(stream, connection)
            after = request.after_seq
            reset = after is not None and not reach.floor <= after <= reach.head
            seq, sent = await self._catch_up(stream, connection, after, reset=reset, head=reach.head)
            _say(
                connection,
                notices.ProjectJoined(
                    project_id=project_id,
                    seq=seq,
                    replayed=UNSET if after is None or reset else sent,
                    reset=reset or UNSET,
                ),
            )
        return replies.ProjectReply(project_id=project_id, seq=seq)

    async def join_user(self, caller: Caller, request: requests.JoinUser) -> replies.Joined:
        connection = _socket(caller)
        stream = user_stream(caller.user_id)
        async with self._lock(connection):
            reach = await self._hub.enter(stream, connection)
            after = request.after_seq
            reset = after is not None and not reach.floor <= after <= reach.head
            seq, sent = await self._catch_up(stream, connection, after, reset=reset, head=reach.head)
            _say(
                connection,
                notices.UserJoined(
                    seq=seq, replayed=UNSET if after is None or reset else sent, reset=reset or UNSET
                ),
            )
        return replies.Joined(seq=seq)

    async def leave_session(self, caller: Caller, request: requests.LeaveSession) -> None:
        self._hub.unsubscribe(session_stream(self.session(caller, request.session_id)), _socket(caller))

    async def leave_project(self, caller: Caller, request: requests.LeaveProject) -> None:
        self._hub.unsubscribe(project_stream(request.project_id), _socket(caller))

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

    async def enter_user(self, caller: Caller) -> int:
        """Hear the user's stream from a new connection on; returns where it stands."""
        connection = _socket(caller)
        stream = user_stream(caller.user_id)
        reach = await self._hub.enter(stream, connection)
        return reach.head

    async def go_live(self, caller: Caller, head: int) -> None:
        """Ends what `enter_user` began, after `connected` was said."""
        await self._hub.catch_up(user_stream(caller.user_id), _socket(caller), after=head, head=head)

    async def _catch_up(
        self, stream: Stream, connection: Connection, after: int | None, *, reset: bool, head: int
    ) -> tuple[int, int]:
        start = head if after is None or reset else after
        return await self._hub.catch_up(stream, connection, after=start, head=head)

    def _lock(self, connection: Connection) -> asyncio.Lock:
        """Joins of one socket take turns: two replays of one stream must not mix."""
        return self._joining.setdefault(connection, asyncio.Lock())


def as_client_reads(stored: Stored) -> Json:
    """A stored event as an object with its `id` and `seq`."""
    return {"id": stored.id, "seq": stored.seq, **msgspec.json.decode(stored.body)}


def _say(connection: Connection, event: Notice) -> None:
    connection.offer(Delivery(wire_name(type(event)), encode(event)))


def _socket(caller: Caller) -> Connection:
    if caller.connection is None:
        raise InvalidError("only a socket can join or leave; connect with Socket.IO")
    return caller.connection


def _remember(last: dict[str, str], device_id: str, what: str) -> None:
    last.pop(device_id, None)
    last[device_id] = what
    if len(last) > DEVICES_REMEMBERED:
        del last[next(iter(last))]
