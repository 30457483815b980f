"""The one road in: what is refused, in which order, and what happens once only."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_daemon.config import RateSettings, StorageSettings
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.log import OnceKey
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.service import Caller
from claude_daemon.errors import BusyError, ConflictError
from claude_daemon.protocol import facts, replies, requests
from claude_daemon.protocol.model import SCOPES, DeviceId, Json, UserId, session_stream
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.store import Store

CALLER = Caller(UserId("ada"), DeviceId("laptop"), frozenset(SCOPES), "127.0.0.1")
SANDBOX = replies.Sandbox("none", "off", [])
COMMAND = {"command": "make", "sessionId": "s"}
MESSAGE = {"content": "hello", "sessionId": "s"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Handlers:
    """A terminal, a chat and a file that count how often they act."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.acted = 0
        self.unknown: list[bool] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, _caller: Caller, _request: requests.TerminalCommand) -> replies.CommandAccepted:
        self.acted += 1
        number = self.acted
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return replies.CommandAccepted(command_id=f"k{number}", state="running", sandbox=SANDBOX)

    async def say(
        self, caller: Caller, request: requests.ChatMessage, once: OnceKey | None
    ) -> replies.ChatSent:
        self.acted += 1
        fact = facts.ChatMessage(request.content, request.session_id, caller.user_id, caller.device_id)
        stored = await self.hub.publish(
            session_stream(request.session_id),
            fact,
            caller=caller,
            client_id=request.client_id,
            once=once,
            reply={"sessionId": request.session_id, "assistant": "none"},
        )
        return replies.ChatSent(stored.id, stored.seq, request.session_id, "none")

    async def write(
        self, _caller: Caller, _request: requests.FileUpdate, once: OnceKey | None
    ) -> replies.FileWritten:
        self.acted += 1
        self.unknown.append(once is not None and once.unknown)
        if self.failure:
            raise self.failure
        return replies.FileWritten("e", 1, "ff", "v")


class Road:
    """A dispatcher with its handlers, on a real store."""

    def __init__(self, store: Store, rate: RateSettings) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.handlers = Handlers(Hub(EventLog(store)))
        self.ask = Dispatcher(Remembered(store), self.metrics, rate, clock=self.clock)
        self.ask.on(requests.TerminalCommand, self.handlers.run)
        self.ask.on_once(requests.ChatMessage, self.handlers.say)
        self.ask.on_once(requests.FileUpdate, self.handlers.write)

    async def __call__(self, event: object, payload: object = None, caller: Caller = CALLER) -> Json:
        async with asyncio.timeout(5):
            return await self.ask(caller, event, payload)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(StorageSettings(), tmp_path) as store:
        yield store


@pytest.fixture
def road(store: Store) -> Road:
    return Road(store, RateSettings(points=1_000))


# Refusals


async def test_a_request_is_answered_by_its_handler(road: Any) -> None:
    assert await road("terminal_command", COMMAND) == {
        "ok": True,
        "commandId": "k1",
        "state": "running",
        "sandbox": {"mechanism": "none", "network": "off", "limits": []},
    }


async def test_an_unknown_event_is_refused_by_its_name(road: Any) -> None:
    assert (await road("terminal_explode"))["error"] == {
        "message": "Unknown event terminal_explode",
        "code": "invalid",
        "event": "terminal_explode",
    }


async def test_without_the_scope_nothing_happens(road: Any) -> None:
    caller = replace(CALLER, scopes=frozenset({"view", "chat"}))

    reply = await road("terminal_command", COMMAND, caller)

    assert reply["error"]["code"] == "forbidden" and "'terminal'" in reply["error"]["message"]
    assert road.handlers.acted == 0


async def test_a_bug_is_told_in_a_word_and_logged_in_full_once(
    road: Any, caplog: pytest.LogCaptureFixture
) -> None:
    road.handlers.failure = ValueError("the secret of the house")

    with caplog.at_level(logging.ERROR):
        reply = await road("terminal_command", COMMAND)

    assert reply["error"]["code"] == "internal"
    assert "secret" not in str(reply)
    assert len(caplog.records) == 1 and "the secret of the house" in caplog.text


async def test_answers_and_refusals_are_counted(road: Any) -> None:
    await road("terminal_command", COMMAND)
    await road("terminal_command", {})
    await road("nothing")

    text = road.metrics.text().decode()
    assert "websocket_messages_total 3.0" in text
    assert 'websocket_errors_total{code="invalid"} 2.0' in text


# Rates


async def test_the_hundred_and_first_event_is_refused_and_told_when_to_come_back(store: Store) -> None:
    road = Road(store, RateSettings())
    for _ in range(100):
        assert (await road("terminal_command", COMMAND))["ok"]
        road.clock.now += 0.1

    reply = await road("terminal_command", COMMAND)

    assert reply["error"] == {
        "message": "Rate limit exceeded",
        "code": "rate_limited",
        "event": "terminal_command",
        "retryAfterMs": 50_000,
    }
    assert road.handlers.acted == 100
    road.clock.now += reply["error"]["retryAfterMs"] / 1_000
    assert (await road("terminal_command", COMMAND))["ok"]


async def test_malformed_and_unknown_events_count_like_others(store: Store) -> None:
    road = Road(store, RateSettings(points=2))
    await road("terminal_command", {})
    await road("nothing")

    assert (await road("terminal_command", COMMAND))["error"]["code"] == "rate_limited"


@pytest.mark.parametrize(
    ("event", "payload", "budget"),
    [("list_sessions", None, 10), ("chat_history", "s", 10), ("typing", {"sessionId": 5}, 100)],
)
async def test_joins_and_typing_have_budgets_of_their_own(
    store: Store, event: Any, payload: Any, budget: Any
) -> None:
    road = Road(store, RateSettings(points=5))
    road.ask.on(requests.ListSessions, nothing)
    road.ask.on(requests.ChatHistory, nothing)
    for _ in range(5):
        await road("terminal_command", COMMAND)
    assert (await road("terminal_command", COMMAND))["error"]["code"] == "rate_limited"

    codes = [(await road(event, payload)).get("error", {}).get("code") for _ in range(budget + 1)]

    assert "rate_limited" not in codes[:-1]
    assert codes[-1] == "rate_limited"


async def nothing(_caller: Caller, _request: Any) -> None: ...


@pytest.mark.parametrize(
    "other",
    [
        replace(CALLER, user_id=UserId("bob")),
        replace(CALLER, device_id=DeviceId("phone")),
        replace(CALLER, address="::1"),
    ],
)
async def test_each_user_device_and_address_has_a_bucket_of_its_own(store: Store, other: Any) -> None:
    road = Road(store, RateSettings(points=1))
    await road("terminal_command", COMMAND)

    assert (await road("terminal_command", COMMAND))["error"]["code"] == "rate_limited"
    assert (await road("terminal_command", COMMAND, other))["ok"]


async def test_the_local_socket_is_not_limited(store: Store) -> None:
    road = Road(store, RateSettings(points=1))
    local = replace(CALLER, local=True)

    assert all([(await road("terminal_command", COMMAND, local))["ok"] for _ in range(50)])


# clientIds


async def test_the_same_again_gets_the_first_answer_and_has_no_effect(road: Any) -> None:
    first = await road("terminal_command", COMMAND | {"clientId": "c"})
    again = await road("terminal_command", COMMAND | {"clientId": "c"})

    assert first == again and first["ok"]
    assert road.handlers.acted == 1


async def test_two_at_once_are_one(road: Any) -> None:
    road.handlers.gate.clear()
    asking = [asyncio.ensure_future(road("terminal_command", COMMAND | {"clientId": "c"})) for _ in range(5)]  # noqa: TID251  # five at once
    await asyncio.sleep(0.05)
    road.handlers.gate.set()

    answers = await asyncio.gather(*asking)

    assert answers == [answers[0]] * 5 and answers[0]["ok"]
    assert road.handlers.acted == 1


async def test_two_messages_at_once_are_one_event(road: Any) -> None:
    answers = await asyncio.gather(*(road("chat_message", MESSAGE | {"clientId": "c"}) for _ in range(5)))

    assert answers == [answers[0]] * 5 and answers[0]["seq"] == 1


async def test_a_message_sent_again_gets_the_same_answer(road: Any) -> None:
    first = await road("chat_message", MESSAGE | {"clientId": "c"})
    again = await road("chat_message", MESSAGE | {"clientId": "c"})

    assert again == first == {"ok": True, "sessionId": "s", "assistant": "none", "id": first["id"], "seq": 1}
    assert (await road("chat_message", MESSAGE))["seq"] == 2


@pytest.mark.parametrize(
    ("event", "payload", "other"),
    [
        ("terminal_command", COMMAND, {"command": "rm"}),
        ("chat_message", MESSAGE, {"content": "goodbye"}),
    ],
)
async def test_another_payload_is_a_conflict(road: Any, event: Any, payload: Any, other: Any) -> None:
    await road(event, payload | {"clientId": "c"})

    reply = await road(event, payload | other | {"clientId": "c"})

    assert reply["error"]["code"] == "conflict"
    assert road.handlers.acted <= 2


async def test_another_payload_at_the_same_time_is_a_conflict(road: Any) -> None:
    answers = await asyncio.gather(
        road("terminal_command", COMMAND | {"clientId": "c"}),
        road("terminal_command", COMMAND | {"command": "rm", "clientId": "c"}),
    )

    assert answers[0]["ok"]
    assert answers[1]["error"]["code"] == "conflict"
    assert road.handlers.acted == 1


async def test_keys_that_mean_nothing_make_no_other_payload(road: Any) -> None:
    first = await road("terminal_command", COMMAND | {"clientId": "c"})

    assert await road("terminal_command", COMMAND | {"clientId": "c", "sentAt": 5}) == first


async def test_another_device_may_choose_the_same_client_id(road: Any) -> None:
    await road("terminal_command", COMMAND | {"clientId": "c"})
    await road("terminal_command", COMMAND | {"clientId": "c"}, replace(CALLER, device_id=DeviceId("phone")))

    assert road.handlers.acted == 2


async def test_a_refusal_is_not_remembered(road: Any) -> None:
    road.handlers.failure = BusyError("full")
    assert not (await road("terminal_command", COMMAND | {"clientId": "c"}))["ok"]
    road.handlers.failure = None

    assert (await road("terminal_command", COMMAND | {"clientId": "c"}))["ok"]


@pytest.mark.parametrize("failure", [BusyError("full"), ValueError("a bug")])
async def test_whoever_asked_the_same_at_the_same_time_is_refused_alike(road: Any, failure: Any) -> None:
    road.handlers.failure = failure

    answers = await asyncio.gather(*(road("terminal_command", COMMAND | {"clientId": "c"}) for _ in range(3)))

    assert answers == [answers[0]] * 3 and not answers[0]["ok"]


async def test_after_a_crash_a_command_is_not_run_again(store: Store) -> None:
    crashed, restarted = Road(store, RateSettings()), Road(store, RateSettings())
    crashed.handlers.gate.clear()
    running = asyncio.ensure_future(crashed("terminal_command", COMMAND | {"clientId": "c"}))  # noqa: TID251  # never answered
    await until_acted(crashed)
    running.cancel()  # nothing of it can tell of its end any more

    reply = await restarted("terminal_command", COMMAND | {"clientId": "c"})

    assert reply["error"]["code"] == "conflict"
    assert reply["error"]["details"][0]["type"] == "outcome_unknown"
    assert restarted.handlers.acted == 0


async def test_after_a_crash_a_file_update_is_told_to_compare(store: Store) -> None:
    crashed, restarted = Road(store, RateSettings()), Road(store, RateSettings())
    update = {"filePath": "a", "projectId": "p", "action": "update", "content": "x", "clientId": "c"}
    crashed.handlers.failure = KeyboardInterrupt()  # type: ignore[assignment]  # as sudden as a crash can be here
    with pytest.raises(KeyboardInterrupt):
        await crashed("file_update", update)

    assert (await restarted("file_update", update))["ok"]
    assert (await restarted("file_update", update))["ok"]

    assert restarted.handlers.unknown == [True]


async def test_what_turns_out_impossible_after_a_crash_may_be_asked_again(store: Store) -> None:
    crashed, restarted = Road(store, RateSettings()), Road(store, RateSettings())
    update = {"filePath": "a", "projectId": "p", "action": "update", "content": "x", "clientId": "c"}
    crashed.handlers.failure = KeyboardInterrupt()  # type: ignore[assignment]  # as above
    with pytest.raises(KeyboardInterrupt):
        await crashed("file_update", update)
    restarted.handlers.failure = ConflictError("changed")

    assert (await restarted("file_update", update))["error"]["code"] == "conflict"
    restarted.handlers.failure = None
    assert (await restarted("file_update", update))["ok"]

    assert restarted.handlers.unknown == [True, False]


async def until_acted(road: Road) -> None:
    async with asyncio.timeout(5):
        while not road.handlers.acted:  # noqa: ASYNC110  # the handler is the only one who knows
            await asyncio.sleep(0.01)
