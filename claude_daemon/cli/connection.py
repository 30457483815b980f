"""Talking to the daemon: every way in which that fails, as a sentence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from claude_daemon.cli.failure import CommandError
from claude_daemon.client import Client, ConnectionLostError, NotRunningError, RefusedError
from claude_daemon.config import Settings, load
from claude_daemon.doctor.instance import running_instance
from claude_daemon.protocol.model import Json

NOT_RUNNING = "claude-daemon is not running; start it with: claude-daemon start"
LOST = "claude-daemon ended meanwhile; see why with: claude-daemon logs"


class DaemonOffError(CommandError):
    """There is no daemon to talk to."""


@asynccontextmanager
async def connected(settings: Settings | None = None) -> AsyncIterator[Client]:
    """A client on the local socket.  What it raises inside the block becomes a `CommandError`."""
    settings = settings or load()
    try:
        async with Client(settings.socket_path) as client:
            yield client
    except ConnectionLostError:
        raise DaemonOffError(LOST) from None
    except NotRunningError as error:
        raise _unreachable(settings, str(error)) from None
    except RefusedError as refused:
        raise CommandError(_sentence(refused)) from None
    except TimeoutError:
        raise CommandError(_unresponsive(settings)) from None


def ask(event: str, /, **fields: Any) -> Json:
    """The daemon's answer to one request."""

    async def one() -> Json:
        async with connected() as client:
            return await client.call(event, **fields)

    return asyncio.run(one())


def _unreachable(settings: Settings, why: str) -> CommandError:
    instance = running_instance(settings.folders.state)
    if instance is None:
        return DaemonOffError(NOT_RUNNING)
    return CommandError(
        f"claude-daemon (pid {instance.pid}) runs but cannot be reached at {settings.socket_path} ({why}); "
        "run this as the same user, or end it and start it again"
    )


def _unresponsive(settings: Settings) -> str:
    instance = running_instance(settings.folders.state)
    who = f"claude-daemon (pid {instance.pid})" if instance else "claude-daemon"
    remedy = f"; if that goes on: kill -9 {instance.pid}, then claude-daemon start" if instance else ""
    return f"{who} does not answer{remedy}"


def _sentence(refused: RefusedError) -> str:
    """The reason stands in the details when the message is one of the older server's."""
    if refused.code == "unauthenticated":
        return "claude-daemon runs as another user; run this command as that user"
    details = refused.error.get("details") or []
    reason = details[0].get("message") if details else None
    text = str(refused)
    return f"{text}: {reason}" if reason and reason not in text else text
