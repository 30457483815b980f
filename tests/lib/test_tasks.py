import asyncio
import logging
from itertools import pairwise

import pytest

from claude_daemon.lib import tasks
from claude_daemon.lib.tasks import Supervisor
from fakes import until


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(tasks, "LONGEST_PAUSE_S", 0.05)


async def test_a_loop_that_fails_starts_again_after_growing_pauses(short_pauses: None) -> None:
    began: list[float] = []
    enough = asyncio.Event()

    async def fragile() -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) == 5:
            enough.set()
            await asyncio.Event().wait()
        raise ValueError("broken")

    async with Supervisor() as supervisor, asyncio.timeout(5):
        supervisor.loop("fragile", fragile)
        await enough.wait()
        state = supervisor.states["fragile"]

    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert pauses[0] >= 0.02 and pauses[1] >= 0.04 and pauses[2] >= 0.05 and pauses[3] >= 0.05
    assert state == "running"


async def test_a_loop_that_failed_says_why_while_it_waits() -> None:
    async def fragile() -> None:
        raise ValueError("the cable is out")

    async with Supervisor() as supervisor:
        supervisor.loop("fragile", fragile)
        await until(lambda: supervisor.states["fragile"] != "running")

        assert supervisor.states["fragile"] == "failed (the cable is out), starts again in 0.5 s"


async def test_a_loop_that_returns_has_ended() -> None:
    async def brief() -> None: ...

    async with Supervisor() as supervisor:
        supervisor.loop("brief", brief)
        await until(lambda: supervisor.states["brief"] != "running")

        assert supervisor.states["brief"] == "ended"


async def test_an_essential_loop_that_fails_ends_everything() -> None:
    async def essential() -> None:
        raise ValueError("cannot go on")

    async with Supervisor() as supervisor, asyncio.timeout(5):
        supervisor.loop("essential", essential, essential=True)

        with pytest.raises(ValueError, match="cannot go on"):
            await supervisor.failed()


async def test_a_job_that_fails_is_logged_once_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def job() -> None:
        raise ValueError("oops")

    with caplog.at_level(logging.ERROR):
        async with Supervisor() as supervisor:
            await supervisor.spawn("job", job())

    assert [record.message for record in caplog.records] == ["job failed"]


async def test_leaving_ends_what_still_runs_and_waits_for_it() -> None:
    ended: list[str] = []

    async def long(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async with Supervisor() as supervisor:
        supervisor.loop("loop", lambda: long("loop"))
        supervisor.spawn("job", long("job"))
        await asyncio.sleep(0)

    assert sorted(ended) == ["job", "loop"]


async def test_one_job_too_many_is_refused() -> None:
    async with Supervisor(max_jobs=1) as supervisor:
        supervisor.spawn("first", asyncio.sleep(10))

        with pytest.raises(RuntimeError, match="second is one too many"):
            supervisor.spawn("second", asyncio.sleep(10))
