"""The one road in: name → rate → decode → scope → once → handler.

The rate comes before decoding, so that a flood of malformed events costs the daemon next to nothing.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec

from claude_daemon.config import RateSettings
from claude_daemon.core.hub import RepeatedError
from claude_daemon.core.log import Once, OnceKey, ReusedClientIdError
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.ratelimit import Windows
from claude_daemon.core.service import Answer, Caller, Handler, OnceHandler, R
from claude_daemon.errors import (
    DaemonError,
    ForbiddenError,
    InvalidError,
    OutcomeUnknownError,
    RateLimitedError,
)
from claude_daemon.protocol.codec import accepted, decode, encode, refused, spec_of
from claude_daemon.protocol.model import Budget, Json, Request, RequestSpec, wire_name

log = logging.getLogger(__name__)

# How much larger than RATE_LIMIT_POINTS each kind's own budget is.
BUDGETS: dict[Budget, int] = {"events": 1, "joins": 2, "typing": 20}


class InternalError(DaemonError):
    """A bug of ours: logged in full once, told in a word."""

    def __init__(self) -> None:
        super().__init__("the daemon failed at this; its log has the details (claude-daemon logs)")


class Dispatcher:
    """Admits, decodes and answers every request of every client."""

    def __init__(
        self,
        once: Once,
        metrics: Metrics,
        rate: RateSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remembered = once
        self._metrics = metrics
        self._clock = clock
        self._handlers: dict[str, OnceHandler[Any]] = {}
        self._windows = {
            budget: Windows(rate.points * factor, rate.duration_s, keys=rate.sources)
            for budget, factor in BUDGETS.items()
        }
        self._under_way: dict[tuple[str, str, str], tuple[bytes, asyncio.Future[Answer]]] = {}

    def on(self, kind: type[R], handler: Handler[R]) -> None:
        """Let `handler` answer requests of one kind.  It returns the ack's fields or raises DaemonError."""

        async def answer(caller: Caller, request: R, _key: OnceKey | None) -> Answer:
            return await handler(caller, request)

        self._handlers[wire_name(kind)] = answer

    def on_once(self, kind: type[R], handler: OnceHandler[R]) -> None:
        """As `on`, for a handler that takes the key of a request with a clientId.

        With `once="append"` it stores the key along with its event; with `once="compare"` it looks, when
        `key.unknown`, whether an earlier attempt already had its effect.
        """
        self._handlers[wire_name(kind)] = handler

    async def __call__(self, caller: Caller, name: object, payload: object) -> Json:
        """The ack: `{ok: true, …}` or `{ok: false, error}`.  Never raises but for cancellation."""
        began = self._clock()
        event = name if isinstance(name, str) else ""
        try:
            try:
                spec = spec_of(name)
            except InvalidError:
                self._admit(caller, "events")
                raise
            self._admit(caller, spec.budget)
            reply = accepted(await self._answer(caller, spec, decode(spec, payload)))
        except DaemonError as error:
            self._metrics.refused(error.code)
            return refused(error, event)
        except Exception:
            log.exception("handler failed", extra={"event": event})
            self._metrics.refused("internal")
            return refused(InternalError(), event)
        self._metrics.answered(self._clock() - began)
        return reply

    def _admit(self, caller: Caller, budget: Budget) -> None:
        if caller.local:
            return
        key = (caller.user_id, caller.device_id, caller.address)
        wait = self._windows[budget].take(key, self._clock())
        if wait:
            raise RateLimitedError(max(1, round(wait * 1_000)))

    async def _answer(self, caller: Caller, spec: RequestSpec, request: Request) -> Answer:
        if spec.scope not in caller.scopes:
            raise ForbiddenError(
                f"{spec.name} needs the scope {spec.scope!r}, which this device does not have"
            )
        handler = self._handlers[spec.name]
        client_id: str | None = getattr(request, "client_id", None)
        if client_id is None:
            return await handler(caller, request, None)
        key = OnceKey(caller.device_id, spec.name, client_id, _fingerprint(request))
        return await self._once(spec, key, lambda key: handler(caller, request, key))

    async def _once(
        self, spec: RequestSpec, key: OnceKey, act: Callable[[OnceKey], Awaitable[Answer]]
    ) -> Answer:
        """Do it the first time; the second time, or at the same time, give the first answer."""
        name = (key.device_id, key.event, key.client_id)
        if earlier := self._under_way.get(name):
            fingerprint, outcome = earlier
            if fingerprint != key.fingerprint:
                raise ReusedClientIdError(key.client_id)
            return await asyncio.shield(outcome)
        outcome = asyncio.get_running_loop().create_future()
        self._under_way[name] = (key.fingerprint, outcome)
        try:
            reply = await self._first(spec, key, act)
        except Exception as error:
            outcome.set_exception(error)
            outcome.exception()  # retrieved, should nobody wait for it
            raise
        except BaseException:
            outcome.cancel()
            raise
        else:
            outcome.set_result(reply)
            return reply
        finally:
            del self._under_way[name]

    async def _first(
        self, spec: RequestSpec, key: OnceKey, act: Callable[[OnceKey], Awaitable[Answer]]
    ) -> Answer:
        if spec.once == "append":
            try:
                return await act(key)
            except RepeatedError as repeated:
                return repeated.reply
        try:
            earlier = await self._remembered.claim(key)
        except OutcomeUnknownError:
            if spec.once != "compare":
                raise
            earlier, key = None, replace(key, unknown=True)
        if earlier is not None:
            return earlier
        try:
            reply = await act(key)
        except DaemonError:
            await self._remembered.undone(key)
            raise
        await self._remembered.done(key, msgspec.to_builtins(reply) or {})
        return reply


def _fingerprint(request: Request) -> bytes:
    return hashlib.blake2b(encode(request), digest_size=16).digest()
