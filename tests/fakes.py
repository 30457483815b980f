"""Hand-written stand-ins for what a test cannot have: a loudspeaker, and Anthropic's servers.

Both are real to the code under test: the player is a process, the API a server on a socket.
"""

import asyncio
import json
import shlex
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from claude_daemon.core.delivery import Delivery
from claude_daemon.core.service import Caller
from claude_daemon.protocol.model import SCOPES, DeviceId, Stream, UserId

_RECORDING_PLAYER = """\
import pathlib, shutil, sys, time
source = pathlib.Path(sys.argv[-1])
if source.name != "silence.wav":  # the probe's
    target = pathlib.Path(sys.argv[1]) / f"{time.monotonic_ns()}.wav"
    shutil.copy(source, target.with_suffix(".part"))
    target.with_suffix(".part").rename(target)
"""


async def until(condition: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Wait for what another process does.  Raises `TimeoutError`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # nothing in this process could set an event
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether no such process runs; a zombie that only waits to be reaped does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Loudspeaker:
    """A player that plays into `folder`; `command` is for the setting `speech.player`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        script = folder / "player.py"
        script.write_text(_RECORDING_PLAYER, "utf-8")
        self.command = shlex.join([sys.executable, "-S", str(script), str(folder)])

    def played(self) -> list[Path]:
        """The sound files played so far, in order, without the probes' silence."""
        return sorted(self._folder.glob("*.wav"))


class Socket:
    """A client's socket as the core sees it, keeping what it was offered."""

    def __init__(self, device_id: str = "laptop") -> None:
        self.device_id = DeviceId(device_id)
        self.closed = False
        self.congested = False
        self.events: list[tuple[str, dict[str, Any]]] = []
        """Name and payload of everything offered, in order."""
        self.caller = Caller(UserId("ada"), self.device_id, frozenset(SCOPES), "127.0.0.1", connection=self)

    def offer(self, delivery: Delivery) -> None:
        mine = delivery.carries_client_id(self.device_id)
        self.events.append((delivery.name, json.loads(delivery.payload(with_client_id=mine))))

    def hold(self, stream: Stream, turn: object) -> None:
        """Answers are no business of this one: a test gets them from the dispatcher."""

    async def drained(self) -> None:
        await until(lambda: not self.congested)

    def heard(self, name: str) -> list[dict[str, Any]]:
        return [payload for event, payload in self.events if event == name]


@dataclass(frozen=True)
class ToolUse:
    """A block of a reply in which the assistant asks for a tool."""

    name: str
    input: dict[str, Any]
    id: str = "toolu_fake"


class Written:
    """A reply of the API: pieces of text, pauses in seconds, events to wait for, tools to use."""

    def __init__(
        self,
        *parts: str | float | asyncio.Event | ToolUse,
        end: Literal["stop", "error", "drop", "silence", "cut"] = "stop",
        stop_reason: str = "end_turn",
        input_tokens: int = 12,
        error: str = "overloaded_error",
    ) -> None:
        """`end`: whole; an error event; the connection breaks; nothing more comes; just cut off."""
        self.parts = parts
        self.end = end
        self.stop_reason = stop_reason
        self.input_tokens = input_tokens
        self.error = error

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def output_tokens(self) -> int:
        return len(self.text.split())


@dataclass(frozen=True)
class Refused:
    """An HTTP answer that is no reply."""

    status: int
    kind: str
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


class NeverAnswers:
    """The connection stands and nothing comes."""


class Drops:
    """The connection breaks before an answer."""


Step = Written | Refused | NeverAnswers | Drops

RATE_LIMITED = Refused(429, "rate_limit_error", headers={"retry-after": "30"})
OVERLOADED = Refused(529, "overloaded_error")
UNAUTHENTICATED = Refused(401, "authentication_error", "invalid x-api-key")


class FakeMessagesApi:
    """Anthropic's Messages API on loopback: an async context; each request takes the next scripted step.

    Streams as the API does when asked to, and answers in one piece when not, so the real SDK and the
    real Claude Code can talk to it.
    """

    def __init__(self, *script: Step) -> None:
        self.script: deque[Step] = deque(script)
        self.default: Step = Written("Hello ", "from the fake.")
        """For requests beyond the script."""
        self.requests: list[dict[str, Any]] = []
        """The bodies received."""
        self.headers: list[dict[str, str]] = []
        self.open = 0
        """Requests that are being answered."""
        self.url = ""
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        await self._runner.cleanup()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        step = self.script.popleft() if self.script else self.default
        self.open += 1
        try:
            return await self._answer(request, body, step)
        finally:
            self.open -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any], step: Step) -> web.StreamResponse:
        if isinstance(step, Written):
            if body.get("stream"):
                return await self._stream(request, body["model"], step)
            return web.json_response(_message(body["model"], step, content=_blocks(step)))
        if isinstance(step, Refused):
            error = {"type": "error", "error": {"type": step.kind, "message": step.message}}
            return web.json_response(error, status=step.status, headers=step.headers)
        if isinstance(step, NeverAnswers):
            await self._closing.wait()
        _drop(request)
        return web.Response()

    async def _stream(self, request: web.Request, model: str, step: Written) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)

        async def send(kind: str, **data: Any) -> None:
            await response.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode())

        await send("message_start", message=_message(model, step, content=[]))
        await send("ping")
        index, block = -1, ""
        for part in step.parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
                continue
            if isinstance(part, (int, float)):
                await asyncio.sleep(part)
                continue
            kind = "text" if isinstance(part, str) else "tool_use"
            if block != "text" or kind != "text":
                if block:
                    await send("content_block_stop", index=index)
                index, block = index + 1, kind
                await send("content_block_start", index=index, content_block=_begun(part))
            await send("content_block_delta", index=index, delta=_delta(part))
        if step.end != "stop":
            await self._end_badly(request, step, send)
            return response
        if block:
            await send("content_block_stop", index=index)
        await send(
            "message_delta",
            delta={"stop_reason": step.stop_reason, "stop_sequence": None},
            usage={"output_tokens": step.output_tokens},
        )
        await send("message_stop")
        return response

    async def _end_badly(self, request: web.Request, step: Written, send: Callable[..., Any]) -> None:
        if step.end == "error":
            await send("error", error={"type": step.error, "message": "Overloaded"})
        elif step.end == "silence":
            await self._closing.wait()
        elif step.end == "drop":
            _drop(request)

    async def _count(self, request: web.Request) -> web.Response:
        return web.json_response({"input_tokens": len(await request.text()) // 4})


def _drop(request: web.Request) -> None:
    assert request.transport
    request.transport.abort()


def _message(model: str, step: Written, *, content: list[dict[str, Any]]) -> dict[str, Any]:
    """The message object; with content it is a whole one, without it a stream's first event."""
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": step.stop_reason if content else None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": step.input_tokens,
            "output_tokens": step.output_tokens if content else 1,
        },
    }


def _blocks(step: Written) -> list[dict[str, Any]]:
    tools = [part for part in step.parts if isinstance(part, ToolUse)]
    return [{"type": "text", "text": step.text}] + [{**_begun(tool), "input": tool.input} for tool in tools]


def _begun(part: str | ToolUse) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": ""}
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}


def _delta(part: str | ToolUse) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text_delta", "text": part}
    return {"type": "input_json_delta", "partial_json": json.dumps(part.input)}
