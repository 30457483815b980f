from claude_daemon.chat.retry import pause_s


def pauses(asked_s: float | None, *, jitter: float = 0.0, retries: int = 3) -> list[float | None]:
    return [
        pause_s(attempt, asked_s, retries=retries, longest_s=8, jitter=jitter)
        for attempt in range(1, retries + 2)
    ]


def test_pauses_double_and_then_it_gives_up() -> None:
    assert pauses(None) == [0.5, 1.0, 2.0, None]


def test_they_do_not_grow_beyond_the_longest() -> None:
    assert pauses(None, retries=6)[4:] == [8.0, 8.0, None]


def test_the_pause_that_was_asked_for_is_taken() -> None:
    assert pauses(3.0) == [3.0, 3.0, 3.0, None]


def test_a_pause_that_is_too_long_is_for_a_person_to_wait() -> None:
    assert pauses(9.0)[0] is None


def test_jitter_takes_up_to_a_quarter_off() -> None:
    assert pauses(None, jitter=1.0)[0] == 0.375


def test_asked_to_come_at_once_it_still_pauses() -> None:
    assert pauses(0.0)[0] == 0.5
