"""The daemon's log, for people."""

import click

from claude_daemon.cli.commands import json_option
from claude_daemon.cli.failure import CommandError


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option(
    "-n", "--lines", "count", type=click.IntRange(0), default=500, show_default=True, help="The last ones."
)
@json_option
def logs(*, follow: bool, count: int, as_json: bool) -> None:
    """Print the daemon's log; --json prints its lines as they are."""
    from claude_daemon.cli.logfile import LogFiles, readable
    from claude_daemon.config import load
    from claude_daemon.core.logs import log_file

    path = log_file(load().folders.state)
    files = LogFiles(path)
    found = files.last(count)
    if not found and not follow and not path.exists():
        raise CommandError(f"there is no log at {path} yet; it begins with: claude-daemon start")
    for line in found:
        print(line if as_json else readable(line))
    if follow:
        print(end="", flush=True)
        for line in files.follow():
            print(line if as_json else readable(line), flush=True)
