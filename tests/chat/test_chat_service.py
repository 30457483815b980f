import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_daemon.chat.assistant import Assistant
from claude_daemon.chat.backend import Backend, BackendName, Completed, Delta, Readiness, Turn
from claude_daemon.chat.claude_api import ClaudeApi
from claude_daemon.chat.service import ChatService
from claude_daemon.config import ChatSettings, RateSettings, StorageSettings
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.rooms import Rooms
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import requests
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.store import Store
from fakes import (
    RATE_LIMITED,
    UNAUTHENTICATED,
    FakeMessagesApi,
    NeverAnswers,
    Socket,
    Step,
    Written,
    until,
)
from like import TIME, UUID, Like

S = "s1"


class NoProjects:
    def known(self, project_id: str) -> bool:
        return project_id == "one that exists"


class Buggy:
    """A backend with a bug of ours in it."""

    name: BackendName = "claude-api"

    def readiness(self) -> Readiness:
        return Readiness(ready=True)

    async def reply(self, turns: Sequence[Turn]) -> AsyncGenerator[Delta | Completed, None]:
        yield Delta(turns[0].text)
        raise ZeroDivisionError


class Reluctant:
    """A backend that takes its time to stop."""

    name: BackendName = "claude-api"

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.may_stop = asyncio.Event()

    def readiness(self) -> Readiness:
        return Readiness(ready=True)

    async def reply(self, turns: Sequence[Turn]) -> AsyncGenerator[Delta | Completed, None]:
        try:
            yield Delta(turns[0].text)
            await asyncio.Event().wait()
        finally:
            self.stopping.set()
            await self.may_stop.wait()


@dataclass
class Desk:
    """Chat on a real store, hub and dispatcher, with the real SDK talking to the fake API."""

    api: FakeMessagesApi
    service: ChatService
    dispatcher: Dispatcher
    stack: AsyncExitStack
    """Closing it is the daemon's stop, but for the store."""

    async def ask(self, socket: Socket, event: str, **payload: Any) -> dict[str, Any]:
        return await self.dispatcher(socket.caller, event, payload)

    async def say(self, socket: Socket, content: str, session: str = S, **more: Any) -> dict[str, Any]:
        reply = await self.ask(socket, "chat_message", content=content, sessionId=session, **more)
        assert reply["ok"], reply
        return reply

    async def joined(self, device_id: str, session: str = S) -> Socket:
        socket = Socket(device_id)
        assert (await self.ask(socket, "join_session", sessionId=session))["ok"]
        socket.events.clear()
        return socket

    async def logged(self, session: str = S) -> list[dict[str, Any]]:
        """Every chat message of a session, as it is on disk."""
        page = await self.ask(Socket("reader"), "chat_history", sessionId=session, limit=1_000)
        messages: list[dict[str, Any]] = page["messages"]
        return messages

    def heard_by_api(self, request: int = -1) -> list[tuple[str, str]]:
        return [(turn["role"], turn["content"]) for turn in self.api.requests[request]["messages"]]


@asynccontextmanager
async def desk(
    folder: Path, *script: Step, key: str = "sk-test", backend: Backend | None = None, **settings: Any
) -> AsyncIterator[Desk]:
    async with (
        FakeMessagesApi(*script) as api,
        Store(StorageSettings(), folder) as store,
        AsyncExitStack() as stack,
    ):
        hub = Hub(EventLog(store))
        rooms = Rooms(hub, NoProjects(), "none")
        supervisor = await stack.enter_async_context(Supervisor())
        chat = ChatSettings(**{"base_url": api.url, "retries": 0, "timeout_s": 5.0, **settings})
        assistant = None
        if key:
            claude = await stack.enter_async_context(ClaudeApi(chat, key))
            assistant = await stack.enter_async_context(Assistant(hub, supervisor, backend or claude, chat))
        service = ChatService(hub, rooms, assistant)
        dispatcher = Dispatcher(Remembered(store), Metrics(), RateSettings(points=10_000))
        dispatcher.on_once(requests.ChatMessage, service.message)
        dispatcher.on(requests.ChatCancel, service.cancel)
        dispatcher.on(requests.ChatHistory, service.history)
        dispatcher.on(requests.Typing, service.typing)
        dispatcher.on(requests.JoinSession, rooms.join_session)
        dispatcher.on(requests.LeaveSession, rooms.leave_session)
        yield Desk(api, service, dispatcher, stack)


def roles(socket: Socket) -> list[str]:
    return [message["role"] for message in socket.heard("chat_message")]


async def test_a_message_reaches_the_others_and_not_its_sender(tmp_path: Path) -> None:
    async with desk(tmp_path, key="") as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")

        reply = await it.say(laptop, "hello", projectId="p", metadata={"mood": 1}, clientId="c1")

        assert reply == {"ok": True, "id": Like(UUID), "seq": 1, "sessionId": S, "assistant": "none"}
        assert phone.heard("chat_message") == [
            {
                "id": reply["id"],
                "seq": 1,
                "content": "hello",
                "sessionId": S,
                "projectId": "p",
                "metadata": {"mood": 1},
                "userId": "ada",
                "deviceId": "laptop",
                "role": "user",
                "platform": "websocket",
                "timestamp": Like(TIME),
            }
        ]
        assert laptop.events == []


async def test_without_an_assistant_nobody_answers_and_the_status_says_why(tmp_path: Path) -> None:
    async with desk(tmp_path, key="") as it:
        laptop = await it.joined("laptop")

        assert (await it.say(laptop, "hello"))["assistant"] == "none"

        assert [message["role"] for message in await it.logged()] == ["user"]
        assert it.api.requests == []
        assert it.service.status().backend == "none"
        assert "set CLAUDE_API_KEY" in str(it.service.status().reason)


async def test_a_reply_is_streamed_and_then_stored_under_the_same_id(tmp_path: Path) -> None:
    async with desk(tmp_path, Written("Hel", "lo.", input_tokens=7)) as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")

        question = await it.say(laptop, "Hi?")
        await until(lambda: "assistant" in roles(laptop))

        assert question["assistant"] == "claude-api"
        (reply,) = laptop.heard("chat_message")
        assert laptop.heard("chat_delta") == [
            {"id": reply["id"], "sessionId": S, "index": 0, "delta": "Hel"},
            {"id": reply["id"], "sessionId": S, "index": 1, "delta": "lo."},
        ]
        assert reply == {
            "id": Like(UUID),
            "seq": 2,
            "content": "Hello.",
            "sessionId": S,
            "metadata": {
                "inReplyTo": question["id"],
                "usage": {"inputTokens": 7, "outputTokens": 1},
                "stopReason": "end_turn",
            },
            "userId": "claude-ai",
            "deviceId": "claude-ai",
            "role": "assistant",
            "platform": "claude-api",
            "timestamp": Like(TIME),
        }
        assert phone.events[1:] == laptop.events


async def test_who_asked_hears_the_reply_once_even_after_leaving_the_room(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with desk(tmp_path, Written("Hel", more, "lo.")) as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")
        await it.say(laptop, "Hi?")
        await until(lambda: laptop.heard("chat_delta"))
        await it.ask(laptop, "leave_session", sessionId=S)

        more.set()
        await until(lambda: "assistant" in roles(laptop))
        await until(lambda: "assistant" in roles(phone))

        assert [delta["delta"] for delta in laptop.heard("chat_delta")] == ["Hel", "lo."]
        assert laptop.heard("chat_message") == phone.heard("chat_message")[1:]


async def test_who_is_gone_is_not_talked_to(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with desk(tmp_path, Written("Hel", more, "lo.")) as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")
        await it.say(laptop, "Hi?")
        await until(lambda: laptop.heard("chat_delta"))
        await it.ask(laptop, "leave_session", sessionId=S)
        laptop.closed = True

        more.set()
        await until(lambda: "assistant" in roles(phone))

        assert len(laptop.events) == 1


async def test_the_conversation_so_far_is_sent_along(tmp_path: Path) -> None:
    async with desk(tmp_path, Written("Four."), Written("Eight.")) as it:
        laptop = await it.joined("laptop")
        for question in ("2 + 2?", "Twice that?"):
            await it.say(laptop, question)
            await until(lambda: laptop.heard("chat_message"))
            laptop.events.clear()

        assert it.heard_by_api() == [("user", "2 + 2?"), ("assistant", "Four."), ("user", "Twice that?")]


async def test_what_is_said_during_a_reply_is_answered_in_the_next_one(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with desk(tmp_path, Written("One", more, "."), Written("Two and three.")) as it:
        laptop = await it.joined("laptop")
        await it.say(laptop, "first")
        await until(lambda: laptop.heard("chat_delta"))
        await it.say(laptop, "second")
        await it.say(laptop, "third")
        assert len(it.api.requests) == 1

        more.set()
        await until(lambda: len(roles(laptop)) == 2)

        assert it.heard_by_api() == [
            ("user", "first"),
            ("assistant", "One."),
            ("user", "second\n\nthird"),
        ]
        assert len(it.api.requests) == 2


async def test_a_failing_assistant_is_told_as_the_error_it_is(tmp_path: Path) -> None:
    async with desk(tmp_path, RATE_LIMITED) as it:
        laptop = await it.joined("laptop")

        question = await it.say(laptop, "Hi?")
        await until(lambda: laptop.heard("chat_message"))

        (message,) = laptop.heard("chat_message")
        sentence = "the Claude API's rate limit is reached; send the message again in 30 s"
        assert message["role"] == "system"
        assert message["content"] == sentence
        assert message["platform"] == "claude-api"
        assert message["metadata"] == {
            "inReplyTo": question["id"],
            "error": {
                "message": sentence,
                "code": "rate_limited",
                "event": "chat_message",
                "retryAfterMs": 30_000,
            },
        }


async def test_a_failure_in_the_midst_keeps_what_was_written(tmp_path: Path) -> None:
    async with desk(tmp_path, Written("Hel", end="error")) as it:
        laptop = await it.joined("laptop")

        await it.say(laptop, "Hi?")
        await until(lambda: "system" in roles(laptop))

        reply, failure = laptop.heard("chat_message")
        assert (reply["content"], reply["metadata"]["stopReason"]) == ("Hel", "error")
        assert reply["id"] == laptop.heard("chat_delta")[0]["id"]
        assert failure["metadata"]["error"]["code"] == "assistant_unavailable"


async def test_after_a_failure_the_question_is_sent_again_with_the_next_one(tmp_path: Path) -> None:
    async with desk(tmp_path, UNAUTHENTICATED, Written("Hello.")) as it:
        laptop = await it.joined("laptop")
        await it.say(laptop, "Hi?")
        await until(lambda: "system" in roles(laptop))

        await it.say(laptop, "Hi??")
        await until(lambda: "assistant" in roles(laptop))

        assert it.heard_by_api() == [("user", "Hi?\n\nHi??")]


async def test_a_bug_in_a_backend_is_told_without_its_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path, backend=Buggy()) as it:
        laptop = await it.joined("laptop")

        await it.say(laptop, "Hi?")
        await until(lambda: "system" in roles(laptop))

        failure = laptop.heard("chat_message")[-1]
        assert failure["metadata"]["error"]["code"] == "internal"
        assert "ZeroDivision" not in failure["content"]
        assert "ZeroDivisionError" in caplog.text


async def test_cancelling_keeps_what_was_written(tmp_path: Path) -> None:
    async with desk(tmp_path, Written("Hel", asyncio.Event(), "lo.")) as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")
        question = await it.say(laptop, "Hi?")
        await until(lambda: laptop.heard("chat_delta"))

        assert await it.ask(phone, "chat_cancel", sessionId=S) == {"ok": True}

        assert (await it.logged())[-1] == laptop.heard("chat_message")[-1]
        assert laptop.heard("chat_message")[-1]["content"] == "Hel"
        assert laptop.heard("chat_message")[-1]["metadata"] == {
            "inReplyTo": question["id"],
            "stopReason": "cancelled",
        }
        await until(lambda: it.api.open == 0, within_s=1)


async def test_cancelling_before_the_first_word_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path, NeverAnswers()) as it:
        laptop = await it.joined("laptop")
        await it.say(laptop, "Hi?")
        await until(lambda: it.api.open)

        await it.ask(laptop, "chat_cancel", sessionId=S)

        (message,) = laptop.heard("chat_message")
        assert message["role"] == "system"
        assert message["metadata"]["error"]["code"] == "cancelled"
        await until(lambda: it.api.open == 0, within_s=1)


async def test_cancelling_also_ends_what_would_have_come_next(tmp_path: Path) -> None:
    async with desk(tmp_path, Written("Hel", asyncio.Event())) as it:
        laptop = await it.joined("laptop")
        await it.say(laptop, "first")
        await until(lambda: laptop.heard("chat_delta"))
        await it.say(laptop, "second")

        await it.ask(laptop, "chat_cancel", sessionId=S)
        await it.say(laptop, "third")
        await until(lambda: len(roles(laptop)) == 2)

        assert len(it.api.requests) == 2
        assert it.heard_by_api() == [
            ("user", "first"),
            ("assistant", "Hel"),
            ("user", "second\n\nthird"),
        ]


async def test_cancelling_at_once_or_twice_or_for_nothing_is_no_trouble(tmp_path: Path) -> None:
    async with desk(tmp_path, *[NeverAnswers()] * 2) as it:
        laptop = await it.joined("laptop")
        assert await it.ask(laptop, "chat_cancel", sessionId=S) == {"ok": True}

        await it.say(laptop, "Hi?")
        assert await it.ask(laptop, "chat_cancel", sessionId=S) == {"ok": True}
        await it.say(laptop, "Hi?")
        await until(lambda: it.api.open)
        both = [it.ask(laptop, "chat_cancel", sessionId=S) for _ in range(2)]
        assert await asyncio.gather(*both) == [{"ok": True}] * 2

        assert [message["role"] for message in await it.logged()] == ["user", "system"] * 2


async def test_cancelling_what_is_just_being_cancelled_is_no_trouble(tmp_path: Path) -> None:
    backend = Reluctant()
    async with desk(tmp_path, backend=backend) as it:
        laptop = await it.joined("laptop")
        await it.say(laptop, "Hi?")
        await until(lambda: laptop.heard("chat_delta"))

        async with asyncio.TaskGroup() as group:
            first = group.create_task(it.ask(laptop, "chat_cancel", sessionId=S))
            await backend.stopping.wait()
            second = group.create_task(it.ask(laptop, "chat_cancel", sessionId=S))
            await asyncio.sleep(0)
            backend.may_stop.set()

        assert first.result() == second.result() == {"ok": True}
        assert [message["content"] for message in await it.logged()] == ["Hi?", "Hi?"]


async def test_stopping_the_daemon_keeps_what_was_written(tmp_path: Path) -> None:
    script = (Written("Hel", asyncio.Event(), "lo."), NeverAnswers())
    async with desk(tmp_path, *script) as it:
        laptop = await it.joined("laptop")
        await it.say(laptop, "Hi?")
        await until(lambda: laptop.heard("chat_delta"))
        await it.say(laptop, "Hi?", session="s2")
        await until(lambda: it.api.open == 2)

        async with asyncio.timeout(2):
            await it.stack.aclose()

        reply = (await it.logged())[-1]
        assert (reply["content"], reply["metadata"]["stopReason"]) == ("Hel", "cancelled")
        unanswered = (await it.logged("s2"))[-1]
        assert unanswered["metadata"]["error"]["code"] == "cancelled"
        assert "the daemon stopped" in unanswered["content"]


async def test_only_so_many_replies_are_written_at_once(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with desk(tmp_path, *[Written("a", more, "b")] * 3, replies=2) as it:
        laptop = await it.joined("laptop")
        for session in ("s1", "s2", "s3"):
            await it.say(laptop, "Hi?", session=session)
        await until(lambda: len(laptop.heard("chat_delta")) == 2)
        assert len(it.api.requests) == 2

        more.set()
        await until(lambda: len(roles(laptop)) == 3)

        assert {message["sessionId"] for message in laptop.heard("chat_message")} == {"s1", "s2", "s3"}


async def test_beyond_those_that_wait_the_answer_is_busy(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with desk(tmp_path, *[Written("a", more)] * 2, replies=1, waiting=1) as it:
        laptop = await it.joined("laptop")
        for session in ("s1", "s2", "s3"):
            await it.say(laptop, "Hi?", session=session)
        await until(lambda: laptop.heard("chat_message"))

        (message,) = laptop.heard("chat_message")
        assert message["sessionId"] == "s3"
        assert message["metadata"]["error"]["code"] == "busy"
        more.set()


async def test_a_waiting_reply_can_be_cancelled(tmp_path: Path) -> None:
    async with desk(tmp_path, NeverAnswers(), replies=1) as it:
        laptop = await it.joined("laptop")
        await it.say(laptop, "Hi?")
        await it.say(laptop, "Hi?", session="s2")

        await it.ask(laptop, "chat_cancel", sessionId="s2")

        assert [message["role"] for message in await it.logged("s2")] == ["user", "system"]


async def test_the_same_message_sent_twice_is_said_and_answered_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")

        first = await it.say(laptop, "Hi?", clientId="c1")
        second = await it.say(laptop, "Hi?", clientId="c1")
        await until(lambda: "assistant" in roles(phone))

        assert second == first
        assert roles(phone) == ["user", "assistant"]
        assert len(it.api.requests) == 1


async def test_a_slow_listener_is_waited_for_and_misses_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, Written(*"abc")) as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")
        phone.congested = True
        await it.say(laptop, "Hi?")
        await until(lambda: laptop.heard("chat_delta"))
        assert len(laptop.heard("chat_delta")) == 1

        phone.congested = False
        await until(lambda: "assistant" in roles(phone))

        assert [delta["delta"] for delta in phone.heard("chat_delta")] == ["a", "b", "c"]


async def test_history_comes_in_pages_oldest_first(tmp_path: Path) -> None:
    async with desk(tmp_path, key="") as it:
        laptop = await it.joined("laptop")
        for number in range(5):
            await it.say(laptop, str(number))

        last = await it.ask(laptop, "chat_history", sessionId=S, limit=2)
        before = await it.ask(
            laptop, "chat_history", sessionId=S, limit=3, beforeSeq=last["messages"][0]["seq"]
        )

        assert [message["content"] for message in last["messages"]] == ["3", "4"]
        assert last["hasMore"] is True
        assert [message["content"] for message in before["messages"]] == ["0", "1", "2"]
        assert before["hasMore"] is False


async def test_typing_is_seen_by_the_others_only(tmp_path: Path) -> None:
    async with desk(tmp_path, key="") as it:
        laptop, phone = await it.joined("laptop"), await it.joined("phone")

        assert await it.ask(laptop, "typing", sessionId=S, isTyping=True) == {"ok": True}

        assert phone.heard("typing") == [
            {
                "sessionId": S,
                "userId": "ada",
                "deviceId": "laptop",
                "isTyping": True,
                "timestamp": Like(TIME),
            }
        ]
        assert laptop.events == []


async def test_current_is_the_session_written_to_last(tmp_path: Path) -> None:
    async with desk(tmp_path, key="") as it:
        laptop = await it.joined("laptop")

        assert (await it.say(laptop, "hello", session="current"))["sessionId"] == S


@pytest.mark.parametrize("event", ["chat_message", "chat_cancel", "chat_history", "typing"])
async def test_what_makes_no_sense_is_refused(tmp_path: Path, event: str) -> None:
    async with desk(tmp_path) as it:
        reply = await it.ask(Socket(), event)

        assert reply["ok"] is False
        assert reply["error"]["code"] == "invalid"
