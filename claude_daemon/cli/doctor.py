"""What stands in the way, and what to do about it."""

from typing import TYPE_CHECKING, Any

import click

from claude_daemon.cli.commands import json_option

if TYPE_CHECKING:  # what these import would make --help slow
    from claude_daemon.doctor.check import Check


@click.command()
@json_option
def doctor(*, as_json: bool) -> int:
    """Look for what stands in the way, and say what to do; exit 1 when something is broken."""
    import asyncio

    from claude_daemon.cli.show import document
    from claude_daemon.config import load
    from claude_daemon.doctor.check import Check, report
    from claude_daemon.errors import SettingError

    try:
        settings = load()
    except SettingError as error:
        checks = [Check("settings", "failure", error.message, "mend that setting; the rest waits for it")]
    else:
        from claude_daemon.cli.findings import gather
        from claude_daemon.doctor.examination import examine

        checks = examine(settings, asyncio.run(gather(settings)))
    result = report(checks)
    if as_json:
        document(result)
    else:
        _show(checks, result)
    return 0 if result["ok"] else 1


def _show(checks: "list[Check]", result: dict[str, Any]) -> None:
    from claude_daemon.cli.show import coloured
    from claude_daemon.cli.text import one_line

    colours = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "dim"}
    for check in checks:
        verdict = coloured(f"{check.verdict:8}", colours[check.verdict])
        print(f"{verdict} {check.name:10} {one_line(check.evidence)}")
        if check.remedy:
            print(f"{'':19} → {one_line(check.remedy)}")
    failed = [check.name for check in checks if check.verdict == "failure"]
    print()
    print("nothing is broken" if result["ok"] else f"broken: {', '.join(failed)}")
