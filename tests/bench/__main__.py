"""The benchmarks: `python tests/bench [--only NAME] [--rounds N] [--json]`.

They measure and assert nothing: a figure is as good as the quiet of its machine.
"""

import argparse
import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

ROUNDS = 3


def main() -> None:
    tests = Path(__file__).resolve().parent.parent
    sys.path[:1] = [str(tests), str(tests.parent)]  # for `bench`, what tests share, and the daemon's version
    from bench import commands, idle, laggard, messages, saves, start
    from bench.figures import document, machine, table

    measurements = {
        "messages": messages.measure,
        "start": start.measure,
        "idle": idle.measure,
        "saves": saves.measure,
        "commands": commands.measure,
        "laggard": laggard.measure,
    }
    parser = argparse.ArgumentParser(prog="bench", description="Measure a real daemon on this machine.")
    parser.add_argument("--only", action="append", choices=measurements, help="may be given several times")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"default {ROUNDS}")
    parser.add_argument("--json", action="store_true", help="one document instead of the table")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name).resolve()
        where, found = machine(folder), []
        for measurement in options.only or measurements:
            sys.stderr.write(f"{measurement} ...\n")
            with redirect_stdout(sys.stderr):  # the tests' daemon shows the end of its log there
                found.append(measurements[measurement](folder, options.rounds))
    if options.json:
        sys.stdout.write(json.dumps(document(where, found), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(table(where, found))


if __name__ == "__main__":
    main()
