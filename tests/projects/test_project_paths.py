"""The one spelling of a path that clients may use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.errors import DaemonError, InvalidError, OutsideProjectError, TooLargeError
from claude_daemon.projects.paths import parse_path


@pytest.mark.parametrize(
    "path", ["a", "src/main.py", ".gitignore", "a b/ü/…", "line\nbreak", "a..b", "x" * 255]
)
def test_a_plain_relative_path_is_taken_as_it_is(path: str) -> None:
    assert parse_path(path) == path


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "/", "//x"])
def test_a_path_that_leads_out_is_refused_as_such(path: str) -> None:
    with pytest.raises(OutsideProjectError, match="filePath"):
        parse_path(path)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "string.empty"),
        ("a//b", "string.base"),
        ("a/", "string.base"),
        ("./a", "string.base"),
        ("a/./b", "string.base"),
        ("a\0b", "string.base"),
        ("a\\b", "string.base"),
        ("..\\..\\etc", "string.base"),
        ("a\ud800", "string.base"),
    ],
)
def test_another_spelling_is_refused_and_the_field_is_named(path: str, kind: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_path(path, message="Invalid file update format")

    assert refused.value.message == "Invalid file update format"
    assert (refused.value.details[0]["path"], refused.value.details[0]["type"]) == (["filePath"], kind)


@pytest.mark.parametrize("path", ["x" * 256, "ü" * 128, "/".join(["x" * 200] * 21)])
def test_a_path_that_no_file_system_holds_is_too_large(path: str) -> None:
    with pytest.raises(TooLargeError):
        parse_path(path)


@given(st.text(st.characters() | st.sampled_from("/.\\\0"), max_size=40))
def test_whatever_is_taken_stays_below_the_project(text: str) -> None:
    try:
        path = parse_path(text)
    except DaemonError:
        return
    parts = path.split("/")
    assert path == text
    assert not {"", ".", ".."} & set(parts)
    assert "\0" not in path
