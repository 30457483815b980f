"""When to ask again after a failure: a pure rule."""

FIRST_PAUSE_S = 0.5


def pause_s(
    attempt: int, asked_s: float | None, *, retries: int, longest_s: float, jitter: float
) -> float | None:
    """Seconds until the next attempt after the `attempt`-th (1, 2, …) failed; None to give up.

    `asked_s` is what the other side asked for; more than `longest_s` is for a person to wait, not for us.
    Without it the pauses double.  `jitter`, 0 to 1, takes up to a quarter off, so that many do not come
    back at the same moment.
    """
    if attempt > retries or (asked_s or 0.0) > longest_s:
        return None
    if asked_s is not None and asked_s > 0:
        return asked_s
    return min(FIRST_PAUSE_S * 2.0 ** (attempt - 1), longest_s) * (1 - 0.25 * jitter)
