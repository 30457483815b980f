"""Checks of what a running daemon says of itself; `status` is its `system_status`, None when it is off."""

from collections.abc import Mapping
from typing import Any

from claude_daemon.doctor.check import Check
from claude_daemon.doctor.instance import Instance

START = "claude-daemon start"

Status = Mapping[str, Any]


def alive(instance: Instance | None, status: Status | None, silence: str) -> Check:
    """Whether it runs and answers; `silence` is what came instead of an answer."""
    if status is None and instance is None:
        return Check("daemon", "warning", "it is not running", START)
    if status is None:
        assert instance is not None
        return Check(
            "daemon",
            "failure",
            f"its process (pid {instance.pid}) is there, but: {silence}",
            f"kill -9 {instance.pid}; {START}",
        )
    where = f" as pid {instance.pid} at {instance.url}" if instance else ""
    if status["problems"]:
        said = "; ".join(status["problems"])
        return Check("daemon", "warning", f"it runs{where}, and says: {said}", "see the checks below")
    return Check("daemon", "ok", f"version {status['version']} runs{where}")


def sandbox(status: Status | None, *, probed: str | None, problem: str | None, installed: bool) -> Check:
    """`probed` is what was found without the daemon's word, `problem` why there is none."""
    said = status["terminal"]["sandbox"] if status else {"mechanism": probed or "none", "limits": []}
    if said["mechanism"] != "none":
        held = f", limits that hold: {', '.join(said['limits'])}" if said["limits"] else ""
        return Check("sandbox", "ok", f"commands run in {said['mechanism']}{held}")
    if probed:
        seen = f"the daemon found no sandbox at its start, and {probed} works now"
        return Check("sandbox", "warning", seen, "claude-daemon restart")
    remedy = "" if installed else "on Debian and Ubuntu: sudo apt-get install bubblewrap"
    return Check("sandbox", "failure", problem or "commands are refused: there is no sandbox here", remedy)


def speech(status: Status | None, *, problem: str | None) -> Check:
    """`problem` is what a probe found with the daemon off."""
    if status:
        said = status["speech"]
        problem = said.get("reason") or (
            "it says nothing of the reason" if said["state"] == "unavailable" else None
        )
        seen = f"{said['engine'] or 'the engine'} is {said['state']}"
    else:
        seen = "the speech engine and the player work"
    if problem is None:
        return Check("speech", "ok", seen)
    return Check(
        "speech",
        "warning",
        f"nothing can be spoken: {problem}",
        "on Debian and Ubuntu: sudo apt-get install espeak-ng alsa-utils; and connect a sound device",
    )


def projects(status: Status | None) -> Check:
    """Whether every registered folder is there and watched."""
    if status is None:
        return Check("projects", "skipped", "only the running daemon knows", START)
    found = status["projects"]
    if not found:
        return Check("projects", "ok", "none is registered", "claude-daemon projects add PATH")
    bad = [each for each in found if each["state"] == "unavailable" or each.get("problem")]
    if not bad:
        states = ", ".join(f"{each['projectId']} {each['state']}" for each in found)
        return Check("projects", "ok", states)
    gone = any(each["state"] == "unavailable" for each in bad)
    said = "; ".join(
        f"{each['projectId']} is {each['state']}: {each.get('problem') or each['path']}" for each in bad
    )
    return Check(
        "projects",
        "failure" if gone else "warning",
        said,
        "put the folder back, or: claude-daemon projects remove ID" if gone else "",
    )


def assistant(status: Status | None, *, key: bool, installed: bool) -> Check:
    """Whether chat is answered; with the daemon off, whether it could be."""
    if not key and (status is None or status["assistant"]["backend"] == "none"):
        return Check(
            "assistant",
            "skipped",
            "no assistant is set up, so chat is shared but not answered",
            "set CLAUDE_API_KEY, then: claude-daemon restart",
        )
    if not installed:
        return Check(
            "assistant",
            "failure",
            "a key is set, but the package anthropic is not installed",
            "pip install 'claude-daemon[api]'; then claude-daemon restart",
        )
    if status is None:
        return Check("assistant", "ok", "a key is set and the package anthropic is there")
    said = status["assistant"]
    if said["backend"] == "none":
        return Check(
            "assistant", "warning", "a key is set, but not in the running daemon", "claude-daemon restart"
        )
    if said["ready"]:
        return Check("assistant", "ok", f"{said['backend']} is ready")
    return Check(
        "assistant", "failure", f"{said['backend']} does not answer: {said.get('reason', 'no reason given')}"
    )
