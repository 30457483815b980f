"""Publishing, and joining without a gap or a repetition, on the real log."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from claude_daemon.config import StorageSettings
from claude_daemon.core import hub as hub_module
from claude_daemon.core.hub import ForgottenError, Hub, RepeatedError
from claude_daemon.core.log import OnceKey, ReusedClientIdError
from claude_daemon.protocol import facts, notices
from claude_daemon.protocol.model import Json, Stream, session_stream
from claude_daemon.storage import tables
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.store import Store
from fakes import Socket

S = session_stream("s")


def message(content: str = "x") -> facts.ChatMessage:
    return facts.ChatMessage(content, "s", "ada", "laptop")


def typing() -> notices.Typing:
    return notices.Typing("s", "ada", "laptop", True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(StorageSettings(), tmp_path) as store:
        yield store


@pytest.fixture
def hub(store: Store) -> Hub:
    return Hub(EventLog(store))


async def join(hub: Hub, socket: Socket, after: int | None = None) -> int:
    reach = await hub.enter(S, socket)
    start = reach.head if after is None else after
    seq, _ = await hub.catch_up(S, socket, after=start, head=reach.head)
    return seq


def heard(socket: Socket) -> list[int]:
    return [body["seq"] for body in socket.heard("chat_message")]


# Publishing


async def test_everybody_hears_an_event_but_the_socket_that_sent_it(hub: Any) -> None:
    sender, other, same_device = Socket("a"), Socket("b"), Socket("a")
    for socket in (sender, other, same_device):
        hub.subscribe(S, socket)

    stored = await hub.publish(S, message(), caller=sender.caller, client_id="c1")

    assert sender.events == []
    assert heard(other) == heard(same_device) == [stored.seq]
    assert "clientId" not in other.heard("chat_message")[0]
    assert same_device.heard("chat_message")[0]["clientId"] == "c1"


async def test_with_echo_the_sender_hears_it_too(hub: Any) -> None:
    sender = Socket()
    hub.subscribe(S, sender)

    await hub.publish(S, message(), caller=sender.caller, echo=True)

    assert heard(sender) == [1]


async def test_an_event_is_on_disk_before_anybody_hears_it(hub: Any, store: Store) -> None:
    seen: list[int] = []

    class Curious(Socket):
        def offer(self, _delivery: Any) -> None:
            with sa.create_engine(f"sqlite:///{store.path}").connect() as connection:
                seen.append(connection.execute(sa.select(sa.func.max(tables.events.c.seq))).scalar_one())

    hub.subscribe(S, Curious())
    for _ in range(3):
        await hub.publish(S, message())

    assert seen == [1, 2, 3]


async def test_another_stream_is_not_heard(hub: Any) -> None:
    socket = Socket()
    hub.subscribe(session_stream("other"), socket)

    await hub.publish(S, message())

    assert socket.events == []


async def test_a_repetition_is_told_the_first_answer_and_nobody_hears_it(hub: Any) -> None:
    socket = Socket()
    hub.subscribe(S, socket)
    key = OnceKey(socket.device_id, "chat_message", "c1", b"f")
    first = await hub.publish(S, message(), once=key, reply={"sessionId": "s"})

    with pytest.raises(RepeatedError) as repeated:
        await hub.publish(S, message(), once=key, reply={"sessionId": "s"})
    with pytest.raises(ReusedClientIdError):
        await hub.publish(S, message(), once=replace(key, fingerprint=b"g"))

    assert repeated.value.reply == {"sessionId": "s", "id": first.id, "seq": 1}
    assert heard(socket) == [1]


async def test_the_log_may_keep_less_than_is_said_and_get_it_back_for_a_replay(hub: Any) -> None:
    live, late = Socket(), Socket()
    hub.subscribe(S, live)

    async def restored(_stream: Stream, body: Json) -> Json:
        return {**body, "content": "from the history"}

    hub.restorers["chat_message"] = restored
    await hub.publish(S, message("in full"), kept=message(""))
    await join(hub, late, after=0)

    assert live.heard("chat_message")[0]["content"] == "in full"
    assert late.heard("chat_message")[0]["content"] == "from the history"


async def test_what_is_not_stored_reaches_those_who_listen(hub: Any) -> None:
    listener, excluded, absent = Socket(), Socket(), Socket()
    hub.subscribe(S, listener)
    hub.subscribe(S, excluded)

    hub.announce(S, typing(), exclude=excluded, also=absent)
    hub.announce(S, typing(), exclude=excluded, also=listener)

    assert [len(each.events) for each in (listener, excluded, absent)] == [2, 0, 1]


# Joining


async def test_what_was_missed_comes_in_order_and_marked_then_what_is_new(hub: Any) -> None:
    for _ in range(5):
        await hub.publish(S, message())
    socket = Socket()

    assert await join(hub, socket, after=2) == 5
    await hub.publish(S, message())

    bodies = socket.heard("chat_message")
    assert [body["seq"] for body in bodies] == [3, 4, 5, 6]
    assert [body.get("replayed", False) for body in bodies] == [True, True, True, False]


async def test_more_than_a_page_is_replayed(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "PAGE", 3)
    for _ in range(10):
        await hub.publish(S, message())
    socket = Socket()

    await join(hub, socket, after=0)

    assert heard(socket) == list(range(1, 11))


async def test_its_own_events_are_replayed_with_their_client_id(hub: Any) -> None:
    before = Socket("a")
    await hub.publish(S, message(), caller=before.caller, client_id="c1")
    after = Socket("a")

    await join(hub, after, after=0)

    assert [body["clientId"] for body in after.heard("chat_message")] == ["c1"]


async def test_joining_under_fire_misses_nothing_and_repeats_nothing(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PAGE", 7)
    chance = random.Random(1)
    done = False

    async def write() -> None:
        for _ in range(500):
            await hub.publish(S, message())

    async def come_and_go() -> list[int]:
        last, complete = 0, []
        while not done:
            socket = Socket()
            await join(hub, socket, after=last)
            if chance.random() < 0.3:
                await join(hub, socket)  # once more, while it is live
            await asyncio.sleep(chance.random() * 0.01)
            hub.forget(socket)
            complete += heard(socket)
            last = complete[-1] if complete else 0
        socket = Socket()
        await join(hub, socket, after=last)
        return complete + heard(socket)

    listening = [asyncio.ensure_future(come_and_go()) for _ in range(8)]  # noqa: TID251  # while others write
    await asyncio.gather(write(), write(), write())
    done = True

    for complete in await asyncio.gather(*listening):
        assert complete == list(range(1, 1_501))


async def test_a_second_join_of_a_live_socket_skips_nothing(hub: Any, store: Store) -> None:
    socket = Socket()
    await join(hub, socket)
    publishing = [asyncio.ensure_future(hub.publish(S, message())) for _ in range(3)]  # noqa: TID251  # on their way
    await asyncio.sleep(0)
    wait_for_commit(store, 3)

    await join(hub, socket)
    await asyncio.gather(*publishing)

    assert heard(socket) == [1, 2, 3]


def wait_for_commit(store: Store, count: int) -> None:
    """Return when so many events are on disk, while the loop cannot tell anybody of it."""
    with sa.create_engine(f"sqlite:///{store.path}").connect() as connection:
        for _ in range(1_000):
            if connection.execute(sa.select(sa.func.count()).select_from(tables.events)).scalar() == count:
                return
            connection.rollback()
            time.sleep(0.005)
    raise AssertionError(f"{count} events were not stored in time")


async def test_who_is_still_catching_up_publishes_when_it_is_live(hub: Any) -> None:
    for _ in range(5):
        await hub.publish(S, message())
    socket = Socket()
    reach = await hub.enter(S, socket)
    publishing = asyncio.ensure_future(hub.publish(S, message(), caller=socket.caller))  # noqa: TID251  # it waits
    await asyncio.sleep(0.05)
    assert not publishing.done()

    await hub.catch_up(S, socket, after=0, head=reach.head)

    assert (await publishing).seq == 6
    assert heard(socket) == [1, 2, 3, 4, 5]


async def test_who_leaves_while_catching_up_is_not_kept_from_publishing(hub: Any) -> None:
    socket = Socket()
    await hub.enter(S, socket)
    publishing = asyncio.ensure_future(hub.publish(S, message(), caller=socket.caller))  # noqa: TID251  # it waits
    await asyncio.sleep(0)

    hub.unsubscribe(S, socket)

    async with asyncio.timeout(2):
        assert (await publishing).seq == 1


async def test_a_replay_that_retention_overtakes_says_so(
    hub: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PAGE", 2)
    for _ in range(6):
        await hub.publish(S, message())
    socket = Socket()
    reach = await hub.enter(S, socket)
    await store.write(
        lambda connection: connection.execute(tables.events.delete().where(sa.text("seq <= 4")))
    )

    async with asyncio.timeout(2):
        with pytest.raises(ForgottenError):
            await hub.catch_up(S, socket, after=0, head=reach.head)


async def test_a_replay_of_a_log_that_was_emptied_meanwhile_ends(hub: Any, store: Store) -> None:
    await hub.publish(S, message())
    socket = Socket()
    reach = await hub.enter(S, socket)
    await store.write(lambda connection: connection.execute(tables.events.delete()))

    async with asyncio.timeout(2):
        with pytest.raises(ForgottenError):
            await hub.catch_up(S, socket, after=0, head=reach.head)


async def test_a_replay_waits_for_a_client_that_reads_slowly(hub: Any) -> None:
    for _ in range(5):
        await hub.publish(S, message())
    socket = Socket()
    socket.congested = True

    joining = asyncio.ensure_future(join(hub, socket, after=0))  # noqa: TID251  # it waits
    await asyncio.sleep(0.05)
    assert heard(socket) == [1]
    socket.congested = False
    await joining

    assert heard(socket) == [1, 2, 3, 4, 5]


# Leaving


async def test_who_left_hears_no_more(hub: Any) -> None:
    socket = Socket()
    hub.subscribe(S, socket)
    hub.unsubscribe(S, socket)

    await hub.publish(S, message())

    assert socket.events == []
    assert hub.audience("session:") == 0


async def test_a_socket_that_goes_leaves_no_trace(hub: Any) -> None:
    catching_up, live, gone = Socket(), Socket(), Socket()
    await hub.enter(S, catching_up)
    await join(hub, live)
    gone.closed = True
    reach = await hub.enter(S, gone)  # its request was under way
    await hub.catch_up(S, gone, after=0, head=reach.head)
    hub.subscribe(session_stream("other"), gone)
    assert hub.audience("session:") == 1

    hub.forget(catching_up)
    hub.forget(live)

    assert hub.audience("session:") == 0
    assert not hub.listens(S, gone)


# Backpressure


async def test_a_producer_waits_for_a_slow_listener_but_not_for_ever_and_not_twice(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "DRAIN_TIMEOUT_S", 0.2)
    slow, quick = Socket(), Socket()
    hub.subscribe(S, slow)
    hub.subscribe(S, quick)
    slow.congested = True
    clock = asyncio.get_running_loop().time

    began = clock()
    await hub.drained(S)
    first = clock() - began
    await hub.drained(S)
    second = clock() - began - first
    slow.congested = False
    await hub.drained(S)
    slow.congested = True
    await hub.drained(S)
    last = clock() - began - first - second

    assert 0.2 <= first < 0.4 and second < 0.1 and 0.2 <= last < 0.4


async def test_an_event_is_encoded_once_for_all(hub: Any) -> None:
    packets: list[bytes] = []

    class Keeping(Socket):
        def offer(self, delivery: Any) -> None:
            packets.append(delivery.payload())

    for _ in range(3):
        hub.subscribe(S, Keeping())
    await hub.publish(S, message())

    assert packets[0] is packets[1] is packets[2]
    assert json.loads(packets[0])["seq"] == 1
