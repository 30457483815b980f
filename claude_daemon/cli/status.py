"""How the daemon is, in one look."""

from typing import Any

import click

from claude_daemon.cli.commands import json_option


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Print how the daemon is."""
    from claude_daemon.cli.connection import DaemonOffError, ask
    from claude_daemon.cli.show import document

    try:
        found = ask("system_status")
    except DaemonOffError:
        if as_json:
            document({"running": False})
        raise
    if as_json:
        document(found)
    else:
        _show(found)


def _show(status: dict[str, Any]) -> None:
    from claude_daemon.cli.show import coloured, table
    from claude_daemon.cli.text import one_line
    from claude_daemon.cli.words import duration, size

    colour = "green" if status["status"] == "healthy" else "yellow"
    print(
        f"{coloured('●', colour)} {status['status']}: claude-daemon {one_line(status['version'])}, "
        f"up {duration(status['uptime'])}, {size(status['memory']['rss'])} of memory"
    )
    for problem in status["problems"]:
        print(coloured(f"  {one_line(problem)}", "yellow"))
    print()
    table(
        ("PART", "STATE"),
        [
            ("clients", f"{status['connectedClients']} connected, {status['activeSessions']} sessions heard"),
            ("terminal", _terminal(status["terminal"])),
            ("speech", _speech(status["speech"])),
            ("assistant", _assistant(status["assistant"])),
            ("storage", f"{status['storage']['engine']}, {size(status['storage']['sizeBytes'])}"),
            ("secrets", status.get("vault", "-")),
        ],
    )
    if status["projects"]:
        print()
        table(
            ("PROJECT", "STATE", "FILES", "PATH", "PROBLEM"),
            [
                (each["projectId"], each["state"], each["files"], each["path"], each.get("problem", ""))
                for each in status["projects"]
            ],
        )


def _terminal(terminal: dict[str, Any]) -> str:
    sandbox = terminal["sandbox"]
    confined = f"sandbox {sandbox['mechanism']}, network {sandbox['network']}"
    if sandbox["mechanism"] == "none":
        confined = "no sandbox, so commands are refused"
    busy = f"{terminal['running']} of {terminal['slots']} slots busy, {terminal['queued']} waiting"
    return f"{busy}; {confined}"


def _speech(speech: dict[str, Any]) -> str:
    engine = f" by {speech['engine']}" if speech["engine"] else ""
    reason = f" ({speech['reason']})" if speech.get("reason") else ""
    waiting = f", {speech['queued']} waiting" if speech["queued"] else ""
    return f"{speech['state']}{engine}{waiting}{reason}"


def _assistant(assistant: dict[str, Any]) -> str:
    if assistant["backend"] == "none":
        return assistant.get("reason") or "none"
    reason = f" ({assistant['reason']})" if assistant.get("reason") else ""
    return f"{assistant['backend']}, {'ready' if assistant['ready'] else 'not ready'}{reason}"
