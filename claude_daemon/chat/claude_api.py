"""Replies from the Claude API through Anthropic's SDK.

The SDK is an optional extra that takes two seconds to import: that happens at the first reply and in a
thread.  Its own retries are off, because it obeys any `retry-after`, be it ten minutes, without a word.
"""

import asyncio
import importlib.util
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from claude_daemon.chat.backend import BackendName, Completed, Delta, Readiness, Turn
from claude_daemon.chat.retry import pause_s
from claude_daemon.config import ChatSettings
from claude_daemon.errors import (
    AssistantRateLimitedError,
    AssistantUnavailableError,
    DaemonError,
    TimeoutExpiredError,
)

if TYPE_CHECKING:
    import anthropic

log = logging.getLogger(__name__)

NOT_INSTALLED = "the Claude API's SDK is not installed; install it with: pip install 'claude-daemon[api]'"
REFUSED_KEY = (
    "the Claude API refused the key; set CLAUDE_API_KEY to a valid one of console.anthropic.com "
    "and restart the daemon"
)
SHOWN_CHARACTERS = 300  # of what the API says about a failure
_AGAIN = frozenset({408, 409, 429})  # and everything from 500 on
_T = TypeVar("_T")


class _FailedAttemptError(Exception):
    """One request failed; `again` says whether another one could go better."""

    def __init__(self, shown: DaemonError, *, again: bool, asked_s: float | None = None) -> None:
        super().__init__(shown.message)
        self.shown = shown
        self.again = again
        self.asked_s = asked_s


class ClaudeApi:
    """An async context; leaving it closes the connections to the API."""

    name: BackendName = "claude-api"

    def __init__(self, settings: ChatSettings, api_key: str) -> None:
        self._settings = settings
        self._api_key = api_key
        self._installed = importlib.util.find_spec("anthropic") is not None
        self._loading = asyncio.Lock()
        self._client: anthropic.AsyncAnthropic | None = None
        self._failure: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            await self._client.close()

    def readiness(self) -> Readiness:
        if not self._installed:
            return Readiness(ready=False, reason=NOT_INSTALLED)
        return Readiness(ready=True, reason=self._failure)

    async def reply(self, turns: Sequence[Turn]) -> AsyncGenerator[Delta | Completed, None]:
        if not self._installed:
            raise AssistantUnavailableError(NOT_INSTALLED)
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.timeout_s
        attempt, silent = 1, True
        while True:
            try:
                async with aclosing(self._attempt(turns, deadline)) as parts:
                    async for part in parts:
                        silent = False
                        yield part
            except _FailedAttemptError as failed:
                pause = self._pause_s(attempt, failed) if failed.again and silent else None
                if pause is None or clock() + pause > deadline:
                    self._failure = failed.shown.message
                    raise failed.shown from None
                log.info("the claude api is asked again", extra={"reason": str(failed), "pause_s": pause})
            else:
                self._failure = None
                return
            await asyncio.sleep(pause)
            attempt += 1

    def _pause_s(self, attempt: int, failed: _FailedAttemptError) -> float | None:
        return pause_s(
            attempt,
            failed.asked_s,
            retries=self._settings.retries,
            longest_s=self._settings.retry_longest_s,
            jitter=random.random(),
        )

    async def _attempt(
        self, turns: Sequence[Turn], deadline: float
    ) -> AsyncGenerator[Delta | Completed, None]:
        client = await self._before(deadline, self._loaded())
        # The SDK's types of a message differ from version to version; the wire's do not.
        messages: list[Any] = [{"role": turn.role, "content": turn.text} for turn in turns]
        stream = await self._before(
            deadline,
            client.messages.create(
                model=self._settings.model,
                max_tokens=self._settings.max_tokens,
                messages=messages,
                stream=True,
            ),
        )
        usage: dict[str, int] = {}
        stop_reason: str | None = None
        try:
            while event := await self._before(deadline, anext(stream, None)):
                if event.type == "message_start":
                    usage |= _tokens(event.message.usage)
                elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                    if event.delta.text:
                        yield Delta(event.delta.text)
                elif event.type == "message_delta":
                    usage |= _tokens(event.usage)
                    stop_reason = event.delta.stop_reason or stop_reason
                elif event.type == "message_stop":
                    yield Completed(stop_reason or "end_turn", usage)
                    return
        finally:
            await stream.close()
        raise self._broken("it ended early")

    async def _before(self, deadline: float, work: Awaitable[_T]) -> _T:
        """Await one step of the SDK's; whatever it raises comes out as a failed attempt.

        The deadline is set anew for each step, because one around a `yield` would hit whoever reads.
        """
        try:
            async with asyncio.timeout_at(deadline):
                return await work
        except TimeoutError:
            raise _FailedAttemptError(
                TimeoutExpiredError(
                    f"the Claude API did not finish its reply within {self._settings.timeout_s:g} s; "
                    "send the message again"
                ),
                again=False,
            ) from None
        except Exception as error:  # noqa: BLE001  # mid-stream the HTTP library's own errors come through
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> _FailedAttemptError:
        if isinstance(error, ImportError):
            return _FailedAttemptError(AssistantUnavailableError(NOT_INSTALLED), again=False)
        import anthropic

        if isinstance(error, anthropic.APIStatusError):
            return self._refused(error.status_code, error.body, error.response.headers)
        if isinstance(error, anthropic.APIConnectionError):
            return _FailedAttemptError(
                AssistantUnavailableError(
                    f"the Claude API at {self._host} cannot be reached; check the network and send the "
                    "message again"
                ),
                again=True,
            )
        return self._broken(type(error).__name__)

    def _broken(self, how: str) -> _FailedAttemptError:
        return _FailedAttemptError(
            AssistantUnavailableError(
                f"the connection to the Claude API broke ({how}); send the message again"
            ),
            again=True,
        )

    def _refused(self, status: int, body: object, headers: Mapping[str, str]) -> _FailedAttemptError:
        """A refusal by status, or by an error event in the midst of a stream that began with 200."""
        kind, said = _described(body)
        asked_s = _retry_after_s(headers)
        asked_ms = None if asked_s is None else round(asked_s * 1_000)
        if status in {401, 403} or kind in {"authentication_error", "permission_error"}:
            return _FailedAttemptError(AssistantUnavailableError(REFUSED_KEY), again=False)
        shown: DaemonError
        if status == 429 or kind == "rate_limit_error":
            when = "later" if asked_s is None else f"in {asked_s:.0f} s"
            shown = AssistantRateLimitedError(
                f"the Claude API's rate limit is reached; send the message again {when}",
                retry_after_ms=asked_ms,
            )
        elif status == 529 or kind == "overloaded_error":
            shown = AssistantUnavailableError(
                "the Claude API is overloaded; send the message again in a minute", retry_after_ms=asked_ms
            )
        else:
            words = said.replace(self._api_key, "…")[:SHOWN_CHARACTERS] or f"status {status}"
            remedy = "; check the setting chat.model" if status == 404 else ""
            shown = AssistantUnavailableError(f"the Claude API answered: {words}{remedy}")
        again = (
            status in _AGAIN or status >= 500 or kind in {"rate_limit_error", "overloaded_error", "api_error"}
        )
        return _FailedAttemptError(shown, again=again, asked_s=asked_s)

    @property
    def _host(self) -> str:
        return urlsplit(self._settings.base_url).hostname or "api.anthropic.com"

    async def _loaded(self) -> "anthropic.AsyncAnthropic":
        async with self._loading:
            if self._client is None:
                self._client = await asyncio.to_thread(self._load)
            return self._client

    def _load(self) -> "anthropic.AsyncAnthropic":
        """In a thread: the import, and the certificates that the client reads."""
        import anthropic

        client = anthropic.AsyncAnthropic(
            api_key=self._api_key,
            base_url=self._settings.base_url or None,
            max_retries=0,
            timeout=anthropic.Timeout(self._settings.timeout_s, connect=self._settings.connect_timeout_s),
        )
        # Older SDKs send ANTHROPIC_AUTH_TOKEN along, which another program's user meant for that program.
        client.auth_token = None
        return client


def _tokens(usage: Any) -> dict[str, int]:
    """The counts that the API gives, in the wire's names.  Later ones replace earlier ones."""
    names = {
        "input_tokens": "inputTokens",
        "output_tokens": "outputTokens",
        "cache_creation_input_tokens": "cacheCreationInputTokens",
        "cache_read_input_tokens": "cacheReadInputTokens",
    }
    counts = {wire: getattr(usage, name, None) for name, wire in names.items()}
    return {wire: count for wire, count in counts.items() if isinstance(count, int)}


def _described(body: object) -> tuple[str, str]:
    """The kind and the message of an error's body `{error: {type, message}}`, as far as it has them."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("type") or ""), str(error.get("message") or "")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None
