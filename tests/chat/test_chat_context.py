from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.chat.backend import Turn
from claude_daemon.chat.context import Said, context


def user(text: str, message_id: str = "") -> Said:
    return Said(message_id or text, "user", text)


def assistant(text: str, to: str | None = None) -> Said:
    return Said(text, "assistant", text, to)


def all_of(*said: Said) -> list[Turn]:
    return context(said, messages=50, characters=1_000)


def test_turns_are_sent_in_order() -> None:
    assert all_of(user("hi"), assistant("hello"), user("why")) == [
        Turn("user", "hi"),
        Turn("assistant", "hello"),
        Turn("user", "why"),
    ]


def test_messages_of_one_side_become_one_turn() -> None:
    assert all_of(user("a"), user("b")) == [Turn("user", "a\n\nb")]


def test_the_first_turn_is_the_users() -> None:
    assert all_of(assistant("hello"), user("hi")) == [Turn("user", "hi")]


def test_what_the_daemon_said_and_blank_messages_are_left_out() -> None:
    said = (user("a"), Said("s", "system", "failed"), user("  "), assistant(""), user("b"))

    assert all_of(*said) == [Turn("user", "a\n\nb")]


def test_a_reply_stands_behind_the_question_that_it_answers() -> None:
    said = (user("one", "1"), user("two", "2"), assistant("to one", "1"))

    assert all_of(*said) == [Turn("user", "one"), Turn("assistant", "to one"), Turn("user", "two")]


def test_a_reply_to_a_message_that_is_no_longer_there_stays_where_it_is() -> None:
    assert all_of(user("a"), assistant("b", "gone"), user("c"))[1] == Turn("assistant", "b")


def test_when_the_assistant_spoke_last_there_is_nothing_to_answer() -> None:
    assert all_of(user("a"), assistant("b", "a")) == []
    assert all_of() == []


def test_only_the_newest_messages_are_sent() -> None:
    said = [user("a"), assistant("b"), user("c"), assistant("d"), user("e")]

    assert context(said, messages=3, characters=1_000) == [
        Turn("user", "c"),
        Turn("assistant", "d"),
        Turn("user", "e"),
    ]
    assert context(said, messages=2, characters=1_000) == [Turn("user", "e")]


def test_older_messages_make_room_and_the_newest_is_kept_whole() -> None:
    said = [user("a" * 10), assistant("b" * 10), user("c" * 10)]

    assert [turn.text[0] for turn in context(said, messages=50, characters=30)] == ["a", "b", "c"]
    assert [turn.text[0] for turn in context(said, messages=50, characters=29)] == ["c"]
    assert [len(turn.text) for turn in context(said, messages=50, characters=5)] == [10]


Role = Literal["user", "assistant", "system"]


@pytest.mark.parametrize("replies", [True, False])
@given(said=st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=9))))
def test_any_conversation_is_one_the_api_accepts(said: list[tuple[Role, str]], *, replies: bool) -> None:
    messages = [
        Said(str(n), role, text, str(n // 2) if replies and role == "assistant" else None)
        for n, (role, text) in enumerate(said)
    ]

    turns = context(messages, messages=6, characters=20)

    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"] * bool(turns)
    assert all(turn.text.strip() for turn in turns)
