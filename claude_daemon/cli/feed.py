"""Events as lines that a person reads; pure."""

import json
from collections.abc import Callable
from typing import Any

from claude_daemon.cli.text import lines, one_line
from claude_daemon.cli.words import size, time_of_day

Body = dict[str, Any]

_ONLY_FOR_PROGRAMS = {
    "connected",
    "session_history",
    "session_joined",
    "project_joined",
    "user_joined",
    "chat_delta",  # the whole message comes after the last of them
    "typing",
    "system_status",
    "token_expiring",
}


def readable(name: str, body: Body) -> str | None:
    """One event, on one line or several; None for those that tell a person nothing."""
    if name in _ONLY_FOR_PROGRAMS:
        return None
    try:
        where, what = _TOLD.get(name, _anything(name))(body)
    except (KeyError, TypeError):  # of a newer daemon, perhaps
        where, what = _anything(name)(body)
    if not what:
        return None
    first, *more = what.split("\n")
    head = "  ".join(filter(None, (time_of_day(body.get("timestamp")), one_line(where))))
    return "\n    ".join([f"{head}  {first}", *more])


def _file_update(body: Body) -> tuple[str, str]:
    path = one_line(body["filePath"])
    renamed = f" (was {one_line(body['renamedFrom'])})" if body.get("renamedFrom") else ""
    amount = "" if body["action"] == "delete" else f", {size(body['size'])}"
    return body["projectId"], f"{body['action']} {path}{renamed}{amount}"


def _rescan(body: Body) -> tuple[str, str]:
    return body["projectId"], f"compared again as a whole, {body['changed']} changed"


def _chat(body: Body) -> tuple[str, str]:
    who = {"assistant": "assistant", "system": "system"}.get(body["role"], body["userId"])
    return body["sessionId"], f"{one_line(who)}: {lines(body['content'])}"


def _started(body: Body) -> tuple[str, str]:
    return body.get("projectId", ""), f"$ {lines(body['command'])}"


def _output(body: Body) -> tuple[str, str]:
    return body["sessionId"], lines(body["output"]).rstrip("\n")


def _finished(body: Body) -> tuple[str, str]:
    how = f"code {body['exitCode']}" if body["exitCode"] is not None else f"signal {body['signal']}"
    return "", f"ended with {how} ({body['reason']}) after {body['durationMs']} ms"


def _notification(body: Body) -> tuple[str, str]:
    return body["type"], lines(body["message"])


def _shutdown(body: Body) -> tuple[str, str]:
    return "", lines(body["message"])


def _anything(name: str) -> Callable[[Body], tuple[str, str]]:
    return lambda body: ("", f"{one_line(name)} {json.dumps(body)}")


_TOLD: dict[str, Callable[[Body], tuple[str, str]]] = {
    "file_update": _file_update,
    "project_rescan": _rescan,
    "chat_message": _chat,
    "terminal_started": _started,
    "terminal_output": _output,
    "terminal_finished": _finished,
    "tts_notification": _notification,
    "server_shutdown": _shutdown,
}
