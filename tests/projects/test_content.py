"""How content travels."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.config import ProjectSettings
from claude_daemon.errors import InvalidError, TooLargeError
from claude_daemon.projects.content import Encoding, Shown, received, show

SETTINGS = ProjectSettings(inline_bytes=100, binary_inline_bytes=10)


def test_text_is_shown_as_it_is_and_other_bytes_in_base64() -> None:
    assert show("hällo\n".encode(), SETTINGS) == Shown("hällo\n")
    assert show(b"\xff\xfe", SETTINGS) == Shown("//4=", "base64")
    assert show(b"", SETTINGS) == Shown("")


def test_beyond_the_limits_nothing_is_shown() -> None:
    assert show(b"x" * 101, SETTINGS) == Shown(None, truncated=True)
    assert show(b"\xff" * 11, SETTINGS) == Shown(None, "base64", truncated=True)
    assert show(None, SETTINGS) == Shown(None, truncated=True)


@pytest.mark.parametrize(
    ("content", "encoding", "kind"),
    [(None, "utf8", "any.required"), ("a b", "base64", "string.base"), ("ü", "base64", "string.base")],
)
def test_what_cannot_be_content_is_refused_and_the_field_named(
    content: str | None, encoding: Encoding, kind: str
) -> None:
    with pytest.raises(InvalidError) as refused:
        received(content, encoding, message="Invalid file update format")

    assert refused.value.message == "Invalid file update format"
    assert (refused.value.details[0]["path"], refused.value.details[0]["type"]) == (["content"], kind)


def test_too_much_is_counted_in_bytes() -> None:
    assert len(received("x" * 524_288, "utf8", message="")) == 524_288
    with pytest.raises(TooLargeError):
        received("ü" * 262_145, "utf8", message="")
    with pytest.raises(TooLargeError):
        received(base64.b64encode(b"x" * 524_289).decode(), "base64", message="")


@given(st.binary(max_size=100))
def test_what_is_shown_can_be_sent_back(content: bytes) -> None:
    shown = show(content, ProjectSettings())
    assert shown.content is not None

    assert received(shown.content, shown.encoding, message="") == content
