import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.protocol import notices, requests
from claude_daemon.protocol.model import FACTS, NOTICES, REQUESTS, Id, timestamp, wire_name


def test_times_are_utc_with_milliseconds_and_a_z() -> None:
    at = datetime(2026, 11, 23, 9, 5, 7, 120_999, tzinfo=UTC)

    assert timestamp(at) == "2026-11-23T09:05:07.120Z"
    assert timestamp(at.replace(microsecond=0)) == "2026-11-23T09:05:07.000Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (requests.ChatMessage, "chat_message"),
        (requests.Typing, "typing"),
        (requests.TtsNotification, "tts_notification"),
        (notices.TerminalOutput, "terminal_output"),
    ],
)
def test_the_name_on_the_wire_is_the_class_in_snake_case(kind: Any, name: Any) -> None:
    assert wire_name(kind) == name


def test_no_name_means_two_things_to_one_side() -> None:
    assert not FACTS.keys() & NOTICES.keys()


@pytest.mark.parametrize("spec", REQUESTS.values(), ids=REQUESTS.keys())
def test_whatever_takes_a_client_id_says_how_it_acts_once(spec: Any) -> None:
    assert ("client_id" in spec.kind.__struct_fields__) == (spec.once is not None)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128))
def test_an_id_is_any_printable_text(text: Any) -> None:
    assert msgspec.convert(text, Id) == text


@pytest.mark.parametrize("text", ["", "a\x00", "a\n", "\x7f", "a\x85", "x" * 129])
def test_an_id_is_neither_empty_nor_long_nor_full_of_control_characters(text: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Id)
