"""One finding of the doctor, and the report of all."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "warning", "failure", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and how it is."""

    name: str
    verdict: Verdict
    evidence: str
    """What was seen, as a sentence without its full stop."""
    remedy: str = ""
    """A command or a sentence; empty when there is nothing to do."""


def report(checks: Sequence[Check]) -> dict[str, Any]:
    """As `doctor --json` prints it."""
    return {
        "ok": all(each.verdict != "failure" for each in checks),
        "checks": [asdict(each) for each in checks],
    }
