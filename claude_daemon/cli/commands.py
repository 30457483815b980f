"""The commands by name; each one's module is imported when the command is called or listed."""

from importlib import import_module

import click

# In the order in which a person meets them.
_PLACES = {
    "run": "run:run",
    "start": "background:start",
    "stop": "background:stop",
    "restart": "background:restart",
    "status": "status:status",
    "projects": "projects:projects",
    "exec": "execute:execute",
    "send": "send:send",
    "notify": "notify:notify",
    "watch": "watch:watch",
    "token": "token:token",
    "devices": "devices:devices",
    "logs": "logs:logs",
    "config": "config:config",
    "doctor": "doctor:doctor",
    "version": "version:version",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class Commands(click.Group):
    """Imports nothing of a command but its own small module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _PLACES:
            return None
        module, _, name = _PLACES[cmd_name].partition(":")
        command = getattr(import_module(f"claude_daemon.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command


class Listing(click.Group):
    """A group that lists when it is called without a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asked_for_help = any(each in self.get_help_option_names(ctx) for each in args[:1])
        if not args or (args[0].startswith("-") and not asked_for_help):
            args = ["list", *args]
        return super().parse_args(ctx, args)


commands = Commands(
    name="claude-daemon",
    help="Watches projects, runs commands in a sandbox, speaks, and keeps your devices in step.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
