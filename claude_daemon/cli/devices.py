"""Who may connect, and the end of it."""

import click

from claude_daemon.cli.commands import Listing, json_option


@click.group(cls=Listing)
def devices() -> None:
    """List, rename and revoke devices and program tokens."""


@devices.command("list")
@json_option
def list_devices(*, as_json: bool) -> None:
    """Print every device and what it may do."""
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import document, table
    from claude_daemon.cli.words import moment

    found = ask("device_list")["devices"]
    if as_json:
        document(found)
        return
    if not found:
        print("no device; make a program's token with: claude-daemon token")
        return
    rows = [
        (
            each["deviceId"],
            each["name"],
            ",".join(each["scopes"]),
            "now" if each["connected"] else moment(each["lastSeen"]),
            moment(each["expiresAt"]),
        )
        for each in found
    ]
    table(("ID", "NAME", "SCOPES", "SEEN", "EXPIRES"), rows)


@devices.command()
@click.argument("device_id", metavar="ID")
@click.argument("name")
@json_option
def rename(*, device_id: str, name: str, as_json: bool) -> None:
    """Give a device another name."""
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import done

    ask("device_rename", deviceId=device_id, name=name)
    done({"deviceId": device_id, "name": name}, f"{device_id} is now called {name}", as_json=as_json)


@devices.command()
@click.argument("device_id", metavar="ID")
@json_option
def revoke(*, device_id: str, as_json: bool) -> None:
    """End a device's access, at once and for good."""
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import done

    ask("device_revoke", deviceId=device_id)
    done({"deviceId": device_id}, f"{device_id} has no access any more", as_json=as_json)
