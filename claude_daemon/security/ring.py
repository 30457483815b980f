"""Asks the system's keyring: one request as JSON on stdin, one answer on stdout.

Run as a script, in a child that the vault can give up on, and the only importer of keyring.  It knows
nothing of the daemon.
"""

import json
import sys

import keyring
from keyring.backends import chainer, fail, null


def main() -> None:
    """Answer `{service, name, set?}` by `{value, keyring}`; exit 1 when no keyring is worth its name."""
    asked = json.load(sys.stdin)
    ring = keyring.get_keyring()
    chained = list(ring.backends) if isinstance(ring, chainer.ChainerBackend) else [ring]
    first = chained[0] if chained else None
    plain_text = type(first).__module__.startswith("keyrings.alt")
    if first is None or plain_text or isinstance(first, (fail.Keyring, null.Keyring)):
        raise SystemExit(1)
    if asked.get("set") is not None:
        keyring.set_password(asked["service"], asked["name"], asked["set"])
    value = keyring.get_password(asked["service"], asked["name"])
    json.dump({"value": value, "keyring": first.name}, sys.stdout)


if __name__ == "__main__":
    main()
