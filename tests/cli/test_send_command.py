"""send and notify, without an assistant and with one that is slow, fails, or breaks off."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon import Daemon, running
from fakes import OVERLOADED, UNAUTHENTICATED, FakeMessagesApi, Written

KEY = "sk-ant-test-key"


def test_without_an_assistant_nobody_answers_and_it_says_so(daemon: Daemon) -> None:
    done = daemon.cli("send", "alone", "hello?")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "said in alone; no assistant is set up, so nobody answers\n"


def test_what_was_sent_is_printed_as_json(daemon: Daemon) -> None:
    sent = daemon.json("send", "as json", "hello")

    assert sent == {"id": sent["id"], "seq": 1, "sessionId": "as json", "assistant": "none"}


@pytest.mark.parametrize("text", ["", "x" * 10_001])
def test_a_text_of_the_wrong_length_is_refused_with_the_reason(daemon: Daemon, text: str) -> None:
    done = daemon.cli("send", "s", text)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Invalid message format: ")
    assert '"content"' in done.stderr


def test_a_notification_says_whether_it_is_spoken(daemon: Daemon) -> None:
    sent = daemon.json("notify", "build is done", "--type", "success", "--urgent")

    assert set(sent) == {"id", "seq", "spoken"}
    assert "shown on every device" in daemon.cli("notify", "again").stdout
    assert daemon.cli("notify", "x", "--type", "rumour").returncode == 2


@pytest.fixture
async def api() -> AsyncIterator[FakeMessagesApi]:
    async with FakeMessagesApi() as api:
        yield api


async def cli(daemon: Daemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Off this loop, on which the assistant's fake answers."""
    return await asyncio.to_thread(daemon.cli, *arguments)


async def test_the_assistant_s_answer_is_printed_as_it_is_written(
    api: FakeMessagesApi, tmp_path: Path
) -> None:
    with running(tmp_path / "home", CLAUDE_API_KEY=KEY, ANTHROPIC_BASE_URL=api.url) as daemon:
        go_on = asyncio.Event()
        api.script.append(Written("Hello ", go_on, "from \x1b[2Jthe fake."))
        send = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "claude_daemon", "send", "s", "hello"),
            env=daemon._environment,
            stdout=asyncio.subprocess.PIPE,
        )
        assert send.stdout is not None
        async with asyncio.timeout(10):
            assert await send.stdout.read(100) == b"Hello "  # the rest is not even written yet
            go_on.set()
            assert await send.stdout.read() == b"from \\x1b[2Jthe fake.\n"
            assert await send.wait() == 0

        api.script.append(Written("Second."))
        document = json.loads((await cli(daemon, "send", "s", "again", "--json")).stdout)
        assert document["reply"]["content"] == "Second."
        assert document["reply"]["metadata"]["inReplyTo"] == document["id"]

        api.script.append(Written("Third."))
        assert (await cli(daemon, "send", "s", "once more", "--no-wait")).stdout == "said in s\n"


async def test_an_assistant_that_fails_is_one_sentence(api: FakeMessagesApi, tmp_path: Path) -> None:
    settings = {"CLAUDE_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url, "CLAUDE_DAEMON_CHAT_RETRIES": "0"}
    with running(tmp_path / "home", **settings) as daemon:
        api.script.append(UNAUTHENTICATED)
        refused = await cli(daemon, "send", "s", "hello")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("the assistant did not answer: ")
        assert refused.stderr.count("\n") == 1

        api.script.append(OVERLOADED)
        document = await cli(daemon, "send", "s", "hello", "--json")
        assert document.returncode == 1
        assert json.loads(document.stdout)["reply"]["role"] == "system"

        api.script.append(Written("It broke ", end="error"))
        broken = await cli(daemon, "send", "s", "hello")
        assert (broken.returncode, broken.stdout) == (1, "It broke \n")
        assert broken.stderr.startswith("the assistant did not answer: ")
