"""Every setting, and where it came from."""

import click

from claude_daemon.cli.commands import json_option


@click.command()
@json_option
def config(*, as_json: bool) -> None:
    """Print each setting and where it came from; secrets only as set or not."""
    from claude_daemon.cli.show import document, table
    from claude_daemon.config import load

    settings = load()
    values = list(settings.values())
    if as_json:
        document(
            [
                {"name": each.name, "value": each.value, "source": each.source, "why": each.why}
                for each in values
            ]
        )
        return
    table(
        ("SETTING", "VALUE", "FROM", "WHAT FOR"),
        [(each.name, "-" if each.value == "" else each.value, each.source, each.why) for each in values],
    )
    print(
        f"\nSet them in the environment, in {settings.folders.config / '.env'} "
        f"or in {settings.folders.config / 'config.toml'}; state and logs are in {settings.folders.state}."
    )
