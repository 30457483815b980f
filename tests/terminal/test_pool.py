import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.errors import BusyError
from claude_daemon.terminal.pool import Pool


def test_as_many_run_at_once_as_there_are_slots() -> None:
    pool = Pool(slots=2, queue=5)

    assert [pool.enter(name) for name in "abcd"] == [0, 0, 1, 2]
    assert (pool.running, pool.queued) == (2, 2)


def test_who_came_first_runs_first() -> None:
    pool = Pool(slots=1, queue=5)
    for name in "abc":
        pool.enter(name)

    assert [pool.leave("a"), pool.leave("b"), pool.leave("c")] == ["b", "c", None]
    assert (pool.running, pool.queued) == (0, 0)


def test_a_full_queue_refuses() -> None:
    pool = Pool(slots=1, queue=1)
    pool.enter("a")
    pool.enter("b")

    with pytest.raises(BusyError, match="1 commands run and 1 wait"):
        pool.enter("c")


def test_one_that_waits_no_longer_starts_nobody() -> None:
    pool = Pool(slots=1, queue=5)
    for name in "abc":
        pool.enter(name)

    assert pool.leave("b") is None
    assert pool.leave("a") == "c"


@given(st.lists(st.integers(0, 9)), st.integers(1, 3), st.integers(1, 3))
def test_no_slot_stays_empty_while_somebody_waits(steps: list[int], slots: int, queue: int) -> None:
    pool = Pool(slots=slots, queue=queue)
    inside: list[str] = []
    for number, step in enumerate(steps):
        if step < 6:
            try:
                pool.enter(str(number))
            except BusyError:
                assert len(inside) == slots + queue
            else:
                inside.append(str(number))
        elif inside:
            pool.leave(inside.pop(step % len(inside)))

        assert pool.running == min(slots, len(inside))
        assert pool.running + pool.queued == len(inside)
