"""Sockets from their CONNECT to their end, over the wire."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from claude_daemon.config import RateSettings, ServerSettings
from claude_daemon.core import hub as hub_module
from claude_daemon.core.service import Caller
from claude_daemon.gateway import sockets as sockets_module
from claude_daemon.protocol import facts, notices, requests
from claude_daemon.protocol.model import session_stream, user_stream
from fakes import until
from peer import peer
from raw import CLOSED, attacker
from served import USER, Served, serving
from wire import Packet, Wire, wire

TRANSPORTS = ("websocket", "polling")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def say(served: Served, count: int, *, size: int = 10) -> None:
    """Somebody writes into the session `s`."""
    for number in range(count):
        fact = facts.ChatMessage(f"{number} ".ljust(size, "x"), "s", "bob", "phone")
        await served.hub.publish(session_stream("s"), fact)


def seqs(client: Wire) -> list[int]:
    return [body["seq"] for body in client.heard("chat_message")]


# Order


class Ordered:
    """Checks as packets arrive that everything about the session `s` comes by its number."""

    def __init__(self, client: Wire) -> None:
        self.last = 0
        self.own: list[int] = []
        self.heard: list[int] = []
        client.on_packet = self.take

    def complete(self, count: int) -> bool:
        return self.last == count

    def take(self, packet: Packet) -> None:
        if packet.name != "chat_message":
            return
        seq = packet.body["seq"]
        assert seq > self.last, f"{packet.kind} {seq} came after {self.last}"
        self.last = seq
        (self.own if packet.kind == "answer" else self.heard).append(seq)


async def test_answers_and_events_of_a_session_leave_by_their_numbers_whoever_writes(served: Served) -> None:
    clients, messages = 20, 40
    async with AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(wire(served.url, await served.token())) for _ in range(clients)
        ]
        ordered = [Ordered(client) for client in wires]
        await asyncio.gather(*(client.ask("join_session", "s") for client in wires))

        await asyncio.gather(*(hammer(client, messages) for client in wires))

        for client, order in zip(wires, ordered, strict=True):
            await client.until(partial(order.complete, clients * messages))
            assert len(order.own) == messages
            assert sorted(order.own + order.heard) == list(range(1, clients * messages + 1))


async def hammer(client: Wire, messages: int, *, at_once: int = 8) -> None:
    slots = asyncio.Semaphore(at_once)
    answers = []
    for number in range(messages):
        await slots.acquire()
        payload = {"sessionId": "s", "content": "x"} | ({"clientId": str(number)} if number % 3 == 0 else {})
        answer = client.send("chat_message", payload)
        answer.add_done_callback(lambda _: slots.release())
        answers.append(answer)
    assert all([(await answer)["ok"] for answer in answers])


async def test_an_answer_that_takes_long_is_waited_for_by_later_events_of_its_stream_only(
    served: Served,
) -> None:
    go_on = asyncio.Event()

    async def slow(caller: Caller, request: requests.ProjectRemove) -> None:
        """As a write to a file: the event is stored, and more has to be done before the answer."""
        fact = facts.ChatMessage("mine", "s", "ada", "laptop")
        await served.hub.publish(session_stream("s"), fact, caller=caller)
        await go_on.wait()

    served.dispatcher.on(requests.ProjectRemove, slow)
    async with wire("http://localhost", None, uds=str(served.socket_path)) as client:
        await client.ask("join_session", "s")
        slowly = client.send("project_remove", {"projectId": "app"})
        await until(lambda: served.hub._heads.get(session_stream("s")) == 1)
        await say(served, 2)
        await notify(served)
        joined = client.send("join_session", "s")

        await client.hears("tts_notification")
        assert seqs(client) == [] and not joined.done()
        go_on.set()
        await joined

    names = [packet.name for packet in client.packets[-6:]]
    assert names == [
        "project_remove",
        "chat_message",
        "chat_message",
        "session_history",
        "session_joined",
        "join_session",
    ]
    assert slowly.done()


async def notify(served: Served, size: int = 4) -> None:
    fact = facts.TtsNotification("x" * size, "info", "normal", USER, "unavailable")
    await served.hub.publish(user_stream(USER), fact)


# CONNECT


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_does_not_connect_in_time_is_closed(tmp_path: Path, transport: Any) -> None:
    settings = ServerSettings(port=0, connect_timeout_s=0.3)
    async with serving(tmp_path, server=settings) as served, attacker(served.url, transport) as idle:
        began = time.monotonic()

        assert await idle.receive() == CLOSED
        assert 0.25 < time.monotonic() - began < 2
        await until(lambda: not served.sockets.eio.sockets)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_connected_in_time_is_left_alone(tmp_path: Path, transport: Any) -> None:
    settings = ServerSettings(port=0, connect_timeout_s=0.3)
    async with serving(tmp_path, server=settings) as served:
        token = await served.token()
        async with peer(served.url, token, transports=[transport]) as client:
            await asyncio.sleep(0.6)

            assert (await client.call("list_sessions"))["ok"]


async def test_who_leaves_the_namespace_has_to_come_back_in_time(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, connect_timeout_s=0.3)
    async with serving(tmp_path, server=settings) as served:
        token = await served.token()
        async with attacker(served.url, "websocket", token=token) as client:
            await client.send("41")
            await client.send("40" + json.dumps({"token": token}))
            while not (await client.receive()).startswith("40"):
                pass
            assert served.sockets.connected == 1
            await client.send("41")
            while (packet := await client.receive()) != CLOSED:
                assert packet.startswith("42")
        await until(lambda: served.sockets.connected == 0)


async def test_refused_tokens_use_up_a_bucket_that_does_not_concern_valid_ones(tmp_path: Path) -> None:
    async with serving(tmp_path, rate=RateSettings(points=3)) as served:
        refusals = []
        for _ in range(5):
            async with wire(served.url, "wrong") as client:
                refusals.append(client.refused)
        async with wire(served.url, await served.token()) as client:
            assert client.heard("connected")

    assert [each["data"]["code"] for each in refusals] == ["token_invalid"] * 3 + ["rate_limited"] * 2
    assert refusals[-1]["message"] == "Rate limit exceeded"
    assert 0 < refusals[-1]["data"]["retryAfterMs"] <= 60_000


async def test_another_namespace_is_refused(served: Served) -> None:
    async with attacker(served.url, "websocket", token=await served.token()) as client:
        await client.send("40/admin," + json.dumps({"token": "x"}))
        while not (packet := await client.receive()).startswith("44"):
            pass

    assert packet.startswith("44/admin,")


async def test_one_connection_too_many_is_refused_and_the_others_stay(tmp_path: Path) -> None:
    async with serving(tmp_path, server=ServerSettings(port=0, max_connections=2)) as served:
        token = await served.token()
        async with wire(served.url, token) as first, wire(served.url, token):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with wire(served.url, token):
                    pass
            assert (await first.ask("list_sessions"))["ok"]


async def test_whoever_comes_over_the_local_socket_needs_no_token(served: Served) -> None:
    async with wire("http://localhost", None, uds=str(served.socket_path)) as client:
        [connected] = client.heard("connected")

    assert connected["deviceId"] == "local" and connected["userId"] == USER
    assert "admin" in connected["scopes"] and "answer" not in connected["scopes"]


async def test_the_hundred_and_first_event_is_refused_over_tcp_and_not_over_the_local_socket(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, rate=RateSettings()) as served:
        served.dispatcher.on(requests.TerminalCancel, nothing)
        async with (
            wire(served.url, await served.token()) as client,
            wire("http://localhost", None, uds=str(served.socket_path)) as local,
        ):
            answers = [await client.ask("terminal_cancel", commandId="k") for _ in range(101)]
            local_answers = [await local.ask("terminal_cancel", commandId="k") for _ in range(110)]

            assert all(answer["ok"] for answer in answers[:100])
            assert answers[100]["error"]["code"] == "rate_limited"
            assert 0 < answers[100]["error"]["retryAfterMs"] <= 60_000
            assert (await client.ask("join_session", "s"))["ok"]
            assert all(answer["ok"] for answer in local_answers)


async def nothing(_caller: Caller, _request: Any) -> None: ...


# Requests


async def test_without_a_callback_a_refusal_is_the_event_error(served: Served) -> None:
    async with peer(served.url, await served.token()) as client:
        await client.emit("chat_message", content="x")

        assert await client.receive("error") == {
            "message": "Invalid message format",
            "code": "invalid",
            "event": "chat_message",
            "details": [
                {"message": '"sessionId": is required', "path": ["sessionId"], "type": "any.required"}
            ],
        }


async def test_the_status_comes_as_an_event_and_as_an_answer(served: Served) -> None:
    async with wire(served.url, await served.token()) as client:
        answer = await client.ask("system_status")

        assert client.heard("system_status") == [
            {name: value for name, value in answer.items() if name != "ok"}
        ]


async def test_thirty_two_requests_of_a_client_run_at_once_and_the_others_wait(served: Served) -> None:
    running, most, go_on = 0, 0, asyncio.Event()

    async def slow(_caller: Caller, _request: requests.TerminalCancel) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1

    served.dispatcher.on(requests.TerminalCancel, slow)
    async with (
        wire(served.url, await served.token()) as client,
        wire(served.url, await served.token()) as other,
    ):
        answers = [client.send("terminal_cancel", {"commandId": str(number)}) for number in range(100)]
        await until(lambda: running == 32)
        assert (await other.ask("list_sessions"))["ok"]
        await asyncio.sleep(0.05)
        go_on.set()

        assert all([(await answer)["ok"] for answer in answers])
    assert most == 32


async def test_a_hundred_packets_in_one_post_are_all_answered(served: Served) -> None:
    async with attacker(served.url, "polling", token=await served.token()) as client:
        body = "\x1e".join(
            f"42{number}{json.dumps(['chat_message', {'sessionId': 's', 'content': str(number)}])}"
            for number in range(100)
        )
        assert await client.post(body.encode()) == 200

        answers: list[Any] = []
        while len(answers) < 100:
            packet = await client.receive()
            if packet.startswith("43"):
                answers.append(json.loads(packet[packet.index("[") :])[0])

    assert [answer["seq"] for answer in answers] == list(range(1, 101))


async def test_a_request_outlives_its_socket_and_its_answer_reaches_nobody(served: Served) -> None:
    go_on, done = asyncio.Event(), asyncio.Event()

    async def slow(_caller: Caller, _request: requests.TerminalCancel) -> None:
        await go_on.wait()
        done.set()

    served.dispatcher.on(requests.TerminalCancel, slow)
    token = await served.token()
    async with attacker(served.url, "websocket", token=token) as client:
        await client.send('427["terminal_cancel",{"commandId":"k"}]')
        await client.send("41")
        await client.send("40" + json.dumps({"token": token}))
        await client.send('428["list_sessions",{}]')
        while not (packet := await client.receive()).startswith("43"):
            pass
        assert packet.startswith("438[")
        go_on.set()
        await done.wait()
        await client.send('429["list_sessions",{}]')
        while not (packet := await client.receive()).startswith("43"):
            pass
        assert packet.startswith("439[")


async def test_sockets_that_are_gone_leave_no_trace(served: Served) -> None:
    token = await served.token()
    for number in range(20):
        async with attacker(served.url, TRANSPORTS[number % 2], token=token) as client:
            await client.send('421["join_session","s"]')
            await client.send('422["chat_message",{"sessionId":"t","content":"x"}]')
            if number % 4 < 2:
                await client.receive()

    await until(lambda: not served.sockets._connections)
    await until(lambda: served.hub.audience("") == 0)
    assert served.sockets.connected == 0 and not served.sockets.environ
    assert [device.connected for device in served.devices.listed()] == [False]


# Clients that don't read


@pytest.fixture
def small_outbox() -> ServerSettings:
    return ServerSettings(port=0, outbox_packets=50, outbox_bytes=400_000, outbox_grace_s=0.5)


async def test_who_stops_reading_is_closed_without_harm_to_others_and_comes_back(
    tmp_path: Path, small_outbox: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "DRAIN_TIMEOUT_S", 0.3)
    async with serving(tmp_path, server=small_outbox) as served:
        token = await served.token()
        before = psutil.Process().memory_info().rss
        async with wire(served.url, token) as deaf, wire(served.url, await served.token()) as other:
            await deaf.ask("join_session", "s")
            await other.ask("join_session", "s")
            deaf.stop_reading()

            for number in range(4_000):
                served.hub.announce(session_stream("s"), delta(number))
                if number % 20 == 0:
                    await asyncio.sleep(0)
                    await served.hub.drained(session_stream("s"))
                if served.sockets.connected == 1:
                    break
            await say(served, 5)

            await until(lambda: served.sockets.connected == 1, within_s=10)
            assert [body["seq"] for body in await other.hears("chat_message", 5)] == [1, 2, 3, 4, 5]
            deaf.go_on_reading()
            await deaf.closed.wait()
            assert not deaf.disconnected
        async with wire(served.url, token) as again:
            await again.ask("join_session", sessionId="s", afterSeq=0)
            assert seqs(again) == [1, 2, 3, 4, 5]
        assert psutil.Process().memory_info().rss - before < 60_000_000


def delta(number: int) -> notices.ChatDelta:
    return notices.ChatDelta(id="m", session_id="s", index=number, delta="x" * 10_000)


async def test_who_lags_is_closed_even_when_nothing_more_comes(tmp_path: Path, small_outbox: Any) -> None:
    async with (
        serving(tmp_path, server=small_outbox) as served,
        attacker(served.url, "polling", token=await served.token()) as deaf,
    ):
        await deaf.send('421["join_session","s"]')
        await until(lambda: served.hub.audience("session:") == 1)
        await say(served, 60)
        assert served.sockets.connected == 1

        await until(lambda: served.sockets.connected == 0, within_s=2)


async def test_who_catches_up_within_the_grace_time_stays(tmp_path: Path, small_outbox: Any) -> None:
    async with (
        serving(tmp_path, server=small_outbox) as served,
        attacker(served.url, "polling", token=await served.token()) as slow,
    ):
        await slow.send('421["join_session","s"]')
        await until(lambda: served.hub.audience("session:") == 1)
        await say(served, 60)
        count = 0
        while count < 60:
            count += (await slow.receive()).startswith('42["chat_message"')

        await asyncio.sleep(0.7)
        assert served.sockets.connected == 1


async def test_a_replay_waits_for_its_reader_instead_of_closing_it(tmp_path: Path, small_outbox: Any) -> None:
    async with serving(tmp_path, server=small_outbox) as served:
        await say(served, 600, size=5_000)
        async with wire(served.url, await served.token()) as client:
            joining = client.send("join_session", {"sessionId": "s", "afterSeq": 0})
            for _ in range(20):
                client.stop_reading()
                await asyncio.sleep(0.02)
                client.go_on_reading()
                await asyncio.sleep(0.005)

            assert (await joining)["seq"] == 600
            assert seqs(client) == list(range(1, 601))


# Revocation


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_revoked_device_is_cut_for_good_within_two_seconds(served: Served, transport: Any) -> None:
    token = await served.token()
    async with (
        attacker(served.url, transport, token=token) as revoked,
        wire(served.url, await served.token()) as other,
    ):
        await revoked.send('421["join_session","s"]')
        await until(lambda: served.hub.audience("session:") == 1)
        began = time.monotonic()

        await revoke(served, token)
        await revoked.send('422["chat_message",{"sessionId":"s","content":"too late"}]')
        packets = []
        while (packet := await revoked.receive()) != CLOSED:
            packets.append(packet)

        assert time.monotonic() - began < 2
        assert packets[-1] == "41" and not any(each.startswith("432") for each in packets)
        assert (await other.ask("join_session", "s"))["seq"] == 0
    async with wire(served.url, token) as again:
        assert again.refused == {
            "message": "Invalid authentication token",
            "data": {"code": "device_revoked"},
        }


async def revoke(served: Served, token: str) -> None:
    await served.devices.device_revoke(
        served.devices.local(), requests.DeviceRevoke(device_id=served.device(token))
    )


# Expiry


@pytest.fixture
def short_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets_module, "EXPIRY_GRACE_S", 1.0)


async def test_a_socket_whose_token_ends_is_told_and_closed(served: Served, short_expiry: Any) -> None:
    async with wire(served.url, await served.token(ttl_s=2)) as client:
        [expiring] = await client.hears("token_expiring")
        [expired] = await client.hears("token_expired")
        refused = await client.ask("chat_message", sessionId="s", content="x")
        async with asyncio.timeout(3):
            await client.closed.wait()

    assert expiring == expired and expiring["expiresAt"].endswith("Z")
    assert refused["error"]["code"] == "token_expired"
    assert refused["error"]["message"] == "Invalid authentication token"
    assert not client.disconnected


async def test_a_fresh_token_lets_a_socket_go_on(served: Served, short_expiry: Any) -> None:
    token = await served.token(ttl_s=2)
    claims = served.tokens.read(token)
    fresh, _ = served.tokens.make(
        user_id=claims.user_id, device_id=claims.device_id, scopes=claims.scopes, ttl_s=3_600
    )
    async with wire(served.url, token) as client:
        await client.hears("token_expired")

        answer = await client.ask("authenticate", token=f"Bearer {fresh}")

        assert answer["ok"] and answer["scopes"] == ["chat", "files", "terminal", "view"]
        await asyncio.sleep(1.2)
        assert (await client.ask("chat_message", sessionId="s", content="x"))["ok"]
        assert len(client.heard("token_expired")) == 1


async def test_a_token_of_another_device_or_of_nobody_does_not(served: Served) -> None:
    async with wire(served.url, await served.token()) as client:
        other = (await client.ask("authenticate", token=await served.token()))["error"]
        wrong = (await client.ask("authenticate", token="x"))["error"]

    assert (other["code"], other["details"][0]["path"]) == ("invalid", ["token"])
    assert wrong["code"] == "token_invalid"


async def test_fewer_scopes_hold_at_once(served: Served) -> None:
    token = await served.token()
    claims = served.tokens.read(token)
    less, _ = served.tokens.make(
        user_id=claims.user_id, device_id=claims.device_id, scopes=frozenset({"view"}), ttl_s=3_600
    )
    async with wire(served.url, token) as client:
        await client.ask("authenticate", token=less)

        assert (await client.ask("chat_message", sessionId="s", content="x"))["error"]["code"] == "forbidden"


async def test_a_token_that_ends_in_the_far_future_is_no_trouble(served: Served) -> None:
    claims = served.tokens.read(await served.token())
    token, _ = served.tokens.make(
        user_id=claims.user_id, device_id=claims.device_id, scopes=claims.scopes, ttl_s=10**13
    )
    async with wire(served.url, token) as client:
        assert (await client.ask("list_sessions"))["ok"]
        assert (await client.ask("authenticate", token=token))["expiresAt"].startswith("9999-")


# The end


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stop_lets_last_words_leave_and_sends_no_disconnect(tmp_path: Path, transport: str) -> None:
    async with AsyncExitStack() as daemon:
        served = await daemon.enter_async_context(serving(tmp_path))
        async with attacker(served.url, transport, token=await served.token()) as client:
            stopping = asyncio.ensure_future(daemon.aclose())  # noqa: TID251  # the client reads meanwhile
            packets = []
            while (packet := await client.receive()) != CLOSED:
                packets.append(packet)
            await stopping

    assert json.loads(packets[-1][2:])[0] == "server_shutdown"
    assert "41" not in packets
