"""Answers what clients ask about chat; the assistant's replies are written elsewhere."""

from msgspec import UNSET

from claude_daemon.chat.assistant import Assistant
from claude_daemon.core.hub import Hub
from claude_daemon.core.log import OnceKey
from claude_daemon.core.rooms import Rooms
from claude_daemon.core.service import Caller
from claude_daemon.protocol import facts, notices, replies, requests
from claude_daemon.protocol.model import session_stream

NO_ASSISTANT = "no assistant is set up; set CLAUDE_API_KEY to a key of console.anthropic.com"


class ChatService:
    def __init__(self, hub: Hub, rooms: Rooms, assistant: Assistant | None) -> None:
        """Without an `assistant` messages are shared and nobody answers them."""
        self._hub = hub
        self._rooms = rooms
        self._assistant = assistant

    def status(self) -> replies.AssistantStatus:
        if self._assistant is None:
            return replies.AssistantStatus(backend="none", ready=False, reason=NO_ASSISTANT)
        backend = self._assistant.backend
        readiness = backend.readiness()
        return replies.AssistantStatus(
            backend=backend.name, ready=readiness.ready, reason=readiness.reason or UNSET
        )

    async def message(
        self, caller: Caller, request: requests.ChatMessage, once: OnceKey | None
    ) -> replies.ChatSent:
        """Durable first, then asked about: an answer never belongs to a message that a crash could take."""
        session_id = self._rooms.write_to(caller, request.session_id)
        backend = self._assistant.backend.name if self._assistant else "none"
        message = facts.ChatMessage(
            content=request.content,
            session_id=session_id,
            user_id=caller.user_id,
            device_id=caller.device_id,
            project_id=request.project_id or UNSET,
            metadata=UNSET if request.metadata is None else request.metadata,
        )
        stored = await self._hub.publish(
            session_stream(session_id),
            message,
            caller=caller,
            client_id=request.client_id,
            once=once,
            reply={"sessionId": session_id, "assistant": backend},
        )
        if self._assistant:
            self._assistant.ask(session_id, caller.connection)
        return replies.ChatSent(id=stored.id, seq=stored.seq, session_id=session_id, assistant=backend)

    async def cancel(self, caller: Caller, request: requests.ChatCancel) -> None:
        """Nothing to cancel is no failure: the reply may have ended a moment ago."""
        if self._assistant:
            await self._assistant.cancel(self._rooms.session(caller, request.session_id))

    async def history(self, caller: Caller, request: requests.ChatHistory) -> replies.ChatHistoryPage:
        session_id = self._rooms.session(caller, request.session_id)
        messages = await self._rooms.history(
            session_id, before=request.before_seq, limit=request.limit + 1, reader=caller.device_id
        )
        return replies.ChatHistoryPage(
            messages=messages[-request.limit :], has_more=len(messages) > request.limit
        )

    async def typing(self, caller: Caller, request: requests.Typing) -> None:
        session_id = self._rooms.session(caller, request.session_id)
        self._hub.announce(
            session_stream(session_id),
            notices.Typing(
                session_id=session_id,
                user_id=caller.user_id,
                device_id=caller.device_id,
                is_typing=request.is_typing,
            ),
            exclude=caller.connection,
        )
