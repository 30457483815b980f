from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.core.service import Turn
from claude_daemon.gateway.order import Order
from claude_daemon.protocol.model import Stream

S, OTHER = Stream("session:s"), Stream("session:other")


def test_what_nobody_waits_for_passes_at_once() -> None:
    order: Order[str] = Order()

    assert order.passing(S, "event 1") == ["event 1"]
    assert order.passing(None, "status") == ["status"]
    assert order.answered(Turn(), "answer") == ["answer"]


def test_an_event_waits_for_the_answer_that_tells_of_an_older_one() -> None:
    order: Order[str] = Order()
    turn = Turn()

    assert order.hold(S, turn) == []
    assert order.passing(S, "event 2") == []

    assert order.answered(turn, "answer 1") == ["answer 1", "event 2"]
    assert order.passing(S, "event 3") == ["event 3"]


def test_other_streams_and_what_has_none_do_not_wait() -> None:
    order: Order[str] = Order()
    order.hold(S, Turn())

    assert order.passing(OTHER, "event") == ["event"]
    assert order.passing(None, "typing") == ["typing"]
    assert order.answered(Turn(), "answer") == ["answer"]


def test_an_answer_waits_for_an_older_answer() -> None:
    order: Order[str] = Order()
    first, second = Turn(), Turn()
    order.hold(S, first)
    order.hold(S, second)

    assert order.answered(second, "answer 2") == []
    assert order.answered(first, "answer 1") == ["answer 1", "answer 2"]


def test_a_request_that_is_never_answered_gives_up_its_place() -> None:
    order: Order[str] = Order()
    turn = Turn()
    order.hold(S, turn)
    order.passing(S, "event 2")

    assert order.answered(turn, None) == ["event 2"]


def test_a_request_that_publishes_twice_is_answered_with_its_last_number() -> None:
    order: Order[str] = Order()
    turn = Turn()
    order.hold(S, turn)
    order.passing(S, "event 2")

    assert order.hold(S, turn) == ["event 2"]
    assert order.passing(S, "event 4") == []
    assert order.answered(turn, "answer 3") == ["answer 3", "event 4"]


def test_work_that_goes_on_after_the_answer_holds_nothing_back() -> None:
    order: Order[str] = Order()
    turn = Turn()
    order.answered(turn, "answer")

    assert order.hold(S, turn) == []
    assert order.passing(S, "event") == ["event"]


@dataclass
class Model:
    """One socket: what goes in with its number, what came out."""

    order: Order[tuple[Stream, int, str]] = field(default_factory=Order)
    heads: dict[Stream, int] = field(default_factory=lambda: {S: 0, OTHER: 0})
    waiting: list[tuple[Turn, Stream, int]] = field(default_factory=list)
    out: list[tuple[Stream, int, str]] = field(default_factory=list)

    def next(self, stream: Stream) -> int:
        self.heads[stream] += 1
        return self.heads[stream]


@given(st.lists(st.tuples(st.sampled_from(["own", "foreign", "answer"]), st.booleans(), st.integers(0, 99))))
def test_everything_leaves_once_and_by_number(steps: Any) -> None:
    model = Model()
    for what, first_stream, choice in steps:
        stream = S if first_stream else OTHER
        if what == "foreign":
            model.out += model.order.passing(stream, (stream, model.next(stream), "event"))
        elif what == "own":
            turn = Turn()
            model.waiting.append((turn, stream, model.next(stream)))
            model.out += model.order.hold(stream, turn)
        elif model.waiting:
            turn, stream, seq = model.waiting.pop(choice % len(model.waiting))
            model.out += model.order.answered(turn, (stream, seq, "answer"))
    for turn, stream, seq in model.waiting:
        model.out += model.order.answered(turn, (stream, seq, "answer"))

    for stream, head in model.heads.items():
        assert [seq for each, seq, _ in model.out if each == stream] == list(range(1, head + 1))
    assert model.order.passing(S, (S, 0, "last")) == [(S, 0, "last")]
