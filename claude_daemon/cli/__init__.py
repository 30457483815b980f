"""The command line: thin over `client.py`; each command is imported when it is called."""

import asyncio
import sys

import click

from claude_daemon.errors import DaemonError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Watches projects, runs commands in a sandbox, speaks, and keeps your devices in step."""


@main.command()
def run() -> None:
    """Run the daemon in the foreground."""
    from claude_daemon import app
    from claude_daemon.config import load

    def ready(url: str) -> None:
        print(f"claude-daemon is ready at {url}", flush=True)

    try:
        asyncio.run(app.run(load(), ready))
    except DaemonError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


@main.command()
@click.option("--scopes")
@click.option("--ttl", type=int)
def token(scopes, ttl) -> None:
    from claude_daemon.client import Client
    from claude_daemon.config import load

    async def go():
        async with Client(load().socket_path) as client:
            fields = {"scopes": scopes.split(",")} if scopes else {}
            if ttl:
                fields["ttlSeconds"] = ttl
            print((await client.call("token_create", fields))["token"])

    asyncio.run(go())
