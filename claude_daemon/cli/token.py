"""An access token for one program."""

import click

from claude_daemon.cli.commands import json_option

LONGEST_S = 31_536_000  # a year
SCOPES = ("view", "chat", "files", "terminal")
NOT_FOR_PROGRAMS = ("answer", "admin")


def _scopes(_context: click.Context, _option: click.Parameter, value: str | None) -> list[str] | None:
    """Comma-separated scopes; those of a person's device are a misuse here."""
    if value is None:
        return None
    scopes = [each.strip() for each in value.split(",")]
    for scope in scopes:
        if scope in NOT_FOR_PROGRAMS:
            raise click.BadParameter(f"the scope {scope} belongs to a person's device, not to a program")
        if scope not in SCOPES:
            raise click.BadParameter(f"there is no scope {scope!r}; choose from {', '.join(SCOPES)}")
    return scopes


@click.command()
@click.option(
    "--scopes", callback=_scopes, help="Comma-separated; all of view,chat,files,terminal if left out."
)
@click.option("--ttl", type=click.IntRange(1, LONGEST_S), help="Seconds; 30 days if left out.")
@click.option("--name", help="What `devices` shows it as.")
@json_option
def token(*, scopes: list[str] | None, ttl: int | None, name: str | None, as_json: bool) -> None:
    """Make an access token for one program, listed and revocable under `devices`."""
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import document

    made = ask("token_create", scopes=scopes, ttlSeconds=ttl, name=name)
    if as_json:
        document({each: made[each] for each in ("token", "expiresAt", "scopes")})
    else:
        print(made["token"])
