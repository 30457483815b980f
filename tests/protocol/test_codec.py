from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_daemon.errors import DaemonError, FileChangedError, InvalidError, RateLimitedError, TooLargeError
from claude_daemon.protocol import replies, requests
from claude_daemon.protocol.codec import MAX_DEPTH, accepted, decode, error_body, refused, spec_of
from claude_daemon.protocol.model import REQUESTS, Request


def ask(event: str, payload: object) -> Request:
    return decode(spec_of(event), payload)


def refusal(event: str, payload: object) -> DaemonError:
    with pytest.raises(DaemonError) as refused:
        ask(event, payload)
    return refused.value


MESSAGE = {"content": "hello", "sessionId": "s"}
COMMAND = {"command": "ls", "sessionId": "s"}
FILE = {"filePath": "a.py", "projectId": "p", "action": "update", "content": "x"}
SPEECH = {"message": "done", "type": "info"}

MALFORMED: list[tuple[str, Any, str, list[str | int], str]] = [
    # chat_message
    ("chat_message", None, "Invalid message format", [], "object.base"),
    ("chat_message", "hello", "Invalid message format", [], "object.base"),
    ("chat_message", ["hello"], "Invalid message format", [], "object.base"),
    ("chat_message", {}, "Invalid message format", ["content"], "any.required"),
    ("chat_message", {"content": "x"}, "Invalid message format", ["sessionId"], "any.required"),
    ("chat_message", {"sessionId": 5}, "Invalid message format", ["content"], "any.required"),
    ("chat_message", {"sessionId": 5, "content": 6}, "Invalid message format", ["content"], "string.base"),
    ("chat_message", MESSAGE | {"content": None}, "Invalid message format", ["content"], "string.base"),
    ("chat_message", MESSAGE | {"content": b"x"}, "Invalid message format", ["content"], "string.base"),
    ("chat_message", MESSAGE | {"content": ""}, "Invalid message format", ["content"], "string.empty"),
    ("chat_message", MESSAGE | {"sessionId": ""}, "Invalid message format", ["sessionId"], "string.empty"),
    ("chat_message", MESSAGE | {"sessionId": "a\nb"}, "Invalid message format", ["sessionId"], "string.base"),
    ("chat_message", MESSAGE | {"projectId": 7}, "Invalid message format", ["projectId"], "string.base"),
    ("chat_message", MESSAGE | {"metadata": []}, "Invalid message format", ["metadata"], "object.base"),
    ("chat_message", MESSAGE | {"clientId": ""}, "Invalid message format", ["clientId"], "string.empty"),
    # terminal_command
    ("terminal_command", {}, "Invalid command format", ["command"], "any.required"),
    ("terminal_command", COMMAND | {"command": ""}, "Invalid command format", ["command"], "string.empty"),
    ("terminal_command", COMMAND | {"pty": "yes"}, "Invalid command format", ["pty"], "any.only"),
    ("terminal_command", COMMAND | {"network": "all"}, "Invalid command format", ["network"], "any.only"),
    (
        "terminal_command",
        COMMAND | {"timeoutSeconds": "1"},
        "Invalid command format",
        ["timeoutSeconds"],
        "number.base",
    ),
    (
        "terminal_command",
        COMMAND | {"timeoutSeconds": 86_401},
        "Invalid command format",
        ["timeoutSeconds"],
        "number.base",
    ),
    # file_update
    ("file_update", {}, "Invalid file update format", ["filePath"], "any.required"),
    ("file_update", FILE | {"filePath": ""}, "Invalid file update format", ["filePath"], "string.empty"),
    ("file_update", FILE | {"action": "rename"}, "Invalid file update format", ["action"], "any.only"),
    ("file_update", FILE | {"action": 1}, "Invalid file update format", ["action"], "any.only"),
    ("file_update", FILE | {"content": {}}, "Invalid file update format", ["content"], "string.base"),
    # tts_notification
    ("tts_notification", {}, "Invalid TTS notification format", ["message"], "any.required"),
    ("tts_notification", SPEECH | {"type": "loud"}, "Invalid TTS notification format", ["type"], "any.only"),
    ("tts_notification", SPEECH | {"type": None}, "Invalid TTS notification format", ["type"], "any.only"),
    # rooms
    ("join_session", None, "Session ID is required", ["sessionId"], "any.required"),
    ("join_session", {}, "Session ID is required", ["sessionId"], "any.required"),
    ("join_session", "", "Session ID is required", ["sessionId"], "string.empty"),
    ("join_session", 5, "Session ID is required", ["sessionId"], "string.base"),
    ("join_project", None, "Project ID is required", ["projectId"], "any.required"),
    ("leave_session", {}, "Session ID is required", ["sessionId"], "any.required"),
    ("leave_project", [], "Project ID is required", ["projectId"], "string.base"),
    ("chat_cancel", {}, "Session ID is required", ["sessionId"], "any.required"),
    ("chat_history", {}, "Session ID is required", ["sessionId"], "any.required"),
]

TOO_LARGE: list[tuple[str, Any, str, list[str | int]]] = [
    ("chat_message", MESSAGE | {"content": "x" * 10_001}, "Invalid message format", ["content"]),
    ("chat_message", MESSAGE | {"sessionId": "x" * 129}, "Invalid message format", ["sessionId"]),
    ("chat_message", MESSAGE | {"clientId": "x" * 65}, "Invalid message format", ["clientId"]),
    ("terminal_command", COMMAND | {"command": "x" * 1_001}, "Invalid command format", ["command"]),
    ("file_update", FILE | {"content": "x" * 700_000}, "Invalid file update format", ["content"]),
    ("tts_notification", SPEECH | {"message": "x" * 501}, "Invalid TTS notification format", ["message"]),
    ("join_session", "x" * 129, "Session ID is required", ["sessionId"]),
]


@pytest.mark.parametrize(("event", "payload", "message", "path", "kind"), MALFORMED)
def test_a_malformed_request_is_refused_with_the_first_mistake(
    event: Any, payload: Any, message: Any, path: Any, kind: Any
) -> None:
    error = refusal(event, payload)

    assert type(error) is InvalidError
    assert (error.message, error.code) == (message, "invalid")
    [detail] = error.details
    assert (detail["path"], detail["type"]) == (path, kind)
    assert detail["message"]


@pytest.mark.parametrize(("event", "payload", "message", "path"), TOO_LARGE)
def test_a_field_over_its_limit_is_too_large(event: Any, payload: Any, message: Any, path: Any) -> None:
    error = refusal(event, payload)

    assert type(error) is TooLargeError
    assert (error.message, error.code) == (message, "too_large")
    assert [(each["path"], each["type"]) for each in error.details] == [(path, "string.max")]


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("chat_message", MESSAGE | {"content": "x" * 10_000}),
        ("chat_message", MESSAGE | {"content": "🎈" * 10_000}),
        ("chat_message", MESSAGE | {"sessionId": "ü" * 128}),
        ("chat_message", MESSAGE | {"clientId": "x" * 64}),
        ("terminal_command", COMMAND | {"command": "x" * 1_000}),
        ("tts_notification", SPEECH | {"message": "x" * 500}),
    ],
)
def test_a_field_at_its_limit_is_taken(event: Any, payload: Any) -> None:
    ask(event, payload)


def test_a_mistake_beside_the_id_is_not_blamed_on_the_id() -> None:
    error = refusal("join_session", {"sessionId": "s", "afterSeq": -1})

    assert error.message == 'join_session: "afterSeq": expected int >= 0'
    assert error.details[0]["path"] == ["afterSeq"] and error.details[0]["type"] == "number.base"


def test_the_path_leads_into_lists() -> None:
    error = refusal("token_create", {"scopes": ["view", "root"]})

    assert error.details[0]["path"] == ["scopes", 1] and error.details[0]["type"] == "any.only"


@pytest.mark.parametrize(
    ("event", "field"),
    [("join_session", "session_id"), ("join_project", "project_id"), ("leave_session", "session_id")],
)
def test_an_id_alone_stands_for_the_payload(event: Any, field: Any) -> None:
    assert getattr(ask(event, "an id"), field) == "an id"


def test_unknown_keys_are_ignored() -> None:
    request = ask("chat_message", MESSAGE | {"userId": "somebody else", "role": "system", "x": {"y": 1}})

    assert request == requests.ChatMessage("hello", "s")


def test_what_is_optional_may_be_null() -> None:
    request = ask("chat_message", MESSAGE | dict.fromkeys(("projectId", "metadata", "clientId"), None))

    assert request == requests.ChatMessage("hello", "s")


def test_requests_without_fields_need_no_payload() -> None:
    assert ask("list_projects", None) == requests.ListProjects()
    assert ask("join_user", None) == requests.JoinUser()


@pytest.mark.parametrize(
    "name", ["", "nothing", "ChatMessage", "connect", "__class__", None, 5, ["chat_message"]]
)
def test_an_unknown_event_is_named(name: Any) -> None:
    with pytest.raises(InvalidError, match=r"^Unknown event ") as refused:
        spec_of(name)

    if isinstance(name, str):
        assert refused.value.message == f"Unknown event {name}"


def test_the_name_of_an_unknown_event_is_cut() -> None:
    with pytest.raises(InvalidError) as refused:
        spec_of("x" * 1_000_000)

    assert len(refused.value.message) < 100
    assert len(error_body(refused.value, "x" * 1_000_000)["event"]) < 100


def nested(levels: int) -> Any:
    value: Any = {}
    for number in range(levels):
        value = {"a": value} if number % 2 else [value]
    return {"deep": value}


def test_metadata_that_nests_too_deeply_is_refused() -> None:
    ask("chat_message", MESSAGE | {"metadata": nested(MAX_DEPTH - 2)})

    error = refusal("chat_message", MESSAGE | {"metadata": nested(MAX_DEPTH)})

    assert error.details[0]["path"] == ["metadata"] and error.details[0]["type"] == "object.base"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TYPES = {
    "any.required",
    "string.base",
    "string.empty",
    "string.max",
    "any.only",
    "number.base",
    "object.base",
}
FIELDS = sorted({name for spec in REQUESTS.values() for name in spec.kind.__struct_encode_fields__})


@given(st.sampled_from(sorted(REQUESTS)), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_whatever_comes_is_a_request_or_one_mistake(event: Any, payload: Any) -> None:
    try:
        outcome: Request | InvalidError = ask(event, payload)
    except InvalidError as error:
        outcome = error

    if isinstance(outcome, Request):
        assert type(outcome) is REQUESTS[event].kind
    else:
        [detail] = outcome.details
        assert detail["type"] in TYPES
        assert (outcome.code == "too_large") == (detail["type"] == "string.max")


# What goes back


def test_an_ack_carries_the_reply_in_camel_case_and_leaves_out_what_is_absent() -> None:
    assert accepted(replies.Sessions([replies.Session("s", 3, "2026-01-01T00:00:00.000Z", "none")])) == {
        "ok": True,
        "sessions": [
            {"sessionId": "s", "seq": 3, "lastActivity": "2026-01-01T00:00:00.000Z", "backend": "none"}
        ],
    }
    assert accepted(None) == {"ok": True}


def test_a_refusal_has_the_error_shape() -> None:
    assert refused(InvalidError("no", path=["a", 0], kind="any.only", reason="why"), "chat_message") == {
        "ok": False,
        "error": {
            "message": "no",
            "code": "invalid",
            "event": "chat_message",
            "details": [{"message": "why", "path": ["a", 0], "type": "any.only"}],
        },
    }


def test_an_error_brings_its_own_fields() -> None:
    assert error_body(RateLimitedError(1_500), "typing") == {
        "message": "Rate limit exceeded",
        "code": "rate_limited",
        "event": "typing",
        "retryAfterMs": 1_500,
    }
    assert error_body(FileChangedError("a.py", "ff"), "file_update")["sha256"] == "ff"
