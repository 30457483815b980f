import asyncio
import logging
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from claude_daemon.chat.backend import Completed, Delta, Turn
from claude_daemon.chat.claude_api import NOT_INSTALLED, ClaudeApi
from claude_daemon.config import ChatSettings
from claude_daemon.errors import (
    AssistantRateLimitedError,
    AssistantUnavailableError,
    DaemonError,
    TimeoutExpiredError,
)
from fakes import (
    OVERLOADED,
    RATE_LIMITED,
    UNAUTHENTICATED,
    Drops,
    FakeMessagesApi,
    NeverAnswers,
    Refused,
    Step,
    ToolUse,
    Written,
    until,
)

KEY = "sk-ant-very-secret-0123456789"
QUESTION = [Turn("user", "Hi?")]


@pytest.fixture
async def api() -> AsyncIterator[FakeMessagesApi]:
    async with FakeMessagesApi() as it:
        yield it


async def replied(
    api: FakeMessagesApi, *script: Step, turns: Sequence[Turn] = QUESTION, **settings: Any
) -> list[Delta | Completed]:
    api.script.extend(script)
    async with backend(api, **settings) as claude:
        return [part async for part in claude.reply(turns)]


def backend(api: FakeMessagesApi, **settings: Any) -> ClaudeApi:
    return ClaudeApi(
        ChatSettings(**{"base_url": api.url, "retries": 0, "timeout_s": 5.0, **settings}),
        KEY,
    )


async def failure(api: FakeMessagesApi, *script: Step, **settings: Any) -> DaemonError:
    with pytest.raises(DaemonError) as caught:
        await replied(api, *script, **settings)
    assert KEY not in str(caught.value)
    return caught.value


async def test_the_default_model_is_not_about_to_be_retired(api: FakeMessagesApi) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)

        await replied(api)


async def test_a_reply_comes_in_pieces_and_ends_with_its_usage(api: FakeMessagesApi) -> None:
    assert await replied(api, Written("Hel", "lo.", input_tokens=7)) == [
        Delta("Hel"),
        Delta("lo."),
        Completed("end_turn", {"inputTokens": 7, "outputTokens": 1}),
    ]


async def test_pieces_come_as_they_are_written(api: FakeMessagesApi) -> None:
    more = asyncio.Event()
    api.script.append(Written("Hel", more, "lo."))
    async with backend(api) as claude, aclosing(claude.reply(QUESTION)) as parts:
        assert await anext(parts) == Delta("Hel")
        more.set()
        assert await anext(parts) == Delta("lo.")


async def test_the_request_is_what_was_said_and_set(api: FakeMessagesApi) -> None:
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")]

    await replied(api, turns=turns, max_tokens=99)

    assert api.requests[0]["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert api.requests[0]["max_tokens"] == 99
    assert api.requests[0]["model"] == ChatSettings().model
    assert KEY in " ".join(api.headers[0].values())


async def test_a_key_of_another_program_in_the_environment_is_not_sent(
    api: FakeMessagesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-other")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "other-token")

    await replied(api)

    assert "other" not in " ".join(api.headers[0].values())


async def test_a_reply_cut_by_its_length_says_so(api: FakeMessagesApi) -> None:
    assert (await replied(api, Written("Hel", stop_reason="max_tokens")))[-1] == Completed(
        "max_tokens", {"inputTokens": 12, "outputTokens": 1}
    )


async def test_an_empty_reply_is_one(api: FakeMessagesApi) -> None:
    assert await replied(api, Written(stop_reason="refusal")) == [
        Completed("refusal", {"inputTokens": 12, "outputTokens": 0})
    ]


async def test_blocks_that_are_no_text_are_passed_over(api: FakeMessagesApi) -> None:
    parts = await replied(api, Written("a", ToolUse("Bash", {"command": "ls"}), "b"))

    assert parts[:-1] == [Delta("a"), Delta("b")]


async def test_a_wrong_key_is_named_with_the_remedy_and_not_tried_again(api: FakeMessagesApi) -> None:
    error = await failure(api, UNAUTHENTICATED, retries=2)

    assert type(error) is AssistantUnavailableError
    assert "refused the key; set CLAUDE_API_KEY to a valid one" in error.message
    assert len(api.requests) == 1


async def test_a_long_rate_limit_is_said_at_once_and_not_waited_for(api: FakeMessagesApi) -> None:
    error = await failure(api, RATE_LIMITED, retries=2)

    assert type(error) is AssistantRateLimitedError
    assert error.extra == {"retryAfterMs": 30_000}
    assert "send the message again in 30 s" in error.message
    assert len(api.requests) == 1


async def test_a_short_rate_limit_is_waited_for(api: FakeMessagesApi) -> None:
    short = Refused(429, "rate_limit_error", headers={"retry-after": "0.05"})

    parts = await replied(api, short, short, Written("Hi."), retries=2)

    assert parts[0] == Delta("Hi.")
    assert len(api.requests) == 3


async def test_an_overloaded_api_is_asked_again_and_then_named(api: FakeMessagesApi) -> None:
    soon = {"retry-after": "0.05"}
    overloaded = Refused(529, "overloaded_error", headers=soon)

    error = await failure(api, overloaded, overloaded, retries=1)

    assert type(error) is AssistantUnavailableError
    assert "overloaded" in error.message
    assert len(api.requests) == 2


async def test_overloaded_without_a_word_of_when(api: FakeMessagesApi) -> None:
    error = await failure(api, OVERLOADED)

    assert error.extra == {}


async def test_what_the_api_says_of_a_bad_request_is_passed_on_without_the_key(api: FakeMessagesApi) -> None:
    error = await failure(api, Refused(400, "invalid_request_error", f"credit balance too low for {KEY}"))

    assert error.message == "the Claude API answered: credit balance too low for …"
    assert error.code == "assistant_unavailable"


async def test_an_unknown_model_names_the_setting(api: FakeMessagesApi) -> None:
    error = await failure(api, Refused(404, "not_found_error", "model: claude-none"), retries=2)

    assert error.message == "the Claude API answered: model: claude-none; check the setting chat.model"
    assert len(api.requests) == 1


async def test_an_error_in_the_midst_of_a_reply_ends_it(api: FakeMessagesApi) -> None:
    api.script.append(Written("Hel", end="error"))
    async with backend(api, retries=2) as claude:
        parts = claude.reply(QUESTION)

        assert await anext(parts) == Delta("Hel")
        with pytest.raises(AssistantUnavailableError, match="overloaded"):
            await anext(parts)

    assert len(api.requests) == 1


async def test_a_stream_that_fails_before_its_first_word_is_asked_for_again(api: FakeMessagesApi) -> None:
    parts = await replied(api, Written(end="error"), Written("Hi."), retries=1)

    assert parts[0] == Delta("Hi.")


@pytest.mark.parametrize("step", [Drops(), Written("Hel", end="drop"), Written("Hel", end="cut")])
async def test_a_broken_connection_is_a_sentence(api: FakeMessagesApi, step: Step) -> None:
    error = await failure(api, step)

    assert type(error) is AssistantUnavailableError
    assert "send the message again" in error.message


async def test_a_refused_connection_names_the_host(api: FakeMessagesApi) -> None:
    async with FakeMessagesApi() as gone:
        pass
    error = await failure(gone)

    assert error.message.startswith("the Claude API at 127.0.0.1 cannot be reached; check the network")


@pytest.mark.parametrize("step", [NeverAnswers(), Written("Hel", end="silence")])
async def test_silence_ends_at_the_deadline(api: FakeMessagesApi, step: Step) -> None:
    began = asyncio.get_running_loop().time()

    error = await failure(api, step, timeout_s=0.3)

    assert type(error) is TimeoutExpiredError
    assert asyncio.get_running_loop().time() - began < 1.3
    await until(lambda: api.open == 0, within_s=1)


async def test_retries_do_not_outlast_the_deadline(api: FakeMessagesApi) -> None:
    later = Refused(429, "rate_limit_error", headers={"retry-after": "2"})
    began = asyncio.get_running_loop().time()

    error = await failure(api, later, later, timeout_s=1.0, retries=5)

    assert type(error) is AssistantRateLimitedError
    assert asyncio.get_running_loop().time() - began < 1


async def test_closing_the_reply_ends_the_request(api: FakeMessagesApi) -> None:
    api.script.append(Written("Hel", asyncio.Event(), "lo"))
    async with backend(api) as claude:
        async with aclosing(claude.reply(QUESTION)) as parts:
            assert await anext(parts) == Delta("Hel")
            assert api.open == 1

        await until(lambda: api.open == 0, within_s=1)


async def test_cancelling_the_task_ends_the_request(api: FakeMessagesApi) -> None:
    api.script.append(NeverAnswers())
    async with backend(api) as claude:
        async with asyncio.TaskGroup() as group:
            replying = group.create_task(collected(claude))
            await until(lambda: api.open)
            replying.cancel()

        await until(lambda: api.open == 0, within_s=1)


async def test_the_last_failure_stays_readable_until_a_reply_succeeds(api: FakeMessagesApi) -> None:
    api.script.extend([UNAUTHENTICATED, Written("Hi.")])
    async with backend(api) as claude:
        assert claude.readiness().reason is None
        with pytest.raises(AssistantUnavailableError):
            await anext(claude.reply(QUESTION))
        assert "refused the key" in (claude.readiness().reason or "")
        assert claude.readiness().ready

        async for _ in claude.reply(QUESTION):
            pass
        assert claude.readiness().reason is None


async def test_the_key_is_in_no_log(api: FakeMessagesApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for step in (UNAUTHENTICATED, OVERLOADED, Drops(), Written("a", end="error")):
        await failure(api, step)

    assert caplog.text
    assert KEY not in caplog.text


async def test_many_replies_at_once_do_not_mix(api: FakeMessagesApi) -> None:
    api.default = Written("a", 0.05, "b")
    async with backend(api) as claude, asyncio.TaskGroup() as group:
        tasks = [group.create_task(collected(claude)) for _ in range(8)]

    assert [task.result() for task in tasks] == ["ab"] * 8


async def collected(claude: ClaudeApi) -> str:
    return "".join([part.text async for part in claude.reply(QUESTION) if isinstance(part, Delta)])


async def test_without_the_sdk_it_is_not_ready_and_says_what_to_install(
    api: FakeMessagesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    claude = backend(api)

    assert not claude.readiness().ready
    assert "pip install 'claude-daemon[api]'" in (claude.readiness().reason or "")
    with pytest.raises(AssistantUnavailableError, match="SDK is not installed"):
        await anext(claude.reply(QUESTION))


async def test_an_sdk_that_cannot_be_imported_is_as_good_as_none(
    api: FakeMessagesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())

    assert (await failure(api)).message == NOT_INSTALLED


def test_importing_the_backend_does_not_import_the_sdk() -> None:
    code = "import sys, claude_daemon.chat.claude_api; print('anthropic' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


# In a process of its own, because here the SDK is imported already.
LAG = """
import asyncio, sys
from claude_daemon.chat.backend import Turn
from claude_daemon.chat.claude_api import ClaudeApi
from claude_daemon.config import ChatSettings
from claude_daemon.errors import DaemonError

async def main():
    claude = ClaudeApi(ChatSettings(base_url="http://127.0.0.1:1", retries=0), "key")
    worst = 0.0
    async def watch():
        nonlocal worst
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await asyncio.sleep(0.005)
            worst = max(worst, clock() - began - 0.005)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await asyncio.sleep(0.02)
        try:
            await anext(claude.reply([Turn("user", "Hi?")]))
        except DaemonError:
            pass
        await asyncio.sleep(0.02)
        watching.cancel()
    assert "anthropic" in sys.modules
    print(worst)

asyncio.run(main())
"""


def test_the_first_reply_does_not_hold_up_the_loop() -> None:
    worst_s = float(subprocess.check_output([sys.executable, "-c", LAG], text=True))

    assert worst_s < 0.5
