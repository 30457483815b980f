from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.core.ratelimit import Window, Windows


def test_one_event_too_many_is_told_when_to_come_back() -> None:
    window = Window(points=3, duration_s=60)

    assert [window.take(now) for now in (0, 1, 2)] == [0, 0, 0]
    assert window.take(10) == 50
    assert window.take(59.5) == 0.5


def test_the_window_slides() -> None:
    window = Window(points=3, duration_s=60)
    for now in (0, 30, 50):
        window.take(now)

    assert window.take(60) == 0
    assert window.take(61) == 29


def test_what_was_refused_does_not_count() -> None:
    window = Window(points=1, duration_s=60)
    window.take(0)
    for now in range(1, 60):
        assert window.take(now) > 0

    assert window.take(60) == 0


@given(st.lists(st.floats(0, 10), max_size=100), st.integers(1, 5))
def test_no_time_as_long_as_the_window_has_more_events_than_allowed(pauses: Any, points: Any) -> None:
    window = Window(points=points, duration_s=10)
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        wait = window.take(now)
        if not wait:
            taken.append(now)
        else:
            assert 0 < wait <= 10

    for earlier, later in zip(taken, taken[points:], strict=False):
        assert later - earlier >= 10 - 1e-9


def test_coming_back_as_told_is_enough() -> None:
    window = Window(points=2, duration_s=0.3)
    window.take(0.1)
    window.take(0.2)

    wait = window.take(0.25)

    assert window.take(0.25 + wait) == 0 or window.take(0.25 + wait + 1e-9) == 0


def test_each_key_has_a_window_of_its_own() -> None:
    windows = Windows(1, 60, keys=10)

    assert windows.take("a", 0) == 0
    assert windows.take("b", 0) == 0
    assert windows.take("a", 1) == 59


def test_the_key_that_was_silent_longest_is_forgotten_first() -> None:
    windows = Windows(1, 60, keys=2)
    windows.take("a", 0)
    windows.take("b", 1)
    windows.take("a", 2)  # refused, but not silent

    windows.take("c", 3)

    assert windows.take("a", 4) > 0
    assert windows.take("b", 5) == 0
