"""The folders that are watched."""

import os

import click

from claude_daemon.cli.commands import Listing, json_option


@click.group(cls=Listing)
def projects() -> None:
    """List, add, remove, pause and resume project folders."""


@projects.command("list")
@json_option
def list_projects(*, as_json: bool) -> None:
    """Print every project and how it is watched."""
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import document, table

    found = ask("list_projects")["projects"]
    if as_json:
        document(found)
        return
    if not found:
        print("no project; add one with: claude-daemon projects add PATH")
        return
    rows = [
        (each["projectId"], each["state"], each["files"], each["path"], each.get("problem", ""))
        for each in found
    ]
    table(("ID", "STATE", "FILES", "PATH", "PROBLEM"), rows)


@projects.command()
@click.argument("path")
@click.option("--id", "project_id", help="Its name; that of the folder if left out.")
@json_option
def add(*, path: str, project_id: str | None, as_json: bool) -> None:
    """Watch the folder PATH."""
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import done

    added = ask("project_add", path=os.path.abspath(path), projectId=project_id)  # noqa: PTH100  links stay
    done(added, f"{added['path']} is watched as {added['projectId']}", as_json=as_json)


@projects.command()
@click.argument("project_id", metavar="ID")
@json_option
def remove(*, project_id: str, as_json: bool) -> None:
    """Forget a project; its files stay as they are."""
    _change("project_remove", project_id, "is no project any more; its files are as they were", as_json)


@projects.command()
@click.argument("project_id", metavar="ID")
@json_option
def pause(*, project_id: str, as_json: bool) -> None:
    """Stop watching a project until it is resumed."""
    _change("project_pause", project_id, "is paused", as_json)


@projects.command()
@click.argument("project_id", metavar="ID")
@json_option
def resume(*, project_id: str, as_json: bool) -> None:
    """Watch a paused project again."""
    _change("project_resume", project_id, "is watched again", as_json)


def _change(event: str, project_id: str, outcome: str, as_json: bool) -> None:  # noqa: FBT001  private
    from claude_daemon.cli.connection import ask
    from claude_daemon.cli.show import done

    ask(event, projectId=project_id)
    done({"projectId": project_id}, f"{project_id} {outcome}", as_json=as_json)
