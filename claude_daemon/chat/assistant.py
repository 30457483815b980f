"""Has the backend answer: one reply at a time in a session, a bounded number at once.

What a reply came to is always stored, also when it was cancelled, failed halfway or the daemon stopped;
after a crash nothing is made up for what is missing.
"""

import asyncio
import logging
import uuid
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from claude_daemon.chat.backend import Backend, Completed, Turn
from claude_daemon.chat.context import Said, context
from claude_daemon.config import ChatSettings
from claude_daemon.core.delivery import Delivery
from claude_daemon.core.dispatch import InternalError
from claude_daemon.core.hub import Hub
from claude_daemon.core.service import Connection
from claude_daemon.errors import BusyError, CancelledByRequestError, DaemonError
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import facts, notices
from claude_daemon.protocol.codec import encode, error_body
from claude_daemon.protocol.model import Json, session_stream, wire_name

log = logging.getLogger(__name__)

USER_ID = "claude-ai"  # of the older server
CANCELLED = "the reply was cancelled before its first word"
STOPPED = "the daemon stopped before the reply's first word; send the message again"
STOP_S = 3.0  # of the daemon's 5 s to drain: for storing what was written


@dataclass(slots=True, eq=False)
class _Conversation:
    """A session in which a reply is being written."""

    session_id: str
    askers: set[Connection] = field(default_factory=set)
    """They hear the reply, even if they leave the room meanwhile."""
    asked_again: bool = False
    stopped: str | None = None
    """Why no more is to be written, as a sentence."""
    scope: asyncio.Timeout | None = None
    """While the backend is at work: its deadline, moved to now, is how that is cut short."""
    task: asyncio.Task[Any] | None = None

    def stop(self, why: str) -> None:
        if self.stopped is None:
            self.stopped = why
            self.cut_short()

    def cut_short(self) -> None:
        if self.scope:
            self.scope.reschedule(asyncio.get_running_loop().time())


@dataclass(slots=True)
class _Reply:
    id: str
    in_reply_to: str = ""
    pieces: list[str] = field(default_factory=list)
    completed: Completed | None = None
    failure: DaemonError | None = None


class Assistant:
    """An async context; leaving it ends all replies and stores what was written of them."""

    def __init__(self, hub: Hub, supervisor: Supervisor, backend: Backend, settings: ChatSettings) -> None:
        self.backend = backend
        self._hub = hub
        self._supervisor = supervisor
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.replies)
        self._under_way: dict[str, _Conversation] = {}
        self._stopping = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        conversations = list(self._under_way.values())
        for conversation in conversations:
            conversation.stop(STOPPED)
        if tasks := [each.task for each in conversations if each.task]:
            await asyncio.wait(tasks, timeout=STOP_S)

    def ask(self, session_id: str, asker: Connection | None) -> None:
        """Have the session's last message answered: now, or in the next reply if one is being written."""
        if self._stopping:
            return
        conversation = self._under_way.get(session_id)
        if conversation:
            conversation.asked_again = True
        else:
            conversation = _Conversation(session_id)
            full = len(self._under_way) >= self._settings.replies + self._settings.waiting
            if full:
                self._supervisor.spawn("reply refused", self._refuse(conversation))
            else:
                self._under_way[session_id] = conversation
                conversation.task = self._supervisor.spawn("reply", self._converse(conversation))
        if asker:
            conversation.askers.add(asker)

    async def cancel(self, session_id: str) -> None:
        """End the reply that is being written, and return when what there was of it is stored."""
        conversation = self._under_way.get(session_id)
        if conversation and conversation.task:
            conversation.stop(CANCELLED)
            await asyncio.wait([conversation.task])

    async def _converse(self, conversation: _Conversation) -> None:
        try:
            while True:
                conversation.asked_again = False
                await self._answer(conversation)
                if conversation.stopped or not conversation.asked_again:
                    return
        finally:
            del self._under_way[conversation.session_id]

    async def _answer(self, conversation: _Conversation) -> None:
        reply = _Reply(str(uuid.uuid4()))
        try:
            async with asyncio.timeout(None) as conversation.scope:
                if conversation.stopped:
                    conversation.cut_short()
                async with self._slots:
                    turns = await self._context(conversation.session_id, reply)
                    if not turns:
                        return
                    await self._write(conversation, turns, reply)
        except TimeoutError:
            reply.failure = CancelledByRequestError(conversation.stopped or CANCELLED)
        except DaemonError as error:
            log.info("the assistant failed", extra={"reason": error.message})
            reply.failure = error
        except Exception:
            log.exception("the assistant failed")
            reply.failure = InternalError()
        finally:
            conversation.scope = None
        await self._keep(conversation, reply)

    async def _context(self, session_id: str, reply: _Reply) -> list[Turn]:
        limit = self._settings.context_messages
        stored = await self._hub.log.last(
            session_stream(session_id), "chat_message", before=None, limit=limit
        )
        said = [_said(each.id, msgspec.json.decode(each.body)) for each in stored]
        reply.in_reply_to = next((each.id for each in reversed(said) if each.role == "user"), "")
        return context(said, messages=limit, characters=self._settings.context_characters)

    async def _write(self, conversation: _Conversation, turns: list[Turn], reply: _Reply) -> None:
        stream = session_stream(conversation.session_id)
        async with aclosing(self.backend.reply(turns)) as parts:
            async for part in parts:
                if isinstance(part, Completed):
                    reply.completed = part
                    continue
                piece = notices.ChatDelta(
                    id=reply.id,
                    session_id=conversation.session_id,
                    index=len(reply.pieces),
                    delta=part.text,
                )
                reply.pieces.append(part.text)
                self._hub.announce(stream, piece)
                self._tell_absent(conversation, Delivery(wire_name(type(piece)), encode(piece)))
                await self._hub.drained(stream)

    async def _keep(self, conversation: _Conversation, reply: _Reply) -> None:
        """Store what the reply came to: its text, and behind it why there is no more."""
        metadata: Json = {"inReplyTo": reply.in_reply_to}
        if reply.completed:
            metadata |= {"usage": reply.completed.usage, "stopReason": reply.completed.stop_reason}
            await self._say(conversation, "assistant", "".join(reply.pieces), metadata, reply.id)
            return
        cancelled = isinstance(reply.failure, CancelledByRequestError)
        if reply.pieces:
            why = {"stopReason": "cancelled" if cancelled else "error"}
            await self._say(conversation, "assistant", "".join(reply.pieces), metadata | why, reply.id)
        if reply.failure and not (reply.pieces and cancelled):
            await self._say_failure(conversation, reply.failure, metadata)

    async def _refuse(self, conversation: _Conversation) -> None:
        busy = BusyError("too many replies are waiting to be written; send the message again in a minute")
        await self._say_failure(conversation, busy, {})

    async def _say_failure(self, conversation: _Conversation, failure: DaemonError, metadata: Json) -> None:
        error = error_body(failure, wire_name(facts.ChatMessage))
        await self._say(conversation, "system", failure.message, metadata | {"error": error})

    async def _say(
        self,
        conversation: _Conversation,
        role: Literal["assistant", "system"],
        content: str,
        metadata: Json,
        message_id: str | None = None,
    ) -> None:
        message = facts.ChatMessage(
            content=content,
            session_id=conversation.session_id,
            user_id=USER_ID,
            device_id=USER_ID,
            metadata=metadata,
            role=role,
            platform=self.backend.name,
        )
        stored = await self._hub.publish(
            session_stream(conversation.session_id), message, event_id=message_id
        )
        self._tell_absent(conversation, Delivery(stored.name, stored.body, stored))

    def _tell_absent(self, conversation: _Conversation, delivery: Delivery) -> None:
        stream = session_stream(conversation.session_id)
        for asker in conversation.askers:
            if not asker.closed and not self._hub.listens(stream, asker):
                asker.offer(delivery)


def _said(message_id: str, message: Json) -> Said:
    in_reply_to = message.get("metadata", {}).get("inReplyTo") if message["role"] == "assistant" else None
    return Said(message_id, message["role"], message["content"], in_reply_to)
