from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.speech.text import pieces, plain


def test_control_characters_become_blanks() -> None:
    assert plain("build\x1b[31m\x00 failed\r\n\tat line 3\u202e") == "build [31m failed at line 3"


def test_a_lone_surrogate_is_left_out() -> None:
    assert plain("a\ud800b") == "a b"


def test_what_engines_take_for_commands_is_read_out() -> None:
    assert plain("<volume level='0'/>[[rate 900]] x") == "< volume level='0'/>[ [rate 900]] x"


def test_a_long_text_is_cut_between_words() -> None:
    assert pieces("one two three", 8) == ["one two", "three"]


def test_a_word_over_the_limit_is_cut_inside() -> None:
    assert pieces("x" * 10, 4) == ["xxxx", "xxxx", "xx"]


@given(st.text(max_size=300), st.integers(1, 40))
def test_pieces_are_within_the_limit_and_nothing_but_blanks_is_lost(text: str, limit: int) -> None:
    parts = pieces(plain(text), limit)

    assert all(0 < len(part) <= limit for part in parts)
    assert "".join(parts).replace(" ", "") == plain(text).replace(" ", "")
    plain(text).encode()
