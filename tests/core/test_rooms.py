"""Joining over real sockets: what is sent, in which order, and which session is meant."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from claude_daemon.protocol import facts
from claude_daemon.protocol.model import project_stream, session_stream, user_stream
from claude_daemon.storage import tables
from served import USER, Served, serving
from wire import Wire, wire


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Wire]:
    async with wire(served.url, await served.token()) as client:
        yield client


async def say(served: Served, count: int, *, session: str = "s") -> None:
    """Somebody else writes."""
    for number in range(count):
        fact = facts.ChatMessage(f"message {number}", session, "bob", "phone")
        await served.hub.publish(session_stream(session), fact)


async def change(served: Served, count: int) -> None:
    """Something else happens in the project `app`."""
    for number in range(count):
        await served.hub.publish(project_stream("app"), facts.ProjectRescan(project_id="app", changed=number))


async def forget(served: Served, stream: str, floor: int) -> None:
    """What retention does."""

    def work(connection: Any) -> None:
        connection.execute(
            tables.events.delete().where(tables.events.c.stream == stream, tables.events.c.seq <= floor)
        )
        connection.execute(
            tables.streams.update().where(tables.streams.c.stream == stream).values(floor=floor)
        )

    await served.store.write(work)


def what_came(client: Wire) -> list[str]:
    return [packet.name for packet in client.packets if packet.name not in {"connected", "chat_message"}]


def seqs(client: Wire) -> list[int]:
    return [body["seq"] for body in client.heard("chat_message")]


# Sessions


async def test_the_first_join_brings_the_history_then_joined_then_the_ack(
    served: Served, client: Any
) -> None:
    await say(served, 2)

    ack = await client.ask("join_session", "s")

    assert what_came(client) == ["session_history", "session_joined", "join_session"]
    [history] = client.heard("session_history")
    assert (history["sessionId"], history["seq"]) == ("s", 2)
    assert [each["content"] for each in history["messages"]] == ["message 0", "message 1"]
    assert history["messages"][0].keys() >= {"id", "seq", "userId", "role", "timestamp"}
    assert client.heard("session_joined") == [{"sessionId": "s", "seq": 2}]
    assert ack == {"ok": True, "sessionId": "s", "seq": 2}


async def test_a_session_begins_with_its_first_join(client: Any) -> None:
    assert await client.ask("join_session", sessionId="new") == {"ok": True, "sessionId": "new", "seq": 0}

    assert client.heard("session_history") == [{"sessionId": "new", "messages": [], "seq": 0}]
    assert [each["sessionId"] for each in (await client.ask("list_sessions"))["sessions"]] == ["new"]


async def test_the_history_is_the_last_fifty_messages(served: Served, client: Any) -> None:
    await say(served, 60)

    await client.ask("join_session", "s")

    [history] = client.heard("session_history")
    assert [each["seq"] for each in history["messages"]] == list(range(11, 61))


async def test_the_history_repeats_client_ids_to_the_device_that_chose_them(served: Served) -> None:
    token = await served.token()
    async with wire(served.url, token) as client:
        await client.ask("chat_message", sessionId="s", content="x", clientId="c1")
    async with wire(served.url, token) as again, wire(served.url, await served.token()) as other:
        await again.ask("join_session", "s")
        await other.ask("join_session", "s")
        page = await again.ask("chat_history", sessionId="s")

    assert again.heard("session_history")[0]["messages"][0]["clientId"] == "c1"
    assert page["messages"][0]["clientId"] == "c1"
    assert "clientId" not in other.heard("session_history")[0]["messages"][0]


async def test_what_was_missed_is_replayed_then_joined_then_the_ack_then_what_is_new(
    served: Served, client: Any
) -> None:
    await say(served, 5)

    ack = await client.ask("join_session", sessionId="s", afterSeq=2)
    await say(served, 1)
    await client.hears("chat_message", 4)

    assert [packet.name for packet in client.packets if packet.name != "connected"] == [
        *["chat_message"] * 3,
        "session_joined",
        "join_session",
        "chat_message",
    ]
    assert seqs(client) == [3, 4, 5, 6]
    assert [body.get("replayed") for body in client.heard("chat_message")] == [True, True, True, None]
    assert client.heard("session_joined") == [{"sessionId": "s", "seq": 5, "replayed": 3}]
    assert ack["seq"] == 5


async def test_who_missed_nothing_gets_nothing_again(served: Served, client: Any) -> None:
    await say(served, 3)

    await client.ask("join_session", sessionId="s", afterSeq=3)

    assert client.heard("session_joined") == [{"sessionId": "s", "seq": 3, "replayed": 0}]
    assert client.heard("chat_message", "session_history") == []


async def test_after_seq_0_is_everything_its_own_events_included(served: Served, client: Any) -> None:
    await client.ask("chat_message", sessionId="s", content="mine", clientId="c1")
    await say(served, 1)
    await client.hears("chat_message")

    await client.ask("join_session", sessionId="s", afterSeq=0)

    replayed = [body for body in client.heard("chat_message") if body.get("replayed")]
    assert [(body["seq"], body.get("clientId")) for body in replayed] == [(1, "c1"), (2, None)]


async def test_beyond_the_head_the_client_starts_afresh(served: Served, client: Any) -> None:
    await say(served, 3)

    await client.ask("join_session", sessionId="s", afterSeq=4)

    assert what_came(client) == ["session_history", "session_joined", "join_session"]
    assert client.heard("session_joined") == [{"sessionId": "s", "seq": 3, "reset": True}]
    assert len(client.heard("session_history")[0]["messages"]) == 3


async def test_below_the_floor_the_client_starts_afresh(served: Served, client: Any) -> None:
    await say(served, 5)
    await forget(served, "session:s", 3)

    await client.ask("join_session", sessionId="s", afterSeq=2)
    await client.ask("join_session", sessionId="s", afterSeq=3)

    assert client.heard("session_joined") == [
        {"sessionId": "s", "seq": 5, "reset": True},
        {"sessionId": "s", "seq": 5, "replayed": 2},
    ]
    assert [each["seq"] for each in client.heard("session_history")[0]["messages"]] == [4, 5]


async def test_after_seq_0_is_all_that_is_kept(served: Served, client: Any) -> None:
    await say(served, 5)
    await forget(served, "session:s", 3)

    await client.ask("join_session", sessionId="s", afterSeq=0)

    assert client.heard("session_joined") == [{"sessionId": "s", "seq": 5, "replayed": 2}]
    assert seqs(client) == [4, 5]


async def test_writing_to_a_session_joins_it(served: Served, client: Any) -> None:
    await client.ask("chat_message", sessionId="s", content="x")
    await say(served, 1)

    assert (await client.hears("chat_message"))[0]["seq"] == 2


async def test_who_left_hears_no_more(served: Served, client: Any) -> None:
    await client.ask("join_session", "s")
    await client.ask("leave_session", "s")
    await say(served, 1)
    await client.ask("join_session", "other")

    assert client.heard("chat_message") == []


async def test_joining_and_leaving_in_one_breath_ends_outside(served: Served, client: Any) -> None:
    await say(served, 3)
    joined = client.send("join_session", {"sessionId": "s", "afterSeq": 0})
    left = client.send("leave_session", "s")

    assert (await joined)["ok"] and (await left)["ok"]
    await say(served, 1)
    await client.ask("list_sessions")
    assert seqs(client) == [1, 2, 3]


async def test_a_message_sent_right_behind_a_join_comes_after_the_replay(served: Served, client: Any) -> None:
    await say(served, 200)

    joined = client.send("join_session", {"sessionId": "s", "afterSeq": 0})
    written = client.send("chat_message", {"sessionId": "s", "content": "mine"})
    await joined
    assert (await written)["seq"] == 201

    assert seqs(client) == list(range(1, 201))
    assert what_came(client) == ["session_joined", "join_session"]
    assert client.packets[-1].kind == "answer" and client.packets[-1].name == "chat_message"


async def test_joining_under_fire_over_sockets_misses_nothing_and_repeats_nothing(served: Served) -> None:
    token, total, done = await served.token(), 400, asyncio.Event()

    async def write() -> None:
        async with wire(served.url, await served.token()) as writer:
            for _ in range(total // 10):
                answers = [writer.send("chat_message", {"sessionId": "s", "content": "x"}) for _ in range(5)]
                assert all([(await answer)["ok"] for answer in answers])

    async def come_and_go() -> list[int]:
        complete: list[int] = []
        while not done.is_set() or len(complete) < total:
            async with wire(served.url, token) as client:
                await client.ask("join_session", sessionId="s", afterSeq=len(complete))
                await client.ask("join_session", sessionId="s")
                complete += seqs(client)
                assert complete == list(range(1, len(complete) + 1))
        return complete

    coming = [asyncio.ensure_future(come_and_go()) for _ in range(3)]  # noqa: TID251  # while others write
    await asyncio.gather(write(), write())
    done.set()

    for complete in await asyncio.gather(*coming):
        assert complete == list(range(1, total + 1))


# current


async def test_current_is_made_and_stays_the_same_for_the_device(served: Served) -> None:
    token = await served.token()
    async with wire(served.url, token) as client:
        made = (await client.ask("chat_message", sessionId="current", content="x"))["sessionId"]
    async with wire(served.url, token) as again, wire(served.url, await served.token()) as other:
        assert (await again.ask("join_session", "current"))["sessionId"] == made != "current"
        assert again.heard("session_joined") == [{"sessionId": made, "seq": 1}]
        assert (await other.ask("join_session", "current"))["sessionId"] != made


async def test_current_is_what_was_joined_or_written_to_last(client: Any) -> None:
    await client.ask("join_session", "a")
    await client.ask("chat_message", sessionId="b", content="x")
    assert (await client.ask("join_session", "current"))["sessionId"] == "b"

    await client.ask("join_session", "a")
    await client.ask("chat_history", sessionId="b")
    await client.ask("typing", sessionId="b", isTyping=True)
    await client.ask("leave_session", "b")

    assert (await client.ask("chat_message", sessionId="current", content="x"))["sessionId"] == "a"


# Projects and the user


async def test_a_project_is_joined(served: Served, client: Any) -> None:
    await change(served, 2)

    ack = await client.ask("join_project", "app")
    await change(served, 1)

    assert ack == {"ok": True, "projectId": "app", "seq": 2}
    assert client.heard("project_joined") == [{"projectId": "app", "seq": 2}]
    assert [body["seq"] for body in await client.hears("project_rescan")] == [3]


async def test_a_project_is_replayed_and_reset(served: Served, client: Any) -> None:
    await change(served, 4)
    await forget(served, "project:app", 2)

    for after in (3, 1, 9):
        await client.ask("join_project", projectId="app", afterSeq=after)

    assert client.heard("project_joined") == [
        {"projectId": "app", "seq": 4, "replayed": 1},
        {"projectId": "app", "seq": 4, "reset": True},
        {"projectId": "app", "seq": 4, "reset": True},
    ]


async def test_a_project_that_is_not_registered_is_refused_with_the_remedy(client: Any) -> None:
    error = (await client.ask("join_project", "nothing"))["error"]

    assert error["code"] == "not_found"
    assert "claude-daemon projects add PATH --id nothing" in error["message"]


async def test_every_socket_of_the_user_hears_the_users_stream(served: Served, client: Any) -> None:
    await notify(served)

    assert client.heard("connected")[0]["userSeq"] == 0
    assert [body["seq"] for body in await client.hears("tts_notification")] == [1]
    async with wire(served.url, await served.token()) as late:
        assert late.heard("connected")[0]["userSeq"] == 1
        assert await late.ask("join_user", afterSeq=0) == {"ok": True, "seq": 1}
        assert late.heard("user_joined") == [{"seq": 1, "replayed": 1}]
        assert [body["replayed"] for body in late.heard("tts_notification")] == [True]


async def notify(served: Served) -> None:
    fact = facts.TtsNotification("done", "info", "normal", USER, "unavailable")
    await served.hub.publish(user_stream(USER), fact)


async def test_no_notification_is_lost_around_a_connect(served: Served) -> None:
    done = asyncio.Event()

    async def keep_notifying() -> None:
        while not done.is_set():
            await notify(served)

    notifying = asyncio.ensure_future(keep_notifying())  # noqa: TID251  # while others connect
    for _ in range(5):
        async with wire(served.url, await served.token()) as client:
            await client.hears("tts_notification", 20)
            first = client.heard("connected")[0]["userSeq"] + 1
            heard = [body["seq"] for body in client.heard("tts_notification")]
            assert client.packets[0].name == "connected"
            assert heard == list(range(first, first + len(heard)))
    done.set()
    await notifying


# Lists


async def test_sessions_are_listed_page_by_page_the_latest_first(served: Served, client: Any) -> None:
    for number in range(5):
        await say(served, 1, session=str(number))
        await asyncio.sleep(0.002)  # their activity is told apart by milliseconds

    first = await client.ask("list_sessions", limit=3)
    second = await client.ask("list_sessions", limit=3, before=first["next"])

    assert [each["sessionId"] for each in first["sessions"]] == ["4", "3", "2"]
    assert [each["sessionId"] for each in second["sessions"]] == ["1", "0"]
    assert "next" not in second
    assert first["sessions"][0].keys() == {"sessionId", "seq", "lastActivity", "backend"}
