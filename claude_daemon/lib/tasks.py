"""The one place where tasks are made.

A *loop* runs for as long as the daemon and is restarted with growing pauses when it fails; an essential
loop's failure ends the daemon instead.  A *job* is short work that something started and nobody awaits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
CALM_S = 120.0  # a loop that ran this long without failing starts over with the first pause


class Supervisor:
    """An async context; leaving it cancels what still runs and waits for it."""

    def __init__(self, *, max_jobs: int = 10_000) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._max_jobs = max_jobs
        self._failed: asyncio.Future[None] | None = None
        self.states: dict[str, str] = {}
        """Each loop's name to `running` or a sentence about its last failure."""

    async def __aenter__(self) -> Self:
        self._failed = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failed and self._failed.done():
            self._failed.exception()

    def loop(self, name: str, serve: Callable[[], Awaitable[None]], *, essential: bool = False) -> None:
        """Keep `serve` running under `name`; a plain return ends it for good."""
        self.states[name] = "running"
        self._start(self._keep(name, serve, essential=essential), name)

    def spawn(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Run short work.  Its failure is logged once and goes no further."""
        if len(self._tasks) >= self._max_jobs:
            work.close()
            raise RuntimeError(f"{len(self._tasks)} tasks are running; {name} is one too many")
        task = self._start(self._job(name, work), name)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before its first step
        return task

    async def failed(self) -> None:
        """Return never; raise what ended an essential loop."""
        assert self._failed is not None
        await asyncio.shield(self._failed)

    def _start(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _job(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception:
            log.exception("job failed", extra={"job": name})

    async def _keep(self, name: str, serve: Callable[[], Awaitable[None]], *, essential: bool) -> None:
        pause = FIRST_PAUSE_S
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await serve()
            except Exception as error:
                if essential:
                    assert self._failed is not None
                    if not self._failed.done():
                        self._failed.set_exception(error)
                    return
                if clock() - began > CALM_S:
                    pause = FIRST_PAUSE_S
                self.states[name] = f"failed ({error}), starts again in {pause:g} s"
                log.exception("loop failed", extra={"loop": name, "pause_s": pause})
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
                self.states[name] = "running"
            else:
                self.states[name] = "ended"
                return
