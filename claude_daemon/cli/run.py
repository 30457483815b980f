"""The daemon itself, in the foreground."""

import click


@click.command()
def run() -> None:
    """Run the daemon in the foreground; Ctrl-C ends it."""
    import asyncio

    from claude_daemon import app
    from claude_daemon.config import load

    asyncio.run(app.run(load(), _ready))


def _ready(url: str) -> None:
    print(f"claude-daemon is ready at {url}", flush=True)
