"""The pure rules of printing: safe text, amounts in words, events as lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.cli.feed import readable
from claude_daemon.cli.text import lines, one_line
from claude_daemon.cli.words import duration, moment, size

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31mred\u202eevil\r\nnext\tend"


def test_what_commands_a_terminal_is_written_out() -> None:
    assert one_line(HOSTILE) == (r"\x1b]0;owned\x07\x1b[2J\x9b31mred\u202eevil\r\nnext\tend")
    assert lines("first\r\nsecond\x1b[0m\tend") == "first\nsecond\\x1b[0m\tend"


def test_people_s_own_characters_stay() -> None:
    text = "Zoë 日本語 👩\u200d👧 क्\u200cष a\u00a0b"

    assert one_line(text) == text


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    assert not [each for each in one_line(text) if ord(each) < 32 or 0x7F <= ord(each) < 0xA0]
    assert not [each for each in lines(text) if (ord(each) < 32 and each not in "\n\t") or each == "\x9b"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (139_264, "139 kB"),
        (89_444_352, "89.4 MB"),
        (5e15, "5000 TB"),
    ],
)
def test_a_size_is_in_its_largest_unit(count: float, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.6, "1 min"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_a_duration_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_time_that_is_none_or_no_time_is_shown_as_such() -> None:
    assert (moment(None), moment("soon")) == ("-", "soon")


AT = {"timestamp": "2026-11-23T09:00:00.000Z"}


@pytest.mark.parametrize(
    ("name", "body", "line"),
    [
        (
            "file_update",
            {"projectId": "app", "filePath": "a\x1b.py", "action": "create", "size": 12},
            r"app  create a\x1b.py, 12 bytes",
        ),
        (
            "file_update",
            {"projectId": "app", "filePath": "b", "action": "create", "size": 1, "renamedFrom": "a"},
            "app  create b (was a), 1 bytes",
        ),
        ("file_update", {"projectId": "app", "filePath": "b", "action": "delete"}, "app  delete b"),
        ("project_rescan", {"projectId": "app", "changed": 3}, "app  compared again as a whole, 3 changed"),
        (
            "chat_message",
            {"sessionId": "s", "role": "user", "userId": "ann", "content": "one\ntwo\x1b[2J"},
            "s  ann: one\n    two\\x1b[2J",
        ),
        (
            "chat_message",
            {"sessionId": "s", "role": "assistant", "userId": "claude-ai", "content": "yes"},
            "s  assistant: yes",
        ),
        ("terminal_started", {"command": "ls", "projectId": "app"}, "app  $ ls"),
        ("terminal_output", {"sessionId": "s", "output": "a\nb\n"}, "s  a\n    b"),
        (
            "terminal_finished",
            {"exitCode": None, "signal": "TERM", "reason": "cancelled", "durationMs": 5},
            "ended with signal TERM (cancelled) after 5 ms",
        ),
        ("tts_notification", {"type": "warning", "message": "tests fail"}, "warning  tests fail"),
        ("server_shutdown", {"message": "claude-daemon is stopping"}, "claude-daemon is stopping"),
        ("from_the_future", {"x": 1}, 'from_the_future {"x": 1, "timestamp": "2026-11-23T09:00:00.000Z"}'),
        (
            "file_update",
            {"of": "the future"},
            'file_update {"of": "the future", "timestamp": "2026-11-23T09:00:00.000Z"}',
        ),
    ],
)
def test_an_event_reads_as_a_line(name: str, body: dict[str, object], line: str) -> None:
    told = readable(name, body | AT)

    assert told is not None
    assert told.partition("  ")[2] == line


def test_events_for_programs_only_are_no_line() -> None:
    assert readable("connected", {}) is None
    assert readable("terminal_output", {"sessionId": "s", "output": ""} | AT) is None
