"""Saying something aloud on this machine and on every device."""

import click

from claude_daemon.cli.commands import json_option

_SPOKEN = {
    "queued": "said aloud, and shown on every device",
    "muted": "shown on every device; the loudspeaker is muted",
    "unavailable": "shown on every device; nothing can be spoken here, see why with: claude-daemon doctor",
}


@click.command()
@click.argument("text")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["info", "success", "warning", "error"]),
    default="info",
    show_default=True,
    help="What kind of news it is.",
)
@click.option("--urgent", is_flag=True, help="Say it before what waits already.")
@json_option
def notify(*, text: str, kind: str, urgent: bool, as_json: bool) -> None:
    """Say TEXT aloud and show it on every device."""
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import done

    sent = ask("tts_notification", message=text, type=kind, priority="urgent" if urgent else "normal")
    done(sent, _SPOKEN[sent["spoken"]], as_json=as_json)
