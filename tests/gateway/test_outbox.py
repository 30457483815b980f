from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.config import ServerSettings
from claude_daemon.gateway.outbox import Outbox

SETTINGS = ServerSettings(outbox_packets=8, outbox_bytes=1_000, outbox_grace_s=5)


def filled(packets: int, size: int = 1, *, at: float = 0) -> Outbox:
    outbox = Outbox(SETTINGS)
    for _ in range(packets):
        outbox.add(size, at)
    return outbox


def test_a_client_that_reads_never_overflows() -> None:
    outbox = Outbox(SETTINGS)

    for second in range(100):
        outbox.add(900, second)
        assert not outbox.overflowing(second)
        outbox.drain(900)
    assert not outbox.congested


def test_too_many_packets_are_borne_for_the_grace_time() -> None:
    outbox = filled(8)

    outbox.add(1, now=10)

    assert not outbox.overflowing(14.9)
    assert outbox.overflowing(15)


def test_too_many_bytes_are_borne_for_the_grace_time() -> None:
    outbox = filled(1, 1_001, at=10)

    assert not outbox.overflowing(14.9)
    assert outbox.overflowing(15)


def test_who_catches_up_within_the_grace_time_begins_anew() -> None:
    outbox = filled(9, at=10)
    outbox.drain(1)

    outbox.add(1, now=16)

    assert not outbox.overflowing(20.9)
    assert outbox.overflowing(21)


def test_twice_the_bytes_are_borne_by_nobody() -> None:
    outbox = filled(1, 1_500, at=10)

    outbox.add(500, now=10)
    assert not outbox.overflowing(10)
    outbox.add(1, now=10)
    assert outbox.overflowing(10)


def test_from_a_quarter_on_whoever_produces_a_lot_should_pause() -> None:
    assert not filled(2).congested
    assert filled(3).congested
    assert not filled(1, 250).congested
    assert filled(1, 251).congested


@given(st.lists(st.integers(1, 600), max_size=50), st.data())
def test_whatever_went_in_and_out_is_counted(sizes: Any, data: Any) -> None:
    outbox = Outbox(SETTINGS)
    inside: list[int] = []
    for size in sizes:
        outbox.add(size, 0)
        inside.append(size)
        if data.draw(st.booleans()):
            outbox.drain(inside.pop(0))

    assert outbox.congested == (len(inside) > 2 or sum(inside) > 250)
    assert outbox.over == (len(inside) > 8 or sum(inside) > 1_000)
    assert outbox.overflowing(0) == (sum(inside) > 2_000)
    assert outbox.overflowing(5) == outbox.over
