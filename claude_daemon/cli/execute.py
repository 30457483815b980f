"""One command in the daemon's sandbox, as if it ran here: its output, its exit code, Ctrl-C.

Output that this terminal takes too slowly is not hoarded: the connection is left, and what was missed is
fetched from the daemon's `terminal_history` once there is room.
"""

import click

from claude_daemon.cli.commands import json_option
from claude_daemon.cli.failure import CommandError

COULD_NOT_RUN = 255  # as ssh has it
SESSION = "cli"


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--project", "project_id", metavar="ID", help="Run in this project; else in that of this folder."
)
@click.option(
    "--session", "session_id", metavar="ID", default=SESSION, help="Where other devices can follow."
)
@click.option("--timeout", "timeout_s", type=click.IntRange(1, 86_400), help="Seconds; 600 if left out.")
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(
    *, project_id: str | None, session_id: str, timeout_s: int | None, as_json: bool, command: tuple[str, ...]
) -> int:
    """Run COMMAND in the sandbox and exit with its code; 255 when it could not run.

    One word is a line for the shell ('ls | wc -l'); several are a program and its arguments.
    Ctrl-C ends it, a second Ctrl-C kills it.
    """
    import asyncio
    import shlex
    import sys

    from claude_daemon.cli.execution import Execution, Order
    from claude_daemon.cli.text import one_line
    from claude_daemon.errors import DaemonError

    order = Order(
        command=command[0] if len(command) == 1 else shlex.join(command),
        session_id=session_id,
        project_id=project_id,
        timeout_s=timeout_s,
    )
    try:
        return asyncio.run(Execution(order, as_json=as_json).run())
    except (CommandError, DaemonError) as failure:
        print(one_line(failure.message), file=sys.stderr)
        return COULD_NOT_RUN
