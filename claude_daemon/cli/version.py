"""Which version this is."""

import click

from claude_daemon.cli.commands import json_option


@click.command()
@json_option
def version(*, as_json: bool) -> None:
    """Print the version."""
    from claude_daemon.cli.show import document
    from claude_daemon.protocol.version import PROTOCOL_VERSION, SERVER_VERSION

    if as_json:
        document({"version": SERVER_VERSION, "protocolVersion": PROTOCOL_VERSION})
    else:
        print(f"claude-daemon {SERVER_VERSION}")
