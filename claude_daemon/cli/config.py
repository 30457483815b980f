"""Every setting, and where it came from."""

import click

from claude_daemon.cli.commands import json_option


@click.command()
@json_option
@click.option("--set-api-key", is_flag=True, help="Keep a key of the Claude API in the keyring; asks for it.")
def config(*, as_json: bool, set_api_key: bool) -> None:
    """Print each setting and where it came from; secrets only as set or not."""
    if set_api_key:
        _keep_api_key()
        return
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


def _keep_api_key() -> None:
    """Never in argv, where other users could read it: from the terminal without echo, or from a pipe."""
    import asyncio
    import sys

    from claude_daemon.config import load
    from claude_daemon.security.vault import API_KEY, open_vault

    piped = not sys.stdin.isatty()
    key = sys.stdin.readline() if piped else click.prompt("Key of the Claude API", hide_input=True, err=True)
    if not key.strip():
        raise click.UsageError("there was no key on the standard input")

    async def keep() -> str:
        vault = await open_vault(load())
        await vault.set(API_KEY, key.strip())
        return vault.name

    print(f"Kept ({asyncio.run(keep())}).  It is used from the next start on: claude-daemon restart")
