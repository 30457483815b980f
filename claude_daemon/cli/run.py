"""The daemon itself, in the foreground."""

import click


@click.command()
def run() -> None:
    """Run the daemon in the foreground; Ctrl-C ends it."""
    import asyncio
    import logging

    from claude_daemon import app
    from claude_daemon.config import load
    from claude_daemon.errors import DaemonError

    try:
        asyncio.run(app.run(load(), _ready))
    except DaemonError:
        raise
    except Exception:
        if logging.getLogger().handlers:  # the log was opened: there is somewhere to put all of it
            logging.getLogger(__name__).exception("the daemon failed")
        raise


def _ready(url: str) -> None:
    print(f"claude-daemon is ready at {url}", flush=True)
