"""Clients as newcomers write them, against the real daemon: what they hear is the contract, to the letter."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon import Daemon, running
from like import TIME, UUID, Like
from peer import peer

HERE = Path(__file__).parent
NODE = HERE / "node"
PROGRAMS = {
    "browser": ("node", NODE / "browser.mjs"),
    "react-native": ("node", NODE / "react-native.mjs"),
    "polling": ("node", NODE / "polling.mjs"),
    "python": (sys.executable, HERE / "python_newcomer.py"),
}
VISIT_WITHIN_S = 20.0

MISTAKES = {
    "an empty session": ("join_session", "Session ID is required", ["sessionId"], "string.empty"),
    "no project": ("join_project", "Project ID is required", ["projectId"], "any.required"),
    "no content": ("chat_message", "Invalid message format", ["content"], "any.required"),
    "a number for content": ("chat_message", "Invalid message format", ["content"], "string.base"),
    "an empty command": ("terminal_command", "Invalid command format", ["command"], "string.empty"),
    "an unknown action": ("file_update", "Invalid file update format", ["action"], "any.only"),
    "too long a text": ("tts_notification", "Invalid TTS notification format", ["message"], "string.max"),
}


@dataclass
class Visit:
    """What a newcomer and the other client heard, in order."""

    session: str
    newcomer: list[tuple[str, Any]] = field(default_factory=list)
    other: list[tuple[str, Any]] = field(default_factory=list)

    def all(self, event: str) -> list[Any]:
        return [data for name, data in self.newcomer if name == event]

    def one(self, event: str) -> Any:
        [data] = self.all(event)
        return data

    def others(self, event: str) -> list[Any]:
        return [data for name, data in self.other if name == event]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("newcomers")
    (folder / "app").mkdir()
    with running(folder / "home") as daemon:
        added = daemon.cli("projects", "add", str(folder / "app"), "--id", "app")
        assert added.returncode == 0, added.stderr
        yield daemon


@pytest.fixture(scope="module", params=PROGRAMS)
def visit(daemon: Daemon, request: pytest.FixtureRequest) -> Visit:
    return asyncio.run(make_visit(daemon, request.param))


async def make_visit(daemon: Daemon, name: str) -> Visit:
    """Let a newcomer come into a session where somebody is, and answer it."""
    visit = Visit(session=f"{name}-session")
    async with peer(daemon.url, daemon.token()) as other, asyncio.timeout(VISIT_WITHIN_S):
        await other.call("join_session", sessionId=visit.session)
        await other.call("join_project", projectId="app")
        await other.call("chat_message", content="before you came", sessionId=visit.session)
        async with program(daemon, name, visit.session) as newcomer:
            async for event, data in spoken(newcomer):
                visit.newcomer.append((event, data))
                if event == "waiting":
                    await other.receive("typing")
                    await other.emit("typing", sessionId=visit.session, isTyping=False)
                    await other.call("chat_message", content="welcome", sessionId=visit.session)
                    await other.call("chat_message", content="goodbye", sessionId=visit.session)
            assert await newcomer.wait() == 0
        visit.other = other.events
    return visit


@asynccontextmanager
async def program(
    daemon: Daemon, name: str, session: str = "", *, token: str | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A newcomer's program, which does not outlive the block."""
    interpreter, script = PROGRAMS[name]
    if interpreter == "node":
        needs_node()
    environment = os.environ | {
        "DAEMON_URL": daemon.url,
        "DAEMON_TOKEN": daemon.token() if token is None else token,
        "SESSION": session,
        "PROJECT": "app",
    }
    process = await asyncio.create_subprocess_exec(
        interpreter, script, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def spoken(newcomer: asyncio.subprocess.Process) -> AsyncIterator[tuple[str, Any]]:
    assert newcomer.stdout is not None
    async for line in newcomer.stdout:
        said = json.loads(line)
        yield said["event"], said["data"]


def needs_node() -> None:
    """Skip on a machine without Node.js, but never where nobody would read that it was skipped."""
    if not shutil.which("node") and "CI" not in os.environ:
        pytest.skip("Node.js is not installed")


def test_it_is_told_who_it_is_and_what_holds(visit: Visit) -> None:
    assert visit.one("connected") == {
        "deviceId": Like(str),
        "userId": Like(str),
        "scopes": ["chat", "files", "terminal", "view"],
        "serverVersion": Like(r"\d+\.\d+\.\d+.*"),
        "protocolVersion": Like(int),
        "userSeq": Like(int),
        "limits": Like(dict),
    }


def test_it_reads_what_was_said_before_it_came(visit: Visit) -> None:
    assert visit.one("session_history") == {
        "sessionId": visit.session,
        "messages": [
            {
                "id": Like(UUID),
                "seq": 1,
                "content": "before you came",
                "sessionId": visit.session,
                "userId": Like(str),
                "deviceId": Like(str),
                "role": "user",
                "platform": "websocket",
                "timestamp": Like(TIME),
            }
        ],
        "seq": 1,
    }


def test_it_joins_in_the_order_of_the_contract(visit: Visit) -> None:
    names = [event for event, _ in visit.newcomer]
    assert visit.one("session_joined") == {"sessionId": visit.session, "seq": 1}
    assert visit.one("project_joined") == {"projectId": "app", "seq": Like(int)}
    assert names.index("connected") < names.index("session_history") < names.index("session_joined")


def test_its_message_is_acknowledged_and_not_echoed(visit: Visit) -> None:
    acknowledged, *_ = visit.all("ack chat_message")
    assert acknowledged == {
        "ok": True,
        "id": Like(UUID),
        "seq": 2,
        "sessionId": visit.session,
        "assistant": "none",
    }
    assert [message["content"] for message in visit.all("chat_message")] == ["welcome", "goodbye"]


def test_the_other_hears_its_message_once(visit: Visit) -> None:
    [message] = visit.others("chat_message")
    connected = visit.one("connected")
    assert message == {
        "id": visit.all("ack chat_message")[0]["id"],
        "seq": 2,
        "content": Like("hello from (node|python)"),
        "sessionId": visit.session,
        "metadata": {"mood": "curious"},
        "userId": connected["userId"],
        "deviceId": connected["deviceId"],
        "role": "user",
        "platform": "websocket",
        "timestamp": Like(TIME),
    }


def test_typing_reaches_the_other_side_only(visit: Visit) -> None:
    for heard, is_typing in ((visit.others("typing"), True), (visit.all("typing"), False)):
        assert heard == [
            {
                "sessionId": visit.session,
                "userId": Like(str),
                "deviceId": Like(str),
                "isTyping": is_typing,
                "timestamp": Like(TIME),
            }
        ]


def test_a_notification_reaches_every_device_and_the_sender(visit: Visit) -> None:
    acknowledged, *_ = visit.all("ack tts_notification")
    assert acknowledged == {
        "ok": True,
        "id": Like(UUID),
        "seq": Like(int),
        "spoken": Like("queued|unavailable"),
    }
    notified = {
        "id": acknowledged["id"],
        "seq": acknowledged["seq"],
        "message": "a newcomer is here",
        "type": "success",
        "priority": "normal",
        "userId": visit.one("connected")["userId"],
        "spoken": acknowledged["spoken"],
        "timestamp": Like(TIME),
    }
    assert visit.one("tts_notification") == notified
    assert visit.others("tts_notification") == [notified]


def test_it_asks_for_the_status(visit: Visit) -> None:
    status = visit.one("ack system_status")
    assert (
        status.items()
        >= {
            "ok": True,
            "status": Like("healthy|degraded"),
            "problems": Like(list),
            "connectedClients": 2,
            "activeSessions": Like(int),
            "activeProjects": 1,
            "uptime": Like((int, float)),
            "memory": {"rss": Like(int)},
            "version": visit.one("connected")["serverVersion"],
            "timestamp": Like(TIME),
            "storage": {"engine": "sqlite", "sizeBytes": Like(int)},
        }.items()
    )
    [project] = status["projects"]
    assert project["projectId"] == "app"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_in_the_words_of_the_contract(visit: Visit, mistake: str) -> None:
    event, message, path, kind = MISTAKES[mistake]
    refusals = [ack["error"] for ack in visit.all(f"ack {event}") if not ack["ok"]]

    assert {
        "message": message,
        "code": "too_large" if kind == "string.max" else "invalid",
        "event": event,
        "details": [{"message": Like(str), "path": path, "type": kind}],
    } in refusals


def test_an_unknown_project_is_refused_with_the_remedy(visit: Visit) -> None:
    _, refusal = [ack["error"] for ack in visit.all("ack join_project") if not ack["ok"]]

    assert refusal["code"] == "not_found"
    assert "claude-daemon projects add PATH --id nowhere" in refusal["message"]


def test_an_unknown_event_is_answered(visit: Visit) -> None:
    assert visit.one("ack fly") == {
        "ok": False,
        "error": {"message": "Unknown event fly", "code": "invalid", "event": "fly"},
    }


def test_without_a_callback_a_refusal_is_the_event_error(visit: Visit) -> None:
    assert visit.one("error") == {
        "message": "Invalid message format",
        "code": "invalid",
        "event": "chat_message",
        "details": [{"message": Like(str), "path": [], "type": "object.base"}],
    }


def test_the_browser_upgrades_and_the_others_keep_their_transport(daemon: Daemon, visit: Visit) -> None:
    transports = (visit.one("open")["transport"], *(each["transport"] for each in visit.all("upgrade")))

    assert (
        transports
        == {
            "browser-session": ("polling", "websocket"),
            "react-native-session": ("websocket",),
            "polling-session": ("polling",),
            "python-session": ("websocket",),
        }[visit.session]
    )


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("token", "message", "code"),
    [
        ("", "Authentication required", "unauthenticated"),
        ("rubbish", "Invalid authentication token", "token_invalid"),
    ],
)
async def test_a_refusal_arrives_as_connect_error(
    daemon: Daemon, name: str, token: str, message: str, code: str
) -> None:
    async with asyncio.timeout(VISIT_WITHIN_S), program(daemon, name, token=token) as newcomer:
        lines = [line async for line in spoken(newcomer)]

    assert ("connect_error", {"message": message, "data": {"code": code}}) in lines
    assert all(event != "connected" for event, _ in lines)
