"""The client on a real daemon: order, endings, refusals, and sockets with long names."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from claude_daemon import client as client_module
from claude_daemon.client import Client, NotRunningError, RefusedError
from daemon import Daemon, running

AT_ONCE_S = 2.0

if sys.platform == "win32":
    pytest.skip("the local socket is a Unix socket", allow_module_level=True)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("client") / "home") as daemon:
        yield daemon


def socket_of(daemon: Daemon) -> Path:
    return daemon.home / "run" / "daemon.sock"


@asynccontextmanager
async def two(daemon: Daemon, session: str) -> AsyncIterator[tuple[Client, Client]]:
    """Two clients in one session, with nothing unread but what comes from now on."""
    async with Client(socket_of(daemon)) as first, Client(socket_of(daemon)) as second:
        for each in (first, second):
            await each.call("join_session", sessionId=session)
            await each.receive("connected")
            await each.receive("session_history")
            await each.receive("session_joined")
        yield first, second


async def test_events_come_in_order_also_after_some_were_received_by_name(daemon: Daemon) -> None:
    async with two(daemon, "order") as (first, second):
        for number in range(3):
            await second.call("chat_message", sessionId="order", content=str(number))
            await second.emit("typing", {"sessionId": "order", "isTyping": bool(number)})
        await second.call("list_sessions")
        typing = await first.receive("typing")
        last = await second.call("chat_message", sessionId="order", content="last")

        seen = []
        async for name, body in first.events():
            seen.append(body.get("content", name))
            if body.get("seq") == last["seq"]:
                break

    assert typing["isTyping"] is False
    assert seen == ["0", "1", "typing", "2", "typing", "last"]


async def test_events_end_when_the_daemon_is_killed(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    async with Client(socket_of(daemon)) as client:
        await client.receive("connected")
        daemon.kill()

        async with asyncio.timeout(AT_ONCE_S):
            assert [name async for name, _ in client.events()] == []
        with pytest.raises(NotRunningError):
            await client.call("list_sessions")
        with pytest.raises(NotRunningError):
            await client.emit("typing", {"sessionId": "s", "isTyping": True})


async def test_a_call_under_way_fails_at_once_when_the_connection_drops(
    start_daemon: Callable[..., Daemon],
) -> None:
    daemon = start_daemon()
    async with Client(socket_of(daemon)) as client, asyncio.TaskGroup() as group:
        os.kill(daemon.pid, signal.SIGSTOP)
        call = group.create_task(expect_end(client.call("list_sessions")))
        wait = group.create_task(expect_end(client.receive("chat_message")))
        await asyncio.sleep(0)
        daemon.kill()
        began = time.monotonic()
        await asyncio.wait([call, wait])

        assert time.monotonic() - began < AT_ONCE_S


async def expect_end(waiting: Awaitable[object]) -> None:
    with pytest.raises(NotRunningError):
        await waiting


async def test_a_reader_that_falls_too_far_behind_is_cut_with_nothing_left_out(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "KEPT_EVENTS", 5)
    async with two(daemon, "behind") as (first, second):
        await second.call("chat_message", sessionId="behind", content="0")
        seen = []
        async for _, body in first.events():
            seen.append(body["content"])
            if len(seen) == 1:
                for number in range(1, 20):
                    await second.call("chat_message", sessionId="behind", content=str(number))
                async with asyncio.timeout(AT_ONCE_S):
                    await first.gone.wait()

    assert seen == ["0", "1", "2", "3", "4", "5"]


async def test_unread_events_are_bounded_when_nobody_reads(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "KEPT_EVENTS", 3)
    async with two(daemon, "unread") as (first, second):
        sent = [
            await second.call("chat_message", sessionId="unread", content=str(number)) for number in range(6)
        ]
        await first.call("list_sessions")

        kept = [await first.receive("chat_message") for _ in range(3)]

    assert [each["seq"] for each in kept] == [each["seq"] for each in sent[3:]]


async def test_a_refusal_carries_code_and_details(daemon: Daemon) -> None:
    async with Client(socket_of(daemon)) as client:
        with pytest.raises(RefusedError) as refusal:
            await client.call("chat_message", sessionId="s")

    assert refusal.value.code == "invalid"
    assert refusal.value.error["details"][0]["path"] == ["content"]


async def test_a_bad_token_is_refused_at_connect(daemon: Daemon) -> None:
    with pytest.raises(RefusedError) as refusal:
        async with Client(daemon.url, token="rubbish"):
            pass

    assert (refusal.value.code, str(refusal.value)) == ("token_invalid", "Invalid authentication token")


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_token_opens_the_loopback_port(daemon: Daemon, transport: str) -> None:
    async with Client(daemon.url, token=daemon.token(), transports=[transport]) as client:
        assert "status" in await client.call("system_status")


async def test_nobody_listening_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    with pytest.raises(NotRunningError):
        async with Client(path):
            pass
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(NotRunningError):
        async with Client(path):
            pass


async def test_a_daemon_that_accepts_and_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.3)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "daemon.sock"))
        silent.listen()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(AT_ONCE_S), Client(tmp_path / "daemon.sock"):
                pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names by descriptor")
async def test_a_socket_with_a_long_path_is_reached_and_no_descriptor_is_left(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 15) / ("longer" * 15)
    with running(home) as daemon:
        assert len(os.fsencode(socket_of(daemon))) > 108
        async with Client(socket_of(daemon)) as client:
            await client.call("list_sessions")
        before = psutil.Process().num_fds()
        for _ in range(3):
            async with Client(socket_of(daemon)) as client:
                await client.call("list_sessions")

        assert psutil.Process().num_fds() == before
