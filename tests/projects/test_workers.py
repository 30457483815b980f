"""Threads that cannot be cancelled."""

import asyncio
import threading

import pytest

from claude_daemon.projects.workers import Workers


async def test_whoever_is_cancelled_first_waits_for_the_end_of_the_work() -> None:
    workers, began, may_end, done = Workers(1), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        may_end.wait(5)
        done.set()

    task = asyncio.get_running_loop().create_task(workers.run(work))
    await asyncio.to_thread(began.wait, 5)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
    await workers.close()


async def test_a_result_or_failure_comes_back() -> None:
    workers = Workers(1)

    assert await workers.run(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        await workers.run(divmod, 1, 0)
    await workers.close()
